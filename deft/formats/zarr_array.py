"""Arrays of a zarr group of version 2 or 3, read by rows, without the zarr package."""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np

from deft.errors import FormatError
from deft.formats import zarr2, zarr3
from deft.formats.jsonfile import parse_object
from deft.formats.zarr_layout import Layout
from deft.formats.zarr_storage import Storage

_MAX_READ = 4 << 30
_MAX_PIECES = 1 << 16
_MAX_META = 1 << 20
_MAX_ATTRIBUTES = 256 << 20
_CACHE = 64 << 20
_INDEXES = 16
_EMPTY = 0xFFFF_FFFF_FFFF_FFFF


class ZarrArray:
    """One array, read by rows of axis 0. Safe to use from several threads.

    Args:
        storage: of the group.
        key: of the array; empty when the storage holds nothing else.
        convert: applied to every decoded slab (`n ...`, all rows of one chunk along axis 0) with
            the number of its first row, before it is cached; for pictures, the way to uint8.

    Raises:
        FormatError: the array is missing, damaged, or of a kind that is not supported.
    """

    def __init__(
        self,
        storage: Storage,
        key: str,
        convert: Callable[[np.ndarray, int], np.ndarray] | None = None,
    ) -> None:
        self.where = f"{storage.path}/{key}" if key else str(storage.path)
        self._storage, self._convert = storage, convert
        self._prefix = f"{key}/" if key else ""
        self.layout = self._describe()
        self._grid = tuple(
            -(-n // c) for n, c in zip(self.layout.shape, self.layout.chunks, strict=True)
        )
        if math.prod(self._grid[1:]) > _MAX_PIECES:
            raise FormatError(
                f"{self.where}: one step lies in {math.prod(self._grid[1:])} pieces.\n"
                f"Found: shape {list(self.layout.shape)}, chunks {list(self.layout.chunks)}.\n"
                "Fix: save it with whole steps in each chunk."
            )
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._indexes: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._busy = tuple(threading.Lock() for _ in range(16))

    def __len__(self) -> int:
        return self.layout.shape[0]

    def rows(self, start: int, stop: int) -> np.ndarray:
        """A copy of the rows from `start` up to `stop`: `stop-start ...`."""
        count = max(0, stop - start)
        size = count * math.prod(self.layout.shape[1:]) * self.layout.dtype.itemsize
        if size > _MAX_READ:
            raise FormatError(
                f"{self.where}: reading rows {start} to {stop} would take {size >> 20} MiB.\n"
                f"Found: shape {list(self.layout.shape)}.\n"
                f"Fix: store episodes that are smaller than {_MAX_READ >> 20} MiB."
            )
        if not count:
            return np.empty((0, *self.layout.shape[1:]), self.layout.dtype.newbyteorder("="))
        found: np.ndarray | None = None
        at = 0
        for piece in self.pieces(start, stop):
            if found is None:
                found = np.empty((count, *piece.shape[1:]), piece.dtype)
            found[at : at + len(piece)] = piece
            at += len(piece)
        assert found is not None
        return found

    def pieces(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """The same rows in order, as read-only views of one slab after the other."""
        step = self.layout.chunks[0]
        for number in range(start // step, -(-stop // step)):
            slab = self._slab(number)
            yield slab[max(start - number * step, 0) : stop - number * step]

    def missing_chunks(self) -> int:
        """How many chunk files are not there; zarr reads them as the fill value."""
        there = sum(
            key.startswith(self._prefix) and _is_chunk(key.removeprefix(self._prefix))
            for key in self._storage.keys
        )
        return max(0, math.prod(self.layout.files) - there)

    def _describe(self) -> Layout:
        for name, parse in ((".zarray", zarr2.parse), ("zarr.json", zarr3.parse)):
            key = f"{self._prefix}{name}"
            if key in self._storage.keys:
                data = self._storage.get(key, _MAX_META)
                return parse(data, f"{self._storage.path}/{key}")
        raise FormatError(
            f"{self.where}: the array is missing.\n"
            f"Found: {', '.join(sorted(array_names(self._storage))) or 'no arrays'}.\n"
            "Fix: copy the recording again, whole."
        )

    def _slab(self, number: int) -> np.ndarray:
        """All rows of chunk `number` along axis 0, decoded or from the cache; read-only."""
        # Neighbouring episodes share a chunk; threads that read them must not both decode it.
        with self._busy[number % len(self._busy)]:
            with self._lock:
                if number in self._cache:
                    self._cache.move_to_end(number)
                    return self._cache[number]
            slab = self._decode(number)
            if self._convert is not None:
                slab = self._convert(slab, number * self.layout.chunks[0])
            slab.flags.writeable = False
            with self._lock:
                self._cache[number] = slab
                while len(self._cache) > 1 and sum(s.nbytes for s in self._cache.values()) > _CACHE:
                    self._cache.popitem(last=False)
            return slab

    def _decode(self, number: int) -> np.ndarray:
        first = number * self.layout.chunks[0]
        height = min(self.layout.chunks[0], len(self) - first)
        if self._grid[1:] == (1,) * len(self._grid[1:]):
            whole = self._chunk((number,) + (0,) * len(self._grid[1:]))
            inside = whole[(slice(height), *(slice(n) for n in self.layout.shape[1:]))]
            return inside.astype(self.layout.dtype.newbyteorder("="), copy=False)
        slab = np.empty((height, *self.layout.shape[1:]), self.layout.dtype.newbyteorder("="))
        for place in product(*(range(n) for n in self._grid[1:])):
            chunk = self._chunk((number, *place))
            corner = [0, *(p * c for p, c in zip(place, self.layout.chunks[1:], strict=True))]
            sizes = [
                min(c, n - at)
                for c, n, at in zip(self.layout.chunks, slab.shape, corner, strict=True)
            ]
            into = tuple(slice(at, at + n) for at, n in zip(corner, sizes, strict=True))
            slab[into] = chunk[tuple(slice(n) for n in sizes)]
        return slab

    def _chunk(self, place: tuple[int, ...]) -> np.ndarray:
        packed, where = self._packed(place)
        if packed is None:
            fill = np.array(self.layout.fill, self.layout.dtype)
            return np.broadcast_to(fill, self.layout.chunks)
        return self.layout.codec.decode(packed, where)

    def _packed(self, place: tuple[int, ...]) -> tuple[bytes | None, str]:
        """The packed bytes of one chunk (None when it is not there), and what to call them."""
        shards, limit = self.layout.shards, self.layout.codec.limit
        if shards is None:
            key = self._prefix + self.layout.names(place)
            there = key in self._storage.keys
            data = self._storage.get(key, limit) if there else None
            return data, f"{self._storage.path}/{key}"
        outer = tuple(p // n for p, n in zip(place, shards.per, strict=True))
        key = self._prefix + self.layout.names(outer)
        where = f"{self._storage.path}/{key}"
        if key not in self._storage.keys:
            return None, where
        inner = tuple(p % n for p, n in zip(place, shards.per, strict=True))
        start, size = (int(n) for n in self._index(key)[inner])
        where = f"{where}, chunk {'.'.join(map(str, inner))}"
        if (start, size) == (_EMPTY, _EMPTY):
            return None, where
        if size > limit or start + size > self._storage.size(key):
            raise FormatError(
                f"{where}: the index of the shard is damaged.\n"
                f"Found: {size} bytes at {start}, of {self._storage.size(key)} in all.\n"
                "Fix: copy the file again, or write the array again."
            )
        return self._storage.part(key, start, size), where

    def _index(self, key: str) -> np.ndarray:
        shards = self.layout.shards
        assert shards is not None
        with self._lock:
            if key in self._indexes:
                self._indexes.move_to_end(key)
                return self._indexes[key]
        size = self._storage.size(key)
        where = f"{self._storage.path}/{key}"
        if size < shards.index_bytes:
            raise FormatError(
                f"{where}: is too short for the index of a shard.\n"
                f"Found: {size} bytes, wanted {shards.index_bytes} or more.\n"
                "Fix: copy the file again, or write the array again."
            )
        start = size - shards.index_bytes if shards.at_end else 0
        data = self._storage.part(key, start, shards.index_bytes)
        index = zarr3.shard_index(data, shards, where)
        with self._lock:
            self._indexes[key] = index
            while len(self._indexes) > _INDEXES:
                self._indexes.popitem(last=False)
        return index


def array_names(storage: Storage, group: str | None = None) -> list[str]:
    """Names of the arrays directly inside a group (empty for the top), sorted; all without it."""
    names: list[str] = []
    for key in storage.keys:
        folder, _, name = key.rpartition("/")
        if name == ".zarray" or (name == "zarr.json" and _is_array(storage, key)):
            names.append(folder)
    if group is None:
        return sorted(names)
    inside = (n for n in names if n and n.rpartition("/")[0] == group)
    return sorted(n.rpartition("/")[2] for n in inside)


def attributes(storage: Storage, group: str) -> dict[str, Any]:
    """The attributes of a group or array (empty for the top); empty when there are none.

    Raises:
        FormatError: they are no JSON object.
    """
    prefix = f"{group}/" if group else ""
    for name in (".zattrs", "zarr.json"):
        key = f"{prefix}{name}"
        if key in storage.keys:
            tree = parse_object(storage.get(key, _MAX_ATTRIBUTES), f"{storage.path}/{key}")
            found = tree if name == ".zattrs" else tree.get("attributes")
            return found if isinstance(found, dict) else {}
    return {}


def _is_array(storage: Storage, key: str) -> bool:
    """Whether a `zarr.json` is of an array; one that is damaged counts, to be refused later."""
    try:
        tree = parse_object(storage.get(key, _MAX_ATTRIBUTES), f"{storage.path}/{key}")
    except FormatError:
        return True
    return tree.get("node_type") != "group"


def _is_chunk(name: str) -> bool:
    last = name.rpartition("/")[2]
    return not last.startswith(".") and last != "zarr.json"
