"""`deft inspect` on recordings, stores and policies, as a person and as a program."""

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from deft import store
from deft.cli.inspect_actions import arms
from deft.cli.main import main
from deft.spec import Feature, Spec
from suites import tiny
from suites.demonstrations import write_store
from suites.fuzz_rows import write_robotwin
from suites.memory_source import MemorySource, tiny_spec
from suites.recordings import (
    HEIGHT,
    TASKS,
    WIDTH,
    jpeg,
    png,
    replay_files,
    rlds_values,
    write_folder,
    write_lerobot,
    write_rlds,
)


def inspect(*words: object) -> int:
    return main(["inspect", *map(str, words)])


def as_json(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert inspect(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    return write_lerobot(tmp_path / "robot", (4, 6, 5))


def test_counts_of_a_recording(robot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, robot)
    assert (found["kind"], found["format"], found["name"]) == ("recording", "lerobot", "robot")
    assert (found["episodes"], found["steps"], found["seconds_recorded"]) == (3, 15, 1.5)
    assert found["length"] == {"min": 4, "mean": 5.0, "max": 6}
    assert found["action_width"] == {"action": 2}
    holds = {
        "cameras": ["top"],
        "shapes": {"state": [3], "action": [2], "top": [HEIGHT, WIDTH, 3], "reward": [1]},
        "action_width": {"action": 2},
    }
    assert found["tasks"] == [
        {
            "task": TASKS[0],
            "episodes": 2,
            "steps": 9,
            "example": {"episode": "episode_000002", "steps": 5},
            **holds,
        },
        {
            "task": TASKS[1],
            "episodes": 1,
            "steps": 6,
            "example": {"episode": "episode_000001", "steps": 6},
            **holds,
        },
    ]
    assert found["problems"] == []
    assert found["spec"]["features"][2]["height"] == HEIGHT
    assert found["seconds"] > 0
    assert "failed" not in found
    assert "noticed" not in found


def test_a_person_sees_sizes_by_name(robot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(robot) == 0
    shown = capsys.readouterr().out
    (columns,) = [line.split() for line in shown.splitlines() if line.startswith("  feature ")]
    (top,) = [line.split() for line in shown.splitlines() if line.startswith("  top ")]
    assert columns[:5] == ["feature", "role", "height", "width", "channels"]
    assert top == ["top", "image", str(HEIGHT), str(WIDTH), "3", "uint8"]
    assert "3 with 15 steps" in shown
    assert "4 to 6 steps, mean 5.0" in shown
    assert "action: 2 wide" in shown
    (task,) = [line for line in shown.splitlines() if line.startswith(f"  {TASKS[1]}")]
    assert task.split()[-7:] == ["1", "6", "episode_000001", "6", "top", "action", "2"]
    assert "problems" not in shown


def test_problems_and_splits_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    episodes = [rlds_values(number, 4) for number in range(3)]
    path = write_rlds(tmp_path / "r", {"train": episodes, "val": episodes[:1]})
    assert inspect(path) == 0
    shown = capsys.readouterr().out
    assert "not held-out data" in shown
    assert [line.split() for line in shown.splitlines() if line.startswith("  train")] == [
        ["train", "3", "12"]
    ]
    assert "not in the files" in shown


def test_pictures_are_decoded_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = rlds_values(0, 4)
    values["steps/observation/image_0"][3] = values["steps/observation/image_0"][3][:-300]
    path = write_rlds(tmp_path / "r", {"train": [values, rlds_values(1, 4)]})
    assert inspect(path) == 0
    capsys.readouterr()
    assert inspect(path, "--check", "--json") == 1
    (failed,) = json.loads(capsys.readouterr().out)["failed"]
    assert failed["episode"] == "train-00000-00000"
    assert "image_0', step 3" in failed["what"]
    assert inspect(path, "--check") == 1
    assert "failed the check" in capsys.readouterr().out


def test_a_sound_recording_passes_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_folder(tmp_path / "z", replay_files((4, 3)))
    assert as_json(capsys, path, "--check")["failed"] == []
    assert inspect(path, "--check", "--format", "replay_zarr") == 0
    assert "sound" in capsys.readouterr().out


def test_the_check_notices_what_pictures_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [rlds_values(number, 12) for number in range(3)]
    first = values[0]["steps/observation/image_0"]
    values[0]["steps/observation/image_0"] = [first[0]] * 12
    values[1]["steps/observation/image_0"] = [
        *values[1]["steps/observation/image_0"][:1],
        *[jpeg(np.zeros((HEIGHT, WIDTH, 3), np.uint8))] * 11,
    ]
    values[2]["steps/observation/wrist"] = [png(np.full((HEIGHT, WIDTH, 3), 90, np.uint8))] * 12
    path = write_rlds(tmp_path / "r", {"train": [*values, values[0]]})
    found = as_json(capsys, path, "--check")
    assert found["failed"] == []
    said = [(each["episode"][-1], each["what"]) for each in found["noticed"]]
    assert said == [
        ("0", "'image_0' stands still from step 0 to 11 of 12 while the robot moves"),
        ("1", "'image_0' is black in 11 of 12 pictures"),
        ("1", "'image_0' stands still from step 1 to 11 of 12 while the robot moves"),
        ("2", "'wrist' shows one colour in all 12 pictures"),
        ("3", "'image_0' stands still from step 0 to 11 of 12 while the robot moves"),
        ("3", "is the same as train-00000-00000 (actions, states, pictures)"),
    ]
    assert all(each["effect"] for each in found["noticed"])
    assert inspect(path, "--check") == 0
    shown = capsys.readouterr().out
    assert "6 noticed" in shown
    assert "noticed in the check" in shown


def test_how_a_store_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tiny_spec(depth=True)
    config = store.WriteConfig(codec="auto", codecs={"image": "jpeg"})
    path = store.write(tmp_path / "s", MemorySource((5, 9), spec=spec), config).path
    store.append(path, MemorySource((5, 9, 4), spec=spec))
    store.add_embedding(path, "tiny", {"push the block": np.zeros(4, np.float32)}, {})
    found = as_json(capsys, path)
    assert [(e["feature"], e["codec"], e["why"]) for e in found["pictures"]] == [
        ("image", "jpeg", ""),
        ("wrist/depth", "raw", "auto: raw takes 1 MB, within 1024 MB"),
    ]
    assert [(e["folder"], e["episodes"]) for e in found["parts"]] == [("", 2), ("parts/00001", 1)]
    assert inspect(path) == 0
    said = capsys.readouterr().out
    for part in ("jpeg 90", "auto: raw takes 1 MB", "parts/00001", "tiny", "1 of 2"):
        assert part in said


def test_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_store(tmp_path / "store")
    found = as_json(capsys, path, "--check")
    assert (found["kind"], found["episodes"], found["steps"]) == ("store", 10, 120)
    assert len(found["digest"]) == 64
    splits = store.open(path).episodes.split.tolist()
    assert {each["split"]: each["episodes"] for each in found["splits"]} == {
        name: splits.count(name) for name in ("train", "val")
    }
    assert (found["failed"], found["left_out"]) == ([], [])
    shard = next(path.rglob("shard-*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert inspect(path) == 0
    capsys.readouterr()
    assert inspect(path, "--check", "--json") == 1
    assert "shard" in json.loads(capsys.readouterr().out)["failed"][0]["what"]


def test_a_policy_by_bundle_run_and_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = tiny.saved(tmp_path / "bundle")
    step = tmp_path / "runs" / "a" / "checkpoints" / "step_0000000040"
    shutil.copytree(saved, step)
    (step.parent / "last").symlink_to(step.name)
    monkeypatch.setenv("DEFT_RUNS_DIR", str(tmp_path / "runs"))
    found = as_json(capsys, saved, "--check")
    assert (found["kind"], found["family"], found["checkpoints"]) == ("policy", "flow", [])
    for name in (step, tmp_path / "runs" / "a", "a", "a@40", "a@last"):
        again = as_json(capsys, name)
        assert again["digest"] == found["digest"]
        assert again["checkpoints"] == ["40", "last"]
    assert inspect("a") == 0
    shown = capsys.readouterr().out
    assert "pred_horizon" in shown
    assert "solver_steps" in shown
    (saved / "model.safetensors").write_bytes(b"something else")
    assert inspect(saved, "--check") == 1


def test_checkpoints_of_a_run_are_listed_with_their_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, folder = tiny.saved(tmp_path / "bundle"), tmp_path / "a" / "checkpoints"
    for step, error in ((20, 0.25), (40, 0.5)):
        shutil.copytree(saved, folder / f"step_{step:010d}")
        scores = {"val/action_error": error, "val/action_error/x": 1.0}
        about = {"step": step, "scores": scores}
        (folder / f"step_{step:010d}" / "training.json").write_text(json.dumps(about))
    (folder / "last").symlink_to("step_0000000040")
    (folder / "best").symlink_to("step_0000000020")
    found = as_json(capsys, tmp_path / "a")["scores"]
    assert found["best"] == {"step": 20, "scores": {"val/action_error": 0.25,
                                                    "val/action_error/x": 1.0}}  # fmt: skip
    assert (found["40"], list(found)) == (found["last"], ["20", "40", "last", "best"])
    assert inspect(tmp_path / "a") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["20", "best", "0.25"] in lines
    assert ["40", "last", "0.5"] in lines
    (folder / "step_0000000020" / "training.json").write_text("{")
    assert inspect(tmp_path / "a") == 1
    assert "training.json" in capsys.readouterr().err


def widths(found: dict[str, Any]) -> list[tuple[int, dict[str, int], list[str]]]:
    return [
        (group["width"], group["arms"], sorted({task["recording"] for task in group["tasks"]}))
        for group in found["groups"]
    ]


def test_tasks_are_grouped_by_action_width_and_arm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "robotwin"
    for task, dof in (("lift", 6), ("stack", 6), ("shake", 7)):
        write_robotwin(root / task / "demo_clean", dof)
    write_folder(root / "pusht.zarr", replay_files((4, 3)))
    (root / "lift" / "notes.txt").write_text("nothing to see")
    found = as_json(capsys, root, "--actions")
    assert found["failed"] == []
    assert sorted(widths(found), key=lambda each: each[0]) == [
        (2, {}, ["pusht.zarr"]),
        (14, {"left": 7, "right": 7}, ["lift/demo_clean", "stack/demo_clean"]),
        (16, {"left": 8, "right": 8}, ["shake/demo_clean"]),
    ]
    assert inspect(root, "--actions") == 0
    shown = capsys.readouterr().out
    assert "action width 14 (left 7, right 7): 4 tasks" in shown  # each has two instructions
    assert "the widths differ" in shown


def test_action_widths_of_one_recording_and_of_a_store(
    tmp_path: Path, robot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = as_json(capsys, robot, "--actions")
    ((width, arms, recordings),) = widths(found)
    assert (width, arms, recordings) == (2, {}, ["robot"])
    assert [each["task"] for each in found["groups"][0]["tasks"]] == list(TASKS)
    path = write_store(tmp_path / "store")
    assert widths(as_json(capsys, path, "--actions")) == [(2, {}, ["store"])]


def test_a_recording_that_cannot_be_opened_is_not_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_robotwin(tmp_path / "r" / "lift")
    for broken in write_robotwin(tmp_path / "r" / "stack").rglob("*.hdf5"):
        with h5py.File(broken, "r+") as file:
            joints: Any = file["joint_action/left_arm"]
            joints[...] = np.nan
    assert inspect(tmp_path / "r", "--actions", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [each["recording"] for each in found["failed"]] == ["stack"]
    assert [recordings for *_, recordings in widths(found)] == [["lift"]]
    assert inspect(tmp_path / "r", "--actions") == 1
    assert "not counted" in capsys.readouterr().out
    assert inspect(tmp_path / "r", "--actions", "--check") == 2


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("left.j0", "left.gripper", "right.j0"), {"left": 2, "right": 1}),
        (("kLeftElbow", "kRightElbow", "kRightHandThumb"), {"left": 1, "right": 2}),
        (("left_waist", "right_waist", "lift"), {"both": 1, "left": 1, "right": 1}),
        (("x", "y", "gripper"), {}),
        (("leftover", "bright", "copyright"), {}),
    ],
)
def test_arms_are_known_by_their_names(names: tuple[str, ...], wanted: dict[str, int]) -> None:
    action = Feature(
        name="action", role="action", shape=(len(names),), dtype="float32", names=names
    )
    assert arms(Spec(features=(action,), fps=10.0)) == wanted


def test_two_action_features_are_two_arms() -> None:
    features = tuple(
        Feature(name=f"action_{side}", role="action", shape=(7,), dtype="float32")
        for side in ("left", "right")
    )
    assert arms(Spec(features=features, fps=10.0)) == {"left": 7, "right": 7}


def test_what_is_not_there_or_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(tmp_path / "absent") == 2
    assert "There is no data" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert inspect(tmp_path / "empty") == 1
    assert "Looked for:" in capsys.readouterr().err


def test_a_terminal_gets_tables_with_the_text_as_it_is(tmp_path: Path) -> None:
    values = rlds_values(0, 4)
    values["steps/language_instruction"] = [b"put [red] on [/blue]"] * 4
    path = write_rlds(tmp_path / "r", {"train": [values]})
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "deft", "inspect", str(path)]
    with subprocess.Popen(command, stdout=follower, env=os.environ | {"COLUMNS": "160"}) as running:
        os.close(follower)
        shown = b""
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        assert running.wait() == 0
    os.close(leader)
    text = shown.decode()
    assert "put [red] on [/blue]" in text
    assert "height" in text
    assert "\x1b[1m" in text


@pytest.mark.data
def test_the_real_recordings_are_quick_to_look_at(
    real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts: dict[str, tuple[int, int]] = {}
    for path in sorted(each for each in real_data.iterdir() if each.is_dir()):
        found = as_json(capsys, path)
        counts[found["format"]] = (found["episodes"], found["steps"])
        assert found["seconds"] < 20
    assert counts == {"replay_zarr": (206, 25650), "lerobot": (3, 778), "rlds": (50, 500)}
