"""Other people's packages, each in an environment of its own below `.peers` (or `DEFT_PEERS`)."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_TIMEOUT_S = 240


def peer_program(name: str, program: str = "bin/python") -> Path:
    """A program of a peer's environment; the test is skipped when there is none."""
    home = Path(os.environ.get("DEFT_PEERS", ROOT / ".peers"))
    found = home / name / program
    if not found.is_file():
        script = name.split("/")[0].split("_")[0]
        pytest.skip(f"{found} is not there; make it with bench/peers/{script}.sh {home / name}")
    return found


def run_peer(program: Path, script: str, *arguments: Any) -> Any:
    """Run Python text with a peer's interpreter; returns what it prints last, read as JSON."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "DEFT_", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        [str(program), "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        env=environment | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )
    assert done.returncode == 0, f"{program} failed:\n{done.stderr[-4000:]}"
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines else None
