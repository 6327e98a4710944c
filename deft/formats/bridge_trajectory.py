"""One trajectory of BridgeData's converted layouts, numpy or TFRecord, as Deft's episode."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deft.formats.bridge import (
    Look,
    cast,
    hold,
    instruction,
    judge_language,
    last_is_not_valid,
    settle,
    table_feature,
    tick_rate,
    unusable,
    wordings,
    zero_frames,
)
from deft.formats.bridge_note import Note, read_order
from deft.formats.pickled import Place
from deft.formats.raw_frames import RawFrames
from deft.formats.recording import Recording, find_twins, first_not_finite
from deft.spec import Episode, EpisodeInfo, Feature, Frames, Problem, Spec

_CAMERA = re.compile(r"images?(\d*)")
_SALIENCY = ("saliency", "gaze")


@dataclass(frozen=True, kw_only=True)
class BridgeOptions:
    """Settings of the readers of converted BridgeData."""

    cameras: tuple[str, ...] = ()
    """Cameras to take, as in `image_0`; episodes without them are left out. None takes those that
    every episode has."""
    language: Literal["first", "all"] = "first"
    """Which instructions become the episode's task: the first, or all, one per line."""


@dataclass(frozen=True)
class Column:
    """One key of a trajectory: the same array at every step, perhaps still in its file."""

    pieces: Sequence[Place | np.ndarray] | np.ndarray
    shape: tuple[int, ...]
    """Of one step."""
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return len(self.pieces)

    def table(self) -> np.ndarray:
        """All steps, `T ...`."""
        if isinstance(self.pieces, np.ndarray):
            return self.pieces
        found = [each.read() if isinstance(each, Place) else each for each in self.pieces]
        return np.stack(found)


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """A trajectory as either layout holds it."""

    where: str
    columns: Mapping[str, Column]
    """Every key of the observations, with the frame behind the last action where there is one."""
    has_last: bool
    """Whether there is."""
    action: np.ndarray
    """`T A`."""
    language: Sequence[str] = ()
    note: Note | None = None
    surplus: str = ""
    """What is recorded and not used."""


def look_at(
    trajectory: Trajectory, id_: str, split: str, options: BridgeOptions, content: Any
) -> Look:
    """Features, length and task of a trajectory; `content` is what the reader finds it by.

    Raises:
        FormatError: it cannot be used.
    """
    where, note = trajectory.where, trajectory.note
    steps = _steps(trajectory)
    layout = _layout(trajectory)
    for key, feature in layout.values():
        if feature.role in ("action", "state"):
            table = trajectory.action if key == "actions" else trajectory.columns[key].table()
            if found := first_not_finite(cast(table, feature)):
                raise unusable(where, f"'{feature.name}' is not finite", found)
    stamps = trajectory.columns.get("time_stamp")
    task = instruction(trajectory.language, options.language == "all")
    return Look(
        info=EpisodeInfo(
            id=note.id if note else id_,
            length=steps,
            task="\n".join(trajectory.language) if note else task,
            split=split,
            instructions=() if note else wordings(trajectory.language, options.language == "all"),
        ),
        features={name: feature for name, (_, feature) in layout.items()},
        digest=hashlib.blake2b(trajectory.action.tobytes(), digest_size=16).digest(),
        content=content,
        place=id_,
        spec=note.spec if note else None,
        instructions=len(instruction(trajectory.language, keep_all=True).splitlines()),
        period_s=_period(stamps),
        surplus=trajectory.surplus,
    )


