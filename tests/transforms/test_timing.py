"""Late observations, and another tick rate."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import ConfigError, ShapeError, SpecError
from deft.spec import ArrayFrames, Episode, Spec
from deft.transforms import LatencyShift, Resample
from suites.formats import repeatable
from suites.transforms import POSE, EpisodeTransformChecks, arm_episode, arm_spec

CHANGES = tuple(f"d{axis}" for axis in POSE)
SPEC = arm_spec((*CHANGES, "gripper"))


class TestLatencyShift(EpisodeTransformChecks):
    transform = LatencyShift()
    name = "latency_shift"

    def misfit(self) -> Spec:
        return self.spec.select(["state"])

    @pytest.mark.parametrize("steps", [1, 3])
    @pytest.mark.parametrize("has_last", [True, False])
    def test_observations_go_ahead(self, steps: int, has_last: bool) -> None:
        episode = arm_episode(has_last=has_last)
        changed = LatencyShift(steps=steps).apply(episode)
        assert len(changed) == 9 - steps
        for step in range(len(changed)):
            later = step + steps
            np.testing.assert_array_equal(
                changed.arrays["action"][step], episode.arrays["action"][step]
            )
            np.testing.assert_array_equal(
                changed.arrays["state"][step], episode.arrays["state"][later]
            )
            np.testing.assert_array_equal(
                changed.frames["image"][step], episode.frames["image"][later]
            )
        valid = None if changed.valid is None else changed.valid.tolist()
        assert valid == ([True] * (8 - steps) + [False] if has_last else None)

    def test_what_is_too_short_is_refused(self) -> None:
        with pytest.raises(ShapeError, match="would lose 9"):
            LatencyShift(steps=9).apply(arm_episode(9))
        with pytest.raises(ConfigError, match="1 or more"):
            LatencyShift(steps=0)


class TestResample(EpisodeTransformChecks):
    transform = Resample(fps=10.0, changes=CHANGES)
    name = "resample"
    spec = SPEC

    def test_twice_as_fast_and_back(self) -> None:
        episode = arm_episode(spec=SPEC)
        episode.arrays["action"][-1, :6] = 0  # behind the last action there is no motion
        faster = self.transform.apply(episode)
        assert (len(faster), faster.spec.fps) == (17, 10)
        back = Resample(fps=5.0, changes=CHANGES).apply(faster)
        assert back.spec == episode.spec
        for key, array in episode.arrays.items():
            np.testing.assert_allclose(back.arrays[key], array, atol=1e-5)
        assert same_pictures(back, episode)
        assert back.valid is not None
        assert back.valid.tolist() == [True] * 8 + [False]

    def test_between_two_ticks(self) -> None:
        episode = arm_episode(3, spec=SPEC)
        episode.arrays["state"][:, 0] = [0, 1, 3]
        episode.arrays["state"][:, 5] = [3.0, -3.0, -3.0]
        episode.arrays["action"][:, 0] = [0.2, 0.4, 0]
        episode.arrays["action"][:, 6] = [0, 1, 1]
        found = self.transform.apply(episode).arrays
        np.testing.assert_allclose(found["state"][:, 0], [0, 0.5, 1, 2, 3])
        # The short way round: through pi, not through 0.
        np.testing.assert_allclose(np.cos(found["state"][1, 5]), -1, atol=1e-5)
        np.testing.assert_allclose(found["action"][:, 0], [0.1, 0.1, 0.2, 0.2, 0], atol=1e-7)
        np.testing.assert_array_equal(found["action"][:, 6], [0, 0, 1, 1, 1])
        np.testing.assert_array_equal(found["counter"], [0, 0, 1, 1, 2])

    def test_a_step_that_stands_for_a_bad_one_is_bad(self) -> None:
        valid = np.array([True, True, True, False, True, True])
        episode = replace(arm_episode(6, spec=SPEC), valid=valid)
        found = Resample(fps=2.5).apply(episode).valid
        assert found is not None
        assert found.tolist() == [True, False, True]

    def test_the_tick_rate_must_be_known(self) -> None:
        with pytest.raises(SpecError, match="does not say its tick rate"):
            self.transform.contract(replace(SPEC, fps=0.0))
        with pytest.raises(ConfigError, match="ticks per second"):
            Resample(fps=0.0)


def same_pictures(one: Episode, other: Episode) -> bool:
    pairs = zip(one.frames["image"], other.frames["image"], strict=True)
    return all(np.array_equal(*pair) for pair in pairs)


@repeatable
@given(st.integers(2, 30), st.floats(0.7, 60))
def test_changes_lead_to_the_same_place(length: int, fps: float) -> None:
    episode = arm_episode(length, spec=SPEC)
    episode.arrays["action"][-1, :6] = 0
    changed = Resample(fps=fps, changes=CHANGES).apply(episode)
    last = (len(changed) - 1) * 5 / fps
    assert last <= length - 1 + 1e-5 < last + 5 / fps + 1e-4
    start = np.concatenate([np.zeros((1, 6)), episode.arrays["action"][:, :6].cumsum(0)])
    for axis in range(6):
        wanted = np.interp(last + 5 / fps, np.arange(length + 1), start[:, axis])
        assert abs(changed.arrays["action"][:, axis].sum() - wanted) < 1e-3


def test_the_same_rate_changes_nothing() -> None:
    episode = arm_episode(spec=SPEC)
    same = Resample(fps=5.0, changes=CHANGES).apply(episode)
    for key, array in episode.arrays.items():
        np.testing.assert_allclose(same.arrays[key], array, atol=1e-6)
    assert same_pictures(same, episode)


def test_jpegs_are_passed_on() -> None:
    class Jpegs:
        def __len__(self) -> int:
            return 9

        def encoded(self, index: int) -> bytes:
            return bytes([index])

        def reduced(self, height: int, width: int) -> tuple[int, ArrayFrames] | None:
            return (2, ArrayFrames(np.arange(9))) if height < 10 else None

    episode = arm_episode(spec=SPEC)
    shifted = LatencyShift().apply(replace(episode, frames={"image": Jpegs()}))  # pyright: ignore
    assert shifted.frames["image"].encoded(2) == b"\x03"  # pyright: ignore
    assert LatencyShift().apply(episode).frames["image"].encoded(2) is None  # pyright: ignore
    assert shifted.frames["image"].reduced(10, 10) is None  # pyright: ignore
    factor, smaller = shifted.frames["image"].reduced(9, 10)  # pyright: ignore
    assert (factor, len(smaller), smaller[0]) == (2, 8, 1)  # pyright: ignore
    assert LatencyShift().apply(episode).frames["image"].reduced(1, 1) is None  # pyright: ignore
