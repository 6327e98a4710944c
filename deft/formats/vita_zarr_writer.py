"""Writes VITA's data sets (gym-av-aloha): zarr version 2, LeRobot's names, and `config.json`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import FormatError
from deft.formats.writing import Workspace
from deft.formats.zarr_notes import Column
from deft.formats.zarr_stage import Staged
from deft.formats.zarr_writer import (
    Dialect,
    ZarrWriter,
    array_name,
    put_buffer,
    refuse_names,
    two_megabytes,
)
from deft.formats.zarr_writing import (
    DISK,
    NewArray,
    Target,
    new_target,
    put_array,
    put_group,
    put_json,
)
from deft.spec import Feature, Spec

_BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
_THUMBNAIL = 150


@dataclass(frozen=True, kw_only=True)
class VitaZarrWriteOptions:
    """How a VITA data set is written."""

    repo_id: str = ""
    """`owner/name` in `config.json`; else `local/` and the name of the folder."""


def vita_zarr_writer(workspace: Workspace, spec: Spec, options: VitaZarrWriteOptions) -> ZarrWriter:
    """A writer of VITA data sets.

    The action becomes `action`, cameras `observation.images.<name>` (`observation.image` for the
    only camera called `image`), depth `observation.depth.<name>`, states and the rest
    `observation.<name>`. Statistics in `config.json` are over all steps, those of pictures from 0
    to 1, over every few pixels.

    Raises:
        FormatError: there is no tick rate, not exactly one action, or a name that zarr cannot
            hold.
    """
    path = workspace.path
    if not spec.fps:
        raise FormatError(
            f"{path}: VITA needs a tick rate, and the recording does not say one.\n"
            "Fix: give it, as in `--fps 25`."
        )
    if len(spec.role("action")) != 1:
        found = ", ".join(feature.name for feature in spec.role("action")) or "none"
        raise FormatError(
            f"{path}: VITA holds one action feature.\nFound: {found}.\n"
            "Fix: fuse them (`fuse_arms=true` for RoboTwin), or keep one."
        )
    columns = {key: Column(feature) for key, feature in _keys(spec).items()}
    refuse_names(path, columns)
    repo_id = options.repo_id or f"local/{path.name}"

    def pack(packed: Path, episodes: Sequence[Staged]) -> None:
        tally = _Tally()
        with new_target(packed, as_zip=False) as target:
            put_group(target)
            put_buffer(target, spec, dialect, episodes, watch=tally.add)
            tasks = _put_bookkeeping(target, spec, episodes, tally)
            config = _config(repo_id, spec, columns, episodes, tasks, tally)
            target.put("config.json", put_json(config))

    dialect = Dialect(
        columns=columns,
        compressor=DISK,
        rows=lambda feature, lengths: two_megabytes(feature, lengths[0]),
        pack=pack,
    )
    return ZarrWriter(workspace, spec, dialect)


def _keys(spec: Spec) -> dict[str, Feature]:
    """Features by LeRobot's name."""
    cameras = spec.role("image")
    keys: dict[str, Feature] = {}
    for feature in spec.features:
        if feature.dtype == "str":
            continue
        name = array_name(feature).removeprefix("observation.").removeprefix("images.")
        if feature.role == "action":
            key = "action"
        elif feature.role == "image" and [each.name for each in cameras] == ["image"]:
            key = "observation.image"
        elif feature.role == "image":
            key = f"observation.images.{name}"
        elif feature.is_frame:
            # Anything with `image` in its name must have three channels for VITA.
            key = f"observation.{feature.role}.{name.replace('image', 'picture')}"
        elif feature.role == "reward":
            key = f"next.{name}"
        else:
            key = f"observation.{name}"
        while key in keys or key in _BOOKKEEPING:
            key += "_"
        keys[key] = feature
    return keys


