"""Actions outside the range that a LeRobot data set declares in its statistics."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft import formats
from deft.cli.main import main
from suites.recordings import demonstration, write_lerobot

LENGTHS = (4, 6, 5)


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    return write_lerobot(tmp_path / "robot", LENGTHS, "image")


def stats(number: int, high: float | None = None) -> dict[str, Any]:
    action = demonstration(number, LENGTHS[number])["action"]
    top = action.max(0).tolist() if high is None else [high, high]
    return {"action": {"min": action.min(0).tolist(), "max": top}}


def check(robot: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    assert main(["inspect", str(robot), "--check", "--json"]) == 0
    noticed = json.loads(capsys.readouterr().out)["noticed"]
    return [each for each in noticed if "declared range" in each["what"]]


def test_actions_outside_are_noticed_and_kept(
    robot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(robot, capsys) == []  # nothing is declared
    wide = {"action": {"min": [-9, -9], "max": [9, 9]}}
    (robot / "meta/stats.json").write_text(json.dumps(wide))
    assert check(robot, capsys) == []
    (robot / "meta/stats.json").write_text(json.dumps({"action": {"min": [-9, 9], "max": [9, 9]}}))
    found = check(robot, capsys)
    assert [each["episode"] for each in found] == [info.id for info in formats.open(robot).episodes]
    assert "4 of 4 steps (step 0, element 1" in found[0]["what"]
    assert {each["effect"] for each in found} == {"kept as it is"}
    words = ["inspect", str(robot), "--check", "--json", "--map", "action=action"]
    assert main(words) == 0  # a reader that is told names declares the range under them
    assert "declared range" in capsys.readouterr().out


def test_ranges_of_episodes_are_joined(robot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = robot / "meta/episodes_stats.jsonl"
    lines = [{"episode_index": n, "stats": stats(n)} for n in range(3)]
    file.write_text("\n".join(map(json.dumps, lines)))
    assert check(robot, capsys) == []
    low, high = formats.open(robot).read_limits()["action"]
    every = np.concatenate([demonstration(n, LENGTHS[n])["action"] for n in range(3)])
    assert (low <= every.min(0)).all()
    assert (high >= every.max(0)).all()
    assert np.allclose(low, every.min(0), atol=1e-4)
    file.write_text("\n".join(json.dumps({**line, "stats": stats(0, -5)}) for line in lines))
    assert len(check(robot, capsys)) == 3


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"action": 3}', '{"action": {"min": ["a", 1], "max": [1, 1]}}',
     '{"action": {"min": [0], "max": [1]}}', '{"action": {"min": [NaN, 0], "max": [1, 1]}}'],
)  # fmt: skip
def test_statistics_that_say_nothing_declare_nothing(
    robot: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (robot / "meta/stats.json").write_text(text)
    assert check(robot, capsys) == []
