"""Plots as pictures: what is drawn, and where."""

import numpy as np
import pytest

from deft import report
from deft.errors import ShapeError

BLUE, ORANGE = (0x25, 0x63, 0xC9), (0xD9, 0x62, 0x2B)


def rows_of(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.nonzero((picture == np.array(colour, np.uint8)).all(-1))


def test_a_curve_rises_where_its_values_do() -> None:
    drawn = report.picture([report.Figure(title="t", series={"a": ([0, 10], [0.0, 1.0])})])
    assert drawn.dtype == np.uint8
    assert drawn.shape == (640, 1120, 3)
    rows, columns = rows_of(drawn, BLUE)
    assert len(rows) > 500
    assert rows[columns.argmin()] > rows[columns.argmax()]


def test_curves_have_colours_of_their_own_and_bands_are_paler() -> None:
    x = np.arange(5.0)
    bare = report.Figure(title="t", series={"a": (x, x), "b": (x, x + 4)})
    banded = report.Figure(
        title="t", series={"a": (x, x), "b": (x, x + 4)}, bands={"b": (x, x + 3, x + 5)}
    )
    first, second = report.picture([bare]), report.picture([banded])
    assert len(rows_of(first, BLUE)[0]) > 500
    assert len(rows_of(first, ORANGE)[0]) > 500
    pale = tuple(round(0.2 * c + 0.8 * 255) for c in ORANGE)
    assert len(rows_of(first, pale)[0]) < 50  # type: ignore[arg-type]
    assert len(rows_of(second, pale)[0]) > 10_000  # type: ignore[arg-type]


def test_gaps_single_points_and_logarithms() -> None:
    y = [1.0, np.nan, 100.0, -1.0]
    drawn = report.picture([report.Figure(title="t", series={"a": (range(4), y)}, log_y=True)])
    _, columns = rows_of(drawn, BLUE)
    assert len(np.unique(columns)) < 40  # two dots, and no line over the gap
    assert columns.max() - columns.min() > 300


def test_nothing_to_draw_is_said() -> None:
    empty = report.Figure(title="t", series={"a": ([], [])})
    full = report.Figure(title="ü", series={"a": ([1], [1.0])})
    drawn = report.picture([empty, full, full], columns=2)
    assert drawn.shape == (1280, 2240, 3)
    assert len(rows_of(drawn[:640, :1120], BLUE)[0]) == 0
    assert (drawn[640:, 1120:] == 255).all()


def test_lengths_must_fit() -> None:
    with pytest.raises(ShapeError, match="vectors of one length"):
        report.picture([report.Figure(title="t", series={"a": ([1, 2], [1.0])})])
