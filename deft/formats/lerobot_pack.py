"""Packing the episodes of a LeRobot data set: files per episode (v2.1), or shared ones (v3.0)."""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deft.formats import lerobot_note
from deft.formats.columns import dense
from deft.formats.lerobot_features import BOOKKEEPING
from deft.formats.lerobot_fragment import STATISTICS, Fragment, open_table
from deft.formats.lerobot_schema import Column, arrow_schema, info_features
from deft.formats.lerobot_stats import Merged, PictureCounts, Summary, of_table, to_json
from deft.formats.video_encoding import describe, join
from deft.spec import Spec

_CHUNK = 1000
"""Files per folder."""
_V2_STATISTICS = ("min", "max", "mean", "std", "count")
_EPISODES_AT_ONCE = 100
_MB = 1 << 20


@dataclass(frozen=True)
class Plan:
    """What every packer needs to know."""

    path: Path
    """The folder to make."""
    spec: Spec
    columns: Sequence[Column]
    fragments: Sequence[Fragment]
    robot_type: str

    @property
    def fps(self) -> int:
        return int(self.spec.fps)

    @property
    def schema(self) -> Any:
        """Of the tables."""
        return arrow_schema(self.columns, bookkeeping=True)

    @property
    def cameras(self) -> list[tuple[int, Column]]:
        """The columns that are videos, with their numbers."""
        return [(n, each) for n, each in enumerate(self.columns) if each.kind == "video"]

    def tasks(self) -> dict[str, int]:
        """Every instruction with its number, in the order in which they occur."""
        tasks: dict[str, int] = {}
        for fragment in self.fragments:
            tasks.setdefault(fragment.about["task"], len(tasks))
        return tasks

    def write_info(self, version: str, more: Mapping[str, Any], tasks: int) -> None:
        """`info.json`, and Deft's own notes."""
        first = self.fragments[0]
        videos = {each.key: describe(first.video(number))[0] for number, each in self.cameras}
        notes = [fragment.note for fragment in self.fragments]
        info = {
            "codebase_version": version,
            "robot_type": self.robot_type or self.spec.embodiment or None,
            "total_episodes": len(notes),
            "total_frames": sum(note.length for note in notes),
            "total_tasks": tasks,
            "chunks_size": _CHUNK,
            "fps": self.fps,
            "splits": _ranges([note.split for note in notes]),
            **more,
            "features": info_features(self.columns, videos),
        }
        write_json(self.path / "meta" / "info.json", info)
        keys = {each.feature.name: each.key for each in self.columns}
        note = lerobot_note.Note(self.spec, keys, notes)
        (self.path / lerobot_note.FILE).write_text(note.to_text())


def _ranges(splits: Sequence[str]) -> dict[str, str]:
    """Splits as ranges of episodes; where they are not ranges, all is `train` for LeRobot."""
    spans: dict[str, list[int]] = {}
    for index, split in enumerate(splits):
        span = spans.setdefault(split, [index, index])
        if span[1] != index:
            return {"train": f"0:{len(splits)}"}
        span[1] = index + 1
    if "" in spans:
        return {"train": f"0:{len(splits)}"}
    return {split: f"{begin}:{end}" for split, (begin, end) in spans.items()}


@dataclass
class _Rows:
    """Adds the columns that LeRobot wants to tables, and knows their statistics."""

    plan: Plan
    tasks: Mapping[str, int]
    done: int = 0
    """Steps so far."""
    episodes: int = 0

    def append(self, file: Any, fragment: Fragment) -> dict[str, Summary]:
        """Write the rows of the next episode.

        Args:
            file: a parquet writer.
            fragment: the episode.

        Returns:
            The statistics of the columns that were added.
        """
        import pyarrow

        length = fragment.length
        steps = np.arange(length, dtype=np.int64)
        added = {
            "timestamp": (steps / self.plan.fps).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full(length, self.episodes, np.int64),
            "index": self.done + steps,
            "task_index": np.full(length, self.tasks[fragment.about["task"]], np.int64),
        }
        at = 0
        for table in fragment.tables():
            for name, values in added.items():
                table = table.append_column(name, pyarrow.array(values[at : at + len(table)]))
            file.write_table(table.cast(self.plan.schema))
            at += len(table)
        self.done += length
        self.episodes += 1
        return {name: of_table(values) for name, values in added.items()}


