"""Feature zarr: what a vision backbone made of the frames, float16 `T Hf Wf C`, or fused `T D`.

Three layouts are in use: a folder of `episode<i>.zarr`, one zarr with `data/features` and
`meta/episode_ends`, and one zarr with an array for each episode; and folders of several tasks of
these, called after them.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import FormatError
from deft.formats import zarr_notes
from deft.formats.jsonfile import read_object
from deft.formats.recording import Recording, require_episodes, table_dtype
from deft.formats.tree import natural
from deft.formats.zarr_array import ZarrArray, array_names, attributes
from deft.formats.zarr_buffer import ENDS, has_ends, open_storage, read_ends
from deft.formats.zarr_storage import Storage
from deft.spec import Episode, EpisodeInfo, Feature, Problem, Spec

MARK = "zarr arrays `data/features` without `data/action`, or folders `episode<i>.zarr`"

_EPISODE = re.compile(r"(?:episode[_-]?)?(\d{1,9})(?:\.zarr)?")
_CHILDREN = 200
_PEEK = 5


@dataclass(frozen=True, kw_only=True)
class FeatureZarrOptions:
    """What is read of feature zarr."""

    name: str = ""
    """The feature's name; else what Deft noted, or `features`."""


@dataclass(frozen=True, kw_only=True)
class FeatureEpisode:
    """Where the features of one episode lie; `wrong` says why they cannot be used."""

    number: int
    """As the file or array is numbered, or its place among the episodes."""
    info: EpisodeInfo
    path: Path
    """Of the zarr."""
    key: str
    start: int
    shape: tuple[int, ...]
    dtype: str
    """As it is handed out."""
    source: str = ""
    wrong: str = ""

    def rows(self) -> np.ndarray:
        """`T Hf Wf C` or `T D`. Raises `FormatError` when they are damaged."""
        # Opened anew each time: an array keeps its last chunk, and there may be thousands.
        array = ZarrArray(open_storage(self.path), self.key)
        if array.layout.shape[1:] != self.shape or len(array) < self.start + self.info.length:
            raise FormatError(
                f"{array.where}: is not what it was when it was opened.\n"
                "Fix: open the recording again, when nothing writes to it any more."
            )
        rows = array.rows(self.start, self.start + self.info.length)
        return rows.astype(self.dtype, copy=False)


@dataclass(frozen=True, kw_only=True)
class FeatureTask:
    """The features of one task from one backbone and camera."""

    key: str
    """What the folder or zarr is called, without `.zarr`."""
    path: Path
    episodes: tuple[FeatureEpisode, ...]
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    name: str = ""
    """Of the feature, where Deft noted it."""
    problems: tuple[Problem, ...] = ()


def probe(path: Path) -> bool:
    """Whether this is feature zarr; looks at few names."""
    if _is_zarr(path):
        return _holds_features(path)
    if not path.is_dir():
        return False
    for child in _children(path)[:_PEEK]:
        if _is_zarr(child):
            return _holds_features(child)
        if child.is_dir():
            inside = [each for each in _children(child)[:_PEEK] if _is_zarr(each)]
            if inside and all(_EPISODE.fullmatch(each.name) for each in inside):
                return _holds_features(inside[0])
    return False


def open_feature_zarr(path: Path, fps: float, options: FeatureZarrOptions) -> Recording:
    """Open the features of one task, or of several tasks with the same grid.

    The feature has role `feature_map` and the dtype of the files: float16 stays float16. There
    are no actions; `formats.composite` joins them.

    Args:
        path: one zarr, a folder of `episode<i>.zarr`, or a folder of several tasks.
        fps: ticks per second; the format does not hold it.
        options: see there.

    Raises:
        FormatError: no episode can be used.
    """
    tasks = find_tasks(path)
    many = len(tasks) > 1
    problems = [problem for task in tasks for problem in task.problems]
    episodes = [
        (f"{task.key}/{each.info.id}" if many else each.info.id, each)
        for task in tasks
        for each in task.episodes
    ]
    forms = Counter((each.shape, each.dtype) for _, each in episodes if not each.wrong)
    form = forms.most_common(1)[0][0] if forms else ((), "")
    usable: list[FeatureEpisode] = []
    infos: list[EpisodeInfo] = []
    for id_, each in episodes:
        wrong = each.wrong
        if not wrong and (each.shape, each.dtype) != form:
            wrong = (
                f"features are {each.dtype} of shape {list(each.shape)}, in most episodes "
                f"{form[1]} of shape {list(form[0])}"
            )
        if wrong:
            problems.append(Problem(episode=id_, what=wrong, effect="left out", severity="error"))
            continue
        usable.append(each)
        info = each.info
        infos.append(EpisodeInfo(id=id_, length=info.length, task=info.task, split=info.split))
    require_episodes(path, infos, [each for each in problems if each.severity == "error"])
    name = options.name or next((task.name for task in tasks if task.name), "features")
    feature = Feature(name=name, role="feature_map", shape=form[0], dtype=form[1])
    spec = Spec(features=(feature,), fps=_rate(tasks, fps))

    def read(index: int) -> Episode:
        each, info = usable[index], infos[index]
        return Episode(
            spec=spec,
            id=info.id,
            arrays={name: each.rows()},
            task=info.task,
            split=info.split,
            source=each.source or f"{each.path.name}, {each.key or 'array'}",
        )

    return Recording(
        format="feature_zarr",
        path=path,
        name=path.name,
        spec=spec,
        episodes=tuple(infos),
        problems=tuple(problems),
        reader=read,
    )


