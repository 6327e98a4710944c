"""What the three BridgeData layouts share: names of features, the last frame, which episodes fit.

An episode of T actions has T+1 frames. All of them are steps of Deft's episode; the last holds no
action of its own and is marked as not valid, so it is seen as a goal and never learned from.
Source: BridgeData V2, `bridge_data_v2` and `bridge_data_robot`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import FormatError, nearest
from deft.formats.raw_frames import RawFrames
from deft.formats.recording import require_episodes, table_dtype
from deft.formats.tree import natural
from deft.spec import EpisodeInfo, Feature, Problem, Spec

FPS = 5.0
_PERIOD_TOLERANCE = 0.15
_POSE = ("x", "y", "z", "roll", "pitch", "yaw")
_NAMED = 50
"""Episodes up to which each has a finding of its own."""
_STRICT = ("action", "state", "image", "depth", "saliency")
_CAMERAS = ("image", "depth")
_UNITS = {"time_stamp": "s"}


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at an episode found."""

    info: EpisodeInfo
    features: dict[str, Feature] = field(default_factory=dict)
    digest: bytes = b""
    """Of its actions."""
    wrong: str = ""
    """Why the episode cannot be used; empty when it can."""
    content: Any = None
    """What the reader needs to find it again."""
    place: str = ""
    """Folder or file and number, as an id of last resort."""
    spec: Spec | None = None
    """The whole contract, where the recording holds it."""
    instructions: int = 0
    period_s: float = 0.0
    """Median time between steps; 0 when unknown."""
    surplus: str = ""
    """What is recorded and not used."""
    no_saliency: str = ""
    """Why the saliency that is there is of no use."""


def table_feature(name: str, rows: np.ndarray, where: str) -> Feature:
    """The feature of a table `T ...`; state and action of 7 numbers are BridgeData's.

    Poses are in metres and radians in the robot's base frame, actions are changes of them; the
    gripper is 0 closed, 1 open, and absolute in both.
    """
    role = name if name in ("state", "action", "reward") else "other"
    dtype = table_dtype(rows.dtype, role, where)
    feature = Feature(
        name=name, role=role, shape=rows.shape[1:], dtype=dtype, unit=_UNITS.get(name, "")
    )
    names = {"state": (*_POSE, "gripper"), "action": (*(f"d{axis}" for axis in _POSE), "gripper")}
    if name in names and feature.shape == (7,):
        return replace(feature, names=names[name], frame="base")
    return feature


def cast(table: np.ndarray, feature: Feature) -> np.ndarray:
    """The table in the feature's dtype; numbers too large for it become infinite."""
    with np.errstate(over="ignore"):
        return table.astype(feature.dtype)


def hold(actions: np.ndarray) -> np.ndarray:
    """The actions `T A` and one more that asks for no motion and leaves the gripper as it is."""
    last = np.zeros_like(actions[-1:])
    last[..., -1:] = actions[-1:, ..., -1:]
    return np.concatenate([actions, last])


def last_is_not_valid(length: int) -> np.ndarray:
    """bool `T`, False for the last step."""
    return np.arange(length) < length - 1


def instruction(lines: Sequence[str], keep_all: bool) -> str:
    """The task's text from the lines of its annotators: the first that says something, or all.

    Lines that rate the annotator's confidence are no instructions.
    """
    said = [line.strip() for line in lines if "confidence" not in line and line.strip()]
    return "\n".join(said) if keep_all else (said[0] if said else "")


def wordings(lines: Sequence[str], keep_all: bool) -> tuple[str, ...]:
    """Every instruction, where there are several and the task is the first of them; else empty."""
    said = instruction(lines, keep_all=True).splitlines()
    return tuple(said) if len(said) > 1 and not keep_all else ()


def zero_frames(feature: Feature, count: int) -> RawFrames:
    """Maps of zeros, for an episode that has none."""
    return RawFrames([np.zeros(feature.shape, feature.dtype)] * count, feature.shape, feature.dtype)


def tick_rate(periods: Iterable[float], asked: float) -> float:
    """Ticks per second: as asked, or the recorder's 5 Hz when the time stamps agree, or 0."""
    found = [period for period in periods if period > 0]
    if asked or not found:
        return asked
    period = float(np.median(found))
    return FPS if abs(period * FPS - 1) <= _PERIOD_TOLERANCE else 0.0