def write_json(path: Path, value: Any) -> None:
    """Indented, as LeRobot's own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=4, ensure_ascii=False))


def pack_v21(plan: Plan) -> None:
    """A data set of v2.1 at `plan.path`."""
    data = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    video = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    tasks = plan.tasks()
    rows = _Rows(plan, tasks)
    meta = plan.path / "meta"
    meta.mkdir(parents=True)
    with (
        (meta / "episodes.jsonl").open("w") as episodes,
        (meta / "episodes_stats.jsonl").open("w") as statistics,
    ):
        for index, fragment in enumerate(plan.fragments):
            places = {"episode_chunk": index // _CHUNK, "episode_index": index}
            table = plan.path / data.format(**places)
            table.parent.mkdir(parents=True, exist_ok=True)
            with open_table(table, plan.schema, plan.columns) as file:
                stats = {**fragment.stats, **rows.append(file, fragment)}
            for number, each in plan.cameras:
                place = plan.path / video.format(video_key=each.key, **places)
                place.parent.mkdir(parents=True, exist_ok=True)
                _link(fragment.video(number), place)
            task = fragment.about["task"]
            line = {"episode_index": index, "tasks": [task], "length": fragment.length}
            episodes.write(json.dumps(line, ensure_ascii=False) + "\n")
            plain = {key: to_json(each, _V2_STATISTICS) for key, each in stats.items()}
            statistics.write(json.dumps({"episode_index": index, "stats": plain}) + "\n")
    lines = [{"task_index": index, "task": task} for task, index in tasks.items()]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (meta / "tasks.jsonl").write_text(text)
    count = len(plan.fragments)
    more = {
        "total_videos": count * len(plan.cameras),
        "total_chunks": -(-count // _CHUNK),
        "data_path": data,
        "video_path": video if plan.cameras else None,
    }
    plan.write_info("v2.1", more, len(tasks))


def _link(source: Path, place: Path) -> None:
    """The same file at a second place; the first stays until all is done."""
    with contextlib.suppress(OSError):
        os.link(source, place)
        return
    shutil.copyfile(source, place)  # where the disk knows no links


@dataclass
class _Files:
    """Numbers for files that take episodes until they are full."""

    limit: int
    """Bytes."""
    chunk: int = 0
    file: int = 0
    size: int = 0
    is_new: bool = True
    """Whether the last episode began a file."""

    def place(self, size: int, must_end: bool = False) -> None:
        """Find room for an episode of so many bytes; `must_end` begins a file in any case."""
        self.is_new = self.size == 0
        if self.size and (must_end or self.size + size > self.limit):
            self.file += 1
            if self.file == _CHUNK:
                self.chunk, self.file = self.chunk + 1, 0
            self.size, self.is_new = 0, True
        self.size += size

    @property
    def name(self) -> str:
        return f"chunk-{self.chunk:03d}/file-{self.file:03d}"


@dataclass
class _Film:
    """The videos of one camera, filled one after another."""

    plan: Plan
    number: int
    key: str
    files: _Files
    parts: list[tuple[Path, int]] = field(default_factory=list)
    extradata: bytes | None = None

    def append(self, fragment: Fragment) -> dict[str, Any]:
        """Take the next episode; returns its columns in the list of episodes."""
        path = fragment.video(self.number)
        _, extradata = describe(path)
        differs = self.extradata is not None and extradata != self.extradata
        name = self.files.name
        self.files.place(path.stat().st_size, must_end=differs)
        if self.files.is_new:
            self.flush(name)
        self.extradata = extradata
        begin = sum(length for _, length in self.parts)
        self.parts.append((path, fragment.length))
        return {
            f"videos/{self.key}/chunk_index": self.files.chunk,
            f"videos/{self.key}/file_index": self.files.file,
            f"videos/{self.key}/from_timestamp": begin / self.plan.fps,
            f"videos/{self.key}/to_timestamp": (begin + fragment.length) / self.plan.fps,
        }

    def flush(self, name: str) -> None:
        """Write the file whose episodes are complete."""
        if not self.parts:
            return
        path = self.plan.path / "videos" / self.key / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if len(self.parts) == 1:
            _link(self.parts[0][0], path)
        else:
            join(path, self.parts, self.plan.fps)
        self.parts = []


class _Totals:
    """Statistics of the whole data set: quantiles are counted while the tables pass by."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tables = {each.key: Merged() for each in plan.columns if each.kind == "table"}
        self._pictures = {
            each.key: PictureCounts(each.feature.channels, each.feature.dtype)
            for each in plan.columns
            if each.feature.is_frame
        }
        self._added = {name: Merged() for name in BOOKKEEPING}
        for fragment in plan.fragments:
            stats = fragment.stats
            for key, table in self._tables.items():
                table.include(stats[key])

    def add(self, fragment: Fragment, added: Mapping[str, Summary]) -> None:
        """Count an episode."""
        for number, each in enumerate(self._plan.columns):
            if each.feature.is_frame:
                self._pictures[each.key].merge(fragment.counts(number, each))
        tables = [each for each in self._plan.columns if each.kind == "table"]
        for table in fragment.tables():
            for each in tables:
                column = table.column(each.key).combine_chunks()
                values = dense(column, each.shape, each.feature.dtype, each.key)
                self._tables[each.key].add(values.astype(np.float64))
        for key, summary in added.items():
            self._added[key].include(summary)

    def finish(self) -> dict[str, Any]:
        """As they stand in `stats.json`."""
        found = {key: each.finish() for key, each in self._tables.items()}
        found |= {key: each.summary() for key, each in self._pictures.items()}
        found |= {key: each.summary for key, each in self._added.items()}
        return {key: to_json(each, STATISTICS) for key, each in found.items()}


