"""A composite: feature maps of one or several backbones, joined with the trajectories they are of.

Joined by task, camera and episode, from the names that the files have. A small JSON or YAML file
that names the parts is a recording like any other.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import FormatError, nearest, need
from deft.formats.composite_names import TaskName, hint, match_tasks
from deft.formats.composite_trajectories import Opener, Trajectories, find_trajectories
from deft.formats.feature_zarr import FeatureEpisode, FeatureTask, find_tasks
from deft.formats.jsonfile import parse_object
from deft.formats.options import build_options
from deft.formats.recording import Recording
from deft.formats.regular import read_regular
from deft.formats.robotwin import Alignment
from deft.spec import Episode, EpisodeInfo, Feature, Frames, Problem, Spec

MARK = "a .json, .yaml or .yml file with the keys `trajectories` and `features`"

_SUFFIXES = (".json", ".yaml", ".yml")
_LIMIT = 1 << 20
_KEYS = ("trajectories", "features")
_TOLERANCE = 1


@dataclass(frozen=True, kw_only=True)
class Composition:
    """The parts of a composite; in a file, paths are relative to its folder."""

    trajectories: str = ""
    """A recording of any format, a folder of several, or RoboTwin's folders of `_traj_data`."""
    features: dict[str, str] = field(default_factory=dict[str, str])
    """Name of the feature to its root: feature zarr of one task, or a folder of several."""
    align: Alignment = "hdf5"
    """Where actions come from; all but `hdf5` are for RoboTwin, see `RoboTwinOptions`."""
    cameras: tuple[str, ...] = ()
    """Those to use, all of them when empty; several become features `<name>.<camera>`."""
    tasks: tuple[str, ...] = ()
    """Those to use, as features or trajectories name them; all of them when empty."""
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    """Of the trajectories' format, as in `use_left_arm`."""

    def __post_init__(self) -> None:
        for key in _KEYS:
            if not getattr(self, key):
                raise FormatError(
                    f"A composite needs `{key}`.\nFix: name the trajectories, and a feature root "
                    "for each backbone, as in `features: {dinov3: features_dinov3_zarr}`."
                )


def probe(path: Path) -> bool:
    """Whether this is a description of a composite."""
    if path.suffix not in _SUFFIXES or not path.is_file() or path.stat().st_size > _LIMIT:
        return False
    try:
        text = read_regular(path).decode(errors="replace")
    except OSError:
        return False
    return all(re.search(rf"""(?:^|[\s{{,])["']?{key}["']?\s*:""", text) for key in _KEYS)


