"""What the description of a zarr array says, brought to one form for both versions of zarr."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from deft.errors import FormatError

MAX_CHUNK = 1 << 30


class ChunkCodec(Protocol):
    """Turns packed chunks into arrays."""

    @property
    def limit(self) -> int:
        """Bytes that a packed chunk can have at most."""
        ...

    def decode(self, data: bytes, where: str) -> np.ndarray:
        """One chunk in full. Raises `FormatError` when it is damaged."""
        ...


@dataclass(frozen=True, kw_only=True)
class Names:
    """How the file of a chunk is called."""

    separator: str
    prefix: str = ""

    def __call__(self, place: tuple[int, ...]) -> str:
        return self.prefix + self.separator.join(map(str, place))


@dataclass(frozen=True, kw_only=True)
class Shards:
    """Chunks that lie together in one file, with an index of offsets and sizes."""

    per: tuple[int, ...]
    """Chunks in a shard along each axis."""
    at_end: bool
    dtype: str
    """Of the index, `<u8` or `>u8`."""
    has_checksum: bool

    @property
    def index_bytes(self) -> int:
        return 16 * math.prod(self.per) + 4 * self.has_checksum


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One array. Raises `FormatError` when it could not be read in reasonable memory."""

    where: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    """The smallest pieces that can be decoded alone."""
    dtype: np.dtype[Any]
    """As stored."""
    fill: Any
    names: Names
    codec: ChunkCodec
    shards: Shards | None = None

    def __post_init__(self) -> None:
        if not self.shape or len(self.shape) != len(self.chunks):
            raise FormatError(
                f"{self.where}: shape and chunks need the same number of axes, at least one.\n"
                f"Found: shape {list(self.shape)}, chunks {list(self.chunks)}.\n"
                "Fix: copy the file again, or write the array again."
            )
        slab = self.chunks[0] * math.prod(self.shape[1:]) * self.dtype.itemsize
        if max(slab, self.chunk_bytes) > MAX_CHUNK:
            raise FormatError(
                f"{self.where}: a chunk of steps would take {slab >> 20} MiB of memory.\n"
                f"Found: chunks {list(self.chunks)} of {self.dtype}.\n"
                f"Fix: save it with chunks below {MAX_CHUNK >> 20} MiB, a few hundred steps, say."
            )

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def files(self) -> tuple[int, ...]:
        """Number of chunk files, or shard files, along each axis."""
        sizes = self.chunks
        if self.shards is not None:
            sizes = tuple(c * n for c, n in zip(self.chunks, self.shards.per, strict=True))
        return tuple(-(-n // size) for n, size in zip(self.shape, sizes, strict=True))


def fill_value(value: Any, dtype: np.dtype[Any], where: str) -> Any:
    """What chunks that are not there hold, as a number."""
    named = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf, None: 0}
    try:
        with np.errstate(all="ignore"):
            return np.array(named.get(value, value)).astype(dtype).item()
    except (TypeError, ValueError, OverflowError) as error:
        raise FormatError(
            f"{where}: the fill value is no {dtype}.\nFound: {value!r}.\n"
            "Fix: set `fill_value` to 0."
        ) from error
