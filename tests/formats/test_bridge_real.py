"""Real recordings of other kinds as BridgeData's converted layouts, and back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deft import formats
from deft.spec import Episode, EpisodeInfo, Problem, Spec
from deft.transforms import PickedFrames
from suites.formats import same

pytestmark = pytest.mark.data

SETS = ("bridge_rlds_sample", "g1_pick_bottle_lerobot_v21", "pusht_cchi_v7")


class Beginning:
    """The first steps of some episodes of a recording; satisfies `spec.Source`."""

    def __init__(self, recording: formats.Recording, episodes: int, steps: int) -> None:
        self._recording, self._steps = recording, steps
        numbers = np.linspace(0, len(recording.episodes) - 1, episodes).astype(int)
        self._numbers = [int(number) for number in dict.fromkeys(numbers)]

    @property
    def spec(self) -> Spec:
        return self._recording.spec

    @property
    def name(self) -> str:
        return self._recording.name

    @property
    def episodes(self) -> list[EpisodeInfo]:
        infos = [self._recording.episodes[number] for number in self._numbers]
        return [replace(info, length=min(info.length, self._steps)) for info in infos]

    @property
    def problems(self) -> list[Problem]:
        return []

    def read(self, index: int) -> Episode:
        whole = self._recording.read(self._numbers[index])
        steps = range(min(len(whole), self._steps))
        return replace(
            whole,
            arrays={name: array[: steps.stop] for name, array in whole.arrays.items()},
            frames={name: PickedFrames(each, steps) for name, each in whole.frames.items()},
            valid=None if whole.valid is None else whole.valid[: steps.stop],
        )


@pytest.mark.parametrize("format_", ["bridge_numpy", "bridge_tfrecord"])
@pytest.mark.parametrize("name", SETS)
def test_real_episodes_come_back_to_the_bit(
    real_data: Path, tmp_path: Path, name: str, format_: str
) -> None:
    source = Beginning(formats.open(real_data / name), 6, 12)
    options = {"all_cameras": True} if format_ == "bridge_tfrecord" else {}
    with formats.write(tmp_path / "out", format_, source.spec, options) as writer:
        for number in range(len(source.episodes)):
            writer.add(source.read(number))
        writer.finish([info.id for info in source.episodes])
    recording = formats.open(tmp_path / "out")
    assert {f.name: f for f in recording.spec.features} == {
        f.name: f for f in source.spec.features if f.dtype != "str"
    }
    # A split that the source names is kept; where there is none, both come about.
    named = [info.split for info in source.episodes]
    found = [info.split for info in recording.episodes]
    assert found == named if all(named) else set(found) == {"train", "val"}
    folders = {path.parent.name for path in (tmp_path / "out").rglob("out.*")}
    assert folders == set(found)
    for number in range(len(source.episodes)):
        one, other = source.read(number), recording.read(number)
        assert same(one, replace(other, split=one.split))
        pair = (one, other)
        before, after = (np.ones(len(e), bool) if e.valid is None else e.valid for e in pair)
        np.testing.assert_array_equal(before, after)
