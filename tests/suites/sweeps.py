"""Sweeps of real trainings of a few seconds each."""

import os
import sysconfig
from pathlib import Path
from typing import Any

import yaml

from suites.demonstrations import write_store
from suites.peers import ROOT

SMALL: dict[str, Any] = {
    "data.observations": ["state"],
    "policy": {"width": 16, "depth": 1},
    "train": {"steps": 40, "batch_size": 4, "save_freq": 10, "log_freq": 5},
    "val.offline_freq": 20,
    "device": "cpu",
}


def write_sweep(folder: Path, **tree: Any) -> Path:
    """An experiments.yaml beside a store, with the CPU's slots and small trainings."""
    data = write_store(folder / "home")
    defaults = SMALL | {"data.path": str(data)} | tree.pop("defaults", {})
    made = {"runs_dir": str(folder / "runs"), "gpus": [], "slots": 2, "defaults": defaults} | tree
    path = folder / "experiments.yaml"
    path.write_text(yaml.safe_dump(made, sort_keys=False))
    return path


def peer_environment() -> dict[str, str]:
    """For a peer's interpreter: Deft as it stands here, with the packages of this interpreter."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    paths = [str(ROOT), str(ROOT / "tests"), sysconfig.get_paths()["purelib"]]
    return kept | {"PYTHONPATH": ":".join(paths), "OMP_NUM_THREADS": "1"}
