"""RoboTwin episodes in both layouts: arms, colours, instructions, planned moves, and faults."""

import json
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from deft import formats
from deft.errors import FormatError
from suites.damage import Change, damage, read_all
from suites.formats import FormatChecks
from suites.memory_source import picture
from suites.recordings import demonstration

HEIGHT, WIDTH = 32, 48


def joints(number: int, frames: int, dof: int = 6) -> dict[str, np.ndarray]:
    """Targets of both arms and grippers, float64."""
    rng = np.random.default_rng((3, number))
    return {
        "left_arm": rng.normal(size=(frames, dof)),
        "left_gripper": rng.uniform(size=frames),
        "right_arm": rng.normal(size=(frames, dof)),
        "right_gripper": rng.uniform(size=frames),
    }


def joined(parts: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([part.reshape(len(part), -1) for part in parts.values()], 1)


def jpegs(number: int, frames: int) -> list[bytes]:
    """RGB arrays handed to OpenCV, which takes them for BGR, padded to one length."""
    pictures = [picture(number, step, HEIGHT, WIDTH) for step in range(frames)]
    blobs = [cv2.imencode(".jpg", rgb)[1].tobytes() for rgb in pictures]
    return [blob.ljust(max(map(len, blobs)), b"\0") for blob in blobs]


def write_legacy(root: Path, number: int, frames: int, dof: int = 6) -> Path:
    path = root / "data" / f"episode{number}.hdf5"
    path.parent.mkdir(parents=True, exist_ok=True)
    parts, blobs = joints(number, frames, dof), jpegs(number, frames)
    with h5py.File(path, "w") as file:
        for key, values in parts.items():
            file[f"joint_action/{key}"] = values
        file["joint_action/vector"] = joined(parts)
        pose = np.arange(7.0) + np.zeros((frames, 1))
        file["endpose/left_endpose"] = pose
        file["endpose/left_gripper"] = np.zeros(frames)
        camera = file.create_group("observation/head_camera")
        camera.create_dataset("rgb", data=blobs, dtype=f"S{len(blobs[0])}")
        camera["depth"] = np.full((frames, 6, 8), 640.4)
        camera["intrinsic_cv"] = np.tile(np.eye(3, dtype=np.float32), (frames, 1, 1))
        file["pointcloud"] = np.zeros((frames, 0))
    folder = root / "instructions"
    folder.mkdir(exist_ok=True)
    said = {"seen": [f"lift the can {number}", "raise it"], "unseen": ["hoist it"]}
    (folder / f"episode{number}.json").write_text(json.dumps(said))
    (root / "seed.txt").write_text("0 1 2")
    return path


def write_new(root: Path, number: int, frames: int) -> Path:
    path = root / "data" / f"episode_{number:07d}.hdf5"
    path.parent.mkdir(parents=True, exist_ok=True)
    parts, blobs = joints(number, frames), jpegs(number, frames)[:-1]
    names = ("left_arm_joint", "left_ee_joint", "right_arm_joint", "right_ee_joint")
    with h5py.File(path, "w") as file:
        file.attrs["source_format"] = "RoboTwin"
        file["data_format_version"] = "v1.0"
        file["instructions"] = json.dumps([f"lift the can {number}", "raise it"])
        file["additional_info/frequency"] = np.int32(15)
        for name, values in zip(names, parts.values(), strict=True):
            values = values.reshape(frames, -1).astype(np.float32)
            file[f"state/{name}_states"] = values[:-1]
            file[f"action/{name}_states"] = values[1:]
        file["state/right_ee_poses"] = np.arange(7.0) + np.zeros((frames - 1, 1))
        camera = file.create_group("vision/cam_head")
        camera.create_dataset("colors", data=blobs, dtype=f"S{len(blobs[0])}")
        camera["shape"] = np.array([HEIGHT, WIDTH, 3], np.int32)
        camera["intrinsic_matrix"] = np.eye(3, dtype=np.float32)
        camera["extrinsics_matrix"] = np.tile(np.eye(4, dtype=np.float32), (frames - 1, 1, 1))
    return path


class RoboTwinChecks(FormatChecks):
    format = "robotwin"

    def test_every_episode_holds_what_was_recorded(self, recording: formats.Recording) -> None:
        for number, info in enumerate(recording.episodes):
            episode = recording.read(number)
            vector = joined(joints(number, info.length + 1)).astype(np.float32)
            assert (episode.id, episode.task) == (info.id, f"lift the can {number}")
            assert info.instructions == (f"lift the can {number}", "raise it")
            np.testing.assert_array_equal(episode.arrays["state"], vector[:-1])
            np.testing.assert_array_equal(episode.arrays["action"], vector[1:])
            made = [picture(number, step, HEIGHT, WIDTH) for step in range(info.length)]
            pictures = np.stack(list(episode.frames[self.cameras[0]]))
            assert np.abs(pictures.astype(float) - made).mean() < 4
            assert not hasattr(episode.frames[self.cameras[0]], "encoded")
        names = recording.spec["action"].names
        assert names == recording.spec["state"].names
        assert names[5:8] == ("left.joint_6", "left.gripper", "right.joint_1")


class TestLegacy(RoboTwinChecks):
    cameras = ("head_camera",)

    @classmethod
    def write(cls, folder: Path) -> Path:
        root = folder / "lift_can" / "demo_clean"
        for number, length in enumerate(cls.lengths):
            write_legacy(root, number, length + 1)
        return root

    def test_what_else_is_in_it(self, path: Path, recording: formats.Recording) -> None:
        features = {f.name: (f.role, f.shape, f.dtype) for f in recording.spec.features}
        assert features == {
            "action": ("action", (14,), "float32"),
            "state": ("state", (14,), "float32"),
            "left_ee_pose": ("state", (7,), "float32"),
            "head_camera": ("image", (HEIGHT, WIDTH, 3), "uint8"),
            "head_camera_depth": ("depth", (6, 8, 1), "uint16"),
            "head_camera_intrinsic_cv": ("other", (3, 3), "float32"),
        }
        episode = recording.read(0)
        assert (episode.frames["head_camera_depth"][2] == 640).all()
        np.testing.assert_array_equal(episode.arrays["left_ee_pose"][0], [0, 1, 2, 4, 5, 6, 3])
        assert recording.spec["left_ee_pose"].names[3:] == ("qx", "qy", "qz", "qw")
        assert recording.spec.fps == 0
        assert recording.name == "lift_can-demo_clean"
        assert formats.open(path / "data").name == "lift_can-demo_clean"
        one = formats.open(path / "data" / "episode1.hdf5")
        assert (len(one.episodes), one.episodes[0].task) == (1, "lift the can 1")


class TestXPolicyLab(RoboTwinChecks):
    cameras = ("cam_head",)

    @classmethod
    def write(cls, folder: Path) -> Path:
        root = folder / "demo_clean" / "lift_can" / "aloha_agilex"
        for number, length in enumerate(cls.lengths):
            write_new(root, number, length + 1)
        return root

    def test_what_else_is_in_it(self, path: Path, recording: formats.Recording) -> None:
        episode = recording.read(0)
        np.testing.assert_array_equal(episode.arrays["right_ee_pose"][0], [0, 1, 2, 4, 5, 6, 3])
        assert episode.arrays["cam_head_intrinsic"].shape == (7, 3, 3)
        assert episode.arrays["cam_head_extrinsic"].shape == (7, 4, 4)
        assert recording.spec.fps == 15
        assert "save_freq" in recording.problems[0].what
        assert formats.open(path, fps=250 / 15).spec.fps == 250 / 15
        same = formats.open(path, options={"alignment": "hdf5_same"}).read(0)
        np.testing.assert_array_equal(same.arrays["action"], episode.arrays["state"])


@pytest.fixture
def task(tmp_path: Path) -> Path:
    root = tmp_path / "lift_can" / "demo_clean"
    for number, frames in enumerate((6, 5, 7)):
        write_legacy(root, number, frames)
    return root


def edit(path: Path, change: Callable[[Any], object]) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def test_arms_can_be_chosen_and_kept_apart(task: Path) -> None:
    vector = joined(joints(1, 5)).astype(np.float32)
    left = formats.open(task, options={"use_right_arm": False}).read(1)
    np.testing.assert_array_equal(left.arrays["action"], vector[1:, :7])
    assert left.spec["state"].names[-1] == "left.gripper"
    right = formats.open(task, options={"use_left_arm": False, "fuse_arms": False}).read(1)
    np.testing.assert_array_equal(right.arrays["action"], vector[1:, 7:])
    apart = formats.open(task, options={"fuse_arms": False}).read(1)
    assert [f.name for f in apart.spec.role("action")] == ["action_left", "action_right"]
    np.testing.assert_array_equal(apart.arrays["action_right"], vector[1:, 7:])
    np.testing.assert_array_equal(apart.arrays["state_left"], vector[:-1, :7])
    with pytest.raises(FormatError, match="at least one arm"):
        formats.open(task, options={"use_left_arm": False, "use_right_arm": False})
    with pytest.raises(FormatError, match="Did you mean 'fuse_arms'"):
        formats.open(task, options={"fuse_arm": True})


def test_the_frames_own_targets_on_request(task: Path) -> None:
    episode = formats.open(task, options={"alignment": "hdf5_same"}).read(2)
    vector = joined(joints(2, 7)).astype(np.float32)
    assert len(episode) == 7
    np.testing.assert_array_equal(episode.arrays["action"], vector)
    np.testing.assert_array_equal(episode.arrays["state"], vector)


def moves(*paths: np.ndarray, failed: int = 0) -> list[Any]:
    good = [{"status": "Success", "position": path, "velocity": path * 0} for path in paths]
    return [*good, *[{"status": "Fail"}] * failed]


def plan(task: Path, number: int, left: Any, right: Any) -> None:
    folder = task / "_traj_data"
    folder.mkdir(exist_ok=True)
    tree = {"left_joint_path": left, "right_joint_path": right}
    (folder / f"episode{number}.pkl").write_bytes(pickle.dumps(tree))


def test_planned_moves_only_on_request_and_flagged(task: Path) -> None:
    up = np.linspace(0, 1, 11)[:, None] * np.ones(6)
    for number in range(3):
        plan(task, number, moves(up[:6], up[6:], failed=1), [])
    assert {each.severity for each in formats.open(task).problems} == {"note"}
    recording = formats.open(task, options={"alignment": "traj_resample"})
    assert recording.spec.action().names[5:7] == ("left.joint_6", "right.joint_1")
    assert recording.spec["state"].shape == (14,)
    said = {(each.episode, each.what, each.severity) for each in recording.problems}
    assert ("episode1", "1 of 3 moves of the left arm failed", "warning") in said
    assert ("episode1", "the right arm has no planned move", "note") in said
    assert any("stretched over the frames" in what for _, what, _ in said)
    episode = recording.read(0)
    np.testing.assert_allclose(episode.arrays["action"][:, 0], np.linspace(0, 1, 6), atol=1e-6)
    hold = joints(0, 6)["right_arm"][0].astype(np.float32)
    assert (episode.arrays["action"][:, 6:] == hold).all()


@pytest.mark.parametrize(
    ("entries", "first", "last"),
    [
        ([np.zeros(6), np.ones(6)], 0, 1),
        ([[0.0] * 6, (1, 1, 1, 1, 1, 1)], 0, 1),
        ([(np.zeros((3, 6)), np.zeros(3)), (np.ones(6), 0.5)], 0, 1),
        ([[np.zeros((2, 6)), np.ones((2, 6))]], 0, 1),
        ([[{"status": "Success", "position": np.ones((2, 6))}, {"status": "Fail"}]], 1, 1),
        (np.array([np.zeros(6), np.ones(6)]), 0, 1),
        ([{"position": np.ones((4, 6), np.float32)}], 1, 1),
    ],
)
def test_every_form_of_a_planned_move(task: Path, entries: Any, first: float, last: float) -> None:
    for number in range(3):
        plan(task, number, entries, [])
    action = formats.open(task, options={"alignment": "traj_resample"}).read(0).arrays["action"]
    assert (action[0, :6] == first).all()
    assert (action[-1, :6] == last).all()


def test_planned_moves_at_their_own_speed(task: Path) -> None:
    """One frame before, one at every third waypoint, one after; the rest are pauses."""
    ramp = np.arange(4.0)[:, None] * np.ones(6)
    for number in range(3):
        plan(task, number, moves(ramp), [])
    options = {"alignment": "traj_simulate", "save_freq": 3}
    recording = formats.open(task, options=options)
    assert any("pauses put between them" in each.what for each in recording.problems)
    found = [recording.read(n).arrays["action"][:, 0].tolist() for n in range(3)]
    assert found == [[0, 0, 3, 3, 3, 3], [0, 0, 3, 3, 3], [0, 0, 3, 3, 3, 3, 3]]
    for number in range(3):
        plan(task, number, moves(ramp[:1], ramp + 3), [])
    recording = formats.open(task, options=options)
    # 3 frames of the first move, 4 of the second: only episode 2 has as many.
    assert [each.id for each in recording.episodes] == ["episode2"]
    (wrong, *_) = (each for each in recording.problems if each.severity == "error")
    assert "planned moves make 7 frames, there are 6" in wrong.what
    np.testing.assert_array_equal(recording.read(0).arrays["action"][:, 5], [0, 0, 0, 0, 3, 6, 6])
    with pytest.raises(FormatError, match="save_freq is 0"):
        formats.open(task, options={"alignment": "traj_simulate", "save_freq": 0})


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("/tmp/deft-evil"),)


