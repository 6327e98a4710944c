"""The tables of a LeRobot data set: the rows of one episode, whichever file they share."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np

from deft.errors import FormatError
from deft.formats.columns import ParquetTable, dense, pictures
from deft.formats.pictures import read_picture_file

_OPEN_TABLES = 64
_BATCH = 16
_CACHED_BYTES = 256 << 20


@dataclass(frozen=True)
class Place:
    """Where an episode lies among the tables."""

    table: Path
    index: int
    """Its `episode_index`."""
    is_alone: bool
    """Whether the file holds this episode and no other."""


class Tables:
    """Reads rows of episodes; keeps a few footers, and the last rows that many episodes share."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._tables: OrderedDict[Path, ParquetTable] = OrderedDict()
        self._rows: dict[Path, dict[int, range]] = {}
        self._last: tuple[object, dict[str, Any]] = (None, {})

    def open(self, path: Path) -> ParquetTable:
        """The table at a path. Raises `FormatError` when it is missing or damaged."""
        with self._guard:
            table = self._tables.pop(path, None)
            if table is None:
                table = ParquetTable(path)
                while len(self._tables) >= _OPEN_TABLES:
                    self._tables.popitem(last=False)
            self._tables[path] = table
            return table

    def rows(self, place: Place) -> range:
        """The rows of an episode in its file.

        Raises:
            FormatError: there are none, or they do not lie together.
        """
        table = self.open(place.table)
        if place.is_alone:
            return range(table.length)
        with self._guard:
            if place.table not in self._rows:
                self._rows[place.table] = _rows_by_episode(table)
            rows = self._rows[place.table].get(place.index)
        if rows is None:
            raise FormatError(
                f"{place.table}: has no rows of episode {place.index}, or has them scattered.\n"
                "Fix: copy the data set again, or leave this episode out."
            )
        return rows

    def columns(self, place: Place, keys: Sequence[str]) -> dict[str, Any]:
        """Columns of an episode, each as one pyarrow array. Raises `FormatError`."""
        table, rows = self.open(place.table), self.rows(place)
        shared = table.rows_of(table.groups(rows))
        if len(shared) <= 2 * len(rows):
            return table.read(keys, rows)
        # A row group that many episodes share, as when pandas wrote the file: read it once.
        mark = (place.table, shared, tuple(keys))
        with self._guard:
            known, columns = self._last
            if known != mark:
                columns = table.read(keys, shared)
                size = sum(column.nbytes for column in columns.values())
                self._last = (mark, columns) if size <= _CACHED_BYTES else (None, {})
        begin = rows.start - shared.start
        return {key: column.slice(begin, len(rows)) for key, column in columns.items()}

    def pictures(
        self, place: Place, key: str, locate: Callable[[str, int], Path]
    ) -> "TablePictures":
        """The encoded pictures of an episode that lie in its table.

        Args:
            place: of the episode.
            key: of the column.
            locate: the file of a picture whose bytes are not in the table, given the path that is
                there and the step.
        """
        return TablePictures(self.open(place.table), key, self.rows(place), locate)


def _rows_by_episode(table: ParquetTable) -> dict[int, range]:
    where = f"{table.path}, 'episode_index'"
    numbers = dense(table.read(["episode_index"])["episode_index"], (1,), "int64", where)[:, 0]
    cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    found: dict[int, range] = {}
    scattered: set[int] = set()
    for begin, end in pairwise(cuts):
        if begin == end:
            continue
        index = int(numbers[begin])
        if index in found:
            scattered.add(index)
        found[index] = range(begin, end)
    return {index: rows for index, rows in found.items() if index not in scattered}


class TablePictures(Sequence[bytes]):
    """Encoded pictures in a table, some at a time; fast in rising order."""

    def __init__(
        self, table: ParquetTable, key: str, rows: range, locate: Callable[[str, int], Path]
    ) -> None:
        self._table, self._key, self._rows, self._locate = table, key, rows, locate
        self._guard = threading.Lock()
        self._batches: Any = iter(())
        self._window: list[tuple[bytes | None, str]] = []
        self._begin = len(rows)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int, /) -> bytes: ...

    @overload
    def __getitem__(self, index: slice, /) -> list[bytes]: ...

    def __getitem__(self, index: int | slice, /) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[step] for step in range(len(self))[index]]
        step = range(len(self))[index]
        with self._guard:
            if step < self._begin:
                self._batches = self._table.batches(self._key, self._rows, _BATCH)
                self._begin, self._window = 0, []
            while step >= self._begin + len(self._window):
                self._begin += len(self._window)
                where = f"{self._table.path}, '{self._key}'"
                self._window = pictures(next(self._batches), where)
            data, path = self._window[step - self._begin]
        return read_picture_file(self._locate(path, step)) if data is None else data
