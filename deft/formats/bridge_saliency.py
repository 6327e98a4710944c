"""Where people looked, beside a trajectory of BridgeData: maps, boxes, or points in time.

`saliency_map.pkl` holds maps; `filter.pkl` and `no_filter.pkl` hold boxes per frame; a table
`fixations.csv` (or `gaze.csv`) holds x, y and time.
Source: the PyTorch port of BridgeData's training.
"""

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deft.errors import FormatError
from deft.formats.pickled import Place
from deft.formats.raw_frames import RawFrames, split_rows
from deft.formats.regular import check_regular
from deft.formats.saliency import PointMaps, Spread
from deft.formats.unpickle import load
from deft.spec import Feature, Frames

SaliencyKind = Literal["auto", "maps", "boxes", "fixations", "none"]

FILES = {
    "maps": ("saliency_map.pkl",),
    "boxes": ("filter.pkl", "no_filter.pkl"),
    "fixations": ("fixations.csv", "gaze.csv"),
}
"""By kind, the best first."""

_MAX_POINTS, _MAX_CSV = 1000, 64 << 20
_EPOCH = 1e6
"""Seconds above this are a clock's, not counted from the episode's start."""
_COLUMNS = {
    "x": ("x", "gaze_x", "x_norm"),
    "y": ("y", "gaze_y", "y_norm"),
    "time": ("time", "time_s", "t", "timestamp", "time_stamp"),
}
_PERIOD_S = 0.2


@dataclass(frozen=True)
class Saliency:
    """What one trajectory has."""

    file: Path
    kind: str
    feature: Feature


def find(folder: Path, files: Collection[str], wanted: SaliencyKind) -> tuple[Path, str] | None:
    """The file to read, and of which kind it is; None when there is none of the kind wanted."""
    for kind, names in FILES.items():
        if wanted in ("auto", kind):
            for name in names:
                if name in files:
                    return folder / name, kind
    return None


def look(file: Path, kind: str, frames: int, height: int, width: int) -> Saliency:
    """Check what is there, without reading maps.

    Args:
        file: as `find` gives it.
        kind: as well.
        frames: of the trajectory; the last may be without a map or boxes.
        height: of the pictures, and so of maps that are made of points.
        width: the same.

    Raises:
        FormatError: it cannot be used.
    """
    if kind == "maps":
        height, width = _map_size(file, _maps(file), frames)
    elif kind == "boxes":
        _boxes(file, frames)
    else:
        _fixations(file)
    feature = Feature(name="saliency", role="saliency", shape=(height, width, 1), dtype="float32")
    return Saliency(file, kind, feature)


def read(found: Saliency, frames: range, stamps: np.ndarray | None, spread: Spread) -> Frames:
    """One map for every frame, values 0 to 1.

    Args:
        found: as `look` gives it.
        frames: those that are used, up to the last of the trajectory.
        stamps: when each frame of the trajectory was recorded, in seconds, by the recorder's
            clock; without it, frames are 0.2 s apart.
        spread: how points become maps.

    Raises:
        FormatError: the file has changed, or is damaged.
    """
    height, width, _ = found.feature.shape
    if found.kind == "maps":
        maps = _maps(found.file)
        if _map_size(found.file, maps, frames.stop) != (height, width):
            raise _unusable(found.file, "has changed since it was opened", f"{len(maps)} maps")
        maps = maps[: frames.stop]
        if len(maps) < frames.stop:  # none for the frame after the last action
            maps.append(np.zeros(found.feature.shape, np.float32))
        return RawFrames(maps[frames.start :], found.feature.shape, "float32")
    if found.kind == "boxes":
        points = _boxes(found.file, frames.stop)
    else:
        points = _in_frames(_fixations(found.file), frames.stop, stamps)
    return PointMaps(points, height, width, spread, frames.start)


def _maps(file: Path) -> list[Place | np.ndarray]:
    maps = load(file, lazy=True)
    if isinstance(maps, list) and all(isinstance(each, Place | np.ndarray) for each in maps):
        return maps
    if not isinstance(maps, Place | np.ndarray) or not maps.shape:
        raise _unusable(file, "holds no maps", type(maps).__name__)
    return split_rows(maps)


def _map_size(file: Path, maps: Sequence[Place | np.ndarray], frames: int) -> tuple[int, int]:
    """Height and width of maps `1 H W`, `H W 1` or `H W`, one per frame or one per action."""
    shapes = {tuple(n for n in each.shape if n != 1) for each in maps}
    kinds = {each.dtype.kind for each in maps}
    if len(shapes) != 1 or len(shape := next(iter(shapes))) != 2 or kinds != {"f"}:
        raise _unusable(file, "wanted one map of numbers per step", f"shapes {shapes}")
    if len(maps) < frames - 1:
        raise _unusable(file, f"{frames - 1} maps are needed", f"{len(maps)} maps")
    return shape[0], shape[1]


