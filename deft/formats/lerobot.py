"""LeRobot v2.0, v2.1 and v3: parquet tables, with videos or pictures beside or in them.

In v2 every episode has files of its own; in v3 many episodes share tables and videos. `meta/` says
which. Source: huggingface/lerobot, code base versions v2.0 to v3.0.
"""

import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from deft.errors import FormatError
from deft.formats.columns import dense, texts
from deft.formats.lerobot_depth import DepthPicture
from deft.formats.lerobot_features import PERSISTENT, Stored, finding, parse_renames
from deft.formats.lerobot_limits import read_limits
from deft.formats.lerobot_manifest import Entry, Manifest, read_manifest
from deft.formats.lerobot_meta import Layout
from deft.formats.lerobot_note import EpisodeNote
from deft.formats.lerobot_tables import Tables
from deft.formats.pictures import EncodedFrames, PictureFiles
from deft.formats.recording import Recording, first_not_finite, require_episodes
from deft.formats.regular import open_regular
from deft.formats.tree import natural
from deft.formats.video import VideoFrames, read_header, whats_wrong_outside
from deft.spec import Episode, EpisodeInfo, Feature, Frames, Problem

MARK = "a folder with `meta/info.json` that has a `codebase_version`"
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class LeRobotOptions:
    """How a LeRobot data set is read."""

    map: tuple[str, ...] = ()
    """`key=name` pairs: what a feature of the files is called here. `action` and `state` are also
    what it is for; an empty name leaves it out."""

    def __post_init__(self) -> None:
        parse_renames(self.map)


def probe(path: Path) -> bool:
    """Whether this is a LeRobot data set of any version."""
    info = path / "meta" / "info.json"
    if not info.is_file():
        return False
    with open_regular(info) as file:
        return b'"codebase_version"' in file.read(1 << 20)


def open_lerobot(path: Path, fps: float, options: LeRobotOptions) -> Recording:
    """Open a data set; its `fps` is in the files, the argument is not needed.

    The files of `meta/` are read, the footers of tables, and the outermost parts of videos: so
    what is missing or cut short is found, and nothing else is looked at before it is asked for.

    Raises:
        FormatError: the version is not known, `meta/` is damaged, or no episode can be used.
    """
    del fps
    layout = Layout.read(path, parse_renames(options.map))
    manifest = read_manifest(layout)
    tables = Tables()
    present = [entry for entry in manifest.entries if entry.place.table.is_file()]
    problems = [*layout.problems, *manifest.problems, *_compare(layout, manifest, present)]
    notes, changed = _notes(layout, manifest)
    _check_sizes(layout, present)
    look = _Look(layout, manifest, tables)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        seen = list(pool.map(look.at, present))
    problems += [*changed, *(problem for each in seen for problem in each.problems)]
    usable = [each for each in seen if each.info is not None]
    infos = [_info(each, layout, notes) for each in usable]
    require_episodes(path, infos, [p for p in problems if p.severity == "error"])
    entries = [each.entry for each in usable]
    return Recording(
        format="lerobot",
        path=path,
        name=path.name,
        spec=layout.spec,
        episodes=tuple(infos),
        problems=tuple(problems),
        read_limits=lambda: read_limits(path, layout.stored.values()),
        reader=lambda number: _Reader(layout, tables, entries[number], notes).read(infos[number]),
    )


def _compare(layout: Layout, manifest: Manifest, present: list[Entry]) -> list[Problem]:
    problems: list[Problem] = []
    here = {entry.index for entry in present}
    absent = sorted(entry.index for entry in manifest.entries if entry.index not in here)
    if absent:
        shown = ", ".join(map(str, absent[:8])) + (", …" if len(absent) > 8 else "")
        problems.append(
            finding(
                f"the manifest lists {len(manifest.entries)} episodes, {len(absent)} have no table "
                f"({shown})",
                f"the {len(here)} that are there are used",
            )
        )
    known = {entry.place.table for entry in present}
    folder = layout.path / layout.data_path.split("/")[0]
    unknown = [file for file in sorted(folder.rglob("*.parquet")) if file not in known]
    if unknown:
        what = f"{len(unknown)} tables are not in the manifest ({unknown[0].name}, for one)"
        problems.append(finding(what, "left out"))
    return problems


def _notes(layout: Layout, manifest: Manifest) -> tuple[dict[int, EpisodeNote], list[Problem]]:
    """What Deft noted of each episode, unless the episodes are others now."""
    if layout.note is None:
        return {}, []
    notes = dict(enumerate(layout.note.episodes))
    if {index: note.length for index, note in notes.items()} == {
        entry.index: entry.length for entry in manifest.entries
    }:
        return notes, []
    what = "episodes have changed since Deft wrote this"
    return {}, [finding(what, "what Deft noted of their ids and splits is passed over")]


