"""Which episodes a LeRobot data set has, and in which files: `meta/` but for `info.json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft.errors import FormatError
from deft.formats.columns import ParquetTable, dense, texts
from deft.formats.jsonfile import read_object_lines, take
from deft.formats.lerobot_meta import Layout
from deft.formats.lerobot_tables import Place
from deft.formats.video import Clip
from deft.spec import Problem

_MOST = 1_000_000_000


@dataclass(frozen=True)
class Entry:
    """One episode, as the manifest has it."""

    place: Place
    length: int
    """Steps that are promised."""
    tasks: tuple[str, ...]
    """Instructions, in no particular order; empty when the manifest does not say."""
    clips: Mapping[str, Clip]
    """By the name of the camera."""

    @property
    def index(self) -> int:
        return self.place.index


@dataclass(frozen=True)
class Manifest:
    """All of them, by `episode_index`."""

    entries: tuple[Entry, ...]
    tasks: Mapping[int, str]
    """Instruction by `task_index`."""
    problems: tuple[Problem, ...]


def read_manifest(layout: Layout) -> Manifest:
    """Raises `FormatError` when a file that cannot be done without is missing or damaged."""
    return _read_v2(layout) if layout.major == 2 else _read_v3(layout)


def _read_v2(layout: Layout) -> Manifest:
    tasks = _tasks_v2(layout.path)
    lengths: dict[int, int] = {}
    told: dict[int, tuple[str, ...]] = {}
    file = layout.path / "meta" / "episodes.jsonl"
    for number, line in enumerate(read_object_lines(file), start=1):
        where = f"{file}, line {number}"
        index = _index(take(line, "episode_index", int, where), lengths, where)
        lengths[index] = take(line, "length", int, where)
        texts_ = line.get("tasks")
        is_told = isinstance(texts_, list) and all(isinstance(text, str) for text in texts_)
        told[index] = tuple(texts_) if is_told and isinstance(texts_, list) else ()

    def values(index: int) -> dict[str, int | str]:
        return {"episode_chunk": index // layout.chunks_size, "episode_index": index}

    tables = {
        index: layout.expand(layout.data_path, {**values(index), "video_key": ""})
        for index in lengths
    }
    first = next((index for index in lengths if tables[index].is_file()), None)
    problems: list[Problem] = []
    templates: dict[str, str] = {}
    for each in layout.of_kind("video"):
        found: list[Problem] = []
        templates[each.key] = layout.video_path
        if first is not None:
            templates[each.key], found = layout.find_videos(each.key, values(first))
        problems += [problem for problem in found if problem not in problems]
    entries = [
        Entry(
            place=Place(tables[index], index, is_alone=True),
            length=length,
            tasks=told[index],
            clips={
                each.feature.name: Clip(
                    layout.expand(templates[each.key], {**values(index), "video_key": each.key})
                )
                for each in layout.of_kind("video")
            },
        )
        for index, length in lengths.items()
    ]
    return Manifest(tuple(entries), tasks, tuple(problems))


def _tasks_v2(path: Path) -> dict[int, str]:
    file = path / "meta" / "tasks.jsonl"
    found: dict[int, str] = {}
    for number, line in enumerate(read_object_lines(file), start=1):
        where = f"{file}, line {number}"
        found[take(line, "task_index", int, where)] = take(line, "task", str, where)
    return found


def _index(index: int, taken: Mapping[int, Any], where: str) -> int:
    if index in taken or not 0 <= index < _MOST:
        raise FormatError(
            f"{where}: 'episode_index' is {index}, which is out of range or there already.\n"
            "Fix: copy the file again, or repair it."
        )
    return index


def _read_v3(layout: Layout) -> Manifest:
    tasks = _tasks_v3(layout.path)
    folder = layout.path / "meta" / "episodes"
    files = sorted(folder.glob("*/*.parquet"))
    if not files:
        raise FormatError(
            f"{folder}: there is no list of episodes.\nFound: no parquet file.\n"
            "Fix: copy the recording again, whole; a recording of LeRobot's that was never "
            "finalized has none."
        )
    entries: dict[int, Entry] = {}
    for file in files:
        for entry in _entries_v3(layout, ParquetTable(file)):
            _index(entry.index, entries, str(file))
            entries[entry.index] = entry
    return Manifest(tuple(entries.values()), tasks, ())


def _entries_v3(layout: Layout, table: ParquetTable) -> list[Entry]:
    def numbers(key: str, dtype: str = "int64") -> list[Any]:
        where = f"{table.path}, '{key}'"
        return dense(table.read([key])[key], (1,), dtype, where)[:, 0].tolist()

    indices, lengths = numbers("episode_index"), numbers("length")
    chunks, files = numbers("data/chunk_index"), numbers("data/file_index")
    told = _told_v3(table)
    clips: list[dict[str, Clip]] = [{} for _ in indices]
    for each in layout.of_kind("video"):
        at = f"videos/{each.key}/"
        rows = zip(
            numbers(at + "chunk_index"),
            numbers(at + "file_index"),
            numbers(at + "from_timestamp", "float64"),
            numbers(at + "to_timestamp", "float64"),
            strict=True,
        )
        for mine, (chunk, file, start, stop) in zip(clips, rows, strict=True):
            values = {"chunk_index": chunk, "file_index": file, "video_key": each.key}
            path = layout.expand(layout.video_path, values)
            mine[each.feature.name] = Clip(path, start, stop if stop > start else None)

    def data(chunk: int, file: int) -> Path:
        return layout.expand(layout.data_path, {"chunk_index": chunk, "file_index": file})

    return [
        Entry(
            Place(data(chunks[n], files[n]), index, is_alone=False), lengths[n], told[n], clips[n]
        )
        for n, index in enumerate(indices)
    ]


def _told_v3(table: ParquetTable) -> list[tuple[str, ...]]:
    import pyarrow

    if "tasks" not in table.names:
        return [()] * table.length
    column = table.read(["tasks"])["tasks"]
    if not (pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type)):
        return [()] * table.length
    if not pyarrow.types.is_string(column.type.value_type):
        return [()] * table.length
    return [tuple(text for text in row or () if text) for row in column.to_pylist()]


def _tasks_v3(path: Path) -> dict[int, str]:
    """The text is the index of a pandas table, and so in whichever column is made of words."""
    table = ParquetTable(path / "meta" / "tasks.parquet")
    columns = table.read(table.names)
    numbers = dense(
        table.read(["task_index"])["task_index"], (1,), "int64", f"{table.path}, 'task_index'"
    )[:, 0].tolist()
    names = ("task", "__index_level_0__", *table.names)
    for name in dict.fromkeys(name for name in names if name in columns):
        if str(columns[name].type) in ("string", "large_string"):
            words = texts(columns[name], f"{table.path}, '{name}'")
            return dict(zip(numbers, words, strict=True))
    raise FormatError(
        f"{table.path}: there is no column with the instructions.\n"
        f"Found: {', '.join(table.names)}.\nFix: copy the file again."
    )
