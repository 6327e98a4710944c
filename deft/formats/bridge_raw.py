"""BridgeData as its recorder left it: folders of pictures and pickles, at any depth.

`.../<date>/raw/traj_group<g>/traj<i>/` holds `images<n>/im_<t>.jpg`, `obs_dict.pkl`,
`policy_out.pkl` and `lang.txt`. `agent_data.pkl` needs ROS to be read, and is never opened.
Source: `bridge_data_robot` (the recorder), `bridge_data_v2` (the converter).
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deft.errors import FormatError
from deft.formats import bridge_saliency
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
    wordings,
    zero_frames,
)
from deft.formats.bridge_saliency import Saliency, SaliencyKind
from deft.formats.pictures import EncodedFrames, decode_picture, picture_size
from deft.formats.raw_frames import rows
from deft.formats.recording import Recording, find_twins, first_not_finite
from deft.formats.regular import open_regular, read_regular
from deft.formats.saliency import Spread
from deft.formats.tree import Folder, holds, natural, walk
from deft.formats.unpickle import load
from deft.spec import Episode, EpisodeInfo, Feature, Frames, Problem, Spec

MARK = "`traj0` folders with `obs_dict.pkl`, `policy_out.pkl` and `images0/`, at any depth"

_TRAJECTORY = re.compile(r"traj\d+")
_CAMERA = re.compile(r"(?P<depth>depth_)?images(?P<number>\d+)")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}")
_LATENCY_ENDS = datetime(2021, 7, 23)
_OTHERS = ("qpos", "qvel", "joint_effort", "desired_state", "eef_transform", "time_stamp")
_MAX_TEXT = 1 << 16
_TAIL = 64


@dataclass(frozen=True, kw_only=True)
class BridgeRawOptions:
    """Settings of the reader."""

    cameras: tuple[str, ...] = ()
    """Cameras to take, as in `image_0`; episodes without them are left out. None takes those that
    every episode has."""
    latency_shift: bool = True
    """Move pictures and state of episodes recorded before 2021-07-23 one step ahead of the
    actions: until then the recorder stored them one step late."""
    language: Literal["first", "all"] = "first"
    """Which instructions become the episode's task: the first, or all, one per line."""
    saliency: SaliencyKind = "auto"
    """Where maps of what people looked at come from: `saliency_map.pkl` (maps), the boxes in
    `filter.pkl` or else `no_filter.pkl` (boxes), the points in `fixations.csv` or else `gaze.csv`
    (fixations), the first of these that is there (auto), or nowhere (none)."""
    spread: Spread = field(default_factory=Spread)
    """How boxes and points become maps."""


def probe(path: Path) -> bool:
    """Whether a trajectory folder is somewhere below."""
    return path.is_dir() and holds(path, _is_trajectory)


def open_bridge_raw(path: Path, fps: float, options: BridgeRawOptions) -> Recording:
    """Open a tree of trajectories, whatever part of it the path names.

    Every trajectory is looked at once: its pickles, the end of each picture, the header of the
    first of each camera. A trajectory that cannot be used is left out and reported.

    Raises:
        FormatError: a folder cannot be listed, or no trajectory can be used.
    """
    looks = _sharing(_look(path, folder, options) for folder in _trajectories(path))
    if options.saliency not in ("auto", "none"):
        _require_saliency(path, looks, options.saliency)
    features, kept, problems = settle(path, looks, options.cameras)
    problems += _findings(kept, options)
    spec = Spec(
        features=features,
        fps=tick_rate((look.period_s for look in kept), fps),
        embodiment="widowx",
    )
    return Recording(
        format="bridge_raw",
        path=path,
        name=path.resolve().name,
        spec=spec,
        episodes=tuple(look.info for look in kept),
        problems=tuple(problems),
        reader=lambda index: _read(spec, kept[index], options),
    )


def _sharing(looks: Iterable[Look]) -> list[Look]:
    """The looks, with one object for all contracts and texts that are equal: of 60,000
    trajectories most have the same."""
    layouts: dict[tuple[tuple[str, Feature], ...], dict[str, Feature]] = {}
    texts: dict[str, str] = {}
    found: list[Look] = []
    for look in looks:
        features = layouts.setdefault(tuple(look.features.items()), look.features)
        info = replace(look.info, task=texts.setdefault(look.info.task, look.info.task))
        found.append(replace(look, features=features, info=info))
    return found


@dataclass(frozen=True, slots=True)
class _Trajectory:
    """What a look at one folder found."""

    folder: Path
    frames: int
    """How many of the recorded frames are used, before the shift."""
    shift: int
    """Frames dropped at the start: 0 or 1."""
    has_date: bool
    saliency: Saliency | None = None


