"""Maps made of points, against the formula written out pixel by pixel."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import ConfigError
from deft.formats.saliency import PointMaps, Spread
from deft.spec import Frames
from suites.formats import repeatable


def slow_map(
    points: list[list[tuple[float, float]]], i: int, height: int, width: int, spread: Spread
) -> np.ndarray:
    """`g_i` as it is written down, in pixels of a picture whose sides count as 1."""
    found = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            x, y = (column + 0.5) / width, (row + 0.5) / height
            for j in range(-spread.k, spread.k + 1):
                if not 0 <= i + j < len(points):
                    continue
                sigma = spread.gamma * spread.beta ** -abs(j)
                for px, py in points[i + j]:
                    squared = (x - px) ** 2 + (y - py) ** 2
                    density = math.exp(-squared / (2 * sigma**2)) / (2 * math.pi * sigma**2)
                    found[row, column] += spread.alpha ** abs(j) * density
    low, high = found.min(), found.max()
    return (found - low) / (high - low) if high > low else np.zeros_like(found)


def maps(points: list[list[tuple[float, float]]], spread: Spread, first: int = 0) -> PointMaps:
    arrays = [np.array(each, float).reshape(-1, 2) for each in points]
    return PointMaps(arrays, 12, 16, spread, first)


place = st.tuples(st.floats(0, 1), st.floats(0, 1))


@repeatable
@given(
    st.lists(st.lists(place, max_size=3), min_size=1, max_size=5),
    st.integers(0, 3),
    st.sampled_from([0.3, 0.7, 1.0]),
    st.sampled_from([0.06, 0.2]),
)
def test_maps_follow_the_formula(
    points: list[list[tuple[float, float]]], k: int, share: float, gamma: float
) -> None:
    spread = Spread(k=k, alpha=share, beta=share, gamma=gamma)
    found = maps(points, spread)
    assert isinstance(found, Frames)
    for step, each in enumerate(found):
        assert (each.shape, each.dtype) == ((12, 16, 1), np.float32)
        wanted = slow_map(points, step, 12, 16, spread)
        np.testing.assert_allclose(each[..., 0], wanted, atol=1e-5)


def test_the_brightest_pixel_is_where_the_point_is() -> None:
    found = maps([[(0.9, 0.2)]], Spread())[0][..., 0]
    assert np.unravel_index(found.argmax(), found.shape) == (2, 14)
    assert (found.min(), found.max()) == (0, 1)


def test_frames_without_points_get_those_of_their_neighbours() -> None:
    found = maps([[(0.5, 0.5)], [], [], [], []], Spread(k=2))
    assert [bool(each.any()) for each in found] == [True, True, True, False, False]
    # Farther away in time is wider.
    assert found[0].mean() < found[1].mean() < found[2].mean()


def test_frames_that_are_not_used_still_count() -> None:
    points = [[(0.1, 0.1)], [(0.5, 0.5)], [(0.9, 0.9)], []]
    whole, rest = maps(points, Spread()), maps(points, Spread(), first=1)
    assert (len(rest), len(list(rest))) == (3, 3)
    for step in range(3):
        np.testing.assert_array_equal(rest[step], whole[step + 1])
    np.testing.assert_array_equal(rest[-1], whole[3])
    for step in (3, -4):
        with pytest.raises(IndexError):
            rest[step]


@pytest.mark.parametrize("wrong", [{"k": -1}, {"alpha": 1.5}, {"beta": 0.0}, {"gamma": 0.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="Fix: give"):
        Spread(**wrong)  # pyright: ignore[reportArgumentType]
