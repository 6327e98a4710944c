"""VITA's data sets (gym-av-aloha): zarr version 2 arrays under LeRobot's names, and `config.json`.

Layout of a public VITA release of May 2026; the arrays are those of a replay buffer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import FormatError
from deft.formats import zarr_notes
from deft.formats.jsonfile import read_object, take
from deft.formats.lerobot_features import BOOKKEEPING, Stored, declare, finding
from deft.formats.recording import Recording, table_dtype
from deft.formats.zarr_array import ZarrArray, array_names
from deft.formats.zarr_buffer import (
    Column,
    ToPictures,
    gather,
    has_ends,
    noted_column,
    open_storage,
    read_ends,
    valid_array,
)
from deft.formats.zarr_storage import Storage
from deft.spec import Problem

MARK = "`config.json` beside the zarr arrays `data/…` and `meta/episode_ends`"

_RATE_ERROR = 0.02


def probe(path: Path) -> bool:
    """Whether this is a VITA data set; looks at names only."""
    return path.is_dir() and (path / "config.json").is_file() and has_ends(path)


def open_vita_zarr(path: Path, fps: float) -> Recording:
    """Open a VITA data set.

    Features are named as in LeRobot data (`observation.images.top` becomes `top`), with the
    picture size of the arrays: `config.json` keeps the one before resizing.

    Args:
        path: its folder.
        fps: not used; `config.json` says it.

    Raises:
        FormatError: `config.json` or an array is damaged, or no episode can be used.
    """
    where = f"{path}/config.json"
    config = read_object(path / "config.json")
    rate = take(config, "fps", (int, float), where)
    if not 0 < rate < 1e6:
        raise FormatError(f"{where}: 'fps' is {rate}.\nFix: set it to ticks per second.")
    storage = open_storage(path)
    ends = read_ends(storage)
    notes = zarr_notes.read(storage, len(ends))
    names = array_names(storage, "data")
    declared = declare(take(config, "features", dict, where), {}, where)
    noted = (
        noted_column(storage, key, column) for key, column in notes.columns.items() if key in names
    )
    columns = [column for column in noted if column is not None]
    problems = [] if columns else [*declared.problems]
    if len(columns) < len(notes.columns) or not columns:
        done = {column.feature.name for column in columns}
        stored = [each for name, each in declared.stored.items() if name not in done]
        more, found = _columns(storage, stored, names)
        columns, problems = [*columns, *more], [*problems, *found]
        known = {*BOOKKEEPING, *(each.key for each in declared.stored.values()), notes.valid}
        known |= notes.columns.keys()
        problems += [
            finding(f"'{name}' is not in config.json", "left out")
            for name in names
            if name not in known
        ]
    if not any(column.feature.role == "action" for column in columns):
        raise FormatError(
            f"{path}: there is no array `data/action`.\nFound: {', '.join(names) or 'none'}.\n"
            "Fix: copy the recording again, whole."
        )
    spec = replace(
        notes.contract([column.feature for column in columns], float(rate)), fps=float(rate)
    )
    problems += _compare(config, storage, names, ends, float(rate))
    return gather(
        "vita_zarr",
        path,
        columns,
        notes,
        ends,
        spec,
        problems=problems,
        task_of=_tasks(config, storage, names, where),
        valid=valid_array(storage, notes, names),
    )


def _columns(
    storage: Storage, stored: Sequence[Stored], names: Sequence[str]
) -> tuple[list[Column], list[Problem]]:
    """The declared arrays as they really are."""
    columns: list[Column] = []
    problems: list[Problem] = []
    for each in stored:
        feature = each.feature
        if each.key not in names:
            what = f"config.json declares '{each.key}', there is no such array"
            problems.append(finding(what, "left out"))
            continue
        array = ZarrArray(storage, f"data/{each.key}")
        shape, dtype = array.layout.shape[1:], array.layout.dtype
        if feature.is_frame:
            is_depth = feature.role == "depth"
            if len(shape) != 3 or shape[2] != feature.channels or (is_depth != (dtype == "u2")):
                what = f"'{each.key}' ({dtype}, shape {list(shape)}) holds no pictures"
                problems.append(finding(what, "left out"))
                continue
            if not is_depth:
                array = ZarrArray(
                    storage, f"data/{each.key}", ToPictures(array.where, channels_first=False)
                )
            columns.append(Column(replace(feature, shape=shape), array))
            continue
        # LeRobot declares [1] for plain numbers.
        elements = feature.names if feature.shape == shape else ()
        if feature.names and not elements:
            what = f"'{each.key}' has shape {list(shape)}, declared {list(feature.shape)}"
            problems.append(finding(what, "read as it is, without element names"))
        kind = table_dtype(dtype, feature.role, array.where)
        columns.append(Column(replace(feature, shape=shape, dtype=kind, names=elements), array))
    return columns, problems


def _tasks(
    config: Mapping[str, Any], storage: Storage, names: Sequence[str], where: str
) -> Callable[[int, int], str]:
    """What the task of the rows from one number up to another is."""
    tree = config.get("tasks", {})
    if not isinstance(tree, Mapping) or not all(isinstance(text, str) for text in tree.values()):
        raise FormatError(
            f"{where}: 'tasks' must give a text for every index.\nFound: {str(tree)[:80]}.\n"
            "Fix: correct it, or copy the file again."
        )
    if "task_index" not in names:
        only = next(iter(tree.values())) if len(tree) == 1 else ""
        return lambda start, stop: only
    array = ZarrArray(storage, "data/task_index")

    def task_of(start: int, stop: int) -> str:
        if len(array) < stop:
            raise FormatError(f"{array.where}: has {len(array)} rows, wanted {stop}.")
        return tree.get(str(array.rows(start, start + 1).reshape(-1)[0]), "")

    return task_of


def _compare(
    config: Mapping[str, Any],
    storage: Storage,
    names: Sequence[str],
    ends: Sequence[int],
    fps: float,
) -> Iterator[Problem]:
    """Where `config.json` and the bookkeeping disagree with the arrays."""
    for key, found, what in (
        ("num_episodes", len(ends), "episodes"),
        ("num_frames", ends[-1], "steps"),
    ):
        promised = config.get(key, found)
        if promised != found:
            # VITA's own converter writes config.json first; a crash leaves it promising more.
            yield finding(f"config.json promises {promised} {what}, there are {found}", "used")
    spans = list(zip([0, *ends[:-1]], ends, strict=True))
    try:
        if "timestamp" in names:
            stamps = ZarrArray(storage, "data/timestamp").rows(0, ends[-1]).reshape(-1)
            steps = [np.diff(stamps[start:stop]) for start, stop in spans if stop <= len(stamps)]
            apart = float(np.median(np.concatenate(steps))) if any(map(len, steps)) else 1 / fps
            if not abs(apart * fps - 1) < _RATE_ERROR:
                what = f"time stamps are {apart:.4g} s apart, fps is {fps:g}"
                yield finding(what, "fps is used")
        if "episode_index" in names:
            index = ZarrArray(storage, "data/episode_index").rows(0, ends[-1]).reshape(-1)
            mixed = [n for n, (a, b) in enumerate(spans) if len(set(index[a:b].tolist())) > 1]
            if mixed:
                what = f"`episode_index` changes inside {len(mixed)} episodes (number {mixed[0]})"
                yield finding(what, "`meta/episode_ends` is used")
    except FormatError as error:
        yield finding(f"the bookkeeping cannot be read: {error}", "read without it")
