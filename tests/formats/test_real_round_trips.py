"""The three real data sets, written as zarr and HDF5 and read again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft import formats
from suites.formats import same

pytestmark = pytest.mark.data

SETS = {
    "pusht": ("pusht_cchi_v7", 10.0, (0, 113, 205)),
    "bridge": ("bridge_rlds_sample", 5.0, (0, 7, 30, 49)),
    "g1": ("g1_pick_bottle_lerobot_v21", None, (0,)),
}
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "replay.zarr": ("replay_zarr", {}),
    "replay.zarr.zip": ("replay_zarr", {"zip": True, "channels_first": True}),
    "vita": ("vita_zarr", {}),
    "demos.hdf5": ("robomimic", {"compress": True}),
}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("which", SETS)
def test_real_episodes_come_back(real_data: Path, tmp_path: Path, which: str, name: str) -> None:
    folder, fps, few = SETS[which]
    whole = formats.open(real_data / folder, fps=fps)
    format_, options = WRITTEN[name]
    with formats.write(tmp_path / name, format_, whole.spec, options) as writer:
        for number in few:
            writer.add(whole.read(number))
        path = writer.finish([whole.episodes[number].id for number in few])
    again = formats.open(path)
    assert again.format == format_
    assert {f.name: f for f in again.spec.features} == {f.name: f for f in whole.spec.features}
    assert again.spec.fps == whole.spec.fps
    # The Bridge sample holds every episode twice, once for each split.
    odd = [each.what for each in again.problems if each.severity != "note"]
    assert [each for each in odd if "same actions" not in each] == []
    for number, old in enumerate(few):
        info, wanted = again.episodes[number], whole.episodes[old]
        assert (info.id, info.length, info.task) == (wanted.id, wanted.length, wanted.task)
        assert info.split == wanted.split
        read, made = again.read(number), whole.read(old)
        assert same(read, made)
        for key, values in made.arrays.items():
            assert read.arrays[key].dtype == values.dtype
            np.testing.assert_array_equal(read.arrays[key], values)
