"""The pictures of one camera, read at random from its shards."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from deft.errors import StoreError
from deft.spec import Feature
from deft.store.decoding import checksum, decode

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


class Opener(Protocol):
    """Opens shards that need not be on this machine yet."""

    def __call__(self, path: Path) -> OpenFile:
        """Raises `StoreError` when it cannot."""
        ...

    def ahead(self, paths: Sequence[Path]) -> None:
        """Told which shards will be read before long."""
        ...


class FrameColumn:
    """All pictures of one camera, numbered by the rows of the store. Safe for many threads.

    Shards are read with `pread`, not mapped: a shard that shrinks under a reader then gives an
    error instead of a killed process. At most 128 are open at a time.

    Args:
        feature: contract of one picture.
        codec: `jpeg`, `png` or `raw`.
        shards: every shard and the row of its first picture.
        offsets: int64 `N + 1`, where each picture begins in all shards laid end to end.
        owner: says which episode and step a row is, for messages.
        opener: opens a shard each time it is read, as a cache of remote shards does; None keeps
            the last 128 open.
        levels: see `decoding.decode`.
        sums: uint64 `N`, the `decoding.checksum` of each picture, compared with it the first time
            that it is read; None when there are none.
    """

    def __init__(
        self,
        feature: Feature,
        codec: str,
        shards: Sequence[tuple[Path, int]],
        offsets: np.ndarray,
        owner: Callable[[int], str],
        opener: Opener | None = None,
        levels: int = 0,
        sums: np.ndarray | None = None,
    ) -> None:
        self.feature = feature
        self.codec = codec
        self._paths = [path for path, _ in shards]
        self._first = np.asarray([first for _, first in shards], np.int64)
        self._offsets = np.asarray(offsets)
        self._begin = self._offsets[self._first]
        self._owner = owner
        self._levels = levels
        self._sums = sums
        self._sound = np.zeros(len(self._offsets) - 1, np.bool_)
        self._opener = opener
        self._open: OrderedDict[int, OpenFile] = OrderedDict()
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def size_bytes(self) -> int:
        """Of all its pictures as they are stored."""
        return int(self._offsets[-1])

    @property
    def first(self) -> np.ndarray:
        """Row of the first picture of each shard, int64."""
        return self._first

    def ahead(self, rows: np.ndarray) -> None:
        """Say which rows will be read before long, so that a remote store can fetch them."""
        if self._opener is not None:
            shards = np.unique(np.searchsorted(self._first, rows, "right") - 1)
            self._opener.ahead([self._paths[shard] for shard in shards.tolist()])

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
            StoreError: the shard is missing or short, or the picture damaged or not the one that
                was written; shard, episode and step are named.
        """
        self.decode(self.stored(np.asarray([index]))[0], index, out)

    def stored(self, rows: np.ndarray, *, again: bool = False) -> list[bytes]:
        """The stored bytes of some pictures (a JPEG, a PNG, or the pixels).

        Args:
            rows: int64, whose.
            again: compare them with their sums even if that was done before.

        Raises:
            StoreError: as `decode_into`.
        """
        found: list[bytes] = []
        for row, shard, place, size in self._places(rows):
            try:
                file = self._file(shard)  # held, or another thread may close it under us
                data = os.pread(file.descriptor, size, place)
            except OSError as error:
                raise self._unreadable(shard, row, str(error)) from error
            if len(data) != size:
                raise self._unreadable(shard, row, f"{len(data)} of {size} bytes")
            if again or not self._sound[row]:
                self._compare(data, shard, row)
            found.append(data)
        return found

    def decode(self, data: bytes, index: int, out: np.ndarray) -> None:
        """Turn what `stored` gave for row `index` into pixels; see `decode_into`."""
        try:
            decode(data, out, self.codec, self._levels, "")
        except StoreError as error:
            shard = int(np.searchsorted(self._first, index, "right")) - 1
            raise StoreError(f"{self._where(shard, index)}{error}") from error

    def read_raw(self, rows: np.ndarray, outs: Sequence[np.ndarray]) -> None:
        """Read raw pictures from disk straight into arrays; errors as `decode_into`."""
        for (row, shard, place, size), out in zip(self._places(rows), outs, strict=True):
            try:
                file = self._file(shard)  # held, see `stored`
                got = os.preadv(file.descriptor, [out.data], place)
            except OSError as error:
                raise self._unreadable(shard, row, str(error)) from error
            if got != size:
                raise self._unreadable(shard, row, f"{got} of {size} bytes")
            if not self._sound[row]:
                self._compare(out.reshape(-1).view(np.uint8), shard, row)

    def _places(self, rows: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
        """Row, shard, place in the shard and size of some pictures."""
        shards = np.searchsorted(self._first, rows, "right") - 1
        begins = self._offsets[rows]
        sizes = self._offsets[rows + 1] - begins
        places = begins - self._begin[shards]
        return zip(rows.tolist(), shards.tolist(), places.tolist(), sizes.tolist(), strict=True)

    def _compare(self, data: bytes | np.ndarray, shard: int, row: int) -> None:
        """Stop at bytes that are not those that were written."""
        if self._sums is not None:
            found, wanted = checksum(data, self.codec), int(self._sums[row])
            if found != wanted:
                raise StoreError(
                    f"{self._where(shard, row)}: its bytes are not those that were written.\n"
                    f"Found: checksum {found:x}, wanted {wanted:x}.\n"
                    "Fix: put the shard back, or convert the data again."
                )
        self._sound[row] = True

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
