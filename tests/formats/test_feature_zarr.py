"""Feature zarr in its three layouts, fused and not, of one task and of several."""

from pathlib import Path

import numpy as np
import pytest

from deft import formats
from deft.errors import FormatError
from suites.recordings import BLOSC, blosc, replay_files, write_folder, write_zip, zarr_array

GRID = (3, 4, 8)


def features(number: int, length: int, shape: tuple[int, ...] = GRID) -> np.ndarray:
    rng = np.random.default_rng((5, number))
    return rng.normal(size=(length, *shape)).astype(np.float16)


def array_files(values: np.ndarray, prefix: str = "") -> dict[str, bytes]:
    made = zarr_array(values, (4, *values.shape[1:]), compressor=BLOSC, pack=blosc)
    return {f"{prefix}{name}": data for name, data in made.items()}


def joined(lengths: tuple[int, ...], shape: tuple[int, ...] = GRID) -> dict[str, bytes]:
    parts = [features(number, length, shape) for number, length in enumerate(lengths)]
    files = {".zgroup": b'{"zarr_format": 2}'}
    files |= array_files(np.concatenate(parts), "data/features/")
    return files | {
        f"meta/episode_ends/{name}": data
        for name, data in zarr_array(np.cumsum(lengths), (64,)).items()
    }


def check(recording: formats.Recording, numbers: list[int], shape: tuple[int, ...] = GRID) -> None:
    assert recording.format == "feature_zarr"
    assert not recording.problems
    (feature,) = recording.spec.features
    assert (feature.role, feature.shape, feature.dtype) == ("feature_map", shape, "float16")
    assert [info.id for info in recording.episodes] == [f"episode{number}" for number in numbers]
    for place, number in enumerate(numbers):
        episode = recording.read(place)
        made = features(number, recording.episodes[place].length, shape)
        assert episode.arrays[feature.name].dtype == np.float16
        np.testing.assert_array_equal(episode.arrays[feature.name], made)


@pytest.mark.parametrize("shape", [GRID, (16,)])
def test_one_zarr_with_all_episodes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write_folder(tmp_path / "task.zarr", joined((5, 7, 2), shape))
    assert formats.recognise(path) == "feature_zarr"
    check(formats.open(path), [0, 1, 2], shape)
    path = write_zip(tmp_path / "task.zarr.zip", joined((5, 7, 2), shape))
    check(formats.open(path), [0, 1, 2], shape)


@pytest.mark.parametrize("name", ["episode{}.zarr", "{:04d}.zarr", "episode_{:03d}"])
@pytest.mark.parametrize("layout", ["array", "group", "data", "joined"])
def test_a_folder_with_a_zarr_for_each_episode(tmp_path: Path, name: str, layout: str) -> None:
    numbers = [0, 2, 11]
    for number in numbers:
        files = array_files(features(number, 6))
        if layout == "group":
            files = array_files(features(number, 6), "features/") | {".zgroup": b"{}"}
        elif layout == "data":
            files = array_files(features(number, 6), "data/features/") | {".zgroup": b"{}"}
        elif layout == "joined":
            files = array_files(features(number, 6), "data/features/") | {".zgroup": b"{}"}
            ends = zarr_array(np.array([6]), (1,))
            files |= {f"meta/episode_ends/{key}": data for key, data in ends.items()}
        write_folder(tmp_path / "task" / name.format(number), files)
    assert formats.recognise(tmp_path / "task") == "feature_zarr"
    check(formats.open(tmp_path / "task"), numbers)
    one = formats.open(tmp_path / "task" / name.format(11))
    check(one, [11])


@pytest.mark.parametrize("name", ["episode{}", "{:04d}", "data/episode{}"])
def test_one_zarr_with_an_array_for_each_episode(tmp_path: Path, name: str) -> None:
    files = {".zgroup": b"{}"}
    for number in (1, 2, 10):
        files |= array_files(features(number, 4 + number), name.format(number) + "/")
    path = write_folder(tmp_path / "task.zarr", files)
    assert formats.recognise(path) == "feature_zarr"
    check(formats.open(path), [1, 2, 10])


def test_several_tasks(tmp_path: Path) -> None:
    write_folder(tmp_path / "a.zarr", joined((5, 7)))
    write_folder(tmp_path / "b" / "episode0.zarr", array_files(features(0, 3)))
    write_folder(tmp_path / "c.zarr", joined((6,), (2, 2, 8)))
    write_folder(tmp_path / "d.zarr", {".zgroup": b"{}"} | array_files(features(0, 3), "colour/"))
    (tmp_path / "notes").mkdir()
    assert formats.recognise(tmp_path) == "feature_zarr"
    recording = formats.open(tmp_path, fps=15, options={"name": "dinov3"})
    assert recording.spec.names == ("dinov3",)
    assert recording.spec.fps == 15
    assert [info.id for info in recording.episodes] == ["a/episode0", "a/episode1", "b/episode0"]
    np.testing.assert_array_equal(recording.read(2).arrays["dinov3"], features(0, 3))
    found = {problem.episode: problem.what for problem in recording.problems}
    assert "in most episodes float16 of shape [3, 4, 8]" in found["c/episode0"]
    assert "holds no array of features" in found[""]


def test_findings_are_reported(tmp_path: Path) -> None:
    files = joined((5, 0, 7))
    short = array_files(features(0, 11), "data/features/")
    del short["data/features/0.0.0.0"]
    recording = formats.open(write_folder(tmp_path / "a", files | short))
    found = {problem.episode: problem.what for problem in recording.problems}
    assert found["episode1"] == "has no steps"
    assert found["episode2"] == "ends at step 12, the features have 11 rows"
    two = joined((2, 3))
    write_folder(tmp_path / "b" / "episode0.zarr", two)
    write_folder(tmp_path / "b" / "episode1.zarr", array_files(features(1, 3)))
    (problem,) = formats.open(tmp_path / "b").problems
    assert problem.what == "episode0.zarr holds 2 episodes, wanted one"


def test_actions_make_it_a_replay_buffer(tmp_path: Path) -> None:
    files = replay_files((5, 6), features=features(0, 11))
    path = write_folder(tmp_path / "replay.zarr", files)
    assert formats.recognise(path) == "replay_zarr"
    assert formats.open(path).spec["features"].role == "feature_map"
    assert formats.recognise(path / "data") is None
    assert formats.recognise(tmp_path) is None
    (tmp_path / "empty").mkdir()
    assert formats.recognise(tmp_path / "empty") is None


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    files = joined((5, 6))
    files["meta/episode_ends/0"] = files["meta/episode_ends/0"][:-1]
    path = write_folder(tmp_path / "a.zarr", files)
    with pytest.raises(FormatError, match="no usable episode"):
        formats.open(path)
    with pytest.raises(FormatError, match="holds no feature zarr"):
        formats.open(tmp_path / "a.zarr" / "meta", format="feature_zarr")


def test_chunks_that_are_damaged_are_named(tmp_path: Path) -> None:
    files = joined((5, 7))
    files["data/features/2.0.0.0"] = b"nothing of the kind"
    recording = formats.open(write_folder(tmp_path / "a.zarr", files))
    assert recording.read(0).arrays["features"].shape == (5, *GRID)
    with pytest.raises(FormatError, match=r"data/features/2\.0\.0\.0: the chunk is damaged"):
        recording.read(1)
