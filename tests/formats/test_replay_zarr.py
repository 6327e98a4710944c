"""Diffusion Policy replay buffers: folders, zips, dtypes, and what is wrong with them."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from deft import formats
from deft.errors import FormatError
from suites.formats import FormatChecks
from suites.recordings import (
    HEIGHT,
    WIDTH,
    demonstration,
    replay_files,
    write_folder,
    write_zip,
    zarr_array,
)


class TestFolder(FormatChecks):
    format = "replay_zarr"

    @classmethod
    def write(cls, folder: Path) -> Path:
        return write_folder(folder / "replay.zarr", replay_files(cls.lengths))


class TestStoredZipWithFloatPictures(FormatChecks):
    format = "replay_zarr"

    @classmethod
    def write(cls, folder: Path) -> Path:
        return write_zip(folder / "replay.zip", replay_files(cls.lengths, "float32"))


class TestCompressedZipWithAFolderInside(FormatChecks):
    format = "replay_zarr"

    @classmethod
    def write(cls, folder: Path) -> Path:
        files = replay_files(cls.lengths)
        return write_zip(folder / "replay.zip", files, zipfile.ZIP_DEFLATED, "some/replay.zarr/")


class TestChannelsFirst(FormatChecks):
    format = "replay_zarr"

    @classmethod
    def write(cls, folder: Path) -> Path:
        pictures = [demonstration(n, length)["image"] for n, length in enumerate(cls.lengths)]
        img = np.moveaxis(np.concatenate(pictures), 3, 1)
        return write_folder(folder / "replay.zarr", replay_files(cls.lengths, img=img))


def opened(folder: Path, files: dict[str, bytes]) -> formats.Recording:
    return formats.open(write_folder(folder / "replay", files))


def test_arrays_become_features(tmp_path: Path) -> None:
    files = replay_files(
        (5, 6),
        robot_eef_pose=np.zeros((11, 6)),
        point_cloud=np.zeros((11, 20, 6), np.float32),
        counts=np.arange(11, dtype=np.int16),
        depth_top=np.full((11, HEIGHT, WIDTH, 1), 700, np.uint16),
    )
    recording = opened(tmp_path, files)
    found = {f.name: (f.role, f.shape, f.dtype) for f in recording.spec.features}
    assert found == {
        "state": ("state", (3,), "float32"),
        "robot_eef_pose": ("state", (6,), "float32"),
        "action": ("action", (2,), "float32"),
        "image": ("image", (HEIGHT, WIDTH, 3), "uint8"),
        "depth_top": ("depth", (HEIGHT, WIDTH, 1), "uint16"),
        "point_cloud": ("point_cloud", (20, 6), "float32"),
        "counts": ("other", (), "int32"),
    }
    assert recording.spec.fps == 0
    assert formats.open(tmp_path / "replay", fps=20).spec.fps == 20
    episode = recording.read(1)
    np.testing.assert_array_equal(episode.arrays["counts"], np.arange(5, 11))
    assert (episode.frames["depth_top"][3] == 700).all()


def test_pusht_elements_are_known_by_their_arrays(tmp_path: Path) -> None:
    files = replay_files(
        (6,),
        state=np.ones((6, 5), np.float32),
        keypoint=np.ones((6, 9, 2), np.float32),
        n_contacts=np.ones((6, 1), np.float32),
    )
    spec = opened(tmp_path, files).spec
    assert spec["state"].names == ("agent.x", "agent.y", "block.x", "block.y", "block.angle")
    assert (spec["action"].names, spec["action"].unit) == (("x", "y"), "px")


@pytest.mark.parametrize("bad", [0.5, -1.0, 256.0, np.nan])
def test_pictures_that_are_not_8_bit_are_refused(tmp_path: Path, bad: float) -> None:
    img = np.zeros((9, HEIGHT, WIDTH, 3), np.float32)
    img[7, 3, 2, 1] = bad
    recording = opened(tmp_path, replay_files((9,), img=img))
    frames = recording.read(0).frames["image"]
    assert not frames[4].any()
    with pytest.raises(FormatError, match=r"img, step 7.*\n.*at \(3, 2, 1\)"):
        frames[8]


def test_findings_are_reported(tmp_path: Path) -> None:
    lengths = (5, 0, 6, 4, 5)
    action = np.concatenate(
        [demonstration(n, length)["action"] for n, length in enumerate(lengths)]
    )
    action[12, 1] = np.nan
    action[15:20] = action[:5]
    longer = np.ones((27, 1), np.float32)
    files = replay_files(lengths, action=action, longer=longer)
    del files["data/state/1.0"]
    recording = opened(tmp_path, files)
    found = {(problem.episode, problem.what, problem.severity) for problem in recording.problems}
    assert found == {
        ("episode_000001", "has no steps", "error"),
        ("episode_000003", "'action': step 1, element 1 is nan", "error"),
        ("episode_000004", "has the same actions as episode_000000", "warning"),
        ("", "'longer' has 27 rows, the last episode ends at 20", "warning"),
        ("", "1 chunks of 'state' are not there", "warning"),
    }
    assert [info.id for info in recording.episodes] == [
        "episode_000000",
        "episode_000002",
        "episode_000004",
    ]
    state = recording.read(1).arrays["state"]
    assert not state[:5].any()
    assert state[5:].all()


def changed(files: dict[str, bytes], name: str, **entries: object) -> dict[str, bytes]:
    meta = json.loads(files[name]) | entries
    return files | {name: json.dumps(meta).encode()}


@pytest.mark.parametrize(
    ("name", "entries", "message"),
    [
        ("data/action/.zarray", {"compressor": {"id": "jpeg2k"}}, "compressor is not supported"),
        ("data/action/.zarray", {"compressor": {"id": "zstdd"}}, "Did you mean 'zstd'"),
        ("data/action/.zarray", {"filters": [{"id": "delta"}]}, "filters"),
        ("data/action/.zarray", {"dtype": "|O"}, "only numbers and booleans"),
        ("data/action/.zarray", {"dtype": [["a", "<f4"]]}, "only numbers and booleans"),
        ("data/action/.zarray", {"order": "K"}, "'order'"),
        ("data/action/.zarray", {"zarr_format": 3}, "version 3"),
        ("data/action/.zarray", {"shape": [11]}, "same number of axes"),
        ("data/action/.zarray", {"shape": [11, -2]}, "axis sizes"),
        ("data/action/.zarray", {"chunks": [2**40, 2]}, "MiB of memory"),
        ("data/action/.zarray", {"chunks": [5, 2**40]}, "MiB of memory"),
        ("data/action/.zarray", {"shape": [11, 2**20], "chunks": [5, 1]}, "MiB|pieces"),
        ("data/action/.zarray", {"dtype": "<f8"}, "damaged"),
        ("data/action/.zarray", {"fill_value": "nothing"}, "fill value"),
        ("meta/episode_ends/.zarray", {"dtype": "<f8"}, "whole numbers"),
    ],
)
def test_a_layout_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, entries: dict[str, object], message: str
) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        opened(tmp_path, changed(replay_files((5, 6)), name, **entries))
    assert name.removesuffix("/.zarray") in str(caught.value)
    assert "Fix: " in str(caught.value)


@pytest.mark.parametrize("ends", [[5, 3], [-1, 4], [5, 2**40]])
def test_impossible_episode_ends_are_refused(tmp_path: Path, ends: list[int]) -> None:
    files = replay_files((5, 6))
    for name, data in zarr_array(np.array(ends, np.int64), (64,)).items():
        files[f"meta/episode_ends/{name}"] = data
    with pytest.raises(FormatError, match="must rise"):
        opened(tmp_path, files)


def test_missing_pieces_are_named(tmp_path: Path) -> None:
    files = replay_files((5, 6))
    without = {name: data for name, data in files.items() if not name.startswith("data/action")}
    with pytest.raises(FormatError, match="no `data/action`"):
        opened(tmp_path / "a", without)


def test_an_array_that_ends_early_costs_only_its_episodes(tmp_path: Path) -> None:
    files = replay_files((5, 6))
    files["data/action/.zarray"] = changed(files, "data/action/.zarray", shape=[9, 2])[
        "data/action/.zarray"
    ]
    recording = opened(tmp_path, files)
    assert [info.length for info in recording.episodes] == [5]
    (problem,) = (each for each in recording.problems if each.severity == "error")
    assert problem.what == "ends at step 11, 'action' has 9 rows"


def test_a_damaged_zip_is_named(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "replay.zip", replay_files((5, 6)))
    data = bytearray(path.read_bytes())
    cut = tmp_path / "cut.zip"
    cut.write_bytes(data[:-100])
    with pytest.raises(FormatError, match="cut short"):
        formats.open(cut)
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("data/action/1.0")
    data[info.header_offset + 60] ^= 1
    flipped = tmp_path / "flipped.zip"
    flipped.write_bytes(data)
    recording = formats.open(flipped)
    assert [info.id for info in recording.episodes] == ["episode_000000"]
    (problem,) = recording.problems
    assert (problem.episode, problem.severity) == ("episode_000001", "error")
    assert "data/action/1.0" in problem.what


@pytest.mark.data
def test_pusht_demonstrations(real_data: Path) -> None:
    recording = formats.open(real_data / "pusht_cchi_v7", fps=10)
    assert recording.path.name == "pusht_cchi_v7_replay.zarr.zip"
    lengths = [info.length for info in recording.episodes]
    assert (len(lengths), sum(lengths), min(lengths), max(lengths)) == (206, 25650, 49, 246)
    assert not recording.problems
    episodes = [recording.read(number) for number in range(206)]
    action = np.concatenate([episode.arrays["action"] for episode in episodes]).astype(np.float64)
    state = np.concatenate([episode.arrays["state"] for episode in episodes])
    np.testing.assert_array_equal(action.min(0), [12, 25])
    np.testing.assert_array_equal(action.max(0), [511, 511])
    np.testing.assert_allclose(action.mean(0), [228.23965, 293.98907], rtol=1e-6)
    # The published figure was summed in float32.
    np.testing.assert_allclose(action.std(0), [101.60153, 96.038795], rtol=3e-5)
    np.testing.assert_allclose(state.min(0)[:2], [13.456424, 32.938293], rtol=1e-6)
    np.testing.assert_allclose(state.max(0)[:2], [496.14618, 510.9579], rtol=1e-6)
    image = episodes[205].frames["image"][-1]
    assert image.shape == (96, 96, 3)
    assert image.dtype == np.uint8
    assert image.max() == 255
