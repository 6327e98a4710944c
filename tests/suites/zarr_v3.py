"""Small zarr version 3 arrays, written from the specification, without the zarr package."""

import gzip
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from suites.recordings import blosc, slow_crc32c

Codec = dict[str, Any]


def codec(name: str, **configuration: Any) -> Codec:
    return {"name": name, "configuration": configuration}


def zstd(data: bytes) -> bytes:
    import numcodecs

    return numcodecs.Zstd().encode(data)


def with_crc(data: bytes) -> bytes:
    return data + struct.pack("<I", slow_crc32c(data))


BYTES = codec("bytes", endian="little")
PACK: Mapping[str, Callable[[bytes], bytes]] = {
    "bytes": bytes,
    "blosc": blosc,
    "zstd": zstd,
    "gzip": gzip.compress,
    "crc32c": with_crc,
}


def zarr3_array(
    values: np.ndarray,
    chunks: Sequence[int],
    *,
    codecs: Sequence[Codec] = (BYTES, codec("zstd", level=0)),
    shard: Sequence[int] | None = None,
    at_end: bool = True,
    index_codecs: Sequence[Codec] = (BYTES, codec("crc32c")),
    keys: Codec | None = None,
    fill: Any = 0,
    **extra: Any,
) -> dict[str, bytes]:
    """The files of one array; with `shard`, chunks that are all fill lie in no shard."""
    keys = keys or codec("default", separator="/")
    chain = list(codecs)
    if shard is not None:
        chain = [
            codec(
                "sharding_indexed",
                chunk_shape=list(chunks),
                codecs=list(codecs),
                index_codecs=list(index_codecs),
                index_location="end" if at_end else "start",
            )
        ]
    meta = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(values.shape),
        "data_type": values.dtype.name,
        "chunk_grid": codec("regular", chunk_shape=list(shard or chunks)),
        "chunk_key_encoding": keys,
        "fill_value": fill,
        "codecs": chain,
        "attributes": {},
    }
    files = {"zarr.json": json.dumps(meta | extra).encode()}
    outer = shard or chunks
    separator = keys.get("configuration", {}).get("separator", "/")
    start = f"c{separator}" if keys["name"] == "default" else ""
    for place in np.ndindex(*_grid(values.shape, outer)):
        block = _block(values, place, outer)
        name = start + separator.join(map(str, place))
        if shard is None:
            files[name] = _pack(block, codecs)
        else:
            files[name] = _shard(block, chunks, codecs, index_codecs, at_end)
    return files


def _shard(
    block: np.ndarray,
    chunks: Sequence[int],
    codecs: Sequence[Codec],
    index_codecs: Sequence[Codec],
    at_end: bool,
) -> bytes:
    grid = _grid(block.shape, chunks)
    index = np.full((*grid, 2), 2**64 - 1, np.uint64)
    size = len(_pack(index, index_codecs))
    body = b""
    for place in reversed(list(np.ndindex(*grid))):  # any order is allowed
        part = _block(block, place, chunks)
        if part.any():
            data = _pack(part, codecs)
            index[place] = (len(body) + (0 if at_end else size), len(data))
            body += data
    packed = _pack(index, index_codecs)
    return body + packed if at_end else packed + body


def _pack(block: np.ndarray, codecs: Sequence[Codec]) -> bytes:
    order = codecs[0].get("configuration", {}).get("endian", "little")
    kind = block.dtype.newbyteorder("<" if order == "little" else ">")
    data = np.ascontiguousarray(block).astype(kind).tobytes()
    for each in codecs:
        data = PACK[each["name"]](data)
    return data


def _grid(shape: Sequence[int], chunks: Sequence[int]) -> list[int]:
    return [-(-n // c) for n, c in zip(shape, chunks, strict=True)]


def _block(values: np.ndarray, place: Sequence[int], chunks: Sequence[int]) -> np.ndarray:
    block = np.zeros(tuple(chunks), values.dtype)
    spans = tuple(slice(p * c, (p + 1) * c) for p, c in zip(place, chunks, strict=True))
    part = values[spans]
    block[tuple(slice(n) for n in part.shape)] = part
    return block


GROUP = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}).encode()


def replay_files_v3(
    arrays: Mapping[str, np.ndarray], ends: Sequence[int], **layout: Any
) -> dict[str, bytes]:
    """A whole replay buffer of version 3; chunks of 5 steps, or shards of two of them."""
    files = {f"{group}zarr.json": GROUP for group in ("", "data/", "meta/")}
    for key, values in arrays.items():
        chunks = (5, *values.shape[1:])
        shard = (10, *values.shape[1:]) if layout.get("sharded") else None
        rest = {name: value for name, value in layout.items() if name != "sharded"}
        made = zarr3_array(values, chunks, shard=shard, **rest)
        files |= {f"data/{key}/{name}": data for name, data in made.items()}
    made = zarr3_array(np.asarray(ends, np.int64), (64,))
    return files | {f"meta/episode_ends/{name}": data for name, data in made.items()}
