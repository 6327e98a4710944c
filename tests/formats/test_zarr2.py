"""The zarr v2 reader: every layout reads back, and damage is an error and nothing else."""

import bz2
import gzip
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import FormatError
from deft.formats.codecs import unpack
from deft.formats.zarr_array import ZarrArray
from deft.formats.zarr_storage import FolderStorage, ZipStorage
from suites.formats import complaint, repeatable
from suites.recordings import BLOSC, blosc, write_folder, write_zip, zarr_array


class MemoryStorage:
    """Files of one array `a` in memory."""

    path = Path("memory")

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = {f"a/{name}": data for name, data in files.items()}
        self.keys = frozenset(self.files)

    def get(self, key: str, limit: int) -> bytes:
        assert len(self.files[key]) <= limit
        return self.files[key]

    def size(self, key: str) -> int:
        return len(self.files[key])

    def part(self, key: str, start: int, count: int) -> bytes:
        return self.files[key][start : start + count]


def numbers(shape: Sequence[int], dtype: str = "<f4") -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def array(values: np.ndarray, chunks: Sequence[int], **layout: Any) -> ZarrArray:
    return ZarrArray(MemoryStorage(zarr_array(values, chunks, **layout)), "a")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize(
    ("shape", "chunks"),
    [((7,), (3,)), ((7, 4), (2, 4)), ((7, 4), (2, 3)), ((6, 5, 4), (4, 2, 3)), ((3, 2), (9, 5))],
)
def test_every_layout_reads_back(
    shape: tuple[int, ...], chunks: tuple[int, ...], order: str, separator: str
) -> None:
    values = numbers(shape)
    found = array(values, chunks, order=order, separator=separator)
    for start in range(shape[0] + 1):
        for stop in range(start, shape[0] + 1):
            np.testing.assert_array_equal(found.rows(start, stop), values[start:stop])
    assert found.missing_chunks() == 0


@pytest.mark.parametrize("dtype", ["|b1", "|u1", "|i1", "<i2", ">i4", "<u8", "<f2", ">f8"])
def test_every_dtype_reads_back_in_native_order(dtype: str) -> None:
    values = numbers((5, 2), dtype)
    rows = array(values, (2, 2)).rows(0, 5)
    np.testing.assert_array_equal(rows, values)
    assert rows.dtype.isnative


def lz4(data: bytes) -> bytes:
    import numcodecs

    return numcodecs.LZ4().encode(data)


def zstd(data: bytes) -> bytes:
    import numcodecs

    return numcodecs.Zstd().encode(data)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "blosc": blosc,
    "zlib": zlib.compress,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "lzma": lzma.compress,
    "zstd": zstd,
    "lz4": lz4,
}


@pytest.mark.parametrize("name", PACKERS)
def test_every_compressor_reads_back(name: str) -> None:
    values = numbers((40, 30))
    found = array(values, (16, 30), compressor={"id": name}, pack=PACKERS[name])
    np.testing.assert_array_equal(found.rows(3, 37), values[3:37])


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("size", [99, 101, 10_000_000])
def test_a_chunk_of_another_size_is_refused(name: str, size: int) -> None:
    packed = PACKERS[name](bytes(100))
    with pytest.raises(FormatError, match=rf"here: the chunk is damaged \(compressor {name}\)"):
        unpack(packed, {"id": name}, size, "here")


@pytest.mark.parametrize("name", PACKERS)
def test_a_bomb_is_not_unpacked(name: str) -> None:
    bomb = PACKERS[name](bytes(50_000_000))
    assert len(bomb) < 300_000
    with pytest.raises(FormatError, match="the chunk is damaged"):
        unpack(bomb, {"id": name}, 100, "here")


def check_size(content: bytes) -> None:
    assert len(content) == 2400


@repeatable
@given(
    name=st.sampled_from(sorted(PACKERS)),
    place=st.integers(0, 10_000),
    change=st.integers(1, 255),
    cut=st.integers(0, 400),
)
def test_damaged_chunks_give_the_right_size_or_a_clear_error(
    name: str, place: int, change: int, cut: int
) -> None:
    content = np.random.default_rng(0).integers(0, 9, 600).astype("<i4").tobytes()
    data = bytearray(PACKERS[name](content))
    data[place % len(data)] ^= change
    for damaged in (bytes(data), bytes(data[: -cut or None])):
        said = complaint(lambda d=damaged: check_size(unpack(d, {"id": name}, 2400, "here")))
        assert said == "" or said.startswith("here: the chunk is damaged")


