"""`launcher: ray` on a real, local Ray."""

import json
import subprocess
from pathlib import Path

import pytest

from suites.peers import peer_program
from suites.sweeps import peer_environment, write_sweep

pytestmark = pytest.mark.peer


def test_a_sweep_on_a_local_cluster(tmp_path: Path) -> None:
    python = peer_program("ray")
    path = write_sweep(
        tmp_path,
        launcher="ray",
        runs=[{"policy": "bc", "seed": seed, "name": f"s{seed}"} for seed in (1, 2)]
        + [{"policy": "bc", "name": "bad", "data.observations": ["nothing"]}],
    )
    words = [python, "-m", "deft", "sweep"]
    done = subprocess.run(
        [*words, path], capture_output=True, text=True, timeout=280, env=peer_environment(),
        cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-3000:]
    assert "2 of 3 runs done" in done.stdout
    told = subprocess.run(
        [*words, "status", path, "--json"], capture_output=True, text=True, timeout=60,
        env=peer_environment(), cwd=tmp_path, check=False,
    )  # fmt: skip
    found = json.loads(told.stdout)
    assert {row["name"]: row["state"] for row in found["runs"]} == {
        "s1": "done", "s2": "done", "bad": "failed",
    }  # fmt: skip
    assert found["groups"][0]["count"] == 2
