"""episodes.parquet: one row per episode, written a group of rows at a time."""

import contextlib
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deft.spec import Spec
from deft.store.files import disk_refused, fingerprint
from deft.store.layout import table_features
from deft.store.overall import Row
from deft.store.parts import WORDINGS
from deft.store.statistics import Moments, why_none

EPISODE_STATS = ("mean", "std", "min", "max")
"""What it says of each numeric feature."""
_ROW_GROUP = 256


class Index:
    """Writes the index of a part: every wording where a task has several, and mean, std, min and
    max of the good steps of each feature in columns such as `state.mean`; null where an episode
    has none.

    What waits for its group of 256 rows waits as plain numbers, so memory stays flat. A context
    manager: left without `finish`, the file is unfinished. Raises `DiskError` when the disk
    refuses.

    Args:
        path: the file to be.
        spec: the store's contract.
    """

    def __init__(self, path: Path, spec: Spec) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        text, number, vector = pa.string(), pa.int64(), pa.list_(pa.float64())
        known = {"id": text, "start": number, "length": number, "task": text}
        known |= {"split": text, "source": text, "valid": number}
        self._known = tuple(known)
        self._measured = [f.name for f in table_features(spec) if not why_none(f)]
        extra = {f"{name}.{key}": vector for name in self._measured for key in EPISODE_STATS}
        self._schema = pa.schema(list((known | {WORDINGS: pa.list_(text)} | extra).items()))
        self._path = path
        try:
            self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        except OSError as error:
            raise disk_refused(path, error) from error
        self._begin()

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Closing writes the end of the file, and may fail again; the first error counts.
        with contextlib.suppress(*(() if kind is None else (OSError,))):
            self._writer.close()

    def add(self, row: Row, record: Mapping[str, Any]) -> None:
        """The next episode, with the record of its waiting file."""
        self._rows.append(row)
        self._wordings.append(record[WORDINGS])
        for name in self._measured:
            data = record["moments"].get(name)
            if data is not None:
                found = Moments.from_json(data)
                values = (found.mean, found.std(), found.low, found.high)
                for key, each in zip(EPISODE_STATS, values, strict=True):
                    self._values[f"{name}.{key}"].frombytes(each.tobytes())
            self._has[name].append(data is not None)
        if len(self._rows) == _ROW_GROUP:
            self._flush()

    def finish(self) -> dict[str, Any]:
        """Write what waits; returns size and sum of the file."""
        if self._rows:
            self._flush()
        self._writer.close()
        return fingerprint(self._path)

    def _begin(self) -> None:
        self._rows: list[Row] = []
        self._wordings: list[list[str]] = []
        self._has: dict[str, list[bool]] = {name: [] for name in self._measured}
        self._values = {
            f"{name}.{key}": array("d") for name in self._measured for key in EPISODE_STATS
        }

    def _flush(self) -> None:
        import pyarrow as pa

        columns: dict[str, Any] = {
            name: [getattr(row, name) for row in self._rows] for name in self._known
        }
        columns[WORDINGS] = self._wordings
        for name in self._measured:
            has = np.asarray(self._has[name], np.bool_)
            ends = np.cumsum(has)
            for key in EPISODE_STATS:
                values = np.frombuffer(self._values[f"{name}.{key}"], np.float64)
                width = len(values) // max(int(ends[-1]), 1)
                offsets = np.concatenate([[0], ends * width]).astype(np.int32)
                columns[f"{name}.{key}"] = pa.ListArray.from_arrays(
                    pa.array(offsets), pa.array(values), mask=None if has.all() else pa.array(~has)
                )
        self._writer.write_table(pa.table(columns, schema=self._schema))
        self._begin()
