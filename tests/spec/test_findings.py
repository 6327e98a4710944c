"""Findings about listings, numbers and whole sources; real damage is in the tests of readers."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from deft.errors import FormatError
from deft.spec import Episode, EpisodeInfo, Feature, Problem, Spec, findings
from suites.memory_source import DrawnFrames, MemorySource, with_array, with_frames

STAMPS = Feature(name="obs.time_stamp", role="other", shape=(1,), dtype="float64", unit="s")


def infos(*tasks: str, length: int = 3) -> list[EpisodeInfo]:
    return [EpisodeInfo(id=f"e{n}", length=length, task=task) for n, task in enumerate(tasks)]


def said(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(each.episode, each.what) for each in problems]


def stamped(times: Any, fps: float = 10.0) -> Episode:
    values = np.asarray(times, np.float64)[:, None]
    return Episode(
        spec=Spec(features=(STAMPS,), fps=fps), id="e", arrays={"obs.time_stamp": values}
    )


def test_a_sound_listing_has_no_findings() -> None:
    assert findings.of_listing(infos("a", "b")) == []
    assert findings.of_listing([]) == []


def test_empty_instructions_are_named() -> None:
    (found,) = findings.of_listing(infos("a", "", "b", "  "))
    assert found.what == "2 of 4 episodes have no instruction (e1, e3)"
    assert (found.severity, found.effect) == ("warning", "kept as they are")
    (found,) = findings.of_listing(infos("", ""))
    assert found.what == "2 of 2 episodes have no instruction (e0, e1)"
    assert findings.of_listing(infos("", ""), holds_language=False) == []
    assert len(findings.of_listing(infos("a", ""), holds_language=False)) == 1
    (found,) = findings.of_listing(infos("a", *[""] * 9))
    assert found.what.endswith("(e1, e2, e3, e4, e5, …)")


def test_no_steps_and_repeated_ids_are_errors() -> None:
    listed = [*infos("a", "a"), EpisodeInfo(id="e1", length=0, task="a")]
    found = findings.of_listing(listed)
    assert [(each.episode, each.severity) for each in found] == [("e1", "error")] * 2
    assert "2 episodes have this id" in found[0].what
    assert found[1].what == "has no steps"


def test_nan_is_an_error_where_it_would_be_trained_on() -> None:
    episode = MemorySource().read(1)
    broken = np.array(episode.arrays["state"])
    broken[4, 1] = np.nan
    (found,) = findings.of_arrays(with_array(episode, "state", broken))
    assert (found.severity, found.what) == ("error", "'state': step 4, element 1 is nan")
    assert found.effect == "`deft convert` leaves it out"
    other = replace(STAMPS, name="load")
    values = {"load": np.full((4, 1), np.inf)}
    one = Episode(spec=Spec(features=(other,), fps=10.0), id="e", arrays=values)
    (found,) = findings.of_arrays(one)
    assert (found.severity, found.effect) == ("note", "kept as it is")


def test_values_outside_the_declared_range() -> None:
    episode = MemorySource().read(0)
    actions = np.zeros((5, 2))
    limits = {"action": (np.array([-1.0, -2.0]), np.array([1.0, 2.0]))}
    assert findings.of_arrays(with_array(episode, "action", actions), limits) == []
    actions[2] = (1.0, 1.5)
    actions[3] = (0.0, -2.25)
    actions[4] = (3.0, 0.0)
    (found,) = findings.of_arrays(with_array(episode, "action", actions), limits)
    assert found.what == (
        "'action' leaves its declared range in 2 of 5 steps (step 3, element 1 is -2.25)"
    )


def test_time_stamps_are_held_against_the_declared_rate() -> None:
    assert findings.of_arrays(stamped(np.arange(20) / 10)) == []
    assert findings.of_arrays(stamped(np.arange(20) / 10.5)) == []
    assert findings.of_arrays(stamped(np.arange(20) / 30, fps=0)) == []
    (found,) = findings.of_arrays(stamped(np.arange(20) / 15))
    assert found.what == ("'obs.time_stamp' says 15 steps per second, the recording declares 10")
    late = np.arange(20) / 10
    late[12:] += 0.8
    (found,) = findings.of_arrays(stamped(late))
    assert "has 1 gaps, the longest 0.9 s before step 12" in found.what
    back = np.arange(20) / 10
    back[7] = back[6]
    (found,) = findings.of_arrays(stamped(back))
    assert "does not grow in 1 steps (step 7, for one)" in found.what


def test_nanoseconds_are_known_by_unit_or_name() -> None:
    for feature in (
        replace(STAMPS, dtype="int64", unit="ns"),
        replace(STAMPS, name="stamp_ns", dtype="int64", unit=""),
    ):
        values = (np.arange(9) * 50_000_000)[:, None]
        episode = Episode(
            spec=Spec(features=(feature,), fps=10.0), id="e", arrays={feature.name: values}
        )
        (found,) = findings.of_arrays(episode)
        assert "says 20 steps per second" in found.what


def test_a_sound_source_passes() -> None:
    told: list[tuple[int, int]] = []
    assert findings.check(MemorySource(), 3, lambda done, count: told.append((done, count))) == []
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("workers", [1, 4])
def test_everything_wrong_is_found_by_episode(workers: int) -> None:
    def change(index: int, episode: Episode) -> Episode:
        if index == 1:
            return with_frames(episode, "image", DrawnFrames(9, broken))
        if index == 2:
            black = DrawnFrames(4, lambda step: np.zeros((24, 32, 3), np.uint8))
            return with_frames(episode, "image", black)
        if index == 3:
            return with_frames(episode, "image", Short(12, episode.frames["image"].__getitem__))
        if index == 4:
            raise FormatError("disc 7: cannot be read.\nFix: replace it.")
        return episode

    def broken(step: int) -> np.ndarray:
        if step == 5:
            raise FormatError("picture 5 is cut short.\nFix: copy it again.")
        return np.full((24, 32, 3), step * 20, np.uint8)

    source = MemorySource(lengths=(5, 9, 4, 12, 6), change=change)
    found = {each.episode.split("/")[1]: each for each in findings.check(source, workers)}
    assert sorted(found) == ["episode_001", "episode_002", "episode_003", "episode_004"]
    assert "picture 5 is cut short" in found["episode_001"].what
    assert found["episode_002"].what == "'image' is black in all 4 pictures"
    assert found["episode_003"].what == "'image' has 11 pictures, 12 were promised"
    assert "disc 7" in found["episode_004"].what
    assert [found[f"episode_00{n}"].severity for n in (1, 2, 3, 4)] == [
        "error", "warning", "error", "error",
    ]  # fmt: skip


class Short(DrawnFrames):
    """Promises one picture more than it gives."""

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[step] for step in range(len(self) - 1))


def test_equal_episodes_are_found_under_any_id() -> None:
    first = MemorySource().read(0)

    def change(index: int, episode: Episode) -> Episode:
        return replace(first, id=episode.id) if index == 2 else episode

    (found,) = findings.check(MemorySource(lengths=(5, 5, 5), change=change))
    assert found.episode.endswith("episode_002")
    assert found.what.startswith("is the same as block/episode_000")
    splits = ("train", "train", "val")
    (found,) = findings.check(MemorySource(lengths=(5, 5, 5), splits=splits, change=change))
    assert "1 episodes of split 'val' are the same as episodes of 'train'" in found.what
    assert "not held-out" in found.effect


def test_equal_numbers_with_other_pictures_are_no_twins() -> None:
    first = MemorySource().read(0)

    def change(index: int, episode: Episode) -> Episode:
        return replace(episode, arrays=first.arrays)

    assert findings.check(MemorySource(lengths=(5, 5), change=change)) == []


def test_few_episodes_are_in_memory_at_a_time() -> None:
    @dataclass
    class Counted(MemorySource):
        begun = 0
        most_ahead = 0

        def read(self, index: int) -> Episode:
            with lock:
                self.begun += 1
                self.most_ahead = max(self.most_ahead, self.begun - len(done))
            return super().read(index)

    lock, done = threading.Lock(), []
    source = Counted(lengths=(3,) * 40)
    findings.check(source, 2, lambda number, _: done.append(number))
    assert len(done) == 40
    assert source.most_ahead <= 5