@dataclass(frozen=True)
class _Content:
    """The tables of one trajectory, as they were recorded."""

    state: np.ndarray
    """`T+1 P`."""
    action: np.ndarray
    """`T A`."""
    others: dict[str, np.ndarray] = field(default_factory=dict)
    started_s: float = 0.0
    """The first time stamp; those in `others` are counted from it."""


def _is_trajectory(folder: Folder) -> bool:
    return bool(_TRAJECTORY.fullmatch(folder.path.name)) and (
        "obs_dict.pkl" in folder.files
        or "policy_out.pkl" in folder.files
        or any(_CAMERA.fullmatch(name) for name in folder.folders)
    )


def _trajectories(path: Path) -> Iterator[Folder]:
    for folder in walk(path):
        if _is_trajectory(folder):
            yield Folder(folder.path, list(folder.folders), folder.files)
            folder.folders.clear()
        # Old recordings have copies of themselves in folders of this name.
        folder.folders[:] = [name for name in folder.folders if "lmdb" not in name]


def _look(root: Path, folder: Folder, options: BridgeRawOptions) -> Look:
    parts = [part for part in folder.path.relative_to(root).parts if part != "raw"]
    id_ = "/".join(parts) or folder.path.name
    try:
        return _look_inside(id_, folder, options)
    except FormatError as error:
        return Look(EpisodeInfo(id=id_, length=0), wrong=str(error))


def _look_inside(id_: str, folder: Folder, options: BridgeRawOptions) -> Look:
    path = folder.path
    content = _tables(path)
    cameras = {name: match for name in folder.folders if (match := _CAMERA.fullmatch(name))}
    if not any(match["depth"] is None for match in cameras.values()):
        raise _unusable(path, "there are no pictures", f"folders {', '.join(folder.folders)}")
    frames, surplus = _count_frames(path, content, list(cameras))
    features = {
        "action": table_feature("action", content.action, str(path)),
        "state": table_feature("state", content.state, str(path)),
    }
    for name, table in content.others.items():
        if len(table) >= frames:
            features[name] = table_feature(name, table, str(path))
    for name in cameras:
        features[_feature_name(name)] = _camera_feature(path, name)
    saliency, why_not = _saliency(folder, frames, features, options)
    if saliency is not None:
        features["saliency"] = saliency.feature
    date = next((part for part in reversed(path.parts) if _DATE.fullmatch(part)), "")
    shift = int(options.latency_shift and bool(date) and _is_late(date))
    if frames - shift < 2:
        raise _unusable(path, "is too short", f"{frames} frames")
    for name, table in (("action", content.action), ("state", content.state)):
        if where := first_not_finite(cast(table, features[name])):
            raise _unusable(path, f"'{name}' is not finite", where)
    lines = _language(path) if "lang.txt" in folder.files else []
    stamps = content.others.get("time_stamp", np.zeros(0))
    return Look(
        info=EpisodeInfo(
            id=id_,
            length=frames - shift,
            task=instruction(lines, options.language == "all"),
            instructions=wordings(lines, options.language == "all"),
        ),
        features=features,
        digest=hashlib.blake2b(content.action.tobytes(), digest_size=16).digest(),
        content=_Trajectory(path, frames, shift, bool(date), saliency),
        instructions=len(instruction(lines, keep_all=True).splitlines()),
        period_s=float(np.median(np.diff(stamps))) if len(stamps) > 1 else 0.0,
        surplus=surplus,
        no_saliency=why_not,
    )


def _saliency(
    folder: Folder, frames: int, features: Mapping[str, Feature], options: BridgeRawOptions
) -> tuple[Saliency | None, str]:
    """What there is, or why it is of no use; a map that is not there is no reason to lose a
    trajectory."""
    found = bridge_saliency.find(folder.path, folder.files, options.saliency)
    if found is None:
        return None, ""
    first = min((f for f in features.values() if f.role == "image"), key=lambda f: natural(f.name))
    try:
        return bridge_saliency.look(*found, frames, first.height, first.width), ""
    except FormatError as error:
        return None, str(error)


def _require_saliency(path: Path, looks: Sequence[Look], wanted: str) -> None:
    """Raise `FormatError` when no trajectory has what was asked for by name."""
    if any("saliency" in look.features for look in looks):
        return
    reasons = [look.no_saliency for look in looks if look.no_saliency]
    raise FormatError(
        f"{path}: no trajectory has saliency from '{wanted}'.\n"
        f"Found: {reasons[0] if reasons else 'no such file'}.\n"
        f"Fix: put {' or '.join(bridge_saliency.FILES[wanted])} into the trajectory folders, or "
        "set the option `saliency` to 'auto' or 'none'."
    )


