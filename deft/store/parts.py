"""The parts of a store: what was written first, and what was appended since.

The first part lies in the store's own folder, each later one in `parts/<number>/` with files of
the same names. Parts never change. Rows, shards and offsets count on from part to part, so that
all of them read as one flat store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import StoreError
from deft.store.mapped import AGAIN, mapped

COLUMNS = ("id", "start", "length", "task", "split", "source", "valid")
WORDINGS = "instructions"


@dataclass(frozen=True)
class Part:
    """One part, as store.json lists it."""

    folder: str
    """Within the store's folder; empty for the first."""
    episodes: int
    steps: int

    def file(self, name: str) -> str:
        """One of its files, within the store's folder."""
        return f"{self.folder}/{name}" if self.folder else name


def folder_of(number: int) -> str:
    """Where part `number` lies, from 0 on."""
    return f"parts/{number:05d}" if number else ""


def parts_of(info: dict[str, Any]) -> list[Part]:
    """The parts that store.json lists; all of a store of version 1 is one."""
    if info["version"] == 1:
        return [Part("", int(info["episodes"]), int(info["steps"]))]
    found = [Part(p["folder"], int(p["episodes"]), int(p["steps"])) for p in info["parts"]]
    for number, part in enumerate(found):
        if part.folder != folder_of(number):
            raise ValueError(f"part {number} lies in '{part.folder}'")
    return found


def joined(
    path: Path, parts: Sequence[Part], name: str, shape: tuple[int, ...], dtype: str
) -> np.ndarray:
    """An array with one row per step, of all parts: `N ...`, memory-mapped."""
    files = [path / part.file(name) for part in parts]
    return mapped(files, [part.steps for part in parts], shape, dtype)


def joined_offsets(path: Path, parts: Sequence[Part], folder: str) -> np.ndarray:
    """Where each picture of a camera begins, int64 `N + 1`: each part begins with the end of the
    one before it."""
    files = [path / part.file(f"{folder}/offsets.npy") for part in parts]
    return mapped(files, [part.steps + 1 for part in parts], (), "int64", shared=1)


@dataclass(frozen=True)
class Listed:
    """The columns of episodes.parquet, of all parts."""

    ids: tuple[str, ...]
    start: np.ndarray
    length: np.ndarray
    task: np.ndarray
    split: np.ndarray
    source: tuple[str, ...]
    valid: np.ndarray
    tasks: tuple[str, ...]
    texts: tuple[str, ...]
    """Every wording, those in `tasks` first and in their order."""
    wordings: np.ndarray
    """int64, into `texts`, of all episodes one after the other."""
    first_wording: np.ndarray
    """int64 `E + 1`, where those of each episode begin in `wordings`."""


def listed(path: Path, parts: Sequence[Part]) -> Listed:
    """Read the index of every part. Raises `StoreError` naming the file that cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables: list[Any] = []
    for part in parts:
        file = path / part.file("episodes.parquet")
        try:
            there = pq.read_schema(file).names
            columns = [*COLUMNS, *(name for name in (WORDINGS,) if name in there)]
            table = pq.read_table(file, memory_map=True, columns=columns)
            tables.append(table.select(columns))  # raises for one that is missing
        except (OSError, KeyError, pa.ArrowException) as error:
            raise StoreError(f"{file}: cannot be read.\nFound: {error}.\n{AGAIN}") from error
        if len(table) != part.episodes:
            raise StoreError(
                f"{file}: does not fit store.json.\n"
                f"Found: {len(table)} episodes, wanted {part.episodes}.\n{AGAIN}"
            )
    table = pa.concat_tables(tables)
    encoded = table["task"].combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    task = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    tasks: tuple[str, ...] = tuple(encoded.dictionary.to_pylist())
    given = table[WORDINGS].to_pylist() if WORDINGS in table.column_names else []
    texts, wordings, first = _wordings(given, task, tasks)
    return Listed(
        ids=tuple(table["id"].to_pylist()),
        start=table["start"].to_numpy(),
        length=table["length"].to_numpy(),
        task=task,
        split=np.asarray(table["split"].to_pylist(), np.str_),
        source=tuple(table["source"].to_pylist()),
        valid=table["valid"].to_numpy(),
        tasks=tasks,
        texts=texts,
        wordings=wordings,
        first_wording=first,
    )


def _wordings(
    given: Sequence[Sequence[str]], task: np.ndarray, tasks: tuple[str, ...]
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """All texts, each episode's numbers of them, and where these begin."""
    if not any(given):
        return tasks, task, np.arange(len(task) + 1)
    known = {text: number for number, text in enumerate(tasks)}
    found: list[int] = []
    counts: list[int] = []
    for number, said in zip(task.tolist(), given, strict=True):
        found += [known.setdefault(text, len(known)) for text in said] or [number]
        counts.append(max(1, len(said)))
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return tuple(known), np.asarray(found, np.int64), first