META = json.loads(zarr_array(numbers((7, 4)), (2, 3))[".zarray"])
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**70),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(-2, 2**50), max_size=3),
    st.sampled_from(["NaN", "Infinity", "<f4", "|O", "F"]),
    st.dictionaries(st.sampled_from(["id", "x"]), st.sampled_from(["zlib", "blosc", 3])),
)


@repeatable
@given(st.dictionaries(st.sampled_from(sorted(META)), ODD, max_size=3))
def test_any_layout_is_read_or_refused(changes: dict[str, Any]) -> None:
    files = zarr_array(numbers((7, 4)), (2, 3))
    files[".zarray"] = json.dumps(META | changes).encode()

    def read() -> None:
        found = ZarrArray(MemoryStorage(files), "a")
        rows = found.rows(0, min(3, len(found)))
        assert rows.shape == (min(3, len(found)), *found.layout.shape[1:])

    said = complaint(read)
    assert said == "" or "Fix: " in said


def test_chunks_that_are_not_there_are_the_fill_value() -> None:
    for fill, wanted in ((3, 3.0), ("NaN", np.nan), (None, 0.0), ("-Infinity", -np.inf)):
        files = zarr_array(numbers((7, 4)), (2, 3), fill=fill)
        del files["1.0"]
        found = ZarrArray(MemoryStorage(files), "a")
        rows = found.rows(0, 7)
        np.testing.assert_array_equal(rows[2:4, :3], np.full((2, 3), wanted))
        np.testing.assert_array_equal(rows[2:4, 3], numbers((7, 4))[2:4, 3])
        assert found.missing_chunks() == 1


def test_rows_may_not_take_all_memory() -> None:
    files = {".zarray": json.dumps(META | {"shape": [2**40, 4], "chunks": [2, 4]}).encode()}
    found = ZarrArray(MemoryStorage(files), "a")
    assert found.rows(2**39, 2**39 + 1).shape == (1, 4)
    with pytest.raises(FormatError, match="would take"):
        found.rows(0, 2**40)


FILES = {
    f"x/{name}": data
    for name, data in zarr_array(numbers((9, 4)), (4, 4), compressor=BLOSC, pack=blosc).items()
}


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    large = FILES | {"x/1.0": bytes(200_000)}
    for storage in (
        FolderStorage(write_folder(tmp_path / "folder", large)),
        ZipStorage(write_zip(tmp_path / "a.zip", large, zipfile.ZIP_DEFLATED)),
    ):
        found = ZarrArray(storage, "x")
        assert found.rows(0, 4).shape == (4, 4)
        with pytest.raises(FormatError, match=r"x/1\.0: is larger than"):
            found.rows(0, 9)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_zip_gives_the_values_or_a_clear_error(scratch: Path, method: int) -> None:
    whole = write_zip(scratch / f"whole{method}.zip", FILES, method).read_bytes()
    path = scratch / f"damaged{method}.zip"

    @repeatable
    @given(place=st.integers(0, len(whole) - 1), change=st.integers(1, 255), cut=st.booleans())
    def check(place: int, change: int, cut: bool) -> None:
        data = bytearray(whole)
        data[place] ^= change
        path.write_bytes(data[:place] if cut else data)
        said = complaint(lambda: ZarrArray(ZipStorage(path), "x").rows(0, 9))
        assert said == "" or ("Fix: " in said and str(path) in said)

    check()


def test_a_missing_array_names_those_that_are_there() -> None:
    with pytest.raises(FormatError, match="Found: a"):
        ZarrArray(MemoryStorage(zarr_array(numbers((3,)), (2,))), "b")


def test_the_blosc_header_is_compared_before_anything_is_allocated() -> None:
    packed = bytearray(blosc(bytes(400)))
    packed[4:8] = struct.pack("<I", 2**31 - 1)
    with pytest.raises(FormatError, match="2147483647 unpacked, wanted 400"):
        unpack(bytes(packed), {"id": "blosc"}, 400, "here")