def assemble(
    format_: str,
    path: Path,
    fps: float,
    options: BridgeOptions,
    looks: Sequence[Look],
    load: Callable[[Look], Trajectory],
) -> Recording:
    """The recording that these looks make; `load` finds a trajectory again.

    Raises:
        FormatError: no episode is left, or a camera that was asked for is nowhere.
    """
    looks = _in_order(_with_own_ids(looks), read_order(path))
    features, kept, problems = settle(path, looks, options.cameras)
    problems += _findings(kept)
    noted = {look.spec for look in kept}
    first = kept[0].spec
    if first is not None and len(noted) == 1:
        there = {feature.name for feature in features}
        chosen = [f.name for f in first.features if f.name in there or f.dtype == "str"]
        spec = first.select(chosen)
        spec = spec if spec.fps else replace(spec, fps=fps)
    else:
        rate = tick_rate((look.period_s for look in kept), fps)
        spec = Spec(features=features, fps=rate)
    return Recording(
        format=format_,
        path=path,
        name=path.resolve().name,
        spec=spec,
        episodes=tuple(look.info for look in kept),
        problems=tuple(problems),
        reader=lambda index: _episode(spec, kept[index], load(kept[index])),
    )


def column_of(values: Sequence[Any], where: str) -> Column:
    """One key's values of all steps: arrays, numbers, or places of arrays.

    Raises:
        FormatError: they are something else, or differ in shape or dtype.
    """
    try:
        if all(isinstance(value, Place) for value in values):
            return _placed(values, where)
        values = [v.read() if isinstance(v, Place) else np.asarray(v) for v in values]
        kinds = {(value.shape, value.dtype) for value in values}
        shapes = {shape for shape, _ in kinds}
        if len(shapes) != 1 or any(dtype.kind not in "fiub" for _, dtype in kinds):
            raise ValueError(", ".join(f"{dtype} {shape}" for shape, dtype in list(kinds)[:4]))
        table = np.stack(values)
    except ValueError as error:
        raise unusable(where, "wanted numbers of one shape at every step", str(error)) from error
    return Column(table, table.shape[1:], table.dtype)


@dataclass(frozen=True)
class _Placed(Sequence[Place]):
    """Arrays of one layout that were left in their file, in little memory."""

    like: Place
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: int) -> Place:  # pyright: ignore[reportIncompatibleMethodOverride]
        return replace(self.like, offset=int(self.offsets[index]))


def _placed(places: Sequence[Place], where: str) -> Column:
    first = places[0]
    for place in places:
        if (place.shape, place.dtype, place.order) != (first.shape, first.dtype, first.order):
            found = f"{first.dtype} {first.shape}, {place.dtype} {place.shape}"
            raise unusable(where, "wanted arrays of one layout at every step", found)
    offsets = np.array([place.offset for place in places], np.int64)
    return Column(_Placed(first, offsets), first.shape, first.dtype)


def _steps(trajectory: Trajectory) -> int:
    counts = {key: len(column) for key, column in trajectory.columns.items()}
    actions = len(trajectory.action)
    steps = actions + int(trajectory.has_last)
    if not actions or any(count != steps for count in counts.values()):
        found = ", ".join(f"{count} frames of '{key}'" for key, count in counts.items())
        raise unusable(trajectory.where, "lengths disagree", f"{actions} actions, {found}")
    return steps


def _layout(trajectory: Trajectory) -> dict[str, tuple[str, Feature]]:
    """Every feature by name: the key that holds it, and its layout."""
    where, note = trajectory.where, trajectory.note
    if note is None:
        found = [("actions", table_feature("action", trajectory.action, where))]
        found += [(key, _feature(key, each, where)) for key, each in trajectory.columns.items()]
        return {feature.name: (key, feature) for key, feature in found}
    layout: dict[str, tuple[str, Feature]] = {}
    for feature in note.spec.features:
        if feature.dtype == "str":
            continue
        key = note.keys.get(feature.name, "")
        column = trajectory.columns.get(key)
        if column is None and key != "actions":
            found = ", ".join(trajectory.columns)
            raise unusable(where, f"'{feature.name}' is noted, but not there", found)
        if column is None:
            shape, dtype = trajectory.action.shape[1:], trajectory.action.dtype
        else:
            shape, dtype = column.shape, column.dtype
        same_kind = np.can_cast(np.dtype(feature.dtype), dtype, "same_kind")
        if math.prod(shape) != feature.size or not same_kind:
            found = f"{dtype} of shape {shape}"
            raise unusable(where, f"'{key}' should be {feature.describe()}", found)
        layout[feature.name] = (key, feature)
    return layout