@pytest.mark.parametrize(
    ("left", "message"),
    [
        (moves(np.zeros((3, 6)), np.zeros((3, 7))), "6 and 7 joints"),
        (moves(np.zeros((3, 7))), "7 planned joints"),
        (moves(np.full((3, 6), np.nan)), "not finite"),
        (moves(np.zeros((3, 6, 2))), "shape"),
        ([{"status": "Success"}], "an answer with only status"),
        ([{"position": ["a"] * 6}], "no numbers"),
        (["up"], "str"),
        ([[]], "list"),
        ({"a": 1}, "dict"),
        ([Evil()], "pathlib"),
    ],
)
def test_plans_that_make_no_sense_are_left_out(task: Path, left: Any, message: str) -> None:
    for number in range(1, 3):
        plan(task, number, moves(np.ones((3, 6))), [])
    plan(task, 0, left, [])
    recording = formats.open(task, options={"alignment": "traj_resample"})
    (wrong,) = (each for each in recording.problems if each.severity == "error")
    assert wrong.episode == "episode0"
    assert message in wrong.what
    assert "episode0.pkl" in wrong.what
    assert not Path("/tmp/deft-evil").exists()


def test_plans_that_are_not_there_are_named(task: Path) -> None:
    with pytest.raises(FormatError, match="no planned moves"):
        formats.open(task, options={"alignment": "traj_resample"})
    (task / "_traj_data").mkdir()
    for number in range(3):
        tree = pickle.dumps({"left_joint_paths": []})
        (task / "_traj_data" / f"episode{number}.pkl").write_bytes(tree)
    with pytest.raises(FormatError, match="Did you mean 'left_joint_paths'"):
        formats.open(task, options={"alignment": "traj_resample"})


