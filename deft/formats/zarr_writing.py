"""Writing zarr version 2 arrays, chunk by chunk in order, into a folder or a zip file."""

import json
import zipfile
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from deft.errors import need

DISK: dict[str, Any] = {
    "id": "blosc",
    "cname": "zstd",
    "clevel": 5,
    "shuffle": 2,
    "blocksize": 0,
}
"""What Diffusion Policy and VITA call `disk`: zstd 5 with bits shuffled."""

DEFAULT = {**DISK, "cname": "lz4", "shuffle": 0}
"""What Diffusion Policy calls `default`."""

FEATURES = {**DISK, "clevel": 3, "shuffle": 1}
"""For feature maps: zstd 3 with bytes shuffled."""

_WORKERS = 2
_AHEAD = 4


class Target(Protocol):
    """Where the files of a zarr group go."""

    def put(self, name: str, data: bytes) -> None: ...


@dataclass(frozen=True)
class FolderTarget:
    """A new folder."""

    path: Path

    def put(self, name: str, data: bytes) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


@dataclass(frozen=True)
class ZipTarget:
    """A new zip file, nothing compressed again, without dates."""

    archive: zipfile.ZipFile

    def put(self, name: str, data: bytes) -> None:
        self.archive.writestr(zipfile.ZipInfo(name), data)


@contextmanager
def new_target(path: Path, *, as_zip: bool) -> Generator[Target]:
    """A folder or zip file at a path where nothing is."""
    if not as_zip:
        path.mkdir()
        yield FolderTarget(path)
        return
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        yield ZipTarget(archive)


@dataclass(frozen=True, kw_only=True)
class NewArray:
    """An array to be written, whole steps in each chunk."""

    key: str
    """Path in the group, as in `data/action`."""
    shape: tuple[int, ...]
    """Of one step."""
    dtype: np.dtype[Any]
    length: int
    """Steps in all."""
    rows: int
    """Steps in a chunk."""
    compressor: Mapping[str, Any] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])


def put_group(target: Target, name: str = "", attributes: Mapping[str, Any] | None = None) -> None:
    """A group with its attributes."""
    prefix = f"{name}/" if name else ""
    target.put(f"{prefix}.zgroup", put_json({"zarr_format": 2}))
    if attributes:
        target.put(f"{prefix}.zattrs", put_json(attributes))


def put_array(target: Target, array: NewArray, blocks: Iterable[np.ndarray]) -> None:
    """An array from blocks of steps of any lengths, together `length` steps."""
    meta = {
        "zarr_format": 2,
        "shape": [array.length, *array.shape],
        "chunks": [array.rows, *array.shape],
        "dtype": array.dtype.newbyteorder("<").str,
        "compressor": array.compressor,
        "fill_value": False if array.dtype.kind == "b" else 0,
        "order": "C",
        "filters": None,
    }
    target.put(f"{array.key}/.zarray", put_json(meta))
    if array.attributes:
        target.put(f"{array.key}/.zattrs", put_json(array.attributes))
    zeros = ".0" * len(array.shape)
    for number, data in enumerate(_packed(array, _chunks(array, blocks))):
        target.put(f"{array.key}/{number}{zeros}", data)


def put_json(tree: Any) -> bytes:
    return json.dumps(tree, indent=1, sort_keys=True).encode()


def pack(data: np.ndarray, compressor: Mapping[str, Any] | None) -> bytes:
    """One chunk, packed by Blosc."""
    content = np.ascontiguousarray(data)
    if compressor is None:
        return content.tobytes()
    numcodecs = need("numcodecs", "zarr")
    return bytes(numcodecs.get_codec(dict(compressor)).encode(content.reshape(-1)))


def _chunks(array: NewArray, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Full chunks, the last one filled up with zeros."""
    chunk = np.zeros((array.rows, *array.shape), array.dtype)
    filled = total = 0
    for block in blocks:
        at = 0
        while at < len(block):
            count = min(len(block) - at, array.rows - filled)
            chunk[filled : filled + count] = block[at : at + count]
            at, filled, total = at + count, filled + count, total + count
            if filled == array.rows:
                yield chunk
                chunk = np.zeros_like(chunk)
                filled = 0
    if filled:
        yield chunk
    assert total == array.length, f"{array.key}: {total} steps, promised {array.length}"


def _packed(array: NewArray, chunks: Iterable[np.ndarray]) -> Iterator[bytes]:
    """Packed in a pool, in order, few at a time."""
    # Also where one worker would do: on the main thread Blosc lets its own threads race, and the
    # bytes differ from run to run; in a pool it does not, see numcodecs.blosc.use_threads.
    with ThreadPoolExecutor(_WORKERS) as pool:
        waiting: deque[Future[bytes]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(pack, chunk, array.compressor))
            if len(waiting) >= _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
