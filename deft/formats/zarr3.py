"""The description of an array in zarr version 3, without the zarr package.

Understood are regular chunks, the chunk keys `default` and `v2`, and the codecs bytes, blosc,
zstd, gzip, crc32c and sharding_indexed; everything else is refused by name.
Source: the zarr core specification, version 3.0, and its registered codecs.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deft.errors import FormatError, nearest
from deft.formats.codecs import unpack
from deft.formats.jsonfile import parse_object, take_sizes
from deft.formats.tfrecord import crc32c
from deft.formats.zarr_layout import Layout, Names, Shards, fill_value

_PACKERS = ("blosc", "zstd", "gzip")
_KNOWN = (
    "zarr_format",
    "node_type",
    "shape",
    "data_type",
    "chunk_grid",
    "chunk_key_encoding",
    "fill_value",
    "codecs",
    "attributes",
    "storage_transformers",
    "dimension_names",
    "consolidated_metadata",
)
_INTEGERS = tuple(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))
_DTYPES = ("bool", *_INTEGERS, "float16", "float32", "float64")
_MAX_INDEX = 1 << 26
_FIX = "Fix: write the array again with plain chunks and one of blosc, zstd, gzip, or none."


def parse(data: bytes, where: str) -> Layout:
    """The layout in a `zarr.json`.

    Raises:
        FormatError: it is damaged, too large or of a kind that is not supported.
    """
    meta = parse_object(data, where)
    found = (meta.get("zarr_format"), meta.get("node_type"))
    if found != (3, "array"):
        raise FormatError(
            f"{where}: wanted an array of zarr version 3.\n"
            f"Found: version {str(found[0])[:20]}, {str(found[1])[:20]}.\n"
            "Fix: copy the file again, or write the array again."
        )
    _refuse_extensions(meta, where)
    shape = take_sizes(meta.get("shape"), f"{where}, 'shape'")
    grid, settings = _named(meta.get("chunk_grid"), "chunk_grid", ("regular",), where)
    chunks = take_sizes(settings.get("chunk_shape"), f"{where}, '{grid} chunk_shape'")
    data_type = meta.get("data_type")
    if data_type not in _DTYPES:
        raise FormatError(
            f"{where}: only numbers and booleans are supported.\n"
            f"Found: data_type {str(data_type)[:80]!r}.\n"
            "Fix: save the array again as one of bool, int, uint or float."
        )
    codecs = _codecs(meta.get("codecs"), f"{where}, 'codecs'")
    shards = None
    if codecs[0][0] == "sharding_indexed":
        if len(codecs) > 1:
            raise _unsupported(where, f"{codecs[1][0]} around sharding_indexed")
        chunks, shards, codecs = _sharding(codecs[0][1], chunks, where)
    dtype = np.dtype(str(data_type))
    codec = _codec(codecs, chunks, dtype, where)
    return Layout(
        where=where,
        shape=shape,
        chunks=chunks,
        dtype=codec.dtype,
        fill=fill_value(meta.get("fill_value"), dtype, where),
        names=_names(meta.get("chunk_key_encoding"), where),
        codec=codec,
        shards=shards,
    )


@dataclass(frozen=True)
class _Codec:
    """Satisfies `ChunkCodec`."""

    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    inner_checksums: int
    """How many crc32c lie inside the packing."""
    packer: Mapping[str, Any] | None
    outer_checksums: int

    @property
    def size(self) -> int:
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def limit(self) -> int:
        return 2 * self.size + 4096

    def decode(self, data: bytes, where: str) -> np.ndarray:
        for _ in range(self.outer_checksums):
            data = _checked(data, where)
        data = unpack(data, self.packer, self.size + 4 * self.inner_checksums, where)
        for _ in range(self.inner_checksums):
            data = _checked(data, where)
        return np.frombuffer(data, self.dtype).reshape(self.chunks)


def shard_index(data: bytes, shards: Shards, where: str) -> np.ndarray:
    """Offset and size of every chunk in a shard, uint64 `… 2`; all ones for one that is empty."""
    if shards.has_checksum:
        data = _checked(data, f"{where}, the index")
    return np.frombuffer(data, shards.dtype).astype(np.uint64).reshape(*shards.per, 2)


def _checked(data: bytes, where: str) -> bytes:
    """Without the CRC32C that follows it, verified."""
    content, crc = data[:-4], data[-4:]
    if len(crc) < 4 or struct.unpack("<I", crc)[0] != crc32c(content):
        raise FormatError(
            f"{where}: the chunk is damaged (checksum).\nFound: {len(data)} bytes.\n"
            "Fix: copy the file again, or write the array again."
        )
    return content


def _refuse_extensions(meta: Mapping[str, Any], where: str) -> None:
    for key, value in meta.items():
        may_pass = isinstance(value, Mapping) and value.get("must_understand") is False
        if key not in _KNOWN and not may_pass:
            raise _unsupported(where, f"the extension '{key}'")
    if meta.get("storage_transformers"):
        raise _unsupported(where, f"storage_transformers {meta['storage_transformers']!r}")


def _named(
    value: Any, what: str, allowed: Sequence[str], where: str
) -> tuple[str, Mapping[str, Any]]:
    """Name and configuration of an entry such as `{"name": …, "configuration": {…}}`."""
    name, settings = value, {}
    if isinstance(value, Mapping):
        name, settings = value.get("name"), value.get("configuration", {})
    if not isinstance(name, str) or name not in allowed or not isinstance(settings, Mapping):
        raise FormatError(
            f"{where}: this {what} is not supported. {nearest(str(name), allowed)}\n"
            f"Found: {str(value)[:120]}.\n{_FIX}"
        )
    return name, settings


def _codecs(value: Any, where: str) -> list[tuple[str, Mapping[str, Any]]]:
    if not isinstance(value, list) or not 0 < len(value) <= 8:
        raise FormatError(f"{where}: wanted a list of codecs.\nFound: {str(value)[:80]}.\n{_FIX}")
    allowed = ("bytes", *_PACKERS, "crc32c", "sharding_indexed")
    return [_named(each, "codec", allowed, where) for each in value]


def _codec(
    codecs: Sequence[tuple[str, Mapping[str, Any]]],
    chunks: tuple[int, ...],
    dtype: np.dtype[Any],
    where: str,
) -> _Codec:
    names = [name for name, _ in codecs]
    packers = [name for name in names if name in _PACKERS]
    if names[0] != "bytes" or len(packers) > 1 or {"bytes", "sharding_indexed"} & {*names[1:]}:
        raise _unsupported(where, f"the chain of codecs {' → '.join(names)}")
    at = names.index(packers[0]) if packers else len(names)
    return _Codec(
        chunks=chunks,
        dtype=dtype.newbyteorder(_order(codecs[0][1], dtype.itemsize, where)),
        inner_checksums=names[:at].count("crc32c"),
        packer={"id": packers[0]} if packers else None,
        outer_checksums=names[at:].count("crc32c"),
    )


def _order(settings: Mapping[str, Any], itemsize: int, where: str) -> Any:
    order = settings.get("endian", "little" if itemsize == 1 else None)
    if order not in ("little", "big"):
        raise _unsupported(where, f"byte order {order!r}")
    return "<" if order == "little" else ">"


def _sharding(
    settings: Mapping[str, Any], shard: tuple[int, ...], where: str
) -> tuple[tuple[int, ...], Shards, list[tuple[str, Mapping[str, Any]]]]:
    """Inner chunks, how they lie in a shard, and their codecs."""
    place = f"{where}, sharding_indexed"
    chunks = take_sizes(settings.get("chunk_shape"), f"{place}, 'chunk_shape'")
    fits = len(chunks) == len(shard)
    if not fits or any(n % c for n, c in zip(shard, chunks, strict=True)):
        raise FormatError(
            f"{place}: shards must hold whole chunks.\n"
            f"Found: shards {list(shard)}, chunks {list(chunks)}.\n{_FIX}"
        )
    location = settings.get("index_location", "end")
    if location not in ("end", "start"):
        raise _unsupported(place, f"index_location {location!r}")
    index = _codecs(settings.get("index_codecs"), f"{place}, 'index_codecs'")
    names = [name for name, _ in index]
    if names not in (["bytes"], ["bytes", "crc32c"]):
        raise _unsupported(place, f"index_codecs {' → '.join(names)}")
    shards = Shards(
        per=tuple(n // c for n, c in zip(shard, chunks, strict=True)),
        at_end=location == "end",
        dtype=f"{_order(index[0][1], 8, place)}u8",
        has_checksum="crc32c" in names,
    )
    if shards.index_bytes > _MAX_INDEX:
        raise _unsupported(place, f"{math.prod(shards.per)} chunks in one shard")
    return chunks, shards, _codecs(settings.get("codecs"), f"{place}, 'codecs'")


def _names(value: Any, where: str) -> Names:
    name, settings = _named(value, "chunk_key_encoding", ("default", "v2"), where)
    separator = settings.get("separator", "/" if name == "default" else ".")
    if separator not in ("/", "."):
        raise _unsupported(where, f"the separator {separator!r} of chunk keys")
    return Names(separator=separator, prefix=f"c{separator}" if name == "default" else "")


def _unsupported(where: str, what: str) -> FormatError:
    return FormatError(f"{where}: {what[:200]} is not supported.\n{_FIX}")