def test_pictures_in_every_container(task: Path) -> None:
    def vlen(file: Any) -> None:
        blobs = [bytes(blob) for blob in file["observation/head_camera/rgb"][()]]
        del file["observation/head_camera/rgb"]
        kind = h5py.vlen_dtype(np.dtype("u1"))
        held = file.create_dataset("observation/head_camera/rgb", len(blobs), kind)
        for step, blob in enumerate(blobs):
            held[step] = np.frombuffer(blob, np.uint8)

    def raw(file: Any) -> None:
        rgb = [picture(1, step, HEIGHT, WIDTH) for step in range(5)]
        del file["observation/head_camera/rgb"]
        file["observation/head_camera/rgb"] = np.stack(rgb)

    before = [np.stack(list(formats.open(task).read(n).frames["head_camera"])) for n in range(2)]
    edit(task / "data" / "episode0.hdf5", vlen)
    edit(task / "data" / "episode1.hdf5", raw)
    recording = formats.open(task)
    assert len(recording.episodes) == 3
    np.testing.assert_array_equal(
        np.stack(list(recording.read(0).frames["head_camera"])), before[0]
    )
    pictures = np.stack(list(recording.read(1).frames["head_camera"]))
    np.testing.assert_array_equal(pictures[3], picture(1, 3, HEIGHT, WIDTH))
    assert np.abs(pictures.astype(float) - before[1]).mean() < 4


