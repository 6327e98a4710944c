"""robomimic files as others write them: keys, masks, simulators, and what is wrong with them."""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from deft import formats
from deft.errors import FormatError
from suites.damage import Change, damage, read_all
from suites.formats import FormatChecks
from suites.recordings import TASKS, demonstration

ENV = {
    "env_name": "Lift",
    "env_type": 1,
    "env_version": "1.5.1",
    "env_kwargs": {"control_freq": 20, "robots": ["Panda"]},
}


def write_demo(group: Any, number: int, length: int, scale: float = 1.0) -> None:
    made = demonstration(number, length)
    group.attrs["num_samples"] = length
    group.attrs["model_file"] = "<mujoco/>"
    group.attrs["ep_meta"] = json.dumps({"lang": TASKS[number % 2]})
    group["actions"] = (made["action"] * scale).astype(np.float64)
    group["rewards"] = (np.arange(length) == length - 1).astype(np.float64)
    group["dones"] = (np.arange(length) == length - 1).astype(np.int64)
    group["states"] = np.arange(length * 9.0).reshape(length, 9)
    group["obs/state"] = made["state"].astype(np.float64)
    group["obs/object"] = np.zeros((length, 4))
    group["obs/agentview_image"] = made["image"]
    group["next_obs/state"] = np.roll(made["state"], -1, 0)


def write_demos(path: Path, lengths: tuple[int, ...], scale: float = 1.0) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(lengths)
        data.attrs["env_args"] = json.dumps(ENV)
        for number, length in enumerate(lengths):
            write_demo(data.create_group(f"demo_{number}"), number, length, scale)
        names = [f"demo_{number}".encode() for number in range(len(lengths))]
        file["mask/train"] = names[:-1]
        file["mask/valid"] = names[-1:]
    return path


class TestFile(FormatChecks):
    format = "robomimic"
    cameras = ("agentview_image",)

    @classmethod
    def write(cls, folder: Path) -> Path:
        return write_demos(folder / "demos.hdf5", cls.lengths, 0.2)

    @pytest.fixture(scope="class")
    @classmethod
    def recording(cls, path: Path) -> formats.Recording:
        return formats.open(path)

    def test_every_episode_holds_what_was_recorded(self, recording: formats.Recording) -> None:
        for number, info in enumerate(recording.episodes):
            episode, made = recording.read(number), demonstration(number, info.length)
            assert (episode.id, episode.task) == (f"demo_{number}", TASKS[number % 2])
            assert episode.split == ("val" if number == 2 else "train")
            np.testing.assert_array_equal(episode.arrays["state"], made["state"])
            action = (made["action"] * 0.2).astype(np.float32)
            np.testing.assert_allclose(episode.arrays["action"], action, rtol=1e-6)
            np.testing.assert_array_equal(
                np.stack(list(episode.frames["agentview_image"])), made["image"]
            )


@pytest.fixture
def demos(tmp_path: Path) -> Path:
    return write_demos(tmp_path / "demos.hdf5", (4, 6, 5, 3), 0.2)


def edit(path: Path, change: Callable[[Any], object]) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def found(recording: formats.Recording) -> set[tuple[str, str, str]]:
    return {(each.episode, each.what, each.severity) for each in recording.problems}


def test_keys_become_features(demos: Path) -> None:
    def add(file: Any) -> None:
        for demo in file["data"].values():
            length = len(demo["actions"])
            demo["obs/wrist_depth"] = np.full((length, 8, 9, 1), 700, np.uint16)
            demo["obs/metric_depth"] = np.ones((length, 8, 9, 1), np.float32)
            demo["obs/count"] = np.arange(length, dtype=np.int16)
            demo["obs/phase"] = np.linspace(0, 1, length)
            demo["obs/done"] = np.zeros((length, 2), np.float32)
            demo["obs/said"] = np.full(length, "left", object)

    recording = formats.open(edit(demos, add))
    features = {f.name: (f.role, f.shape, f.dtype) for f in recording.spec.features}
    assert features == {
        "action": ("action", (2,), "float32"),
        "reward": ("reward", (), "float64"),
        "done": ("other", (), "int64"),
        "states": ("other", (9,), "float64"),
        "state": ("state", (3,), "float32"),
        "object": ("state", (4,), "float32"),
        "agentview_image": ("image", (32, 48, 3), "uint8"),
        "wrist_depth": ("depth", (8, 9, 1), "uint16"),
        "metric_depth": ("other", (8, 9, 1), "float32"),
        "count": ("other", (), "int32"),
        "phase": ("other", (), "float64"),
        "obs/done": ("state", (2,), "float32"),
    }
    assert (recording.spec.fps, recording.spec.embodiment) == (20, "Panda")
    assert recording.name == "demos"
    (problem,) = recording.problems
    assert "'obs/said'" in problem.what
    assert (recording.read(1).frames["wrist_depth"][5] == 700).all()


