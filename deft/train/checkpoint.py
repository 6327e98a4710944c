"""Checkpoints: a bundle plus the state of training, written whole or not at all.

<run>/checkpoints/step_0000005000/   bundle files, training_state.pt, training.json
<run>/checkpoints/{last,best}        links to such folders
"""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from deft.errors import BundleError, TrainError

STATE_FILE = "training_state.pt"
SCORE_FILE = "training.json"


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint of one step lives."""
    return run / "checkpoints" / f"step_{step:010d}"


def steps(run: Path) -> list[int]:
    """Steps of all complete checkpoints, ascending. A folder under its final name is complete."""
    found = (run / "checkpoints").glob("step_*")
    return sorted(int(path.name[5:]) for path in found if path.is_dir() and path.name[5:].isdigit())


def save(
    run: Path,
    step: int,
    state: Mapping[str, Any],
    scores: Mapping[str, float],
    write_bundle: Callable[[Path], None],
) -> Path:
    """Write one checkpoint beside its place, make it durable, and move it there.

    Args:
        run: folder of the run.
        step: optimiser steps done.
        state: tensors, numbers and plain containers that training needs to go on.
        scores: measurements on held-out data at this step.
        write_bundle: writes the bundle's files into an existing folder.

    Raises:
        TrainError: the disk refuses; every earlier checkpoint is untouched.
    """
    final = folder_of(run, step)
    beside = final.with_name(f".writing-{final.name}")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        # Through memory: torch and safetensors have errors of their own for a disk that refuses.
        packed = io.BytesIO()
        torch.save(dict(state), packed)
        with (beside / STATE_FILE).open("wb") as file:
            file.write(packed.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        about = {
            "step": step,
            "scores": dict(scores),
            "training_state_sha256": _digest(beside / STATE_FILE),
        }
        with (beside / SCORE_FILE).open("w") as file:
            json.dump(about, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        write_bundle(beside)
        beside.rename(final)
        _fsync_folder(final.parent)
    except (OSError, SafetensorError, BundleError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        if isinstance(error, BundleError) and not isinstance(error.__cause__, OSError):
            raise
        raise TrainError(
            f"{final}: the checkpoint could not be written: {error}.\n"
            f"Found: {shutil.disk_usage(final.parent.parent).free / 1e9:.2f} GB free. "
            "Earlier checkpoints are untouched.\n"
            "Fix: make room, then start again with resume=true."
        ) from error
    return final


def load(run: Path, step: int, device: torch.device) -> dict[str, Any]:
    """The training state of one checkpoint.

    Raises `TrainError` when it is missing, damaged, or does not match its digest.
    """
    folder = folder_of(run, step)
    path = folder / STATE_FILE
    try:
        wanted = json.loads((folder / SCORE_FILE).read_text())["training_state_sha256"]
        found = _digest(path)
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(folder, str(error)) from error
    if found != wanted:
        raise _damaged(folder, f"sha256 of {STATE_FILE} is {found[:12]}…, wanted {wanted[:12]}…")
    return torch.load(path, map_location=device, weights_only=True)


def scores_of(run: Path, step: int) -> dict[str, float]:
    """What was measured at one checkpoint."""
    try:
        return json.loads((folder_of(run, step) / SCORE_FILE).read_text())["scores"]
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(folder_of(run, step), str(error)) from error


def best_step(run: Path, score: str, *, highest: bool = False) -> int | None:
    """The checkpoint with the lowest (or highest) `score`, the earliest of equals; None when none
    has it."""
    scored = [(scores_of(run, step).get(score), step) for step in steps(run)]
    known = [(-value if highest else value, step) for value, step in scored if value is not None]
    return min(known)[1] if known else None


def tidy(run: Path, keep_freq: int, best: int | None) -> None:
    """Point `last` and `best` at the right folders, then delete what is not to be kept.

    Kept are the last, the best, and with `keep_freq` above 0 every multiple of it. Half-written
    folders of a killed run go too.
    """
    done = steps(run)
    if not done:
        return
    _link(run, "last", done[-1])
    if best is not None:
        _link(run, "best", best)
    for step in done:
        kept = step in (done[-1], best) or (keep_freq > 0 and step % keep_freq == 0)
        if not kept:
            doomed = folder_of(run, step)
            # Renamed first: a delete that is cut short must not leave a folder that looks whole.
            beside = doomed.with_name(f".deleting-{doomed.name}")
            doomed.rename(beside)
    for pattern in (".deleting-*", ".writing-*"):
        for leftover in (run / "checkpoints").glob(pattern):
            shutil.rmtree(leftover, ignore_errors=True)


def _link(run: Path, name: str, step: int) -> None:
    link = run / "checkpoints" / name
    beside = link.with_name(f".{name}-new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(folder_of(run, step).name)
    beside.replace(link)


def _damaged(folder: Path, found: str) -> TrainError:
    return TrainError(
        f"{folder}: this checkpoint cannot be continued from.\nFound: {found}.\n"
        "Fix: delete this folder and resume from an earlier checkpoint, or start a new session."
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
