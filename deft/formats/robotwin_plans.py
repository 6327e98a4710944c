"""RoboTwin's `_traj_data/episodeN.pkl`: the moves that its planner made, not what was recorded.

The file lists one entry per planned move of an arm, sampled every 1/250 s. Grippers, pauses, the
interleaving of both arms and all times are missing, so frames can only be matched by guessing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import FormatError, nearest
from deft.formats import unpickle
from deft.formats.robotwin_layout import SIDES

_MAX_STEPS = 1 << 26
_FILE = re.compile(r"episode_?(\d{1,9})\.pkl")


@dataclass(frozen=True)
class Plan:
    """The planned moves of one arm."""

    paths: tuple[np.ndarray, ...]
    """One for each move that succeeded: float64 `n dof` at 250 Hz."""
    moves: int
    failed: int
    """Moves that the planner gave up, which have no path."""

    @property
    def dof(self) -> int:
        """0 when the arm does not move."""
        return self.paths[0].shape[1] if self.paths else 0

    def frames(self, save_freq: int) -> int:
        """Frames that RoboTwin takes of the moves: `traj_simulate` without pauses; 0 for none."""
        # One before each, one at every `save_freq`-th waypoint, one after.
        return sum(2 + -(-len(path) // save_freq) for path in self.paths)

    def aligned(self, how: str, length: int, hold: np.ndarray, save_freq: int) -> np.ndarray:
        """One row for each frame, float32 `length dof`.

        Args:
            how: `traj_resample`: all moves end to end, stretched linearly over the frames.
                `traj_simulate`: each move takes the frames that RoboTwin takes of it, at its own
                speed, and the frames that remain are pauses, spread evenly after the moves.
            length: frames, at least one.
            hold: `dof`, where the arm is when it never moves.
            save_freq: physics steps of 1/250 s between frames, for `traj_simulate`.

        Raises:
            FormatError: there are fewer frames than `traj_simulate` needs.
        """
        if not self.paths:
            return np.repeat(hold[None].astype(np.float32), length, axis=0)
        if how == "traj_simulate":
            return self._simulated(length, save_freq)
        path = np.concatenate(self.paths)
        at = np.linspace(0, len(path) - 1, length)
        steps = np.arange(len(path))
        columns = [np.interp(at, steps, column) for column in path.T]
        return np.stack(columns, axis=1).astype(np.float32)

    def _simulated(self, length: int, save_freq: int) -> np.ndarray:
        # RoboTwin's `take_dense_action` takes a frame before the move, one at every `save_freq`-th
        # waypoint from the first on, and one after it.
        before = self.paths[0][:1]
        moves: list[np.ndarray] = []
        for path in self.paths:
            moves.append(np.concatenate([before, path[::save_freq], path[-1:]]))
            before = path[-1:]
        spare = length - sum(map(len, moves))
        if spare < 0:
            raise FormatError(
                f"the planned moves make {length - spare} frames, there are {length}.\n"
                "Fix: correct `save_freq`, or use `traj_resample`."
            )
        rows: list[np.ndarray] = []
        for number, move in enumerate(moves):
            pause = spare // len(moves) + (number < spare % len(moves))
            rows += [move, np.repeat(move[-1:], pause, axis=0)]
        return np.concatenate(rows).astype(np.float32)


def plan_files(folder: Path) -> dict[int, Path]:
    """The files of plans in a `_traj_data` folder, by the number of their episode."""
    found = {
        int(match[1]): file
        for file in (folder.iterdir() if folder.is_dir() else ())
        if (match := _FILE.fullmatch(file.name)) and file.is_file()
    }
    return dict(sorted(found.items()))


def read_plans(path: Path) -> dict[str, Plan]:
    """The plans of both arms by side.

    An entry may be a planner's answer with `status` and `position`, joints with a gripper, one
    joint vector, a path `n dof`, or a list of these.

    Raises:
        FormatError: the file is damaged, holds something else, or an arm changes its width.
    """
    tree = unpickle.load(path)
    if not isinstance(tree, dict):
        raise _unfit(path, f"{type(tree).__name__} instead of a dictionary")
    plans: dict[str, Plan] = {}
    for side in SIDES:
        key = f"{side}_joint_path"
        if key not in tree:
            raise FormatError(
                f"{path}: there is no '{key}'. {nearest(key, map(str, tree))}\n"
                "Fix: copy the file again, or leave the option `alignment` out."
            )
        plans[side] = _plan(tree[key], f"{path}, '{key}'")
    return plans


def _plan(entries: Any, where: str) -> Plan:
    if not isinstance(entries, list | tuple | np.ndarray):
        raise _unfit(where, type(entries).__name__)
    if isinstance(entries, np.ndarray) and entries.ndim == 2 and entries.dtype.kind in "fiu":
        entries = [entries]  # one path, not one entry per move
    found = [list(_paths(entry, f"{where}, move {n}")) for n, entry in enumerate(entries)]
    paths = [path for group in found for path in group]
    widths = sorted({path.shape[1] for path in paths})
    if len(widths) > 1:
        raise FormatError(
            f"{where}: the arm has {' and '.join(map(str, widths))} joints.\n"
            "Fix: leave this episode out, or the option `alignment`."
        )
    if sum(map(len, paths)) > _MAX_STEPS:
        raise _unfit(where, f"{sum(map(len, paths))} waypoints")
    if not all(np.isfinite(path).all() for path in paths):
        raise _unfit(where, "a joint that is not finite")
    return Plan(tuple(paths), len(found), sum(not group for group in found))


def _paths(entry: Any, where: str, depth: int = 0) -> Iterator[np.ndarray]:
    """Every path in one entry, `n dof` each; none for a move that failed."""
    if isinstance(entry, dict):
        if entry.get("status", "Success") != "Success":
            return
        if "position" not in entry:
            raise _unfit(where, f"an answer with only {', '.join(map(str, entry)) or 'nothing'}")
        yield _matrix(entry["position"], where)
    elif isinstance(entry, np.ndarray) and entry.dtype.kind in "fiu":
        yield _matrix(entry, where)
    elif isinstance(entry, list | tuple | np.ndarray) and len(entry) and depth < 2:
        first, rest = entry[0], entry[1:]
        if all(_is_scalar(each) for each in entry):
            yield _matrix(entry, where)
        elif len(entry) == 2 and np.ndim(_sized(rest[0])) < np.ndim(_sized(first)):
            yield _matrix(first, where)  # joints, then gripper
        else:
            for each in entry:
                yield from _paths(each, where, depth + 1)
    else:
        raise _unfit(where, type(entry).__name__)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, int | float | np.floating | np.integer) or (
        isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind in "fiu"
    )


def _sized(value: Any) -> Any:
    """What numpy may be asked the number of axes of; ragged lists count as a list of things."""
    if isinstance(value, np.ndarray) or _is_scalar(value):
        return value
    is_flat = isinstance(value, list | tuple) and all(_is_scalar(each) for each in value)
    return np.zeros(len(value)) if is_flat else np.zeros((1, 1))


def _matrix(value: Any, where: str) -> np.ndarray:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise _unfit(where, f"no numbers: {error}") from error
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or 0 in array.shape or array.shape[1] > 64:
        raise _unfit(where, f"joints of shape {list(array.shape)}")
    return array


def _unfit(where: Path | str, found: str) -> FormatError:
    return FormatError(
        f"{where}: wanted the planned moves of an arm.\nFound: {found}.\n"
        "Fix: copy the file again, or leave the option `alignment` out."
    )