def test_demonstrations_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = write_demos(tmp_path / "many.hdf5", (2,) * 12, 0.2)
    ids = [info.id for info in formats.open(path).episodes]
    assert ids == [f"demo_{number}" for number in range(12)]


def test_other_commands_and_masks_can_be_chosen(demos: Path) -> None:
    def add(file: Any) -> None:
        for demo in file["data"].values():
            demo["actions_abs"] = np.full((len(demo["actions"]), 10), 3.0)
        for name, numbers in {"few": (1, 2, 3), "few_train": (1, 3), "few_valid": (2,)}.items():
            file[f"mask/{name}"] = [f"demo_{n}".encode() for n in numbers]

    edit(demos, add)
    recording = formats.open(demos, options={"action": "actions_abs", "mask": "few"})
    assert recording.spec.action().shape == (10,)
    assert [(each.id, each.split) for each in recording.episodes] == [
        ("demo_1", "train"),
        ("demo_2", "val"),
        ("demo_3", "train"),
    ]
    assert not [each for each in recording.problems if "-1 to 1" in each.what]
    assert {"action_dict", "actions_abs"}.isdisjoint(recording.spec.names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": "trian"}, "no mask 'trian'. Did you mean 'train'"),
        ({"action": "actoins"}, "there is no 'actoins'"),
        ({"actions": "actions"}, "Did you mean 'action'"),
        ({"mask": 3}, "wanted text"),
    ],
)
def test_wrong_options_are_refused(demos: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        formats.open(demos, options=options)


def test_findings_are_reported(demos: Path) -> None:
    def spoil(file: Any) -> None:
        demo = file["data/demo_0"]
        del demo["obs/state"]
        demo["obs/state"] = np.zeros((7, 3))
        file["data/demo_1/obs/object"][2, 1] = np.nan
        file["data/demo_2"].attrs["num_samples"] = 9
        file["data/demo_2/actions"][3] = 1.5
        file["data/demo_2"].attrs["ep_meta"] = "{"
        write_demo(file.create_group("data/demo_4"), 3, 3, 0.2)
        del file["data/demo_4/obs/object"]
        write_demo(file.create_group("data/demo_5"), 3, 3, 0.2)
        write_demo(file.create_group("data/demo_6"), 6, 2, 0.2)
        del file["data/demo_6/obs/object"]
        file["data/demo_6/obs/object"] = np.zeros((2, 5))
        file.create_group("data/demo_7").attrs["num_samples"] = 1
        write_demo(file.create_group("data/demo_8"), 8, 0, 0.2)
        del file["mask"]
        file["mask/train"] = [b"demo_2", b"demo_99"]
        file["mask/valid"] = [b"demo_2"]

    recording = formats.open(edit(demos, spoil))
    most = "in most demonstrations float64 of shape [4]"
    assert {each for each in found(recording) if "ep_meta" not in each[1]} == {
        ("demo_0", "lengths disagree: 'actions' 4, 'obs/state' 7", "error"),
        ("demo_1", "'obs/object': step 2, element 1 is nan", "error"),
        ("demo_2", "has 5 steps, `num_samples` says 9", "warning"),
        ("demo_2", "1 of 5 actions leave the range -1 to 1", "warning"),
        ("demo_4", "there is no 'obs/object', which most demonstrations have", "error"),
        ("demo_5", "has the same actions as demo_3", "warning"),
        ("demo_6", f"'obs/object' is float64 of shape [5] per step, {most}", "error"),
        ("demo_7", "there is no 'actions', only nothing", "error"),
        ("demo_8", "has no steps", "error"),
        ("", "`total` is 18, the demonstrations have 31 steps", "warning"),
        ("", "mask 'train' names 1 demonstrations that are not there (demo_99)", "warning"),
        ("", "1 demonstrations are in 'train' and in 'valid' (demo_2)", "warning"),
        ("", "1 of 3 episodes have no instruction (demo_2)", "warning"),
    }
    assert [(each.id, each.split) for each in recording.episodes] == [
        ("demo_2", "train"),
        ("demo_3", ""),
        ("demo_5", ""),
    ]
    assert recording.read(0).task == ""


def test_a_file_without_env_args_and_masks_says_so(demos: Path) -> None:
    def strip(file: Any) -> None:
        del file["mask"]
        del file["data"].attrs["env_args"]

    recording = formats.open(edit(demos, strip), fps=20)
    assert {each.severity for each in recording.problems} == {"note"}
    assert len(recording.problems) == 2
    assert recording.spec.fps == 20
    assert {each.split for each in recording.episodes} == {""}
    del recording  # HDF5 writes to no file that is open for reading
    edit(demos, lambda file: file["data"].attrs.update(env_args="[1]"))
    assert "`env_args` is no JSON object" in formats.open(demos).problems[0].what


def test_what_was_never_written_is_left_out(demos: Path) -> None:
    def reserve(file: Any) -> None:
        del file["data/demo_1/actions"]
        file["data/demo_1"].create_dataset("actions", (6, 2), "f8")

    (problem,) = formats.open(edit(demos, reserve)).problems
    assert "nothing was ever written" in problem.what


def test_content_of_other_files_is_not_shown(demos: Path, tmp_path: Path) -> None:
    def lead_away(file: Any) -> None:
        for name in ("state", "object"):
            del file[f"data/demo_0/obs/{name}"]
        file["data/demo_0/obs/state"] = h5py.ExternalLink("secret.hdf5", "/table")
        file["data/demo_0"].create_dataset(
            "obs/object", (4, 4), "f8", external=[(str(tmp_path / "secret.bin"), 0, 128)]
        )

    with h5py.File(tmp_path / "secret.hdf5", "w") as file:
        file["table"] = np.zeros((4, 3))
    (tmp_path / "secret.bin").write_bytes(bytes(128))
    (problem,) = formats.open(edit(demos, lead_away)).problems
    assert "lies elsewhere" in problem.what
    assert problem.severity == "error"


def test_recognised_by_content(demos: Path, tmp_path: Path) -> None:
    named = tmp_path / "episode_0.bin"
    shutil.copy(demos, named)
    assert formats.recognise(named) == "robomimic"
    demos.write_bytes(named.read_bytes()[:3000])
    assert formats.recognise(demos) is None
    with pytest.raises(FormatError, match="an HDF5 file; it is cut short"):
        formats.open(demos)
    with pytest.raises(FormatError, match=r"demos\.hdf5.*\n.*truncated"):
        formats.open(demos, "robomimic")


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(damage())
def test_damaged_files_are_read_or_refused(tmp_path: Path, change: Change) -> None:
    path = write_demos(Path(tempfile.mkdtemp(dir=tmp_path)) / "demos.hdf5", (3, 2), 0.2)
    change(path)
    read_all(path, "robomimic")


def test_depth_has_the_unit_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "demos.hdf5"
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        demo["actions"] = np.zeros((3, 2))
        demo["obs/front_depth"] = np.full((3, 8, 8, 1), 0.6404, np.float32)
        demo["obs/wrist_depth"] = np.full((3, 8, 8, 1), 640, np.uint16)
    plain = formats.open(path).spec
    assert (plain["front_depth"].role, plain["wrist_depth"].role) == ("other", "depth")
    recording = formats.open(path, options={"depth_unit": "m"})
    for name in ("front_depth", "wrist_depth"):
        feature = recording.spec[name]
        assert (feature.role, feature.dtype, feature.unit) == ("depth", "uint16", "mm")
        picture = recording.read(0).frames[name][2]
        assert picture.dtype == np.uint16
        assert (picture == 640).all()
