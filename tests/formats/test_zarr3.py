"""Zarr version 3: every layout that is understood reads back, the others are refused by name."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft import formats
from deft.errors import FormatError
from deft.formats.zarr_array import ZarrArray
from suites.formats import FormatChecks, complaint, repeatable
from suites.recordings import demonstration, write_folder, write_zip
from suites.zarr_v3 import BYTES, codec, replay_files_v3, zarr3_array


class MemoryStorage:
    """Files of one array `a` in memory."""

    path = Path("memory")

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = {f"a/{name}": data for name, data in files.items()}
        self.keys = frozenset(self.files)

    def get(self, key: str, limit: int) -> bytes:
        if len(self.files[key]) > limit:
            raise FormatError("too large.\nFix: none.")
        return self.files[key]

    def size(self, key: str) -> int:
        return len(self.files[key])

    def part(self, key: str, start: int, count: int) -> bytes:
        assert start >= 0
        assert start + count <= len(self.files[key])
        return self.files[key][start : start + count]


def numbers(shape: Sequence[int], dtype: str = "f4") -> np.ndarray:
    return np.arange(1, np.prod(shape) + 1).reshape(shape).astype(dtype)


def array(files: dict[str, bytes]) -> ZarrArray:
    return ZarrArray(MemoryStorage(files), "a")


@pytest.mark.parametrize("shard", [False, True])
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize(
    ("shape", "chunks"), [((7,), (3,)), ((7, 4), (2, 4)), ((7, 4), (2, 3)), ((6, 5, 4), (4, 2, 3))]
)
def test_every_layout_reads_back(
    shape: tuple[int, ...], chunks: tuple[int, ...], shard: bool, at_end: bool
) -> None:
    values = numbers(shape)
    outer = [2 * c for c in chunks] if shard else None
    found = array(zarr3_array(values, chunks, shard=outer, at_end=at_end))
    for start in range(shape[0] + 1):
        for stop in range(start, shape[0] + 1):
            np.testing.assert_array_equal(found.rows(start, stop), values[start:stop])
    assert found.missing_chunks() == 0


CHAINS = (
    [BYTES],
    [codec("bytes", endian="big"), codec("gzip", level=5)],
    [BYTES, codec("blosc", cname="zstd", clevel=5, shuffle="bitshuffle", typesize=4)],
    [BYTES, codec("zstd", level=3, checksum=False)],
    [BYTES, codec("crc32c")],
    [BYTES, codec("zstd", level=3), codec("crc32c")],
    [BYTES, codec("crc32c"), codec("gzip", level=1)],
)


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "+".join(c["name"] for c in chain))
@pytest.mark.parametrize(
    "keys",
    [
        None,
        codec("default", separator="."),
        {"name": "default"},
        codec("v2", separator="."),
        codec("v2", separator="/"),
    ],
    ids=str,
)
def test_every_codec_and_key_reads_back(chain: list[Any], keys: Any) -> None:
    values = numbers((40, 6))
    found = array(zarr3_array(values, (16, 6), codecs=chain, keys=keys))
    np.testing.assert_array_equal(found.rows(3, 37), values[3:37])


@pytest.mark.parametrize("dtype", ["bool", "u1", "i1", "i2", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_every_dtype_reads_back_in_native_order(dtype: str, endian: str) -> None:
    values = numbers((5, 2), dtype)
    rows = array(zarr3_array(values, (2, 2), codecs=[codec("bytes", endian=endian)])).rows(0, 5)
    np.testing.assert_array_equal(rows, values)
    assert rows.dtype.isnative


def test_a_byte_has_no_order() -> None:
    values = numbers((5, 2), "u1")
    found = array(zarr3_array(values, (2, 2), codecs=[{"name": "bytes"}]))
    np.testing.assert_array_equal(found.rows(0, 5), values)


def test_what_is_not_there_is_the_fill_value() -> None:
    files = zarr3_array(numbers((7, 4)), (2, 4), fill="NaN")
    del files["c/1/0"]
    found = array(files)
    assert np.isnan(found.rows(2, 4)).all()
    assert found.missing_chunks() == 1
    values = numbers((8, 4))
    values[2:4] = 0
    found = array(zarr3_array(values, (2, 4), shard=(8, 4), fill=0))
    np.testing.assert_array_equal(found.rows(0, 8), values)
    assert found.missing_chunks() == 0  # a shard says itself what it leaves out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codecs": [codec("transpose", order=[1, 0]), BYTES]}, "codec is not supported[^$]*trans"),
        ({"codecs": [BYTES, {"name": "numcodecs.lz4"}]}, "numcodecs.lz4"),
        ({"codecs": [BYTES, codec("blosc"), codec("gzip")]}, "bytes → blosc → gzip"),
        ({"codecs": [codec("gzip")]}, "chain of codecs gzip"),
        ({"codecs": []}, "list of codecs"),
        ({"codecs": [codec("bytes")]}, "byte order None"),
        ({"chunk_grid": codec("rectangular")}, "chunk_grid is not supported"),
        ({"chunk_key_encoding": {"name": "fancy"}}, "chunk_key_encoding is not supported"),
        ({"chunk_key_encoding": codec("v2", separator="-")}, "separator '-'"),
        ({"data_type": "complex64"}, "only numbers and booleans"),
        ({"data_type": {"name": "struct"}}, "only numbers and booleans"),
        ({"storage_transformers": [{"name": "x"}]}, "storage_transformers"),
        ({"magic": {"a": 1}}, "extension 'magic'"),
        ({"node_type": "group"}, "wanted an array"),
        ({"zarr_format": 4}, "version 4"),
        ({"fill_value": "0x7fc00000"}, "fill value"),
        ({"shape": [7]}, "same number of axes"),
        ({"chunk_grid": codec("regular", chunk_shape=[2**40, 4])}, "MiB of memory"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    files = zarr3_array(numbers((7, 4)), (2, 4))
    files["zarr.json"] = json.dumps(json.loads(files["zarr.json"]) | changes).encode()
    with pytest.raises(FormatError, match=message) as caught:
        array(files)
    assert "zarr.json" in str(caught.value)
    assert "Fix: " in str(caught.value)


def test_an_extension_may_say_that_it_can_be_passed_over() -> None:
    files = zarr3_array(numbers((7, 4)), (2, 4), note={"must_understand": False})
    assert array(files).rows(0, 7).shape == (7, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk_shape": [3, 4]}, "shards must hold whole chunks"),
        ({"chunk_shape": [2]}, "shards must hold whole chunks"),
        ({"index_location": "middle"}, "index_location 'middle'"),
        ({"index_codecs": [BYTES, codec("gzip")]}, "index_codecs bytes → gzip"),
        ({"codecs": [codec("sharding_indexed")]}, "chain of codecs sharding_indexed"),
    ],
)
def test_shards_that_are_not_supported_are_refused(changes: dict[str, Any], message: str) -> None:
    files = zarr3_array(numbers((8, 4)), (2, 4), shard=(4, 4))
    meta = json.loads(files["zarr.json"])
    meta["codecs"][0]["configuration"] |= changes
    with pytest.raises(FormatError, match=message):
        array(files | {"zarr.json": json.dumps(meta).encode()})
    meta["codecs"] = [codec("sharding_indexed"), codec("gzip")]
    with pytest.raises(FormatError, match="gzip around sharding_indexed"):
        array(files | {"zarr.json": json.dumps(meta).encode()})


@repeatable
@given(
    chain=st.sampled_from(CHAINS),
    is_sharded=st.booleans(),
    at_end=st.booleans(),
    place=st.integers(0, 10_000),
    change=st.integers(1, 255),
    cut=st.booleans(),
    which=st.integers(0, 99),
)
def test_damage_gives_numbers_or_a_clear_error(
    chain: list[Any],
    is_sharded: bool,
    at_end: bool,
    place: int,
    change: int,
    cut: bool,
    which: int,
) -> None:
    shard = (10, 3) if is_sharded else None
    files = zarr3_array(numbers((23, 3)), (5, 3), codecs=chain, shard=shard, at_end=at_end)
    name = sorted(files)[which % len(files)]
    data = bytearray(files[name])
    data[place % len(data)] ^= change
    files[name] = bytes(data[: place % len(data)] if cut else data)

    def read() -> None:
        found = array(files)
        rows = found.rows(0, min(len(found), 1000))
        assert rows.shape == (min(len(found), 1000), *found.layout.shape[1:])

    said = complaint(read)
    assert said == "" or "Fix: " in said


def files_of(lengths: Sequence[int], **layout: Any) -> dict[str, bytes]:
    parts = [demonstration(number, length) for number, length in enumerate(lengths)]
    arrays = {key: np.concatenate([part[key] for part in parts]) for key in ("state", "action")}
    arrays["img"] = np.concatenate([part["image"] for part in parts])
    return replay_files_v3(arrays, np.cumsum(lengths).tolist(), **layout)


class TestReplayBuffer(FormatChecks):
    format = "replay_zarr"

    @classmethod
    def write(cls, folder: Path) -> Path:
        return write_folder(folder / "replay.zarr", files_of(cls.lengths))


class TestShardedZip(FormatChecks):
    format = "replay_zarr"

    @classmethod
    def write(cls, folder: Path) -> Path:
        files = files_of(cls.lengths, sharded=True, at_end=False)
        return write_zip(folder / "replay.zip", files, folder="some/replay.zarr/")


def test_groups_are_no_arrays(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "replay", files_of((5, 6)))
    (path / "data/extra").mkdir()
    (path / "data/extra/zarr.json").write_bytes((path / "zarr.json").read_bytes())
    assert set(formats.open(path).spec.names) == {"action", "image", "state"}