def _is_late(date: str) -> bool:
    try:
        return datetime.strptime(date, "%Y-%m-%d_%H-%M-%S") < _LATENCY_ENDS
    except ValueError:
        return False


def _tables(path: Path) -> _Content:
    observed = load(path / "obs_dict.pkl")
    if not isinstance(observed, dict) or "full_state" not in observed:
        found = f"keys {', '.join(map(str, observed))}" if isinstance(observed, dict) else observed
        raise _unusable(path / "obs_dict.pkl", "there is no 'full_state'", str(found)[:200])
    others: dict[str, np.ndarray] = {}
    for name in _OTHERS:
        if name in observed:
            others[name] = rows(observed[name], f"{path}/obs_dict.pkl, '{name}'")
    started = 0.0
    if "time_stamp" in others and len(others["time_stamp"]):
        started = float(others["time_stamp"].flat[0])
        others["time_stamp"] = others["time_stamp"] - others["time_stamp"][:1]
    return _Content(
        state=rows(observed["full_state"], f"{path}/obs_dict.pkl, 'full_state'"),
        action=rows(_actions(path / "policy_out.pkl"), f"{path}/policy_out.pkl"),
        others=others,
        started_s=started,
    )


def _actions(file: Path) -> Any:
    """One action per entry: `actions` of a dictionary, or in older recordings the entry itself."""
    entries = load(file)
    if not isinstance(entries, list) or not entries:
        return entries
    if not isinstance(entries[0], Mapping):
        return entries
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or "actions" not in entry:
            raise _unusable(file, f"step {number} has no 'actions'", str(entry)[:120])
    return [entry["actions"] for entry in entries]


def _count_frames(path: Path, content: _Content, cameras: Sequence[str]) -> tuple[int, str]:
    """Frames that are used: one more than actions. Also what is left over at the end.

    Raises `FormatError` when the recorded lengths do not fit together, or a picture is missing.
    """
    first = min((name for name in cameras if "depth" not in name), key=natural)
    counts = {"pictures": _check_pictures(path / first, None), "states": len(content.state)}
    if "time_stamp" in content.others:
        counts["time stamps"] = len(content.others["time_stamp"])
    frames, actions = min(counts.values()), len(content.action)
    if actions != frames - 1:
        found = ", ".join(f"{count} {what}" for what, count in counts.items())
        raise _unusable(
            path, "there must be one frame more than actions", f"{actions} actions, {found}"
        )
    for name in cameras:
        if name != first:
            _check_pictures(path / name, frames)
    surplus = [f"{count} {what}" for what, count in counts.items() if count > frames]
    return frames, f"{', '.join(surplus)}, for {actions} actions" if surplus else ""


def _check_pictures(folder: Path, wanted: int | None) -> int:
    """How many pictures there are, numbered from 0; at least `wanted` are needed, if given."""
    pattern = re.compile(r"im_(\d+)\.png" if folder.name.startswith("depth") else r"im_(\d+)\.jpg")
    numbers: set[int] = set()
    try:
        for file in folder.iterdir():
            if match := pattern.fullmatch(file.name):
                _check_end(file)
                numbers.add(int(match[1]))
    except OSError as error:
        raise _unusable(folder, "cannot be listed", str(error)) from error
    count = len(numbers) if wanted is None else wanted
    missing = next((n for n in range(count) if n not in numbers), None)
    if missing is not None or count == 0:
        name = _picture(folder, missing or 0).name
        raise _unusable(folder, f"{name} is missing", f"{len(numbers)} pictures")
    return count


def _check_end(file: Path) -> None:
    """Raise `FormatError` for a picture that is empty or cut short; `OSError` passes."""
    with open_regular(file, 0) as opened:
        size = os.fstat(opened.fileno()).st_size
        opened.seek(max(0, size - _TAIL))
        end = opened.read(_TAIL)
    if not size:
        raise _unusable(file, "is empty", "0 bytes")
    if (b"IEND" if file.suffix == ".png" else b"\xff\xd9") not in end:
        # Something may stand behind the picture; only decoding tells.
        data = _bytes(file)
        *shape, dtype = picture_size(data, str(file))
        decode_picture(data, tuple(shape), dtype, str(file))


def _picture(folder: Path, number: int) -> Path:
    return folder / f"im_{number}.{'png' if folder.name.startswith('depth') else 'jpg'}"


def _feature_name(folder: str) -> str:
    """`image_0` for `images0`, `depth_0` for `depth_images0`."""
    match = _CAMERA.fullmatch(folder)
    assert match
    return f"{'depth' if match['depth'] else 'image'}_{int(match['number'])}"


