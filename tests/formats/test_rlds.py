"""RLDS shards: structure, splits, black cameras, flags that lie, and what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft import formats
from deft.errors import FormatError
from suites.formats import FormatChecks
from suites.recordings import (
    HEIGHT,
    TASKS,
    WIDTH,
    demonstration,
    image_entry,
    jpeg,
    rlds_features,
    rlds_values,
    tensor_entry,
    write_rlds,
)


class TestShards(FormatChecks):
    format = "rlds"
    picture_error = 3.0
    cameras = ("image_0", "wrist")

    @classmethod
    def write(cls, folder: Path) -> Path:
        values = [rlds_values(number, length) for number, length in enumerate(cls.lengths)]
        return write_rlds(folder / "1.0.0", {"train": values[:2], "val": values[2:]})


def test_the_contract_comes_from_features_json(tmp_path: Path) -> None:
    recording = formats.open(write_rlds(tmp_path, {"train": [rlds_values(0, 4)]}), fps=5)
    found = {f.name: (f.role, f.shape, f.dtype) for f in recording.spec.features}
    assert found == {
        "action": ("action", (2,), "float32"),
        "state": ("state", (3,), "float32"),
        "image_0": ("image", (HEIGHT, WIDTH, 3), "uint8"),
        "wrist": ("image", (HEIGHT, WIDTH, 3), "uint8"),
        "is_first": ("other", (), "bool"),
        "reward": ("reward", (), "float32"),
    }
    assert recording.spec.fps == 5
    assert recording.name == "demo-1.0.0"
    (info,) = recording.episodes
    assert (info.id, info.task, info.split) == ("train-00000-00000", TASKS[0], "train")
    episode = recording.read(0)
    assert episode.arrays["is_first"].tolist() == [True, False, False, False]
    np.testing.assert_array_equal(episode.frames["wrist"][2], 255 - demonstration(0, 4)["image"][2])


def test_jpegs_are_offered_as_they_are(tmp_path: Path) -> None:
    values = rlds_values(0, 4)
    frames = formats.open(write_rlds(tmp_path, {"train": [values]})).read(0).frames
    kept = [frames["image_0"].encoded(step) for step in range(4)]  # pyright: ignore
    assert kept == values["steps/observation/image_0"]
    assert frames["wrist"].encoded(0) is None  # pyright: ignore


def test_a_camera_that_is_always_black_is_left_out(tmp_path: Path) -> None:
    black = jpeg(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    episodes = [rlds_values(number, 4) for number in range(3)]
    for values in episodes:
        values["steps/observation/image_0"] = [black] * 4
    recording = formats.open(write_rlds(tmp_path / "always", {"train": episodes}))
    assert [f.name for f in recording.spec.role("image")] == ["wrist"]
    assert list(recording.read(0).frames) == ["wrist"]
    (problem,) = recording.problems
    assert problem.what == "'image_0' is black in the first picture of every episode"
    assert problem.effect == "the camera is left out"

    episodes[1] |= rlds_values(1, 4)
    recording = formats.open(write_rlds(tmp_path / "sometimes", {"train": episodes}))
    assert len(recording.spec.role("image")) == 2
    (problem,) = recording.problems
    assert "black in the first picture of 2 of 3 episodes" in problem.what
    assert problem.severity == "note"


def test_a_flag_that_denies_real_pictures_is_reported(tmp_path: Path) -> None:
    episodes = [rlds_values(number, 4) for number in range(3)]
    for values in episodes[:2]:
        values["episode_metadata/has_image_0"] = np.array([False])
    (problem,) = formats.open(write_rlds(tmp_path, {"train": episodes})).problems
    assert "'has_image_0' is 0 in 2 of 3 episodes that do have pictures" in problem.what


def test_splits_that_hold_the_same_are_reported(tmp_path: Path) -> None:
    episodes = [rlds_values(number, 4) for number in range(3)]
    path = write_rlds(tmp_path, {"train": episodes, "val": episodes[::-1]})
    (problem,) = formats.open(path).problems
    assert problem.what.startswith("3 episodes of split 'val' hold the same actions")
    assert "not held-out" in problem.effect


def test_findings_are_reported(tmp_path: Path) -> None:
    episodes = [rlds_values(number, 4) for number in range(5)]
    episodes[0]["steps/language_instruction"] = [b""] * 4
    empty = {key: value[:0] for key, value in episodes[1].items() if key.startswith("steps/")}
    episodes[1] |= empty
    episodes[2]["steps/observation/state"] = np.full((4, 3), np.inf, np.float32)
    episodes[3]["steps/observation/state"] = np.zeros((5, 3), np.float32)
    path = write_rlds(tmp_path, {"train": episodes})
    info = json.loads((path / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = ["7"]
    (path / "dataset_info.json").write_text(json.dumps(info))
    shard = next(path.glob("*.tfrecord*"))
    shard.rename(path / "demo-train.tfrecord-00001-of-00004")
    recording = formats.open(path)
    assert [info.id for info in recording.episodes] == ["train-00001-00000", "train-00001-00004"]
    found = {problem.what: problem.severity for problem in recording.problems}
    assert found == {
        "split 'train' has 1 of 4 shards": "warning",
        "split 'train' holds 5 episodes, dataset_info.json says 7": "warning",
        "has no steps": "error",
        "'state': step 0, element 0 is inf": "error",
        "'state' has 5 steps, others 4": "error",
        "1 of 2 episodes have no instruction (train-00001-00000)": "warning",
    }


def steps_of(features: dict[str, Any]) -> dict[str, Any]:
    node = features["featuresDict"]["features"]["steps"]["sequence"]["feature"]
    return node["featuresDict"]["features"]


def test_leaves_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    features = rlds_features()
    steps = steps_of(features)
    steps |= {
        "audio": {"pythonClassName": "tensorflow_datasets.core.features.Audio", "audio": {}},
        "ragged": tensor_entry(-1, 2),
        "packed": {**tensor_entry(2), "tensor": {**tensor_entry(2)["tensor"], "encoding": "zlib"}},
    }
    recording = formats.open(write_rlds(tmp_path, {"train": [rlds_values(0, 4)]}, features))
    assert len(recording.problems) == 3
    assert {each.effect for each in recording.problems} == {"left out"}
    assert len(recording.read(0)) == 4


def test_two_leaves_with_one_name_keep_apart(tmp_path: Path) -> None:
    features, values = rlds_features(), rlds_values(0, 4)
    steps_of(features)["state"] = tensor_entry(2)
    values["steps/state"] = np.ones((4, 2), np.float32)
    recording = formats.open(write_rlds(tmp_path, {"train": [values]}, features))
    arrays = recording.read(0).arrays
    assert {name: arrays[name].shape for name in arrays if "state" in name} == {
        "state": (4, 3),
        "state_2": (4, 2),
    }


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps/action", None, "'steps/action' is missing"),
        ("steps/action", np.ones((4, 2), np.int64), "wanted float32 values"),
        ("steps/action", [b"12345678"] * 4, "must hold numbers"),
        ("steps/action", np.ones(7, np.float32), "wanted 2 values per step"),
        ("steps/observation/image_0", np.ones(3, np.float32), "must hold bytes"),
        ("steps/observation/image_0", [b""] * 4, "cannot be decoded"),
        ("steps/observation/image_0", [], "there is no picture"),
        ("steps/language_instruction", [b"\xff\xfe"] * 4, "not UTF-8"),
    ],
)
def test_a_record_of_another_form_leaves_the_episode_out(
    tmp_path: Path, key: str, value: Any, message: str
) -> None:
    broken = rlds_values(1, 4)
    if value is None:
        del broken[key]
    else:
        broken[key] = value
    recording = formats.open(write_rlds(tmp_path, {"train": [rlds_values(0, 4), broken]}))
    assert len(recording.episodes) == 1
    (problem,) = [each for each in recording.problems if each.severity == "error"]
    assert problem.episode == "train-00000-00001"
    assert message in problem.what
    assert "record 1" in problem.what
    assert "Fix: " in problem.what


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps/is_first", np.array([0, 1, 2, 0]), "wanted bool values"),
        ("steps/reward", np.ones(3, np.float32), "number of steps"),
        ("steps/observation/wrist", None, "'steps/observation/wrist' is missing"),
    ],
)
def test_the_rest_of_a_record_is_checked_when_it_is_read(
    tmp_path: Path, key: str, value: Any, message: str
) -> None:
    values = rlds_values(0, 4)
    features = rlds_features()
    if value is None:
        features = rlds_features()
        steps_of(features)["extra"] = tensor_entry(2)
        key, message = "steps/extra", "'steps/extra' is missing"
    else:
        values[key] = value
    recording = formats.open(write_rlds(tmp_path, {"train": [values]}, features))
    with pytest.raises(FormatError, match=message) as caught:
        recording.read(0)
    assert "Fix: " in str(caught.value)


def test_a_picture_that_is_cut_short_is_found_when_it_is_decoded(tmp_path: Path) -> None:
    values = rlds_values(0, 4)
    pictures = values["steps/observation/image_0"]
    pictures[2] = pictures[2][: len(pictures[2]) // 2]
    frames = formats.open(write_rlds(tmp_path, {"train": [values]})).read(0).frames["image_0"]
    assert frames[1].any()
    with pytest.raises(FormatError, match=r"record 0, 'steps/observation/image_0', step 2"):
        frames[2]


def test_a_flipped_byte_is_found_by_the_checksum(tmp_path: Path) -> None:
    path = write_rlds(tmp_path, {"train": [rlds_values(0, 4), rlds_values(1, 4)]})
    shard = next(path.glob("*.tfrecord*"))
    data = bytearray(shard.read_bytes())
    data[data.rindex(b"steps/is_first") - 400] ^= 4  # in the last picture, which is not looked at
    shard.write_bytes(data)
    recording = formats.open(path)
    assert recording.read(0).arrays["action"].any()
    with pytest.raises(FormatError, match=r"record 1: the data does not match its checksum"):
        recording.read(1)


def test_damage_in_what_is_looked_at_leaves_the_episode_out(tmp_path: Path) -> None:
    path = write_rlds(tmp_path, {"train": [rlds_values(0, 4), rlds_values(1, 4)]})
    shard = next(path.glob("*.tfrecord*"))
    data = bytearray(shard.read_bytes())
    data[data.rindex(b"steps/action") - 1] ^= 64
    shard.write_bytes(data)
    recording = formats.open(path)
    assert len(recording.episodes) == 1
    (problem,) = recording.problems
    assert "record 1: the data does not match its checksum" in problem.what


def test_a_shard_that_is_cut_short_is_used_up_to_there(tmp_path: Path) -> None:
    path = write_rlds(tmp_path, {"train": [rlds_values(0, 4), rlds_values(1, 4)]})
    shard = next(path.glob("*.tfrecord*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-5])
    recording = formats.open(path)
    assert [info.id for info in recording.episodes] == ["train-00000-00000"]
    (found,) = [each for each in recording.problems if each.severity == "error"]
    assert found.episode == "train-00000-00001"
    assert "record 1 at byte" in found.what
    assert "the file ends inside" in found.what
    assert "the 1 before are used" in found.effect
    shard.write_bytes(whole[:50])
    with pytest.raises(FormatError, match=r"no usable episode(.|\n)*record 0 at byte"):
        formats.open(path)
    shard.write_bytes(b"")
    with pytest.raises(FormatError, match="no usable episode"):
        formats.open(path)


def test_a_shard_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    path = write_rlds(tmp_path / "demo", {"train": [rlds_values(0, 4)]})
    (shard,) = path.glob("*.tfrecord*")
    shard.with_name(f"x{shard.name}").write_bytes(shard.read_bytes())
    recording = formats.open(path)
    assert [info.id for info in recording.episodes] == ["train-00000-00000"]
    (found,) = [each for each in recording.problems if each.severity == "error"]
    assert found.episode == "train-00000"
    assert found.what == f"x{shard.name} is the same shard as {shard.name}"
    assert found.effect == "left out"


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"pythonClassName": "x"}, "no data set called 'steps'"),
        ({"featuresDict": []}, "no feature as TFDS"),
        ({"featuresDict": {"features": 3}}, "no feature as TFDS"),
        ({"featuresDict": {"features": {"steps": 3}}}, "no feature as TFDS"),
    ],
)
def test_features_json_of_another_form_is_refused(
    tmp_path: Path, features: dict[str, Any], message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        formats.open(write_rlds(tmp_path, {"train": [rlds_values(0, 4)]}, features))


def test_shapes_of_another_form_are_refused(tmp_path: Path) -> None:
    for number, entry in enumerate((tensor_entry(0), image_entry(10**12, 4, 3))):
        features = rlds_features()
        steps_of(features)["bad"] = entry
        with pytest.raises(FormatError, match="'steps/bad'"):
            formats.open(write_rlds(tmp_path / str(number), {"t": [rlds_values(0, 4)]}, features))


@pytest.mark.data
def test_bridge_sample(real_data: Path) -> None:
    recording = formats.open(real_data / "bridge_rlds_sample")
    assert recording.path.name == "1.0.0"
    assert recording.name == "bridge_dataset-1.0.0"
    infos = recording.episodes
    assert [info.split for info in infos] == ["train"] * 25 + ["val"] * 25
    assert {info.length for info in infos} == {10}
    tasks = [info.task for info in infos[:25]]
    assert {task: tasks.count(task) for task in tasks} == {
        "put carrot on plate": 8,
        "put cup from counter or drying rack into sink": 6,
        "turn lever vertical to front": 6,
        "flip pot upright which is in sink": 5,
    }
    found = [problem.what for problem in recording.problems]
    assert len(found) == 5
    assert sum("'has_image_" in what and "0 in 50 of 50" in what for what in found) == 3
    assert "'image_3' is black in the first picture of every episode" in found
    assert any(what.startswith("25 episodes of split 'val'") for what in found)
    spec = recording.spec
    assert spec["action"].names == ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
    assert spec["state"].names == ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    assert (spec["language_embedding"].role, spec["language_embedding"].shape) == (
        "language",
        (512,),
    )
    assert [f.name for f in spec.role("image")] == ["image_0", "image_1", "image_2"]

    episodes = [recording.read(number) for number in range(25)]
    action = np.concatenate([episode.arrays["action"] for episode in episodes]).astype(np.float64)
    state = np.concatenate([episode.arrays["state"] for episode in episodes]).astype(np.float64)
    near = np.testing.assert_allclose
    mean = [0.00159, -0.00097, -0.00294, -0.00994, -0.00485, -0.00533, 0.7392]
    near(action.mean(0), mean, atol=5e-5)
    near(action.std(0), [0.00574, 0.00561, 0.00828, 0.03634, 0.02877, 0.03627, 0.4341], atol=5e-5)
    near(action.min(0), [-0.0190, -0.0293, -0.0205, -0.1596, -0.1174, -0.2543, 0], atol=5e-5)
    near(action.max(0), [0.0180, 0.0122, 0.0328, 0.1330, 0.0724, 0.0674, 1], atol=5e-5)
    near(state.mean(0), [0.2740, -0.0250, 0.1542, -0.0353, -0.1928, -0.0255, 0.9259], atol=5e-5)
    near(state.min(0), [0.2059, -0.1038, 0.0600, -0.7188, -0.4473, -0.7984, 0.1075], atol=5e-5)
    near(state.max(0), [0.3578, 0.1224, 0.2167, 0.3399, 0.1130, 0.6947, 1.0067], atol=5e-5)
    assert all(np.abs(episode.arrays["action"][0, :6]).max() < 1e-6 for episode in episodes)
    assert all(episode.arrays["is_first"].tolist() == [True] + [False] * 9 for episode in episodes)
    embedding = episodes[0].arrays["language_embedding"]
    near(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)
    for frames in episodes[0].frames.values():
        assert all(picture.shape == (64, 64, 3) and picture.any() for picture in frames)
