"""`deft sweep` as a user types it, with real trainings."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from deft import launch, spec, train
from deft.cli.main import main
from suites.sweeps import write_sweep


def status(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    main(["sweep", "status", str(path), "--json"])
    return json.loads(capsys.readouterr().out)


def until(claim: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_wrong_words_are_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_sweep(tmp_path, matrix={"seed": [1]})
    assert main(["sweep"]) == 2
    assert main(["sweep", str(tmp_path / "absent.yaml")]) == 2
    assert main(["sweep", "status", str(tmp_path / "absent")]) == 2
    assert main(["sweep", str(path), "slot=2"]) == 2
    assert "Did you mean 'slots'" in capsys.readouterr().err
    assert main(["sweep", str(path), "launcher=cloud"]) == 2
    assert not (tmp_path / "runs").exists()


def test_a_sweep_in_the_background_is_watched_and_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(tmp_path, matrix={"seed": [1]}, defaults={"train.steps": 100_000})
    assert main(["sweep", str(path), "--detach"]) == 0
    folder = tmp_path / "runs" / "sweeps" / "experiments"
    metrics = tmp_path / "runs/custom/flow/seed_1/metrics.jsonl"
    until(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 3)
    found = status(folder, capsys)
    (row,) = found["runs"]
    assert (row["state"], row["steps"]) == ("running", 100_000)
    assert row["rate"] > 0
    assert row["left_s"] > 0
    assert found["process"] is not None
    assert main(["sweep", str(path)]) == 1
    assert "at work already" in capsys.readouterr().err
    assert main(["sweep", "stop", str(path)]) == 0
    until(lambda: launch.Book(folder).worker() is None)
    assert status(folder, capsys)["runs"][0]["state"] in ("stopped", "interrupted")
    assert main(["sweep", "stop", str(path)]) == 0


@pytest.mark.slow
def test_six_runs_with_a_crash_and_a_kill_give_the_right_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two policies, three seeds, two slots; one crashes, everything is killed, then resumed."""
    bad = {"overrides": ["data.observations=[nothing]"]}
    path = write_sweep(
        tmp_path,
        runs=[
            {"policy": policy, "seed": seed, "name": f"{policy}-{seed}"}
            | (bad if (policy, seed) == ("flow", 1) else {})
            for policy in ("bc", "flow")
            for seed in (1, 2, 3)
        ],
        defaults={"train.steps": 300},
    )
    command = [sys.executable, "-m", "deft", "sweep", str(path)]
    sweep = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    folder = tmp_path / "runs" / "sweeps" / "experiments"
    second = tmp_path / "runs" / "custom" / "bc" / "bc-2"
    until(lambda: train.steps(second) and train.steps(second)[-1] >= 20)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()
    killed = 0
    for lock in folder.glob("orders/*.lock"):
        text = lock.read_text()
        if text and launch.Book(folder).state(lock.stem) == "running":
            os.killpg(int(text), signal.SIGKILL)
            killed += 1
    assert killed
    assert main(["sweep", str(path)]) == 1
    shown = capsys.readouterr().out
    assert "5 of 6 runs done" in shown
    assert "there is no feature 'nothing'" in shown.lower() or "nothing" in shown
    found = status(path, capsys)
    rows = {row["name"]: row for row in found["runs"]}
    assert [name for name, row in rows.items() if row["state"] != "done"] == ["flow-1"]
    assert "nothing" in " ".join(rows["flow-1"]["last_lines"])
    assert max(row["attempt"] for row in rows.values()) == 2
    groups = {(each["label"], each["metric"]): each for each in found["groups"]}
    for policy, seeds in (("bc", (1, 2, 3)), ("flow", (2, 3))):
        group = groups[f"policy={policy}", "val/action_error"]
        last = [
            train.scores_of(tmp_path / "runs" / "custom" / policy / f"{policy}-{seed}", 300)
            for seed in seeds
        ]
        mean, low, high = spec.mean_interval(each["val/action_error"] for each in last)
        assert (group["count"], group["wanted"]) == (len(seeds), 3)
        assert (group["mean"], group["low"], group["high"]) == pytest.approx((mean, low, high))