def test_old_files_with_one_table_of_joints(tmp_path: Path) -> None:
    path = write_legacy(tmp_path / "task", 0, 6)

    def flatten(file: Any) -> None:
        vector = file["joint_action/vector"][()]
        del file["joint_action"], file["endpose"]
        file["joint_action"] = vector
        file["endpose"] = np.zeros((6, 14))
        file["third_view_rgb"] = file["observation/head_camera/rgb"][()]

    edit(path, flatten)
    recording = formats.open(tmp_path / "task")
    vector = joined(joints(0, 6)).astype(np.float32)
    episode = recording.read(0)
    np.testing.assert_array_equal(episode.arrays["action"], vector[1:])
    assert recording.spec.action().names == ()
    assert recording.spec["endpose"].role == "other"
    assert recording.spec["third_view"].role == "image"
    with pytest.raises(FormatError, match="one vector of all joints"):
        formats.open(tmp_path / "task", options={"use_left_arm": False})


def test_findings_are_reported(tmp_path: Path) -> None:
    root = tmp_path / "lift_can" / "demo_clean"
    for number in range(8):
        write_legacy(root, number, 6, dof=7 if number == 2 else 6)

    def cut(file: Any) -> None:
        blobs = file["observation/head_camera/rgb"][()]
        del file["observation/head_camera/rgb"]
        file["observation/head_camera/rgb"] = blobs[:4]

    def swap_arms(file: Any) -> None:
        file["joint_action/vector"][2, 3] = 9

    def spoil(file: Any) -> None:
        file["joint_action/right_arm"][2, 3] = np.nan

    data = root / "data"
    edit(data / "episode0.hdf5", cut)
    edit(data / "episode1.hdf5", swap_arms)
    edit(data / "episode3.hdf5", spoil)
    (data / "episode4.hdf5").write_bytes((data / "episode5.hdf5").read_bytes()[:9000])
    (root / "instructions" / "episode5.json").write_text("{")
    (root / "instructions" / "episode6.json").unlink()
    (data / "episode7.hdf5").unlink()
    write_legacy(root, 7, 1)
    recording = formats.open(root)
    found = {each.episode: (each.what, each.severity) for each in recording.problems}
    assert found["episode0"][0].startswith("lengths disagree: 'joint_action/left_arm' 6")
    assert "'observation/head_camera/rgb' 4" in found["episode0"][0]
    assert found["episode1"][0] == "`vector` differs from the joints and grippers of the arms"
    assert "[16], wanted [14]" in found["episode2"][0]
    assert found["episode3"] == ("'action': step 1, element 10 is nan", "error")
    assert found["episode4"][1] == "error"
    assert "is not JSON" in found["episode5"][0]
    assert found["episode7"] == ("has 1 frames, too few", "error")
    notes = [each.what for each in recording.problems if not each.episode]
    assert notes == [
        "the files do not say their tick rate",
        "2 of 3 episodes have no instruction (episode5, episode6)",
    ]
    assert [each.id for each in recording.episodes] == ["episode1", "episode5", "episode6"]


def test_depth_that_does_not_fit_is_refused(task: Path) -> None:
    def deepen(file: Any) -> None:
        file["observation/head_camera/depth"][3, 2, 1] = 70000

    edit(task / "data" / "episode0.hdf5", deepen)
    depth = formats.open(task).read(0).frames["head_camera_depth"]
    assert depth[2].dtype == np.uint16
    with pytest.raises(FormatError, match=r"depth', step 3: depth must be 0 to 65535"):
        depth[3]


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(damage())
def test_damaged_files_are_read_or_refused(tmp_path: Path, change: Change) -> None:
    for name, write in (("old", write_legacy), ("new", write_new)):
        folder = Path(tempfile.mkdtemp(name, dir=tmp_path))
        change(write(folder, 0, 3))
        read_all(folder, "robotwin")


def test_suite_pictures_are_no_grey() -> None:
    """Swapped colours could not be told in grey pictures."""
    image = demonstration(0, 1)["image"][0].astype(float)
    assert np.abs(image[..., 0] - image[..., 2]).mean() > 8