def read_composition(path: Path) -> Composition:
    """The parts that a file describes, with absolute paths.

    Raises:
        FormatError: it is damaged, or a key is missing, unknown or of the wrong type.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise FormatError(
            f"{path}: cannot be read.\nFound: {error}.\nFix: correct the permissions."
        ) from error
    if path.suffix == ".json":
        tree: Any = parse_object(data, str(path))
    else:
        yaml = need("yaml", "train")
        try:
            tree = yaml.safe_load(data)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise FormatError(f"{path}: is no YAML.\nFound: {error}.\nFix: correct it.") from error
    if not isinstance(tree, Mapping):
        raise FormatError(f"{path}: wanted keys and values.\nFix: name {' and '.join(_KEYS)}.")
    parts: Composition = build_options(Composition, tree, f"composite, {path}")
    folder = path.parent
    return replace(
        parts,
        trajectories=str(folder / Path(parts.trajectories).expanduser()),
        features={name: str(folder / Path(p).expanduser()) for name, p in parts.features.items()},
    )


def join(
    parts: Composition,
    opener: Opener,
    recognise: Callable[[Path], str | None],
    *,
    path: Path | None = None,
    fps: float | None = None,
) -> Recording:
    """The recording that the parts make together.

    Args:
        parts: see there.
        opener: `formats.open`.
        recognise: `formats.recognise`.
        path: of the description, if there is one.
        fps: for trajectories that do not say it.

    Raises:
        FormatError: a part is missing, tasks differ in their actions or grids, or nothing fits
            together; then the message tells what was found on either side.
    """
    root = Path(parts.trajectories)
    for each in (root, *map(Path, parts.features.values())):
        if not each.exists():
            raise FormatError(f"{each}: there is nothing at this path.\nFix: correct the path.")
    found, problems = find_trajectories(
        root, opener, recognise, fps=fps, align=parts.align, options=parts.options
    )
    streams = _streams(parts, problems)
    pairs = list(_pair(parts, found, streams, problems))
    joined = [each for pair in pairs for each in pair.episodes(problems, parts.align)]
    if not joined:
        raise _nothing(parts, found, streams, problems)
    spec = _spec(joined)
    infos = [each.info for each in joined]
    return Recording(
        format="composite",
        path=path or root,
        name=(path or root).stem,
        spec=spec,
        episodes=tuple(infos),
        problems=tuple(problems),
        reader=lambda index: joined[index].read(spec),
    )


@dataclass(frozen=True)
class _Stream:
    """The features of one backbone and camera, by task."""

    name: str
    tasks: dict[str, FeatureTask]


def _streams(parts: Composition, problems: list[Problem]) -> list[_Stream]:
    by_root = {name: find_tasks(Path(path)) for name, path in parts.features.items()}
    named = {
        name: [(TaskName.parse(task.key, task.attributes), task) for task in tasks]
        for name, tasks in by_root.items()
    }
    there = sorted({each.camera for tasks in named.values() for each, _ in tasks if each.camera})
    for camera in parts.cameras:
        if camera not in there:
            raise FormatError(
                f"There are no features of camera '{camera}'. {nearest(camera, there)}\n"
                "Fix: correct `cameras`, or leave it out."
            )
    streams: list[_Stream] = []
    for name, tasks in named.items():
        problems += [problem for _, task in tasks for problem in task.problems]
        cameras = sorted({each.camera for each, _ in tasks})
        used = [c for c in cameras if not parts.cameras or c in parts.cameras or not c]
        for camera in used:
            of_camera = [(each, task) for each, task in tasks if each.camera == camera]
            held: dict[str, FeatureTask] = {}
            for each, task in of_camera:
                if each.task in held:
                    what = f"'{name}' has task '{each.task}' twice: {task.path.name}"
                    problems.append(Problem(episode="", what=what, effect="the first is used"))
                else:
                    held[each.task] = task
            streams.append(_Stream(f"{name}.{camera}" if len(used) > 1 else name, held))
    return streams


@dataclass(frozen=True)
class _Pair:
    """The trajectories of one task, and its features by name."""

    prefix: str
    """Of episode ids; empty when there is one task only."""
    trajectories: Trajectories
    features: dict[str, FeatureTask]

    def episodes(self, problems: list[Problem], align: str) -> Iterator["_Joined"]:
        """Every episode that is on both sides with the same length."""
        own = self.trajectories
        numbers = own.numbers
        by_number = {
            name: self._numbered(name, task, problems) for name, task in self.features.items()
        }
        for number, place in numbers.items():
            info = own.episodes[place]
            id_ = self.prefix + info.id
            maps: dict[str, FeatureEpisode] = {}
            wrong = ""
            for name, held in by_number.items():
                each = held.get(number)
                if each is None or each.wrong:
                    why = f": {each.wrong}" if each is not None else f" in {len(held)} episodes"
                    wrong = f"there are no features of '{name}'{why}"
                    break
                maps[name] = each
            wrong = wrong or _compare_lengths(info.length, maps)
            if wrong:
                problems.append(
                    Problem(episode=id_, what=wrong, effect="left out", severity="error")
                )
                continue
            lengths = [each.info.length for each in maps.values()]
            length = min(lengths + ([info.length] if info.length else []))
            # The last frame has no action of its own where actions are the next frame's targets.
            usual = (info.length, info.length + (align == "hdf5")) if info.length else lengths
            odd = {name: e.info.length for name, e in maps.items() if e.info.length not in usual}
            if odd or len({*lengths}) > 1:
                told = ", ".join(f"'{name}' {e.info.length}" for name, e in maps.items())
                what = f"features have {told} steps, the episode {info.length or length}"
                problems.append(
                    Problem(episode=id_, what=what, effect=f"cut to {length}", severity="note")
                )
            yield _Joined(replace(info, id=id_, length=length), own, place, maps)
        for name, held in by_number.items():
            surplus = sorted(set(held) - set(numbers))
            if surplus:
                what = (
                    f"'{name}', task '{self.features[name].key}': {len(surplus)} episodes have no "
                    f"trajectory (number {surplus[0]}, for one)"
                )
                problems.append(Problem(episode="", what=what, effect="left out"))

    def _numbered(
        self, name: str, task: FeatureTask, problems: list[Problem]
    ) -> dict[int, FeatureEpisode]:
        """Features by the number of their episode; by its id, where both sides have the same."""
        own = {info.id: place for place, info in enumerate(self.trajectories.episodes)}
        if all(each.info.id in own for each in task.episodes):
            number_at = {place: number for number, place in self.trajectories.numbers.items()}
            return {number_at[own[each.info.id]]: each for each in task.episodes}
        return {each.number: each for each in task.episodes}


@dataclass(frozen=True)
class _Joined:
    """One episode of the composite."""

    info: EpisodeInfo
    trajectories: Trajectories
    place: int
    maps: dict[str, FeatureEpisode]

    def features(self) -> Iterator[Feature]:
        for name, each in self.maps.items():
            yield Feature(name=name, role="feature_map", shape=each.shape, dtype=each.dtype)

    def read(self, spec: Spec) -> Episode:
        length = self.info.length
        episode = self.trajectories.read(self.place, length)
        arrays = {name: rows[:length] for name, rows in episode.arrays.items()}
        arrays |= {name: each.rows()[:length] for name, each in self.maps.items()}
        return replace(
            episode,
            spec=spec,
            id=self.info.id,
            arrays=arrays,
            frames={name: FirstFrames(held, length) for name, held in episode.frames.items()},
            valid=None if episode.valid is None else episode.valid[:length],
        )


@dataclass(frozen=True)
class FirstFrames:
    """The first pictures of a camera; satisfies `spec.Frames`."""

    frames: Frames
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int, /) -> np.ndarray:
        return self.frames[range(self.length)[index]]

    def __iter__(self) -> Iterator[np.ndarray]:
        for step, picture in enumerate(self.frames):
            if step == self.length:
                return
            yield picture


def _pair(
    parts: Composition,
    found: Sequence[Trajectories],
    streams: Sequence[_Stream],
    problems: list[Problem],
) -> Iterator[_Pair]:
    """Tasks that both sides have; what has no partner is named with the nearest."""
    names = [each.name for each in found]
    if len(found) == 1 and all(len(stream.tasks) == 1 for stream in streams):
        # One of each was asked for; their names do not matter.
        matched = {task: names[0] for stream in streams for task in stream.tasks}
    else:
        wanted = list(dict.fromkeys(task for stream in streams for task in stream.tasks))
        matched = match_tasks(wanted, names)
    _check_tasks(parts, streams, names)
    for stream in streams:
        for task, held in stream.tasks.items():
            if task not in matched:
                what = f"'{stream.name}', task '{held.key}': no trajectories. {hint(task, names)}"
                problems.append(Problem(episode="", what=what, effect="left out"))
    for own in found:
        partners = {
            stream.name: next(
                (held for task, held in stream.tasks.items() if matched.get(task) == own.name), None
            )
            for stream in streams
        }
        missing = [name for name, held in partners.items() if held is None]
        if missing:
            keys = [held.key for stream in streams for held in stream.tasks.values()]
            what = (
                f"trajectories '{own.name}': no features of {', '.join(missing)}. "
                f"{hint(own.name, keys)}"
            )
            problems.append(Problem(episode="", what=what, effect="left out"))
            continue
        features = {name: held for name, held in partners.items() if held is not None}
        if parts.tasks and not _is_asked(parts.tasks, own.name, features):
            continue
        problems += [
            replace(each, episode=f"{own.name}/{each.episode}" if each.episode else "")
            if len(found) > 1
            else each
            for each in own.problems
        ]
        yield _Pair(f"{own.name}/" if len(found) > 1 else "", own, features)


def _is_asked(tasks: Sequence[str], name: str, features: Mapping[str, FeatureTask]) -> bool:
    return bool(
        {name, name.partition("-")[0], *(held.key for held in features.values())} & {*tasks}
    )


def _check_tasks(parts: Composition, streams: Sequence[_Stream], names: Sequence[str]) -> None:
    known = [held.key for stream in streams for held in stream.tasks.values()]
    known = sorted({*known, *names, *(name.partition("-")[0] for name in names)})
    for task in parts.tasks:
        if task not in known:
            raise FormatError(
                f"There is no task '{task}'. {nearest(task, known)}\n"
                "Fix: correct `tasks`, or leave it out."
            )


def _compare_lengths(length: int, maps: Mapping[str, FeatureEpisode]) -> str:
    """Why features and actions do not fit; empty when they do, or nearly."""
    lengths = {name: each.info.length for name, each in maps.items()}
    low, high = min(lengths.values()), max(lengths.values())
    if length:
        low, high = min(low, length), max(high, length)
        # Actions that are the next frame's make an episode one shorter than its frames.
    if high - low <= _TOLERANCE:
        return ""
    told = ", ".join(f"'{name}' {each}" for name, each in lengths.items())
    return f"lengths disagree: features have {told} steps, actions {length or 'any'}"


def _spec(joined: Sequence[_Joined]) -> Spec:
    """The contract that all tasks have; refuses those that differ."""
    forms: dict[Spec, list[str]] = {}
    for each in joined:
        own = each.trajectories.spec
        features = (*own.features, *each.features())
        names = [feature.name for feature in features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise FormatError(
                f"Trajectories and features are both called {', '.join(twice)}.\n"
                "Fix: give the feature root another name."
            )
        forms.setdefault(replace(own, features=features), []).append(each.info.id)
    if len(forms) == 1:
        return next(iter(forms))
    lines = [
        f"  - {len(ids)} episodes ({ids[0]}, for one): "
        + ", ".join(
            f"{f.name} {f.describe()}" for f in spec.features if f.role in ("action", "feature_map")
        )
        for spec, ids in forms.items()
    ]
    raise FormatError(
        "The tasks differ in their actions, states or feature maps:\n"
        + "\n".join(lines)
        + "\nFix: name tasks of one kind in `tasks`, or choose arms with `use_left_arm`, "
        "`use_right_arm` and `fuse_arms` in `options`; `deft inspect --actions` lists widths."
    )


def _nothing(
    parts: Composition,
    found: Sequence[Trajectories],
    streams: Sequence[_Stream],
    problems: Sequence[Problem],
) -> FormatError:
    lines = [
        f"  trajectories, {parts.trajectories}: "
        + (", ".join(f"{each.name} ({len(each.episodes)})" for each in found) or "none")
    ]
    for stream in streams:
        tasks = (f"{task} ({len(held.episodes)})" for task, held in stream.tasks.items())
        lines.append(f"  features '{stream.name}': {', '.join(tasks) or 'none'}")
    lines += [f"  - {each.episode or 'all'}: {each.what}" for each in problems[:20]]
    more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
    return FormatError(
        "No valid samples found: no episode has both features and a trajectory.\nFound:\n"
        + "\n".join(lines)
        + more
        + "\nFix: give tasks and episodes the same names on both sides."
    )
