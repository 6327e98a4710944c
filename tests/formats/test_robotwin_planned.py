"""RoboTwin's planned moves without HDF5 files: listed, and guessed at only on request."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft import formats
from deft.cli.main import main
from deft.errors import FormatError

Move = dict[str, Any]


def move(*rows: float, dof: int = 6) -> Move:
    position = np.repeat(np.asarray(rows)[:, None], dof, axis=1)
    return {"status": "Success", "position": position, "velocity": 0 * position}


def write_plans(folder: Path, plans: Sequence[tuple[list[Move], list[Move]]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, (left, right) in enumerate(plans):
        tree = {"left_joint_path": left, "right_joint_path": right}
        (folder / f"episode{number}.pkl").write_bytes(pickle.dumps(tree))
    return folder


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    up, fail = move(0, 1, 2, 3), {"status": "Fail"}
    return write_plans(
        tmp_path / "lift_can/demo_clean/_traj_data",
        [([up, fail], []), ([], [move(5, 6)]), ([up, move(3, 4)], [move(5, 7)]), ([], [])],
    )


@pytest.mark.parametrize("where", ["_traj_data", ""])
def test_plans_are_listed_and_flagged(plans: Path, where: str) -> None:
    recording = formats.open(plans.parent / where)
    assert recording.format == "robotwin_plans"
    assert recording.name == "lift_can-demo_clean"
    assert recording.spec["action"].shape == (12,)
    assert recording.spec.fps == pytest.approx(250 / 15)
    # One frame before a move, one per 15 waypoints, one after it; the busier arm counts.
    assert [info.length for info in recording.episodes] == [3, 3, 6]
    said = {each.what: each for each in recording.problems}
    assert said["no arm in use has a move"].episode == "episode3"
    assert said["1 of 2 moves of the left arm failed"].episode == "episode0"
    assert "never recorded" in recording.problems[0].what
    assert recording.problems[0].severity == "warning"
    with pytest.raises(FormatError, match=r"episode0.pkl[^$]*alignment=traj_simulate"):
        recording.read(0)


def test_actions_are_guessed_where_asked(plans: Path) -> None:
    options = {"alignment": "traj_simulate", "save_freq": 2}
    recording = formats.open(plans, options=options)
    assert "approximate" in recording.problems[0].effect
    first, second, third = (recording.read(n).arrays["action"] for n in range(3))
    assert first[:, 0].tolist() == [0, 0, 2, 3]
    assert (first[:, 6:] == 5).all()  # held where the arm is first known
    assert second[:, 6].tolist() == [5, 5, 6]
    assert third[:, 0].tolist() == [0, 0, 2, 3, 3, 3, 4]
    assert third[:, 6].tolist() == [5, 5, 7, 7, 7, 7, 7]
    apart = formats.open(plans, options={"alignment": "traj_resample", "fuse_arms": False})
    assert apart.spec.names == ("action_left", "action_right")
    np.testing.assert_allclose(apart.read(0).arrays["action_left"][:, 0], [0, 1.5, 3])
    with pytest.raises(FormatError, match="at least one arm"):
        formats.open(plans, options={"use_left_arm": False, "use_right_arm": False})


def test_an_arm_that_never_moves_is_left_out(tmp_path: Path) -> None:
    folder = write_plans(tmp_path / "t/c/_traj_data", [([move(0, 1)], [])])
    recording = formats.open(folder)
    assert recording.spec["action"].names[-1] == "left.joint_6"
    assert any("right arm never moves" in each.what for each in recording.problems)
    with pytest.raises(FormatError, match="no usable episode"):
        formats.open(folder, options={"use_left_arm": False})


def test_inspect_groups_plans_by_width(
    plans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    franka = [([move(0, 1, dof=7)], [move(0, 1, dof=7)])]
    write_plans(tmp_path / "stack_bowls/demo_clean/_traj_data", franka)
    assert main(["inspect", str(tmp_path), "--actions", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["groups"]
    assert [(each["width"], each["arms"]) for each in groups] == [
        (12, {"left": 6, "right": 6}),
        (14, {"left": 7, "right": 7}),
    ]
    words = ["inspect", str(plans), "--actions", "--json", "--option", "use_right_arm=false"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["groups"][0]["width"] == 6
    assert main(["inspect", str(plans), "--check"]) == 1
    assert "alignment=traj_simulate" in capsys.readouterr().out
    made = tmp_path / "made"
    words = ["convert", str(plans), str(made), "--option", "alignment=traj_simulate"]
    assert main(words) == 0
    assert main(["inspect", str(made)]) == 0