def _check_sizes(layout: Layout, present: list[Entry]) -> None:
    """Compare the declared size of every camera with one of its videos.

    Raises:
        FormatError: they differ, and so no episode could be decoded.
    """
    for stored in layout.of_kind("video"):
        feature = stored.feature
        paths = (entry.clips[feature.name].path for entry in present)
        path = next((path for path in paths if not whats_wrong_outside(path)), None)
        if path is None:
            continue
        header = read_header(path)
        if (header.height, header.width) != (feature.height, feature.width):
            raise FormatError(
                f"{path}: should be height {feature.height}, width {feature.width}.\n"
                f"Found: height {header.height}, width {header.width}.\n"
                "Fix: correct the shape in meta/info.json, or encode the videos again."
            )


@dataclass(frozen=True)
class _Seen:
    """What a look at an episode's files from outside found; `info` is None when it is unusable."""

    entry: Entry
    info: EpisodeInfo | None
    problems: tuple[Problem, ...]


class _Look:
    """Looks at episodes from outside; several at a time."""

    def __init__(self, layout: Layout, manifest: Manifest, tables: Tables) -> None:
        self._layout, self._manifest, self._tables = layout, manifest, tables
        self._texts = frozenset(manifest.tasks.values())
        # In v3 thousands of episodes share a video.
        self._video: Callable[[Path], str] = lru_cache(1 << 16)(whats_wrong_outside)

    def at(self, entry: Entry) -> _Seen:
        name = _episode_id(entry.index)
        try:
            length, notes = self._length(entry)
            for stored in self._layout.of_kind("video"):
                self._check_video(entry, stored)
            task, more = self._task(entry)
            instructions, still_more = self._instructions(entry, task)
        except FormatError as error:
            problem = Problem(episode=name, what=str(error), effect="left out", severity="error")
            return _Seen(entry, None, (problem,))
        notes += [*more, *still_more]
        task = task or next(iter(instructions), "")
        info = EpisodeInfo(
            id=name,
            length=length,
            task=task,
            split=self._layout.split(entry.index),
            instructions=instructions if len(instructions) > 1 else (),
        )
        problems = (Problem(episode=name, what=what, effect=effect) for what, effect in notes)
        return _Seen(entry, info, tuple(problems))

    def _length(self, entry: Entry) -> tuple[int, list[tuple[str, str]]]:
        """The number of steps: of its own table when it has one, else as promised."""
        table = self._tables.open(entry.place.table)
        table.require([each.key for each in self._layout.of_kind("table")])
        length = table.length if entry.place.is_alone else entry.length
        if length < 1:
            raise FormatError(f"{entry.place.table}: episode {entry.index} has no rows.")
        if length != entry.length:
            what = f"has {length} rows, the manifest says {entry.length}"
            return length, [(what, "rows are used")]
        return length, []

    def _check_video(self, entry: Entry, stored: Stored) -> None:
        path = entry.clips[stored.feature.name].path
        if not path.is_file() and _picture_folder(self._layout, entry.index, stored.key):
            return
        wrong = self._video(path)
        if wrong:
            raise FormatError(
                f"{path}: the video cannot be used.\nFound: {wrong}.\nFix: copy the file again."
            )

    def _task(self, entry: Entry) -> tuple[str, list[tuple[str, str]]]:
        """The instruction; where the manifest leaves a doubt, the one of the first step."""
        if len(entry.tasks) == 1 and entry.tasks[0] in self._texts:
            return entry.tasks[0], []
        column = self._tables.columns(entry.place, ["task_index"])["task_index"]
        where = f"{entry.place.table}, 'task_index'"
        numbers = dense(column, (1,), "int64", where)[:, 0]
        if len(numbers) == 0:
            return "", []
        notes: list[tuple[str, str]] = []
        if (numbers != numbers[0]).any():
            notes.append((f"has {len(np.unique(numbers))} instructions", "the first one is used"))
        number = int(numbers[0])
        if number not in self._manifest.tasks:
            where = "meta/tasks." + ("jsonl" if self._layout.major == 2 else "parquet")
            notes.append((f"task_index {number} is not in {where}", "kept without instruction"))
        return self._manifest.tasks.get(number, ""), notes

    def _instructions(
        self, entry: Entry, task: str
    ) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
        """Every wording of the task, from columns of words; those of parts of it are not ones."""
        found, notes = [task] if task else [], list[tuple[str, str]]()
        for key in self._layout.texts:
            column = self._tables.columns(entry.place, [key])[key]
            words = list(dict.fromkeys(filter(None, texts(column, f"'{key}'"))))
            if len(words) > 1:
                notes.append((f"'{key}' changes {len(words) - 1} times", "left out"))
            found += words[:1] if len(words) == 1 else []
        if self._layout.has_rows_of_language:
            column = self._tables.columns(entry.place, [PERSISTENT])[PERSISTENT]
            found += _wordings(column[0].as_py() if len(column) else None)
        return tuple(dict.fromkeys(found)), notes


def _wordings(rows: object) -> Iterable[str]:
    """Texts of the style `task_aug`; the same rows are repeated at every step."""
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("style") == "task_aug":
            content = row.get("content")
            if isinstance(content, str) and content:
                yield content


