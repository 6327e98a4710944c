"""What is noticed of episodes while they are turned into a store."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deft import store
from deft.spec import Episode
from suites.memory_source import DrawnFrames, MemorySource, picture, tiny_spec, with_frames


def black_camera(index: int, episode: Episode) -> Episode:
    if index != 1:
        return episode
    frames = DrawnFrames(len(episode), lambda _: np.zeros((24, 32, 3), np.uint8))
    return with_frames(episode, "image", frames)


def test_findings_are_kept_with_the_store(tmp_path: Path) -> None:
    source = MemorySource(change=black_camera)
    report = store.write(tmp_path / "s", source, store.WriteConfig(), workers=3)
    (found,) = report.problems
    assert found.episode == source.episodes[1].id
    assert found.what == "'image' is black in all 9 pictures"
    assert found.effect == "kept as it is"
    assert store.source(store.open(tmp_path / "s")).problems == (found,)
    # A copy of the store finds the same again, and says it once.
    again = store.source(store.open(tmp_path / "s"))
    assert store.write(tmp_path / "t", again, store.WriteConfig()).problems == (found,)


def test_a_conversion_that_goes_on_has_the_same_findings(tmp_path: Path) -> None:
    whole = store.write(tmp_path / "whole", MemorySource(change=black_camera), store.WriteConfig())

    class Stopped(MemorySource):
        def read(self, index: int) -> Episode:
            if index == 2:
                raise KeyboardInterrupt
            return super().read(index)

    with pytest.raises(KeyboardInterrupt):
        store.write(tmp_path / "s", Stopped(change=black_camera), store.WriteConfig())
    report = store.write(tmp_path / "s", MemorySource(change=black_camera), store.WriteConfig())
    assert report.problems == whole.problems
    assert (tmp_path / "s/store.json").read_bytes() == (tmp_path / "whole/store.json").read_bytes()


def test_jpegs_that_are_kept_as_they_are_are_seen_too(tmp_path: Path) -> None:
    def frozen(index: int, episode: Episode) -> Episode:
        frames = DrawnFrames(len(episode), lambda _: picture(0, 0, 24, 32))
        return with_frames(episode, "image", frames)

    store.write(tmp_path / "s", MemorySource((12,), change=frozen), store.WriteConfig())
    opened = store.open(tmp_path / "s")
    cleared = replace(opened, info={**opened.info, "problems": []})
    report = store.write(tmp_path / "t", store.source(cleared), store.WriteConfig())
    assert [each.what for each in report.problems] == [
        "'image' stands still from step 0 to 11 of 12 while the robot moves"
    ]


def test_a_sound_source_has_no_findings(tmp_path: Path) -> None:
    source = MemorySource(spec=tiny_spec(depth=True))
    config = store.WriteConfig(image_height=12, image_width=16)
    assert store.write(tmp_path / "s", source, config).problems == ()