def _put_bookkeeping(
    target: Target, spec: Spec, episodes: Sequence[Staged], tally: "_Tally"
) -> list[str]:
    """LeRobot's columns; returns the tasks by index."""
    tasks = list(dict.fromkeys(episode.about["task"] for episode in episodes))
    first = np.cumsum([0, *(episode.length for episode in episodes)])

    def rows(key: str) -> Iterator[np.ndarray]:
        for number, episode in enumerate(episodes):
            steps = np.arange(episode.length)
            values = {
                "timestamp": (steps / spec.fps).astype(np.float32),
                "frame_index": steps,
                "episode_index": np.full(episode.length, number),
                "index": steps + first[number],
                "task_index": np.full(episode.length, tasks.index(episode.about["task"])),
            }[key]
            tally.add(key, values)
            yield values

    for key in _BOOKKEEPING:
        array = NewArray(
            key=f"data/{key}",
            shape=(),
            dtype=np.dtype(np.float32 if key == "timestamp" else np.int64),
            length=int(first[-1]),
            rows=episodes[0].length,
            compressor=DISK,
        )
        put_array(target, array, rows(key))
    return tasks


def _config(
    repo_id: str,
    spec: Spec,
    columns: dict[str, Column],
    episodes: Sequence[Staged],
    tasks: list[str],
    tally: "_Tally",
) -> dict[str, Any]:
    cameras = [key for key, column in columns.items() if column.feature.role == "image"]
    features = {key: _declared(column.feature) for key, column in columns.items()}
    for key in _BOOKKEEPING:
        dtype = "float32" if key == "timestamp" else "int64"
        features[key] = {"dtype": dtype, "shape": [1], "names": None}
    return {
        "repo_id": repo_id,
        "num_frames": sum(episode.length for episode in episodes),
        "num_episodes": len(episodes),
        "fps": int(spec.fps) if spec.fps == int(spec.fps) else spec.fps,
        "tasks": {str(index): task for index, task in enumerate(tasks)},
        "features": features,
        "stats": tally.to_json(),
        "camera_keys": cameras,
        "video_keys": [],
        "image_keys": cameras,
    }


def _declared(feature: Feature) -> dict[str, Any]:
    """An entry of LeRobot's `features`."""
    if feature.role in ("image", "depth"):
        entry: dict[str, Any] = {
            "dtype": "image",
            "shape": list(feature.shape),
            "names": ["height", "width", "channel"],
        }
        # LeRobot's mark; depth with it is in millimetres.
        return entry | ({"info": {"is_depth_map": True}} if feature.role == "depth" else {})
    return {
        "dtype": feature.dtype,
        "shape": list(feature.shape) or [1],
        "names": list(feature.names) or None,
    }


class _Tally:
    """Statistics of every array, block by block."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sum] = {}

    def add(self, key: str, block: np.ndarray) -> None:
        """One more block `n ...` of an array."""
        is_picture = block.ndim == 4 and block.dtype == np.uint8
        if is_picture:
            step = max(1, max(block.shape[1:3]) // _THUMBNAIL)
            values = block[:, ::step, ::step].astype(np.float64) / 255
            axes: tuple[int, ...] = (0, 1, 2)
        else:
            values, axes = block.astype(np.float64), (0,)
        self._sums.setdefault(key, _Sum(is_picture)).add(values, axes, len(block))

    def to_json(self) -> dict[str, Any]:
        """LeRobot's form; pictures have statistics of shape 3 1 1."""
        return {key: each.to_json() for key, each in self._sums.items()}


class _Sum:
    """Mean and spread, merged as in Chan et al. 1979, so that no digits are lost."""

    def __init__(self, is_picture: bool) -> None:
        self._is_picture = is_picture
        self._steps = self._count = 0
        self._mean = self._square = self._low = self._high = np.zeros(())

    def add(self, values: np.ndarray, axes: tuple[int, ...], steps: int) -> None:
        count = int(np.prod([values.shape[axis] for axis in axes]))
        mean, square = values.mean(axes), values.var(axes) * count
        low, high = values.min(axes), values.max(axes)
        if self._count:
            total = self._count + count
            apart = mean - self._mean
            square = self._square + square + apart**2 * (self._count * count / total)
            mean = self._mean + apart * (count / total)
            low, high = np.minimum(low, self._low), np.maximum(high, self._high)
            count = total
        self._count, self._mean, self._square, self._low, self._high = (
            count,
            mean,
            square,
            low,
            high,
        )
        self._steps += steps

    def to_json(self) -> dict[str, Any]:
        found = {
            "min": self._low,
            "max": self._high,
            "mean": self._mean,
            "std": np.sqrt(self._square / self._count),
        }
        shape = (-1, 1, 1) if self._is_picture else None
        listed = {
            key: np.atleast_1d(each if shape is None else each.reshape(shape)).tolist()
            for key, each in found.items()
        }
        return listed | {"count": [self._steps]}
