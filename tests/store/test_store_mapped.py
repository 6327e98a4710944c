"""Several .npy files as one array."""

import gc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deft.errors import StoreError
from deft.store import mapped
from deft.store.mapped import look, npy_header

DTYPES = ("bool", "uint8", "float16", "float32", "int64")


def values(rows: int, shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng((rows, seed)).integers(0, 2 if dtype == "bool" else 200, rows)
    return np.broadcast_to(drawn.reshape(rows, *[1] * len(shape)), (rows, *shape)).astype(dtype)


def write(path: Path, array: np.ndarray, begin: int | None = None) -> Path:
    path.write_bytes(npy_header(array.shape, array.dtype.name, begin) + array.tobytes())
    return path


def written(folder: Path, parts: list[np.ndarray], shared: int = 0) -> list[Path]:
    """As a store lays them: each head says where its rows will be mapped."""
    paths, rows, lead = [], 0, 0
    for number, part in enumerate(parts):
        begin = None if number == 0 else lead + rows * part[0].nbytes
        paths.append(write(folder / f"{number}.npy", part, begin))
        if number == 0:
            lead = look(paths[0]).offset
        rows += len(part) - shared
    return paths


@pytest.mark.parametrize("begin", [None, 0, 128, 4095, 70_001])
@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_numpy_reads_what_we_write(tmp_path: Path, begin: int | None, shape: tuple) -> None:
    wanted = values(5, shape, "float32")
    path = write(tmp_path / "a.npy", wanted, begin)
    assert (np.load(path) == wanted).all()
    if begin is not None:
        assert look(path).offset % 4096 == begin % 4096


def test_the_plain_head_is_numpy_s(tmp_path: Path) -> None:
    wanted = values(5, (3,), "float16")
    np.save(tmp_path / "a.npy", wanted)
    assert (tmp_path / "a.npy").read_bytes() == npy_header((5, 3), "float16") + wanted.tobytes()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 9000), min_size=2, max_size=4),
    st.sampled_from(DTYPES),
    st.sampled_from([(), (3,), (7, 2)]),
)
def test_they_are_one_array(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], dtype: str, shape: tuple
) -> None:
    parts = [values(count, shape, dtype, seed) for seed, count in enumerate(counts)]
    paths = written(tmp_path_factory.mktemp("m"), parts)
    found = mapped.mapped(paths, counts, shape, dtype)
    assert found.dtype == np.dtype(dtype)
    assert (found == np.concatenate(parts)).all()
    some = np.random.default_rng(0).integers(0, len(found), 50)
    assert (np.take(found, some, axis=0) == np.concatenate(parts)[some]).all()
    assert not found.flags.writeable


def test_whole_pages_are_mapped_not_copied(tmp_path: Path) -> None:
    parts = [values(40_000, (8,), "float32", n) for n in range(3)]
    paths = written(tmp_path, parts)
    found = mapped.mapped(paths, [40_000] * 3, (8,), "float32")
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert all(str(path) in maps.read_text() for path in paths)
    with paths[1].open("r+b") as file:  # a map shows what is written into the file
        file.seek(look(paths[1]).offset + 20_000 * 32)
        file.write(np.full(8, 7, np.float32).tobytes())
    assert (found[60_000] == 7).all()
    del found
    gc.collect()
    if maps.exists():
        assert not any(str(path) in maps.read_text() for path in paths)


def test_rows_of_other_places_are_read(tmp_path: Path) -> None:
    parts = [values(5000, (3,), "float32", n) for n in range(3)]
    paths = [write(tmp_path / f"{n}.npy", part) for n, part in enumerate(parts)]
    found = mapped.mapped(paths, [5000] * 3, (3,), "float32")
    assert (found == np.concatenate(parts)).all()


def test_a_shared_row_counts_once(tmp_path: Path) -> None:
    whole = np.arange(9001, dtype=np.int64)
    parts = [whole[:4001], whole[4000:4002], whole[4001:]]
    paths = written(tmp_path, parts, shared=1)
    found = mapped.mapped(paths, [len(part) for part in parts], (), "int64", shared=1)
    assert (found == whole).all()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: p.unlink(), "cannot be read"),
        (lambda p: p.write_bytes(b"x"), "cannot be read"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "wrong size"),
        (lambda p: np.save(p, np.zeros((5, 4), np.float32)), "wrong contents"),
        (lambda p: np.save(p, np.zeros((5, 3), np.float64)), "wrong contents"),
        (lambda p: np.save(p, np.zeros((3, 5), np.float32).T), "one after the other"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, spoil, said: str) -> None:  # pyright: ignore
    paths = written(tmp_path, [values(5, (3,), "float32", n) for n in range(2)])
    spoil(paths[1])
    with pytest.raises(StoreError, match=rf"1\.npy(.|\n)*{said}"):
        mapped.mapped(paths, [5, 5], (3,), "float32")