def _camera_feature(path: Path, folder: str) -> Feature:
    file = _picture(path / folder, 0)
    height, width, channels, dtype = picture_size(_bytes(file), str(file))
    name = _feature_name(folder)
    is_depth = name.startswith("depth")
    if (channels, dtype) != ((1, "uint16") if is_depth else (3, "uint8")):
        raise _unusable(file, "is of another kind", f"{channels} channels of {dtype}")
    shape = (height, width, channels)
    if is_depth:  # ROS `16UC1`: millimetres (REP 118)
        return Feature(name=name, role="depth", shape=shape, dtype=dtype, unit="mm")
    return Feature(name=name, role="image", shape=shape, dtype=dtype)


def _language(path: Path) -> list[str]:
    data = _bytes(path / "lang.txt")[:_MAX_TEXT]
    try:
        return data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise _unusable(path / "lang.txt", "is no UTF-8", str(error)) from error


def _findings(looks: Sequence[Look], options: BridgeRawOptions) -> Iterator[Problem]:
    found: list[_Trajectory] = [look.content for look in looks]
    for look in looks:
        if look.surplus:
            effect = "those beyond the frame after the last action are not used"
            yield Problem(episode=look.info.id, what=look.surplus, effect=effect)
    shifted = sum(trajectory.shift for trajectory in found)
    if shifted:
        yield Problem(
            episode="",
            what=f"{shifted} of {len(found)} episodes were recorded before 2021-07-23, one step "
            "late",
            effect="their first frame is dropped; the option `latency_shift` keeps it",
            severity="note",
        )
    undated = sum(not trajectory.has_date for trajectory in found)
    if undated and options.latency_shift:
        yield Problem(
            episode="",
            what=f"{undated} of {len(found)} episodes lie in no folder with a date",
            effect="taken as recorded since 2021-07-23, when latency was corrected",
            severity="note",
        )
    yield from judge_language(looks)
    yield from find_twins((look.info, look.digest) for look in looks)


@dataclass(frozen=True)
class _Files(Sequence[bytes]):
    """The content of files, read one at a time."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _bytes(self.paths[index])


def _read(spec: Spec, look: Look, options: BridgeRawOptions) -> Episode:
    trajectory: _Trajectory = look.content
    path, numbers = trajectory.folder, range(trajectory.shift, trajectory.frames)
    content = _tables(path)
    tables = {"state": content.state, **content.others}
    if len(content.action) < len(numbers) - 1 or any(
        f.name not in tables for f in spec.features if not f.is_frame and f.role != "action"
    ):
        raise _unusable(path, "its pickles have changed since it was opened", ", ".join(tables))
    arrays: dict[str, np.ndarray] = {}
    frames: dict[str, Frames] = {}
    for feature in spec.features:
        if feature.role == "action":
            actions = content.action[: len(numbers) - 1]
            arrays[feature.name] = cast(hold(actions), feature)
        elif feature.role == "saliency":
            frames[feature.name] = _read_saliency(feature, trajectory, content, options)
        elif feature.is_frame:
            folder = path / _folder_name(feature.name)
            files = _Files([_picture(folder, number) for number in numbers])
            frames[feature.name] = EncodedFrames(files, feature.shape, feature.dtype, str(folder))
        else:
            table = tables[feature.name][numbers.start : numbers.stop]
            arrays[feature.name] = cast(table, feature)
    return Episode(
        spec=spec,
        id=look.info.id,
        arrays=arrays,
        frames=frames,
        task=look.info.task,
        source=look.info.id,
        valid=last_is_not_valid(len(numbers)),
    )


def _read_saliency(
    feature: Feature, trajectory: _Trajectory, content: _Content, options: BridgeRawOptions
) -> Frames:
    numbers = range(trajectory.shift, trajectory.frames)
    if trajectory.saliency is None or trajectory.saliency.feature != feature:
        return zero_frames(feature, len(numbers))
    stamps = content.others.get("time_stamp")
    stamps = None if stamps is None else stamps.reshape(-1) + content.started_s
    return bridge_saliency.read(trajectory.saliency, numbers, stamps, options.spread)


def _folder_name(feature: str) -> str:
    kind, _, number = feature.partition("_")
    return f"images{number}" if kind == "image" else f"depth_images{number}"


def _bytes(file: Path) -> bytes:
    try:
        return read_regular(file)
    except OSError as error:
        raise _unusable(file, "cannot be read", str(error)) from error


def _unusable(path: Path, what: str, found: str) -> FormatError:
    return FormatError(
        f"{path}: {what}.\nFound: {found}.\nFix: copy the trajectory again, or leave it out."
    )
