"""Feature maps joined with trajectories: names, lengths, alignment, and what has no partner."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from deft import formats
from deft.errors import FormatError
from suites.recordings import replay_files, write_folder, zarr_array

LIFT, STACK = "lift_can-demo_clean-20", "stack_bowls-demo_clean-20"
GRID = (2, 3, 4)


def maps(seed: int, length: int, shape: tuple[int, ...] = GRID) -> np.ndarray:
    return np.random.default_rng((9, seed)).normal(size=(length, *shape)).astype(np.float16)


def write_maps(
    root: Path, key: str, lengths: Sequence[int], seed: int = 0, shape: tuple[int, ...] = GRID
) -> Path:
    """A folder of `episode<i>.zarr`, each a plain array."""
    for number, length in enumerate(lengths):
        values = maps(100 * seed + number, length, shape)
        write_folder(root / key / f"episode{number}.zarr", zarr_array(values, (4, *shape)))
    return root


def joints(number: int, frames: int) -> np.ndarray:
    return np.random.default_rng((3, number)).normal(size=(frames, 14)).astype(np.float32)


def write_robotwin(root: Path, task: str, frames: Sequence[int]) -> Path:
    for number, count in enumerate(frames):
        path = root / task / "demo_clean" / "data" / f"episode{number}.hdf5"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = joints(number, count)
        with h5py.File(path, "w") as file:
            file["joint_action/left_arm"] = rows[:, :6]
            file["joint_action/left_gripper"] = rows[:, 6]
            file["joint_action/right_arm"] = rows[:, 7:13]
            file["joint_action/right_gripper"] = rows[:, 13]
            file["joint_action/vector"] = rows
            file["endpose/left_endpose"] = np.zeros((count, 7))
        said = root / task / "demo_clean" / "instructions" / f"episode{number}.json"
        said.parent.mkdir(exist_ok=True)
        said.write_text(json.dumps({"seen": ["lift it"]}))
    return root


def write_plans(root: Path, task: str, plans: Sequence[tuple[Any, Any]]) -> Path:
    folder = root / task / "demo_clean" / "_traj_data"
    folder.mkdir(parents=True, exist_ok=True)
    for number, (left, right) in enumerate(plans):
        tree = {"left_joint_path": left, "right_joint_path": right}
        (folder / f"episode{number}.pkl").write_bytes(pickle.dumps(tree))
    return root


def move(*rows: float, dof: int = 6) -> list[Any]:
    path = np.array(rows, np.float32)[:, None] * np.ones(dof, np.float32)
    return [{"status": "Success", "position": path, "velocity": path * 0}]


def what(recording: formats.Recording) -> set[str]:
    return {each.what for each in recording.problems if each.severity != "note"}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, dict[str, str | Path]]:
    """Two tasks of RoboTwin, two backbones, one camera."""
    data = write_robotwin(tmp_path / "data", "lift_can", (6, 7))
    write_robotwin(data, "stack_bowls", (5,))
    roots: dict[str, str | Path] = {}
    for seed, name in enumerate(("dinov3", "croco"), start=1):
        root = tmp_path / f"features_{name}_zarr"
        write_maps(root, f"{LIFT}_head_camera", (6, 7), seed)
        write_maps(root, f"{STACK}_head_camera", (5,), seed + 10)
        roots[name] = root
    return data, roots


def test_tasks_cameras_and_episodes_are_joined_by_name(
    two: tuple[Path, dict[str, str | Path]],
) -> None:
    recording = formats.join(*two, fps=15)
    assert recording.format == "composite"
    assert recording.spec["dinov3"].role == "feature_map"
    assert recording.spec["croco"].dtype == "float16"
    assert recording.spec["action"].shape == (14,)
    assert recording.spec.fps == 15
    assert [(info.id, info.length) for info in recording.episodes] == [
        ("lift_can-demo_clean/episode0", 5),
        ("lift_can-demo_clean/episode1", 6),
        ("stack_bowls-demo_clean/episode0", 4),
    ]
    assert what(recording) == set()
    for place, (number, frames, seed) in enumerate(((0, 6, 100), (1, 7, 101), (0, 5, 1100))):
        episode = recording.read(place)
        np.testing.assert_array_equal(episode.arrays["action"], joints(number, frames)[1:])
        np.testing.assert_array_equal(episode.arrays["state"], joints(number, frames)[:-1])
        np.testing.assert_array_equal(episode.arrays["dinov3"], maps(seed, frames)[:-1])
        np.testing.assert_array_equal(episode.arrays["croco"], maps(seed + 100, frames)[:-1])


def test_a_file_describes_the_same(two: tuple[Path, dict[str, str | Path]]) -> None:
    data, roots = two
    folder = data.parent
    parts = {
        "trajectories": "data",
        "features": {name: Path(root).name for name, root in roots.items()},
        "tasks": ["lift_can"],
        "options": {"use_left_arm": False},
    }
    (folder / "a.json").write_text(json.dumps(parts))
    (folder / "a.yaml").write_text(
        "trajectories: data\nfeatures:\n  dinov3: features_dinov3_zarr\n"
        "  croco: features_croco_zarr\ntasks: [lift_can]\noptions: {use_left_arm: false}\n"
    )
    for name in ("a.json", "a.yaml"):
        assert formats.recognise(folder / name) == "composite"
        recording = formats.open(folder / name)
        assert recording.name == "a"
        assert [info.length for info in recording.episodes] == [5, 6]
        right = recording.read(0).arrays["action"]
        np.testing.assert_array_equal(right, joints(0, 6)[1:, 7:])
    (folder / "b.json").write_text(json.dumps({"spec": 1}))
    assert formats.recognise(folder / "b.json") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"trajectories": "data", "features": {', "is not JSON"),
        ('{"trajectories": "data", "features": {"a": "b"}, "align": "hdf"}', "Did you mean 'hdf5'"),
        ('{"trajectories": "data", "features": {"a": "b"}, "camera": []}', "mean 'cameras'"),
        ('{"trajectories": "", "features": {"a": "b"}}', "needs `trajectories`"),
        ('{"trajectories": "data", "features": {}}', "needs `features`"),
        ('{"trajectories": "data", "features": {"a": "no_such"}}', "no_such: there is nothing"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(
    two: tuple[Path, dict[str, str | Path]], text: str, message: str
) -> None:
    path = two[0].parent / "a.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        formats.open(path, format="composite")


def test_yaml_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("trajectories: [\nfeatures: {")
    with pytest.raises(FormatError, match="is no YAML"):
        formats.open(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("<<: *default\ntrajectories: a\nfeatures: {a: b}\n")
    with pytest.raises(FormatError, match="undefined alias"):
        formats.open(tmp_path / "b.yaml")


def test_what_has_no_partner_is_named_with_the_nearest(
    two: tuple[Path, dict[str, str | Path]],
) -> None:
    data, roots = two
    write_robotwin(data, "shake_bottle", (6,))
    write_maps(Path(roots["croco"]), "shake_botle-demo_clean-20_head_camera", (6,))
    write_maps(Path(roots["croco"]), "lift_can-demo_randomized-20_head_camera", (6,))
    write_maps(Path(roots["dinov3"]), f"{STACK}_head_camera", (5, 5, 5), 11)
    recording = formats.join(data, roots)
    assert len(recording.episodes) == 3
    assert what(recording) == {
        "'croco', task 'shake_botle-demo_clean-20_head_camera': no trajectories. "
        "The nearest is 'shake_bottle-demo_clean'.",
        "'croco', task 'lift_can-demo_randomized-20_head_camera': no trajectories. "
        "The nearest is 'lift_can-demo_clean'.",
        "trajectories 'shake_bottle-demo_clean': no features of dinov3, croco. "
        "The nearest is 'shake_botle-demo_clean-20_head_camera'.",
        f"'dinov3', task '{STACK}_head_camera': 2 episodes have no trajectory (number 1, for one)",
    }


def test_nothing_that_fits_tells_both_sides(tmp_path: Path) -> None:
    data = write_robotwin(tmp_path / "data", "lift_can", (6,))
    write_robotwin(data, "lift_cup", (6,))
    root = write_maps(tmp_path / "f", "lift_pan-demo_clean-20_head_camera", (6,))
    with pytest.raises(FormatError, match="No valid samples found") as caught:
        formats.join(data, {"dinov3": root})
    for part in ("lift_can-demo_clean (1)", "lift_pan-demo_clean (1)", "The nearest is", "Fix: "):
        assert part in str(caught.value)


def test_lengths_may_differ_by_one(tmp_path: Path) -> None:
    data = write_robotwin(tmp_path / "data", "lift_can", (6, 6, 6, 6, 6))
    root = write_maps(tmp_path / "f", f"{LIFT}_head_camera", (6, 5, 4, 7, 3))
    recording = formats.join(data, {"dinov3": root})
    assert [(info.id, info.length) for info in recording.episodes] == [
        ("episode0", 5),
        ("episode1", 5),
        ("episode2", 4),
    ]
    assert {each.episode: each.what for each in recording.problems if each.episode} == {
        "episode2": "features have 'dinov3' 4 steps, the episode 5",
        "episode3": "lengths disagree: features have 'dinov3' 7 steps, actions 5",
        "episode4": "lengths disagree: features have 'dinov3' 3 steps, actions 5",
    }
    same = formats.join(data, {"dinov3": root}, align="hdf5_same")
    assert [info.length for info in same.episodes] == [6, 5, 6]
    np.testing.assert_array_equal(same.read(0).arrays["action"], joints(0, 6))


def test_several_cameras_are_several_features(tmp_path: Path) -> None:
    data = write_robotwin(tmp_path / "data", "lift_can", (6,))
    root = tmp_path / "f"
    write_maps(root, f"{LIFT}_head_camera", (6,), 1)
    write_maps(root, f"{LIFT}_left_camera", (6,), 2)
    recording = formats.join(data, {"dinov3": root})
    found = {feature.name for feature in recording.spec.role("feature_map")}
    assert found == {"dinov3.head_camera", "dinov3.left_camera"}
    left = formats.join(data, {"dinov3": root}, cameras=["left_camera"])
    np.testing.assert_array_equal(left.read(0).arrays["dinov3"], maps(200, 6)[:5])
    with pytest.raises(FormatError, match="Did you mean 'left_camera'"):
        formats.join(data, {"dinov3": root}, cameras=["left_camra"])
    with pytest.raises(FormatError, match="no task 'lift_cn'"):
        formats.join(data, {"dinov3": root}, tasks=["lift_cn"])


def test_any_recording_can_be_joined(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "any.zarr", replay_files((5, 6)))
    root = write_maps(tmp_path / "f", "of_no_such_name", (5, 6), shape=(12,))
    recording = formats.join(data, {"fused": root / "of_no_such_name"})
    assert recording.spec["fused"].shape == (12,)
    assert [info.id for info in recording.episodes] == ["episode_000000", "episode_000001"]
    episode = recording.read(1)
    np.testing.assert_array_equal(episode.arrays["fused"], maps(1, 6, (12,)))
    assert len(list(episode.frames["image"])) == 6
    with pytest.raises(IndexError):
        episode.frames["image"][6]
    with pytest.raises(FormatError, match="only RoboTwin's files know"):
        formats.join(data, {"fused": root / "of_no_such_name"}, align="hdf5_same")


def test_plans_alone_need_an_alignment_that_is_asked_for(tmp_path: Path) -> None:
    up = move(0, 1, 2, 3)
    plans = [(up, []), ([], move(5, 6)), (up, move(5, 7))]
    data = write_plans(tmp_path / "traj", "lift_can", plans)
    root = write_maps(tmp_path / "f", f"{LIFT}_head_camera", (7, 4, 5))
    with pytest.raises(FormatError, match=r"No valid samples[^$]*align=traj_resample"):
        formats.join(data, {"dinov3": root})
    recording = formats.join(data, {"dinov3": root}, align="traj_resample")
    assert any("planned moves" in each.what for each in recording.problems)
    assert [info.length for info in recording.episodes] == [7, 4, 5]
    assert recording.spec["action"].shape == (12,)
    assert recording.spec["action"].names[5:7] == ("left.joint_6", "right.joint_1")
    first, second = (recording.read(n).arrays["action"] for n in (0, 1))
    np.testing.assert_allclose(first[:, 0], np.linspace(0, 3, 7), atol=1e-6)
    assert (first[:, 6:] == 5).all()  # held where the arm is first known
    assert (second[:, :6] == 0).all()
    apart = formats.join(
        data, {"dinov3": root}, align="traj_resample", options={"fuse_arms": False}
    )
    assert apart.spec.names == ("action_left", "action_right", "dinov3")
    assert (apart.read(1).arrays["action_right"][-1] == 6).all()
    one = formats.join(
        data,
        {"dinov3": root},
        align="traj_simulate",
        options={"use_right_arm": False, "save_freq": 2},
    )
    assert one.read(0).arrays["action"][:, 0].tolist() == [0, 0, 2, 3, 3, 3, 3]


def test_an_arm_that_never_moves_is_nowhere(tmp_path: Path) -> None:
    data = write_plans(tmp_path / "traj", "lift_can", [(move(0, 1), [])])
    root = write_maps(tmp_path / "f", f"{LIFT}_head_camera", (5,))
    with pytest.raises(FormatError, match=r"right arm never moves[^$]*use_right_arm=false"):
        formats.join(data, {"dinov3": root}, align="traj_resample")
    options = {"use_right_arm": False}
    found = formats.join(data, {"dinov3": root}, align="traj_resample", options=options)
    assert found.spec["action"].shape == (6,)


def test_tasks_of_different_width_are_refused_together(tmp_path: Path) -> None:
    data = write_plans(tmp_path / "traj", "lift_can", [(move(0, 1), move(0, 1))])
    write_plans(data, "stack_bowls", [(move(0, 1, dof=7), move(0, 1, dof=7))])
    root = write_maps(tmp_path / "f", f"{LIFT}_head_camera", (5,))
    write_maps(root, f"{STACK}_head_camera", (5,))
    with pytest.raises(FormatError, match="tasks differ") as caught:
        formats.join(data, {"dinov3": root}, align="traj_resample")
    for part in ("action action 12", "action action 14", "use_left_arm", "inspect --actions"):
        assert part in str(caught.value)
    one = formats.join(data, {"dinov3": root}, align="traj_resample", tasks=["stack_bowls"])
    assert one.spec["action"].shape == (14,)


def test_damaged_parts_cost_only_themselves(
    two: tuple[Path, dict[str, str | Path]],
) -> None:
    data, roots = two
    broken = Path(roots["croco"]) / f"{LIFT}_head_camera" / "episode0.zarr" / ".zarray"
    broken.write_text("{")
    (data / "stack_bowls/demo_clean/data/episode0.hdf5").write_bytes(
        b"\x89HDF\r\n\x1a\n" + bytes(9)
    )
    recording = formats.join(data, roots)
    assert [info.id for info in recording.episodes] == ["episode1"]
    found = {each.what.split("\n")[0] for each in recording.problems}
    assert any("is not JSON" in each for each in found)
    assert "there are no features of 'croco' in 1 episodes" in found