def settle(
    path: Path, looks: Sequence[Look], cameras: Sequence[str]
) -> tuple[tuple[Feature, ...], list[Look], list[Problem]]:
    """Which features the recording has, and which episodes have all of them.

    Action, state and pictures are laid out as in most episodes; an episode in which they are laid
    out otherwise is left out. A feature that some episodes lack is left out, unless it is a camera
    that was asked for: then those episodes are. So is another table that is not alike everywhere.

    Args:
        path: for messages.
        looks: at every episode.
        cameras: names of the cameras to take; empty takes all that every episode has.

    Raises:
        FormatError: no episode has a camera that was asked for, or none is left.
    """
    usable = [look for look in looks if not look.wrong]
    problems = [_left_out(look.info, look.wrong) for look in looks if look.wrong]
    require_episodes(path, [look.info for look in usable], problems)
    layouts = {
        name: Counter(look.features[name] for look in usable if name in look.features).most_common()
        for name in dict.fromkeys(name for look in usable for name in look.features)
    }
    chosen = {name: found[0][0] for name, found in layouts.items()}
    for name in cameras:
        if name not in chosen or chosen[name].role not in _CAMERAS:
            there = [n for n, feature in chosen.items() if feature.role in _CAMERAS]
            raise FormatError(
                f"{path}: there is no camera '{name}'. {nearest(name, there)}\n"
                "Fix: correct the option `cameras`."
            )
    if cameras:
        chosen = {n: f for n, f in chosen.items() if f.role not in _CAMERAS or n in cameras}
    for name, found in layouts.items():
        if len(found) > 1 and name in chosen and chosen[name].role not in _STRICT:
            del chosen[name]
            what = f"'{name}' is laid out in {len(found)} ways, as {found[0][0].describe()}, say"
            problems.append(Problem(episode="", what=what, effect=f"'{name}' is left out"))
    kept: list[Look] = []
    for look in usable:
        wrong = _misfit(look, chosen, cameras)
        if wrong:
            problems.append(_left_out(look.info, wrong))
        else:
            kept.append(look)
    problems += _judge_saliency(kept, chosen)
    for name in list(chosen):
        if chosen[name].role == "saliency":
            continue
        count = sum(name in look.features for look in kept)
        if count < len(kept):
            del chosen[name]
            what = f"'{name}' is in {count} of {len(kept)} episodes"
            problems.append(Problem(episode="", what=what, effect=f"'{name}' is left out"))
    require_episodes(path, [look.info for look in kept], problems)
    order = {role: rank for rank, role in enumerate(_STRICT)}
    features = sorted(chosen.values(), key=lambda f: (order.get(f.role, 9), natural(f.name)))
    return tuple(features), kept, problems


def _misfit(look: Look, chosen: dict[str, Feature], cameras: Sequence[str]) -> str:
    for name, feature in chosen.items():
        found = look.features.get(name)
        if feature.role == "saliency":
            continue
        if found is None and name in cameras:
            return f"the camera '{name}' is missing"
        if found is not None and found != feature:
            return f"'{name}' is {found.describe()}, in most episodes {feature.describe()}"
    return ""


def _judge_saliency(looks: Sequence[Look], chosen: dict[str, Feature]) -> Iterator[Problem]:
    """Findings about episodes without maps, when others have some, or theirs are of no use."""
    name = next((name for name, feature in chosen.items() if feature.role == "saliency"), None)
    if name is not None and not any(name in look.features for look in looks):
        del chosen[name]
        name = None
    effect = "its maps are zero, which no loss counts" if name else "it has none"
    silent: list[str] = []
    for look in looks:
        found = look.features.get(name) if name else None
        if look.no_saliency:
            yield Problem(episode=look.info.id, what=look.no_saliency, effect=effect)
        elif name and found is None:
            silent.append(look.info.id)
        elif name and found is not None and found != chosen[name]:
            what = f"'{name}' is {found.describe()}, in most episodes {chosen[name].describe()}"
            yield Problem(episode=look.info.id, what=what, effect=effect)
    if 0 < len(silent) <= _NAMED:
        for id_ in silent:
            yield Problem(episode=id_, what="there is no saliency map", effect=effect)
    elif silent:
        what = f"{len(silent)} of {len(looks)} episodes have no saliency map ({silent[0]}, for one)"
        yield Problem(episode="", what=what, effect="their maps are zero, which no loss counts")


def _left_out(info: EpisodeInfo, what: str) -> Problem:
    return Problem(episode=info.id, what=what, effect="left out", severity="error")


def judge_language(looks: Sequence[Look]) -> Iterator[Problem]:
    """Findings about instructions that are there."""
    several = sum(look.instructions > 1 for look in looks)
    if several and not any("\n" in look.info.task for look in looks):
        yield Problem(
            episode="",
            what=f"{several} of {len(looks)} episodes have several instructions",
            effect="the first is taken; the option `language` takes all, one per line",
            severity="note",
        )


def unusable(where: str, what: str, found: str) -> FormatError:
    """The error for a trajectory, or a file of them, that cannot be used."""
    return FormatError(
        f"{where}: {what}.\nFound: {found[:300]}.\n"
        "Fix: convert the recording again, or leave this episode out."
    )
