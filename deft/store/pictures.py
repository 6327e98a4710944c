"""Where the pixels of one camera come from: decoded from the store, or kept from before."""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from deft.store.frames import FrameColumn
from deft.store.ring import Seconds


class Pictures(Protocol):
    """The pictures of one feature, by rows of the store. Safe for many threads."""

    def read(self, rows: np.ndarray, outs: Sequence[np.ndarray], seconds: Seconds) -> None:
        """Put the pictures of some rows, int64 `M`, into M contiguous arrays `H W C`.

        Raises `StoreError` naming shard, episode and step of one that cannot be had. The time it
        took goes to `seconds`.
        """
        ...

    def ahead(self, rows: np.ndarray) -> None:
        """Told which rows will be read before long."""
        ...


class Decoded:
    """Pictures read and decoded each time."""

    def __init__(self, column: FrameColumn) -> None:
        self._column = column

    def read(self, rows: np.ndarray, outs: Sequence[np.ndarray], seconds: Seconds) -> None:
        column = self._column
        begun = time.perf_counter()
        if column.codec == "raw":
            column.read_raw(rows, outs)
            seconds.read += time.perf_counter() - begun
            return
        stored = column.stored(rows)
        read = time.perf_counter()
        seconds.read += read - begun
        for data, row, out in zip(stored, rows.tolist(), outs, strict=True):
            column.decode(data, row, out)
        seconds.decode += time.perf_counter() - read

    def ahead(self, rows: np.ndarray) -> None:
        self._column.ahead(rows)


def decoded(columns: Mapping[str, FrameColumn]) -> dict[str, Pictures]:
    """All cameras of a store, decoded each time."""
    return {name: Decoded(column) for name, column in columns.items()}