def _boxes(file: Path, frames: int) -> list[np.ndarray]:
    """The centres of every frame's boxes `x1 y1 x2 y2`, `n 2`."""
    held: Any = load(file)
    if not isinstance(held, list | tuple | np.ndarray):
        raise _unusable(file, "holds no list with the boxes of each frame", type(held).__name__)
    if len(held) < frames - 1:
        raise _unusable(file, f"boxes of {frames - 1} frames are needed", f"{len(held)}")
    found = [_centres(file, step, each) for step, each in enumerate(list(held)[:frames])]
    return [*found, *[np.zeros((0, 2))] * (frames - len(found))]


def _centres(file: Path, step: int, boxes: Any) -> np.ndarray:
    where = f"wanted boxes x1 y1 x2 y2 from 0 to 1 in frame {step}"
    try:
        table = np.asarray([] if boxes is None else boxes, np.float64)
    except (TypeError, ValueError) as error:
        raise _unusable(file, where, str(error)) from error
    if table.size == 0:
        return np.zeros((0, 2))
    table = table[None] if table.ndim == 1 else table
    is_fit = table.ndim == 2 and table.shape[1] == 4 and len(table) <= _MAX_POINTS
    # A detector's box may reach a little beyond the picture.
    if not is_fit or not np.isfinite(table).all() or table.min() < -0.5 or table.max() > 1.5:
        raise _unusable(file, where, f"shape {table.shape}, {str(boxes)[:100]}")
    return (table[:, :2] + table[:, 2:]) / 2


def _fixations(file: Path) -> np.ndarray:
    """`n 3`: x and y from 0 to 1, time in seconds; in the order of time."""
    try:
        if file.stat().st_size > _MAX_CSV:
            raise _unusable(file, "is too large", f"{file.stat().st_size >> 20} MiB")
        check_regular(file)
        with file.open(newline="", encoding="utf-8-sig") as opened:
            lines = [row for row in csv.reader(opened) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unusable(file, "cannot be read", str(error)) from error
    if not lines:
        return np.zeros((0, 3))
    order = _columns(file, lines[0])
    rows = lines[1:] if order else lines
    order = order or [0, 1, 2]
    try:
        table = np.array([[float(row[place]) for place in order] for row in rows])
    except (ValueError, IndexError) as error:
        raise _unusable(file, "wanted numbers x, y, time in every row", str(error)) from error
    table = table.reshape(-1, 3)
    table = table[np.isfinite(table).all(1)]  # trackers write NaN while the eye is closed
    inside = ((table[:, :2] >= 0) & (table[:, :2] <= 1)).all(1)
    if len(table) and not inside.any():
        low, high = table[:, :2].min(), table[:, :2].max()
        raise _unusable(
            file, "x and y must be shares of the picture, 0 to 1", f"{low:g} to {high:g}"
        )
    table = table[inside]  # what was looked at beside the picture
    return table[np.argsort(table[:, 2], kind="stable")]


def _columns(file: Path, head: Sequence[str]) -> list[int]:
    """Where x, y and time stand; empty when the first row holds numbers."""
    names = [cell.strip().lower() for cell in head]
    try:
        [float(name) for name in names]
    except ValueError:
        pass
    else:
        return []
    places: list[int] = []
    for wanted, known in _COLUMNS.items():
        place = next((names.index(name) for name in known if name in names), None)
        if place is None:
            raise _unusable(file, f"there is no column '{wanted}'", ", ".join(head)[:200])
        places.append(place)
    return places


def _in_frames(table: np.ndarray, frames: int, stamps: np.ndarray | None) -> list[np.ndarray]:
    """The points of each frame: those nearest to it in time, at most half a period outside."""
    times = np.arange(frames) * _PERIOD_S if stamps is None else stamps[:frames].astype(np.float64)
    is_clock = len(table) > 0 and abs(table[0, 2]) > _EPOCH
    if not is_clock:
        times = times - times[:1]
    edges = (times[1:] + times[:-1]) / 2
    half = float(np.median(np.diff(times))) / 2 if frames > 1 else _PERIOD_S / 2
    near = table[(table[:, 2] >= times[0] - half) & (table[:, 2] <= times[-1] + half)]
    owner = np.searchsorted(edges, near[:, 2], side="right")
    return [near[owner == step][:_MAX_POINTS, :2] for step in range(frames)]


def _unusable(file: Path, what: str, found: str) -> FormatError:
    return FormatError(
        f"{file}: {what}.\nFound: {found}.\n"
        "Fix: make the file again, or leave saliency out with the option `saliency`."
    )
