"""Writing VITA data sets: what every writer does, and what VITA looks for."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deft import formats
from deft.errors import FormatError
from deft.formats.zarr_array import ZarrArray
from deft.formats.zarr_storage import FolderStorage
from deft.spec import Feature, Spec
from suites.formats import same
from suites.memory_source import MemorySource, tiny_spec
from suites.writers import WriterChecks, writable_spec, write_all


class TestVitaZarr(WriterChecks):
    format = "vita_zarr"
    name = "set"


def test_the_layout_is_vitas(tmp_path: Path) -> None:
    depth = Feature(name="top_depth", role="depth", shape=(24, 32, 1), dtype="uint16", unit="mm")
    top = Feature(name="top", role="image", shape=(24, 32, 3), dtype="uint8")
    spec = replace(writable_spec(), features=(*writable_spec().features, top, depth), fps=25)
    source = MemorySource(spec=spec, splits=("train", "val"))
    path = write_all(tmp_path / "owner" / "set", source, "vita_zarr")
    config = json.loads((path / "config.json").read_text())
    cameras = ["observation.images.image", "observation.images.top"]
    assert config["repo_id"] == "local/set"
    assert (config["num_frames"], config["num_episodes"], config["fps"]) == (30, 4, 25)
    assert config["tasks"] == {"0": "push the block", "1": "lift the carrot"}
    assert config["camera_keys"] == config["image_keys"] == cameras
    assert config["video_keys"] == []
    assert config["features"][cameras[0]]["shape"] == [24, 32, 3]
    assert config["features"]["observation.state"]["names"] == ["x", "y", "g"]
    storage = FolderStorage(path)
    held = {
        key: ZarrArray(storage, f"data/{key}").rows(0, 30)
        for key in ("timestamp", "frame_index", "episode_index", "index", "task_index")
    }
    assert held["timestamp"].dtype == np.float32
    np.testing.assert_allclose(held["timestamp"][5:14], np.arange(9) / 25, rtol=1e-6)
    assert {held[key].dtype.name for key in held if key != "timestamp"} == {"int64"}
    np.testing.assert_array_equal(held["index"], np.arange(30))
    np.testing.assert_array_equal(held["episode_index"], np.repeat(range(4), source.lengths))
    np.testing.assert_array_equal(held["task_index"], np.repeat([0, 1, 0, 1], source.lengths))
    for key, chunks in (("observation.state", [5, 3]), (cameras[0], [5, 24, 32, 3])):
        meta = json.loads((path / "data" / key / ".zarray").read_text())
        assert meta["chunks"] == chunks  # no longer than the first episode
        assert meta["compressor"] == {
            "id": "blosc",
            "cname": "zstd",
            "clevel": 5,
            "shuffle": 2,
            "blocksize": 0,
        }
    ends = json.loads((path / "meta/episode_ends/.zarray").read_text())
    assert (ends["dtype"], ends["compressor"]) == ("<i8", None)


def test_statistics_are_over_all_steps(tmp_path: Path) -> None:
    source = MemorySource(spec=writable_spec())
    path = write_all(tmp_path / "set", source, "vita_zarr")
    stats = json.loads((path / "config.json").read_text())["stats"]
    state = np.concatenate([source.read(n).arrays["state"] for n in range(4)]).astype(float)
    found = stats["observation.state"]
    np.testing.assert_allclose(found["mean"], state.mean(0))
    np.testing.assert_allclose(found["std"], state.std(0))
    np.testing.assert_array_equal(found["min"], state.min(0))
    np.testing.assert_array_equal(found["max"], state.max(0))
    assert found["count"] == [30]
    pixels = np.concatenate([np.stack(list(source.read(n).frames["image"])) for n in range(4)])
    mean = np.array(stats["observation.image"]["mean"])
    assert mean.shape == (3, 1, 1)
    np.testing.assert_allclose(mean.ravel(), (pixels / 255).mean((0, 1, 2)))
    std = np.ravel(stats["observation.image"]["std"])
    np.testing.assert_allclose(std, (pixels / 255).std((0, 1, 2)))
    assert stats["timestamp"]["count"] == [30]


def test_every_kind_of_feature_comes_back(tmp_path: Path) -> None:
    tiny = tiny_spec(depth=True)
    extra = (
        Feature(name="reward", role="reward", shape=(), dtype="float32"),
        Feature(name="index", role="other", shape=(), dtype="int64"),
        Feature(name="gripper.image", role="state", shape=(2,), dtype="float32"),
        Feature(name="map", role="feature_map", shape=(4, 4, 7), dtype="float16"),
        Feature(name="said", role="language", shape=(), dtype="str"),
    )
    spec = Spec(features=(*tiny.features, *extra), fps=12.5, embodiment="arm")
    source = MemorySource(spec=spec, valid=lambda n, length: np.arange(length) % 3 != n)
    path = write_all(tmp_path / "set", source, "vita_zarr", {"repo_id": "a/b"})
    assert json.loads((path / "config.json").read_text())["repo_id"] == "a/b"
    recording = formats.open(path)
    assert recording.spec == spec
    assert not recording.problems
    for number in range(4):
        assert same(recording.read(number), source.read(number))
        np.testing.assert_array_equal(recording.read(number).valid, source.read(number).valid)


def test_without_notes_it_is_read_as_vitas(tmp_path: Path) -> None:
    depth = Feature(name="deep", role="depth", shape=(24, 32, 1), dtype="uint16", unit="mm")
    spec = replace(writable_spec(), features=(*writable_spec().features, depth))
    source = MemorySource(spec=spec)
    path = write_all(tmp_path / "set", source, "vita_zarr")
    (path / "meta/.zattrs").unlink()
    recording = formats.open(path)
    assert not recording.problems
    assert {f.name: f for f in recording.spec.features} == {
        f.name: replace(f, unit="" if f.name == "state" else f.unit) for f in spec.features
    }
    for number, info in enumerate(recording.episodes):
        made = source.read(number)
        assert info.task == made.task
        assert same(recording.read(number), replace(made, id=info.id))


def test_what_vita_cannot_hold_is_refused(tmp_path: Path) -> None:
    spec = writable_spec()
    path = tmp_path / "set"
    with pytest.raises(FormatError, match="needs a tick rate"):
        formats.write(path, "vita_zarr", replace(spec, fps=0))
    second = replace(spec.features[2], name="action_right")
    with pytest.raises(FormatError, match=r"one action[^$]*fuse_arms"):
        formats.write(path, "vita_zarr", replace(spec, features=(*spec.features, second)))


@pytest.mark.data
def test_pusht_comes_back(real_data: Path, tmp_path: Path) -> None:
    whole = formats.open(real_data / "pusht_cchi_v7", fps=10)
    few = (3, 100, 205)
    with formats.write(tmp_path / "pusht", "vita_zarr", whole.spec) as writer:
        for number in few:
            writer.add(whole.read(number))
        path = writer.finish([whole.episodes[n].id for n in few])
    again = formats.open(path)
    assert again.spec == whole.spec
    assert not again.problems
    assert all(same(again.read(n), whole.read(old)) for n, old in enumerate(few))