class _EpisodeList:
    """The parquet files below `meta/episodes`."""

    def __init__(self, path: Path, limit: int) -> None:
        self._folder, self._files = path / "meta" / "episodes", _Files(limit)
        self._waiting: list[dict[str, Any]] = []
        self._writer: Any = None
        self._begin()

    def append(self, row: dict[str, Any]) -> None:
        row["meta/episodes/chunk_index"] = self._files.chunk
        row["meta/episodes/file_index"] = self._files.file
        self._waiting.append(row)
        if len(self._waiting) == _EPISODES_AT_ONCE:
            self.flush()
            if self._path.stat().st_size > self._files.limit:
                self.close()
                self._files.place(1, must_end=True)
                self._begin()

    def flush(self) -> None:
        import pyarrow
        import pyarrow.parquet

        if not self._waiting:
            return
        table = pyarrow.Table.from_pylist(self._waiting)
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table.cast(self._writer.schema))
        self._waiting = []

    def close(self) -> None:
        self.flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _begin(self) -> None:
        self._files.size = 1
        self._path = self._folder / f"{self._files.name}.parquet"
        self._path.parent.mkdir(parents=True, exist_ok=True)


def pack_v30(plan: Plan, data_mb: int, video_mb: int) -> None:
    """A data set of v3.0 at `plan.path`, with files of up to so many megabytes."""
    tasks = plan.tasks()
    rows, totals = _Rows(plan, tasks), _Totals(plan)
    episodes = _EpisodeList(plan.path, data_mb * _MB)
    films = [_Film(plan, number, c.key, _Files(video_mb * _MB)) for number, c in plan.cameras]
    files, table = _Files(data_mb * _MB), None
    try:
        for index, fragment in enumerate(plan.fragments):
            files.place(fragment.table_size)
            if files.is_new:
                if table is not None:
                    table.close()
                path = plan.path / "data" / f"{files.name}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                table = open_table(path, plan.schema, plan.columns)
            begin = rows.done
            added = rows.append(table, fragment)
            totals.add(fragment, added)
            row: dict[str, Any] = {
                "episode_index": index,
                "tasks": [fragment.about["task"]],
                "length": fragment.length,
                "data/chunk_index": files.chunk,
                "data/file_index": files.file,
                "dataset_from_index": begin,
                "dataset_to_index": rows.done,
            }
            for film in films:
                row |= film.append(fragment)
            for key, summary in {**fragment.stats, **added}.items():
                plain = to_json(summary, STATISTICS)
                row |= {f"stats/{key}/{name}": value for name, value in plain.items()}
            episodes.append(row)
    finally:
        if table is not None:
            table.close()
        episodes.close()
    for film in films:
        film.flush(film.files.name)
    _write_tasks(plan.path / "meta" / "tasks.parquet", tasks)
    write_json(plan.path / "meta" / "stats.json", totals.finish())
    video = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    more = {
        "data_files_size_in_mb": data_mb,
        "video_files_size_in_mb": video_mb,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": video if plan.cameras else None,
    }
    plan.write_info("v3.0", more, len(tasks))


def _write_tasks(path: Path, tasks: Mapping[str, int]) -> None:
    """The instructions as the index of a pandas table, which is where LeRobot looks for them."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"task_index": list(tasks.values()), "task": list(tasks)})
    column = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object"}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [{**column, "metadata": {"encoding": "UTF-8"}}],
        "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64",
             "numpy_type": "int64", "metadata": None},
            {**column, "name": "task", "field_name": "task", "metadata": None},
        ],
        "creator": {"library": "pyarrow", "version": pyarrow.__version__},
        "pandas_version": "2.3.3",
    }  # fmt: skip
    table = table.replace_schema_metadata({"pandas": json.dumps(pandas)})
    pyarrow.parquet.write_table(table, path)
