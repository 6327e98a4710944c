"""BridgeData converted to numpy: `<task>/{train,val}/out.npy`, an object array of trajectories.

Each is a dictionary: `observations` and `next_observations` (a list of dictionaries with
`images0`, `state`, ... per step), `actions`, `terminals`, `language`. Arrays stay in the file until
they are asked for, so a recording of any size is read in little memory.
Source: `bridge_data_v2`, `data_processing/bridgedata_raw_to_numpy.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import FormatError
from deft.formats.bridge import Look, unusable
from deft.formats.bridge_note import KEY, Note
from deft.formats.bridge_trajectory import (
    BridgeOptions,
    Trajectory,
    assemble,
    column_of,
    look_at,
)
from deft.formats.pickled import Place
from deft.formats.raw_frames import split_rows
from deft.formats.recording import Recording
from deft.formats.regular import open_regular
from deft.formats.tree import holds, walk
from deft.formats.unpickle import load_npy
from deft.spec import EpisodeInfo

MARK = "`out.npy` with an array of trajectories, in `train` and `val` folders at any depth"

FILE = "out.npy"
_SPLITS = ("train", "val", "test")


def probe(path: Path) -> bool:
    """Whether this is such a file, or one is somewhere below."""
    if path.is_dir():
        return holds(path, lambda folder: FILE in folder.files)
    if path.suffix != ".npy":
        return False
    with open_regular(path) as file:
        return b"'|O'" in file.read(128)


def open_bridge_numpy(path: Path, fps: float, options: BridgeOptions) -> Recording:
    """Open one file, or all that are in a folder and below it.

    The structure of every file is read once, pictures are not.

    Raises:
        FormatError: a folder cannot be listed, or no trajectory can be used.
    """
    looks = [look for file in places(path, FILE) for look in _looks(file, options)]
    return assemble("bridge_numpy", path, fps, options, looks, lambda look: look.content)


@dataclass(frozen=True)
class PlacedFile:
    """One file of the tree, and what its folders say."""

    path: Path
    folder: str
    """Of the task, from the root; empty at the root."""
    split: str
    """As the folder is called; empty when it is called otherwise."""

    def id_of(self, number: int) -> str:
        """What the trajectory at this place in the file is called."""
        return "/".join(part for part in (self.folder, self.split, str(number)) if part)


def places(root: Path, name: str) -> Iterator[PlacedFile]:
    """Every file of this name in a tree, or the file itself."""
    if not root.is_dir():
        split = root.parent.name if root.parent.name in _SPLITS else ""
        yield PlacedFile(root, "", split)
        return
    for folder in walk(root):
        if name in folder.files:
            parts = folder.path.relative_to(root).parts
            split = folder.path.name if folder.path.name in _SPLITS else ""
            inside = parts[:-1] if split else parts
            yield PlacedFile(folder.path / name, "/".join(inside), split)


def _looks(file: PlacedFile, options: BridgeOptions) -> Iterator[Look]:
    try:
        held = load_npy(file.path, lazy=True)
        if not isinstance(held, np.ndarray) or held.dtype.kind != "O":
            raise unusable(str(file.path), "holds no trajectories", type(held).__name__)
    except FormatError as error:
        name = "/".join(part for part in (file.folder, file.split) if part) or file.path.name
        yield Look(EpisodeInfo(id=name, length=0, split=file.split), wrong=str(error))
        return
    for number, content in enumerate(held.ravel().tolist()):
        id_ = file.id_of(number)
        try:
            trajectory = _trajectory(content, f"{file.path}, trajectory {number}")
            yield look_at(trajectory, id_, file.split, options, trajectory)
        except FormatError as error:
            yield Look(EpisodeInfo(id=id_, length=0, split=file.split), wrong=str(error))


def _trajectory(content: Any, where: str) -> Trajectory:
    if not isinstance(content, Mapping) or not {"observations", "actions"} <= content.keys():
        found = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content)
        raise unusable(where, "there must be `observations` and `actions`", str(found))
    note = Note.parse(content[KEY], where) if KEY in content else None
    observed = _steps(content["observations"], f"{where}, 'observations'")
    action = _rows(content["actions"], f"{where}, 'actions'")
    surplus, has_last = "", note.has_last if note else "next_observations" in content
    if has_last:
        after = _steps(content.get("next_observations"), f"{where}, 'next_observations'")
        surplus = "" if note else _judge_next(observed, after)
        has_last = not surplus
        observed = [*observed, after[-1]] if has_last else observed
    keys = set(observed[0]).intersection(*observed[1:])
    columns = {
        str(key): column_of([step[key] for step in observed], f"{where}, '{key}'")
        for key in sorted(keys, key=str)
    }
    return Trajectory(
        where=where,
        columns=columns,
        has_last=has_last,
        action=action,
        language=_language(content.get("language", ())),
        note=note,
        surplus=surplus,
    )


def _steps(value: Any, where: str) -> list[Mapping[Any, Any]]:
    steps = list(value) if isinstance(value, list | tuple | np.ndarray) else []
    if not steps or not all(isinstance(step, Mapping) for step in steps):
        raise unusable(where, "wanted a list with one dictionary per step", type(value).__name__)
    return steps


def _rows(value: Any, where: str) -> np.ndarray:
    steps = split_rows(value) if isinstance(value, Place | np.ndarray) else value
    if not isinstance(steps, list | tuple) or not steps:
        raise unusable(where, "wanted a list with one action per step", type(value).__name__)
    return column_of(steps, where).table()


def _judge_next(observed: Sequence[Mapping[Any, Any]], after: Sequence[Mapping[Any, Any]]) -> str:
    """Why the last of `next_observations` is not the frame behind the last action, if so."""
    if len(after) != len(observed):
        return f"there are {len(after)} next_observations for {len(observed)} observations"
    for step, (one, other) in enumerate(zip(after, observed[1:], strict=False)):
        if not all(_same(one[key], other[key]) for key in one.keys() & other.keys()):
            return f"next_observations of step {step} are not the observations of step {step + 1}"
    if after[-1].keys() != observed[-1].keys():
        return "the last of next_observations has other keys"
    if all(after[-1][key] is observed[-1][key] for key in after[-1]):
        return "the last of next_observations is the last observation once more"
    return ""


def _same(one: Any, other: Any) -> bool:
    """Equal, as far as can be told without reading pictures."""
    if isinstance(one, Place) or isinstance(other, Place):
        return True
    return one is other or np.array_equal(one, other)


def _language(value: Any) -> list[str]:
    lines = [value] if isinstance(value, str) else value
    if isinstance(lines, list | tuple | np.ndarray):
        return [str(line) for line in lines if isinstance(line, str)]
    return []