def find_tasks(path: Path) -> list[FeatureTask]:
    """Every task in a folder of features, or the one in a zarr.

    Nothing but descriptions is read. A task that cannot be read has no episodes and a problem.

    Raises:
        FormatError: nothing of the kind is there.
    """
    if _is_zarr(path):
        return [_read_task(path)]
    children = _children(path) if path.is_dir() else []
    if any(_is_episode(child) for child in children):
        return [_read_folder(path, children)]
    tasks: list[FeatureTask] = []
    for child in children:
        if _is_zarr(child):
            if not _is_array(child):  # a lone array says nothing of what it is
                tasks.append(_read_task(child))
        elif child.is_dir():
            inside = _children(child)
            if any(_is_episode(each) for each in inside):
                tasks.append(_read_folder(child, inside))
    if not tasks:
        names = ", ".join(child.name for child in children[:10]) or "nothing"
        raise FormatError(
            f"{path}: holds no feature zarr.\nFound: {names}.\n"
            "Fix: name a zarr with `data/features`, a folder of `episode<i>.zarr`, or a folder "
            "of these."
        )
    return tasks


def _read_task(path: Path) -> FeatureTask:
    """The task in one zarr."""
    key = _stem(path)
    try:
        storage = open_storage(path)
        names = array_names(storage)
        if "" in names:
            episodes = [_whole(storage, path, "", _number(path.name) or 0)]
        elif ENDS in names:
            return _read_buffer(storage, path, key)
        else:
            episodes = [
                _whole(storage, path, each, number)
                for each in sorted(names, key=natural)
                if (number := _number(each.rpartition("/")[2])) is not None
            ]
            single = next((each for each in ("data/features", "features") if each in names), None)
            if not episodes and single:
                episodes = [_whole(storage, path, single, _number(path.name) or 0)]
        if not episodes:
            raise FormatError(
                f"{path}: holds no array of features.\nFound: {', '.join(names) or 'no arrays'}.\n"
                "Fix: name the array `data/features`."
            )
        found = attributes(storage, "")
        return FeatureTask(key=key, path=path, episodes=tuple(episodes), attributes=found)
    except FormatError as error:
        problem = Problem(episode="", what=str(error), effect="left out", severity="error")
        return FeatureTask(key=key, path=path, episodes=(), problems=(problem,))


def _read_buffer(storage: Storage, path: Path, key: str) -> FeatureTask:
    """All episodes joined along time."""
    ends = read_ends(storage)
    notes = zarr_notes.read(storage, len(ends))
    names = [name for name in array_names(storage, "data") if name != notes.valid]
    noted = [name for name in notes.columns if name in names]
    likely = [*noted, *(each for each in names if each == "features" or len(names) == 1)]
    place = next(iter(likely), None)
    if place is None:
        raise FormatError(
            f"{path}: it is not clear which array holds the features.\n"
            f"Found: {', '.join(names) or 'none'}.\nFix: name it `data/features`."
        )
    array = ZarrArray(storage, f"data/{place}")
    dtype = table_dtype(array.layout.dtype, "feature_map", array.where)
    problems = list(notes.problems)
    if missing := array.missing_chunks():
        what = f"{array.where}: {missing} chunks are not there"
        effect = f"read as the fill value {array.layout.fill}, as zarr does"
        problems.append(Problem(episode="", what=what, effect=effect))
    episodes: list[FeatureEpisode] = []
    only = _number(path.name) if len(ends) == 1 else None
    for number, (start, stop) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        wrong = "" if stop > start else "has no steps"
        if stop > len(array):
            wrong = f"ends at step {stop}, the features have {len(array)} rows"
        real = number if only is None else only
        info = notes.info(number, stop - start)
        if not notes.episodes:
            info = EpisodeInfo(id=f"episode{real}", length=stop - start)
        episodes.append(
            FeatureEpisode(
                number=real,
                info=info,
                path=path,
                key=f"data/{place}",
                start=start,
                shape=array.layout.shape[1:],
                dtype=dtype,
                source=notes.source(number),
                wrong=wrong,
            )
        )
    return FeatureTask(
        key=key,
        path=path,
        episodes=tuple(episodes),
        attributes=attributes(storage, ""),
        name=notes.columns[place].feature.name if place in notes.columns else "",
        problems=tuple(problems),
    )


