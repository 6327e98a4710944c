"""Writing robomimic files: what every writer does, and what robomimic itself looks for."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from deft import formats
from deft.errors import FormatError
from deft.spec import Feature, Spec
from suites.formats import same
from suites.memory_source import MemorySource, tiny_spec
from suites.writers import WriterChecks, writable_spec, write_all


class TestRobomimic(WriterChecks):
    format = "robomimic"
    name = "demos.hdf5"


def test_the_file_is_as_robomimic_wants_it(tmp_path: Path) -> None:
    spec = replace(writable_spec(), embodiment="Panda")
    source = MemorySource(spec=spec, splits=("train", "val", "extra/1"))
    path = write_all(tmp_path / "demos.hdf5", source, "robomimic")
    with h5py.File(path) as file:
        assert file["data"].attrs["total"] == sum(source.lengths)
        env = json.loads(file["data"].attrs["env_args"])
        assert env["env_kwargs"] == {"control_freq": 10.0, "robots": ["Panda"]}
        assert sorted(file["data"]) == ["demo_0", "demo_1", "demo_2", "demo_3"]
        masks = {name: [each.decode() for each in file["mask"][name][:]] for name in file["mask"]}
        assert masks == {"train": ["demo_0", "demo_3"], "valid": ["demo_1"], "extra_1": ["demo_2"]}
        demo = file["data/demo_1"]
        assert demo.attrs["num_samples"] == 9
        assert json.loads(demo.attrs["ep_meta"]) == {"lang": "lift the carrot"}
        assert demo["obs/image"].shape == (9, 24, 32, 3)
        np.testing.assert_array_equal(demo["actions"][:], source.read(1).arrays["action"])
        np.testing.assert_array_equal(demo["obs/state"][:], source.read(1).arrays["state"])
    assert formats.open(path).spec.embodiment == "Panda"


def test_every_kind_of_feature_comes_back(tmp_path: Path) -> None:
    tiny = tiny_spec(depth=True)  # with a name that holds a slash, float64 commands, integers
    extra = (
        Feature(name="reward", role="reward", shape=(), dtype="float32"),
        Feature(name="done", role="other", shape=(), dtype="int64"),
        Feature(name="states", role="other", shape=(5,), dtype="float64"),
        Feature(name=".", role="point_cloud", shape=(6, 3), dtype="float16"),
        Feature(name="a%2Fb", role="feature_map", shape=(4, 4, 1), dtype="float32"),
        Feature(name="actions", role="other", shape=(2,), dtype="float32"),
        Feature(name="said", role="language", shape=(), dtype="str"),
    )
    spec = Spec(features=(*tiny.features, *extra), fps=12.5, embodiment="arm")

    def with_flags(index: int, length: int) -> np.ndarray:
        return np.arange(length) % 3 != index

    source = MemorySource(spec=spec, valid=with_flags)
    path = write_all(tmp_path / "demos.hdf5", source, "robomimic", {"compress": True})
    recording = formats.open(path)
    assert recording.spec == spec
    for number in range(4):
        read, made = recording.read(number), source.read(number)
        assert same(read, made)
        assert read.source == made.source
        np.testing.assert_array_equal(read.valid, made.valid)
    with h5py.File(path) as file:
        assert file["data/demo_0/obs/image"].compression == "gzip"
        assert file["data/demo_0/rewards"].shape == (5,)


def test_what_robomimic_cannot_hold_is_refused(tmp_path: Path) -> None:
    spec = writable_spec()
    path = tmp_path / "demos.hdf5"
    second = Feature(name="action_right", role="action", shape=(2,), dtype="float32")
    for features in (spec.features[:2], (*spec.features, second)):
        with pytest.raises(FormatError, match="holds one action"):
            formats.write(path, "robomimic", replace(spec, features=features))
    odd = Feature(name="a\0b", role="other", shape=(), dtype="int64")
    with pytest.raises(FormatError, match="cannot be a name"):
        formats.write(path, "robomimic", replace(spec, features=(*spec.features, odd)))
    with pytest.raises(FormatError, match="no JSON"):
        formats.write(path, "robomimic", spec, {"env_args": "{"})
    with pytest.raises(FormatError, match="JSON object"):
        formats.write(path, "robomimic", spec, {"env_args": "3"})


def test_given_env_args_are_kept(tmp_path: Path) -> None:
    env = {"env_name": "Lift", "env_type": 1, "env_kwargs": {"control_freq": 20}}
    source = MemorySource(spec=replace(writable_spec(), fps=0))
    options = {"env_args": json.dumps(env)}
    path = write_all(tmp_path / "demos.hdf5", source, "robomimic", options)
    assert formats.open(path).spec.fps == 20


def test_what_robomimic_wants_is_filled_in_and_passed_over(tmp_path: Path) -> None:
    source = MemorySource(spec=writable_spec())
    path = write_all(tmp_path / "demos.hdf5", source, "robomimic", {"next_obs": True})
    with h5py.File(path) as file:
        for number in range(4):
            demo = file[f"data/demo_{number}"]
            length = source.lengths[number]
            assert demo["dones"][:].tolist() == [0] * (length - 1) + [1]
            assert not demo["rewards"][:].any()
            for key in ("state", "image"):
                np.testing.assert_array_equal(demo[f"next_obs/{key}"][:-1], demo[f"obs/{key}"][1:])
                np.testing.assert_array_equal(demo[f"next_obs/{key}"][-1], demo[f"obs/{key}"][-1])
    recording = formats.open(path)
    assert recording.spec == source.spec
    assert all(same(recording.read(n), source.read(n)) for n in range(4))
