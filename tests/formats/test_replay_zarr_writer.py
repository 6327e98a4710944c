"""Writing replay buffers: what every writer does, and what Diffusion Policy looks for."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft import formats
from deft.errors import FormatError
from deft.formats.zarr_array import ZarrArray
from deft.formats.zarr_storage import FolderStorage
from deft.spec import Episode, Feature, Spec
from suites.formats import same
from suites.memory_source import DrawnFrames, MemorySource, tiny_spec, with_frames
from suites.writers import WriterChecks, writable_spec, write_all


class TestReplayZarr(WriterChecks):
    format = "replay_zarr"
    name = "replay.zarr"


def everything() -> Spec:
    """Every role, odd names, many dtypes."""
    tiny = tiny_spec(depth=True)
    depth = replace(tiny["wrist/depth"], unit="mm")
    extra = (
        depth,
        Feature(name="reward", role="reward", shape=(), dtype="float32"),
        Feature(name=".hidden", role="point_cloud", shape=(6, 3), dtype="float16"),
        Feature(name="__a%2Fb", role="feature_map", shape=(4, 4, 7), dtype="float16"),
        Feature(name="heat", role="saliency", shape=(24, 32, 1), dtype="float32"),
        Feature(name="grey", role="image", shape=(24, 32, 1), dtype="uint8"),
        Feature(name="said", role="language", shape=(), dtype="str"),
    )
    features = tuple(f for f in tiny.features if f.name != depth.name)
    return Spec(features=(*features, *extra), fps=12.5, embodiment="arm")


def redrawn(index: int, episode: Episode) -> Episode:
    """With one channel where the spec wants one."""

    def heat(step: int) -> np.ndarray:
        return np.full((24, 32, 1), step / (index + 20), np.float32)

    def grey(step: int) -> np.ndarray:
        return np.full((24, 32, 1), 7 * step + index, np.uint8)

    episode = with_frames(episode, "heat", DrawnFrames(len(episode), heat))
    return with_frames(episode, "grey", DrawnFrames(len(episode), grey))


def flags(index: int, length: int) -> np.ndarray | None:
    return None if index == 1 else np.arange(length) % 3 != index


@pytest.mark.parametrize(
    "options", [{}, {"zip": True}, {"channels_first": True, "compressor": "default"}]
)
def test_every_kind_of_feature_comes_back(tmp_path: Path, options: dict[str, Any]) -> None:
    spec = everything()
    source = MemorySource(spec=spec, change=redrawn, valid=flags, splits=("train", "val", ""))
    path = write_all(tmp_path / "replay.zarr", source, "replay_zarr", options)
    recording = formats.open(path)
    assert recording.spec == spec
    assert list(recording.episodes) == source.episodes
    assert not recording.problems
    for number in range(4):
        read, made = recording.read(number), source.read(number)
        assert same(read, made)
        assert read.source == made.source
        if made.valid is None:
            assert read.valid is None
        else:
            np.testing.assert_array_equal(read.valid, made.valid)


def test_the_buffer_is_as_diffusion_policy_wants_it(tmp_path: Path) -> None:
    source = MemorySource(spec=replace(writable_spec(), fps=0))
    path = write_all(tmp_path / "replay.zarr", source, "replay_zarr")
    storage = FolderStorage(path)
    ends = ZarrArray(storage, "meta/episode_ends")
    assert ends.layout.dtype == np.int64
    assert ends.rows(0, 4).tolist() == [5, 14, 18, 30]
    for key in ("action", "state", "image"):
        meta = json.loads((path / "data" / key / ".zarray").read_text())
        assert meta["shape"][0] == 30
        assert meta["compressor"]["cname"] == "zstd"
    assert json.loads((path / "data/image/.zarray").read_text())["dtype"] == "|u1"
    state = ZarrArray(storage, "data/state").rows(0, 30)
    made = np.concatenate([source.read(n).arrays["state"] for n in range(4)])
    np.testing.assert_array_equal(state, made)


def test_chunks_hold_about_two_megabytes(tmp_path: Path) -> None:
    image = Feature(name="image", role="image", shape=(240, 320, 3), dtype="uint8")
    spec = replace(writable_spec(), features=(image, *writable_spec().features[1:]))
    source = MemorySource(lengths=(13, 8), spec=spec)
    path = write_all(tmp_path / "replay.zarr", source, "replay_zarr")
    meta = json.loads((path / "data/image/.zarray").read_text())
    assert meta["chunks"] == [9, 240, 320, 3]
    assert sorted(each.name for each in (path / "data/image").iterdir() if each.name[0] != ".") == [
        "0.0.0.0",
        "1.0.0.0",
        "2.0.0.0",
    ]
    recording = formats.open(path)
    assert all(same(recording.read(n), source.read(n)) for n in range(2))


def test_a_zip_is_stored_without_dates(tmp_path: Path) -> None:
    source = MemorySource(spec=writable_spec())
    one = write_all(tmp_path / "a.zarr.zip", source, "replay_zarr", {"zip": True})
    other = write_all(tmp_path / "b.zarr.zip", source, "replay_zarr", {"zip": True})
    assert one.read_bytes() == other.read_bytes()
    with zipfile.ZipFile(one) as archive:
        assert {each.compress_type for each in archive.infolist()} == {zipfile.ZIP_STORED}
    assert formats.recognise(one) == "replay_zarr"


def test_without_notes_arrays_speak_for_themselves(tmp_path: Path) -> None:
    source = MemorySource(spec=everything(), change=redrawn)
    path = write_all(tmp_path / "replay.zarr", source, "replay_zarr")
    (path / "meta/.zattrs").unlink()
    recording = formats.open(path, fps=5)
    assert recording.spec["wrist%2Fdepth"].unit == "mm"  # it is on the array, too
    assert recording.episodes[2].id == "episode_000002"
    np.testing.assert_array_equal(
        recording.read(1).arrays["counter"], source.read(1).arrays["counter"]
    )


def test_notes_that_no_longer_fit_are_not_used(tmp_path: Path) -> None:
    source = MemorySource(spec=writable_spec())
    path = write_all(tmp_path / "replay.zarr", source, "replay_zarr")
    notes = json.loads((path / "meta/.zattrs").read_text())

    def rewrite(**changes: object) -> list[str]:
        (path / "meta/.zattrs").write_text(json.dumps({"deft": notes["deft"] | changes}))
        recording = formats.open(path, fps=10)
        assert len(recording.episodes) == 4
        return [problem.what for problem in recording.problems]

    assert rewrite() == []
    (what,) = rewrite(episodes=notes["deft"]["episodes"][:3])
    assert what == "Deft's notes tell of 3 episodes, there are 4"
    for changes in ({"spec": 3}, {"arrays": {"action": {}}}, {"episodes": [{"id": 3}]}):
        (what,) = rewrite(**changes)
        assert what.startswith("Deft's notes in `meta` cannot be read")
    spec = json.loads(json.dumps(notes["deft"]["spec"]))
    spec["features"][1] |= {"shape": [4], "names": []}
    assert rewrite(spec=spec) == ["'state' is no longer what Deft wrote"]


def test_what_zarr_cannot_hold_is_refused(tmp_path: Path) -> None:
    spec = writable_spec()
    path = tmp_path / "replay.zarr"
    with pytest.raises(FormatError, match="needs an action"):
        formats.write(path, "replay_zarr", replace(spec, features=spec.features[:2]))
    odd = Feature(name="a\0b", role="other", shape=(), dtype="int64")
    with pytest.raises(FormatError, match="cannot be the name"):
        formats.write(path, "replay_zarr", replace(spec, features=(*spec.features, odd)))
    with pytest.raises(FormatError, match="compressor"):
        formats.write(path, "replay_zarr", spec, {"compressor": "jpeg"})


def test_two_arms_and_other_names_of_the_action(tmp_path: Path) -> None:
    action = writable_spec().features[2]
    apart = (replace(action, name="action_left"), replace(action, name="action_right"))
    for features in (apart, (replace(action, name="command"),)):
        spec = replace(writable_spec(), features=(*writable_spec().features[:2], *features))
        source = MemorySource(spec=spec)
        path = write_all(tmp_path / features[0].name, source, "replay_zarr")
        recording = formats.open(path)
        assert recording.spec == spec
        assert same(recording.read(3), source.read(3))
        assert (path / "data/action").exists() == (len(features) == 1)


@pytest.mark.data
def test_pusht_comes_back(real_data: Path, tmp_path: Path) -> None:
    whole = formats.open(real_data / "pusht_cchi_v7", fps=10)
    with formats.write(tmp_path / "pusht.zarr", "replay_zarr", whole.spec) as writer:
        for number in range(0, 206, 20):
            writer.add(whole.read(number))
        path = writer.finish([whole.episodes[n].id for n in range(0, 206, 20)])
    again = formats.open(path)
    assert again.spec == whole.spec
    assert not again.problems
    for number, old in enumerate(range(0, 206, 20)):
        assert same(again.read(number), whole.read(old))