def _whole(storage: Storage, path: Path, key: str, number: int) -> FeatureEpisode:
    """An array that is one episode."""
    array = ZarrArray(storage, key)
    missing = array.missing_chunks()
    return FeatureEpisode(
        number=number,
        info=EpisodeInfo(id=f"episode{number}", length=len(array)),
        path=path,
        key=key,
        start=0,
        shape=array.layout.shape[1:],
        dtype=table_dtype(array.layout.dtype, "feature_map", array.where),
        wrong=f"{missing} chunks are not there" if missing else "",
    )


def _read_folder(path: Path, children: Sequence[Path]) -> FeatureTask:
    """A folder with one zarr for each episode."""
    found = [_read_task(child) for child in children if _is_episode(child)]
    episodes: list[FeatureEpisode] = []
    problems: list[Problem] = []
    for task in found:
        if len(task.episodes) == 1:
            episodes += task.episodes
        else:
            what = f"{task.path.name} holds {len(task.episodes)} episodes, wanted one"
            problems.append(
                Problem(episode=task.key, what=what, effect="left out", severity="error")
            )
        problems += task.problems
    ids = Counter(each.info.id for each in episodes)
    twice = [id_ for id_, count in ids.items() if count > 1]
    if twice:
        problems.append(
            Problem(episode=twice[0], what="the id is there twice", effect="the first is used")
        )
        first = {each.info.id: each for each in reversed(episodes)}
        episodes = [each for each in episodes if first[each.info.id] is each]
    return FeatureTask(
        key=_stem(path),
        path=path,
        episodes=tuple(episodes),
        attributes=found[0].attributes if found else {},
        name=next((task.name for task in found if task.name), ""),
        problems=tuple(problems),
    )


def _rate(tasks: Sequence[FeatureTask], fps: float) -> float:
    said = [task.attributes.get("fps") for task in tasks]
    if said and isinstance(said[0], int | float) and 0 < said[0] < 1e6 and len({*said}) == 1:
        return float(said[0])
    return fps


def _stem(path: Path) -> str:
    return path.name.removesuffix(".zip").removesuffix(".zarr")


def _number(name: str) -> int | None:
    match = _EPISODE.fullmatch(name)
    return int(match[1]) if match else None


def _children(path: Path) -> list[Path]:
    try:
        return sorted(
            (each for each in path.iterdir() if not each.name.startswith(".")),
            key=lambda each: natural(each.name),
        )
    except OSError as error:
        raise FormatError(
            f"{path}: cannot be listed.\nFound: {error}.\nFix: correct the permissions."
        ) from error


def _is_zarr(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).is_file() for name in (".zgroup", ".zarray", "zarr.json"))
    return path.name.endswith(".zip") and has_ends(path)


def _is_episode(path: Path) -> bool:
    return _EPISODE.fullmatch(path.name) is not None and _is_zarr(path)


def _holds_features(path: Path) -> bool:
    """Whether a zarr has features and no actions, as far as names tell."""
    if path.is_dir() and _is_array(path):
        return _EPISODE.fullmatch(path.name) is not None
    try:
        names = _names_in(path)
    except FormatError:
        return False
    if {"action", "actions"} & {*names}:
        return False
    is_named = "features" in names or any(map(_EPISODE.fullmatch, names))
    return is_named or (len(names) == 1 and has_ends(path))


def _names_in(path: Path) -> list[str]:
    """Names of the arrays in `data`; in a folder also of those beside it."""
    if path.is_file():
        return array_names(open_storage(path), "data")
    return [*_arrays_in(path / "data"), *_arrays_in(path)]


def _arrays_in(path: Path) -> Iterator[str]:
    if path.is_dir():
        yield from (child.name for child in _children(path)[:_CHILDREN] if _is_array(child))


def _is_array(path: Path) -> bool:
    if (path / ".zarray").is_file():
        return True
    try:
        return read_object(path / "zarr.json").get("node_type") == "array"
    except FormatError:
        return False