def _feature(key: str, column: Column, where: str) -> Feature:
    """What a key holds: pictures, saliency maps or a table."""
    shape, dtype = column.shape, column.dtype.name
    if key in _SALIENCY:
        shape = tuple(n for n in shape if n != 1)
        if len(shape) != 2 or dtype not in ("uint8", "uint16", "float16", "float32", "float64"):
            raise unusable(where, f"'{key}' is no map", f"{dtype} of shape {column.shape}")
        dtype = dtype if dtype.startswith("uint") else "float32"
        return Feature(name="saliency", role="saliency", shape=(*shape, 1), dtype=dtype)
    if len(shape) == 3 and shape[2] in (1, 3) and dtype == "uint8":
        match = _CAMERA.fullmatch(key)
        name = f"image_{int(match[1] or 0)}" if match else key
        return Feature(name=name, role="image", shape=shape, dtype=dtype)
    if len(shape) in (2, 3) and key.startswith("depth") and dtype == "uint16":
        return Feature(name=key, role="depth", shape=(*shape, 1)[:3], dtype=dtype)
    like = np.empty((0, *shape), column.dtype)
    return table_feature(key, like, f"{where}, '{key}'")


def _period(stamps: Column | None) -> float:
    if stamps is None or stamps.shape or len(stamps) < 2:
        return 0.0
    return float(np.median(np.diff(stamps.table().astype(np.float64))))


def _with_own_ids(looks: Sequence[Look]) -> list[Look]:
    """Noted ids stay where they are unique; otherwise an episode is called by its place."""
    counts = Counter(look.info.id for look in looks)
    return [
        replace(look, info=replace(look.info, id=look.place)) if counts[look.info.id] > 1 else look
        for look in looks
    ]


def _in_order(looks: Sequence[Look], ids: Sequence[str]) -> list[Look]:
    """As the ids say; those that they do not name come last, as they are."""
    ranks = {id_: rank for rank, id_ in enumerate(ids)}
    return sorted(looks, key=lambda look: ranks.get(look.info.id, len(ranks)))


def _findings(looks: Sequence[Look]) -> Iterator[Problem]:
    for look in looks:
        if look.surplus:
            effect = "the frame behind the last action is not used"
            yield Problem(episode=look.info.id, what=look.surplus, effect=effect)
    yield from judge_language(looks)
    yield from find_twins((look.info, look.digest) for look in looks)


def _episode(spec: Spec, look: Look, trajectory: Trajectory) -> Episode:
    layout, steps = _layout(trajectory), look.info.length
    arrays: dict[str, np.ndarray] = {}
    frames: dict[str, Frames] = {}
    for feature in spec.features:
        if feature.dtype == "str":
            continue
        if feature.role == "saliency" and layout.get(feature.name, ("", None))[1] != feature:
            frames[feature.name] = zero_frames(feature, steps)
            continue
        if feature.name not in layout or _steps(trajectory) != steps:
            raise unusable(trajectory.where, "has changed since it was opened", ", ".join(layout))
        key = layout[feature.name][0]
        if key == "actions":
            action = trajectory.action
            arrays[feature.name] = cast(hold(action) if steps > len(action) else action, feature)
            continue
        column = trajectory.columns[key]
        if feature.is_frame:
            frames[feature.name] = RawFrames(column.pieces, feature.shape, feature.dtype)
        else:
            table = column.table()
            if key == "time_stamp" and trajectory.note is None and len(table):
                table = table - table[:1]
            arrays[feature.name] = cast(table.reshape(-1, *feature.shape), feature)
    note = trajectory.note
    return Episode(
        spec=spec,
        id=look.info.id,
        arrays=arrays,
        frames=frames,
        task=look.info.task,
        split=look.info.split,
        source=note.source if note else look.place,
        valid=_valid(steps, steps > len(trajectory.action), note),
    )


def _valid(steps: int, has_last: bool, note: Note | None) -> np.ndarray | None:
    valid = last_is_not_valid(steps) if has_last else np.ones(steps, np.bool_)
    for step in note.not_valid if note else ():
        valid[min(step, steps - 1)] = False
    return None if valid.all() else valid
