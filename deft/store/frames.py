"""The pictures of one camera, read at random from its shards."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from deft.errors import StoreError
from deft.spec import Feature
from deft.store.codec import decode_jpeg

_OPEN_FILES = 128


class OpenFile:
    """A descriptor that closes when the last reader lets go of it."""

    __slots__ = ("descriptor",)

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class FrameColumn:
    """All pictures of one camera, numbered by the rows of the store. Safe for many threads.

    Shards are read with `pread`, not mapped: a shard that shrinks under a reader then gives an
    error instead of a killed process. At most 128 are open at a time.

    Args:
        feature: contract of one picture.
        codec: `jpeg` or `raw`.
        shards: every shard and the row of its first picture.
        offsets: int64 `N + 1`, where each picture begins in all shards laid end to end.
        owner: says which episode and step a row is, for messages.
        opener: opens a shard each time it is read, as a cache of remote shards does; None keeps
            the last 128 open. Raises `StoreError` when it cannot.
    """

    def __init__(
        self,
        feature: Feature,
        codec: str,
        shards: Sequence[tuple[Path, int]],
        offsets: np.ndarray,
        owner: Callable[[int], str],
        opener: Callable[[Path], OpenFile] | None = None,
    ) -> None:
        self.feature = feature
        self.codec = codec
        self._paths = [path for path, _ in shards]
        self._first = np.asarray([first for _, first in shards], np.int64)
        self._offsets = np.asarray(offsets)
        self._begin = self._offsets[self._first]
        self._owner = owner
        self._opener = opener
        self._open: OrderedDict[int, OpenFile] = OrderedDict()
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def first(self) -> np.ndarray:
        """Row of the first picture of each shard, int64."""
        return self._first

    def shards_of(self, rows: np.ndarray) -> list[Path]:
        """The shards that hold some rows, each once."""
        numbers = np.unique(np.searchsorted(self._first, rows, "right") - 1)
        return [self._paths[shard] for shard in numbers.tolist()]

    @property
    def height(self) -> int:
        return self.feature.height

    @property
    def width(self) -> int:
        return self.feature.width

    @property
    def channels(self) -> int:
        return self.feature.channels

    def decode_into(self, index: int, out: np.ndarray) -> None:
        """Decode one picture into `out`, `H W C` of the feature's dtype, contiguous.

        Raises:
            StoreError: the shard is missing or short, or the picture damaged; shard, episode and
                step are named.
        """
        self.decode(self.stored(np.asarray([index]))[0], index, out)

    def stored(self, rows: np.ndarray) -> list[bytes]:
        """The stored bytes of some pictures (JPEG, or the pixels); errors as `decode_into`."""
        found: list[bytes] = []
        for row, shard, place, size in self._places(rows):
            try:
                data = os.pread(self._file(shard).descriptor, size, place)
            except OSError as error:
                raise self._unreadable(shard, row, str(error)) from error
            if len(data) != size:
                raise self._unreadable(shard, row, f"{len(data)} of {size} bytes")
            found.append(data)
        return found

    def decode(self, data: bytes, index: int, out: np.ndarray) -> None:
        """Turn what `stored` gave for row `index` into pixels; see `decode_into`."""
        if self.codec == "raw":
            out.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8)
            return
        try:
            decode_jpeg(data, out, "")
        except StoreError as error:
            shard = int(np.searchsorted(self._first, index, "right")) - 1
            raise StoreError(f"{self._where(shard, index)}{error}") from error

    def read_raw(self, rows: np.ndarray, outs: Sequence[np.ndarray]) -> None:
        """Read raw pictures from disk straight into arrays; errors as `decode_into`."""
        for (row, shard, place, size), out in zip(self._places(rows), outs, strict=True):
            try:
                got = os.preadv(self._file(shard).descriptor, [out.data], place)
            except OSError as error:
                raise self._unreadable(shard, row, str(error)) from error
            if got != size:
                raise self._unreadable(shard, row, f"{got} of {size} bytes")

    def _places(self, rows: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
        """Row, shard, place in the shard and size of some pictures."""
        shards = np.searchsorted(self._first, rows, "right") - 1
        begins = self._offsets[rows]
        sizes = self._offsets[rows + 1] - begins
        places = begins - self._begin[shards]
        return zip(rows.tolist(), shards.tolist(), places.tolist(), sizes.tolist(), strict=True)

    def _file(self, shard: int) -> OpenFile:
        if self._opener is not None:
            return self._opener(self._paths[shard])
        with self._guard:
            file = self._open.get(shard)
            if file is None:
                file = self._opened(shard)
                self._open[shard] = file
                if len(self._open) > _OPEN_FILES:
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(shard)
            return file

    def _opened(self, shard: int) -> OpenFile:
        try:
            return OpenFile(self._paths[shard])
        except OSError as error:
            raise StoreError(
                f"{self._paths[shard]}: the shard cannot be opened.\nFound: {error}.\n"
                "Fix: put it back, or convert the data again."
            ) from error

    def _unreadable(self, shard: int, row: int, found: str) -> StoreError:
        return StoreError(
            f"{self._where(shard, row)}: the picture cannot be read from its shard.\n"
            f"Found: {found}.\nFix: put the shard back, or convert the data again."
        )

    def _where(self, shard: int, row: int) -> str:
        return f"{self._paths[shard]}, {self._owner(row)}, '{self.feature.name}', row {row}"