def _info(seen: _Seen, layout: Layout, notes: dict[int, EpisodeNote]) -> EpisodeInfo:
    info, note = seen.info, notes.get(seen.entry.index)
    assert info is not None
    if note is None:
        return info
    return EpisodeInfo(
        id=note.id,
        length=info.length,
        task=info.task,
        split=note.split or layout.split(seen.entry.index),
        instructions=info.instructions,
    )


class _Reader:
    """Reads one episode."""

    def __init__(
        self, layout: Layout, tables: Tables, entry: Entry, notes: dict[int, EpisodeNote]
    ) -> None:
        self._layout, self._tables, self._entry = layout, tables, entry
        self._note = notes.get(entry.index)
        self._place = entry.place

    def read(self, info: EpisodeInfo) -> Episode:
        rows = len(self._tables.rows(self._place))
        if rows != info.length:
            raise FormatError(
                f"{self._place.table}: episode {self._entry.index} has {rows} rows, the manifest "
                f"says {info.length}.\nFix: copy the data set again, or leave this episode out."
            )
        frames = {
            each.feature.name: self._frames(each, info.length)
            for each in self._layout.of_kind("video", "image")
        }
        valid = None
        if self._note and self._note.not_valid:
            valid = np.ones(info.length, np.bool_)
            valid[[step for step in self._note.not_valid if step < info.length]] = False
        table = str(self._place.table.relative_to(self._layout.path))
        return Episode(
            spec=self._layout.spec,
            id=info.id,
            arrays=self._arrays(),
            frames=frames,
            task=info.task,
            split=info.split,
            source=self._note.source if self._note else table,
            valid=valid,
        )

    def _arrays(self) -> dict[str, np.ndarray]:
        stored = self._layout.of_kind("table")
        columns = self._tables.columns(self._place, [each.key for each in stored])
        arrays: dict[str, np.ndarray] = {}
        for each in stored:
            feature, where = each.feature, f"{self._place.table}, '{each.feature.name}'"
            array = dense(columns[each.key], feature.shape or (1,), feature.dtype, where)
            if feature.role in ("state", "action") and first_not_finite(array):
                raise FormatError(
                    f"{self._place.table}, episode {self._entry.index}, '{feature.name}': "
                    f"{first_not_finite(array)}.\nFix: repair the table, or leave the episode out."
                )
            arrays[feature.name] = array.reshape(len(array), *feature.shape)
        return arrays

    def _frames(self, stored: Stored, length: int) -> Frames:
        feature = stored.feature
        folder = _picture_folder(self._layout, self._entry.index, stored.key)
        if stored.kind == "video":
            clip = self._entry.clips[feature.name]
            if folder is None or clip.path.is_file():
                convert = DepthPicture(stored.codes) if stored.codes else None
                return VideoFrames(clip, length, feature.height, feature.width, convert)
        elif stored.key in self._tables.open(self._place.table).names:
            where = f"{self._place.table}, '{feature.name}'"

            def locate(path: str, step: int) -> Path:
                return _locate(self._layout.path, folder, path, step, where)

            blobs = self._tables.pictures(self._place, stored.key, locate)
            return EncodedFrames(blobs, feature.shape, feature.dtype, where)
        if folder is None:
            raise FormatError(
                f"{self._layout.path}: episode {self._entry.index} has no pictures of "
                f"'{stored.key}'.\nFound: neither a column in {self._place.table.name} nor a "
                f"folder images/{stored.key}.\nFix: copy the data set again, whole."
            )
        return _files_of(folder, feature, length)


def _picture_folder(layout: Layout, index: int, key: str) -> Path | None:
    """Where the pictures of an episode lie as files, when they do."""
    name = f"episode_{index:06d}" if layout.major == 2 else f"episode-{index:06d}"
    folder = layout.path / "images" / key / name
    return folder if ".." not in folder.parts and folder.is_dir() else None


def _files_of(folder: Path, feature: Feature, length: int) -> Frames:
    files = [file for file in folder.iterdir() if file.suffix.lower() in _PICTURES]
    files.sort(key=lambda file: natural(file.name))
    if len(files) < length:
        raise FormatError(
            f"{folder}: there are fewer pictures than steps.\n"
            f"Found: {len(files)} pictures, {length} steps.\nFix: copy the folder again."
        )
    blobs = PictureFiles(files[:length])
    return EncodedFrames(blobs, feature.shape, feature.dtype, str(folder))


def _locate(root: Path, folder: Path | None, path: str, step: int, where: str) -> Path:
    """The file of a picture that a table only names; often by a path of another computer."""
    name = re.split(r"[/\\]", path)[-1]
    places = [root / path] if path and not Path(path).is_absolute() and ".." not in path else []
    if folder is not None:
        places += [folder / each for each in (name, f"frame_{step:06d}.png") if each]
    for place in places:
        if place.is_file():
            return place
    raise FormatError(
        f"{where}, step {step}: neither the table nor a file holds the picture.\n"
        f"Found: '{path}'.\nFix: copy the data set again, with its folder `images`."
    )


def _episode_id(index: int) -> str:
    return f"episode_{index:06d}"
