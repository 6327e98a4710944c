"""Recordings that were damaged on the way: read whole, or refused by name, never anything else."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from hypothesis import strategies as st

from deft import formats
from deft.errors import DeftError

Change = Callable[[Path], str]
"""Damages a file, and tells how."""


def read_all(path: Path, format_: str) -> None:
    """Open a recording and decode everything in it; a `DeftError` must name the file or folder."""
    with _refusing(path):
        recording = formats.open(path, format_)
        for number, info in enumerate(recording.episodes):
            with _refusing(path):
                episode = recording.read(number)
                assert len(episode) == info.length
                for frames in episode.frames.values():
                    assert all(picture.ndim == 3 for picture in frames)


@contextmanager
def _refusing(path: Path) -> Generator[None]:
    try:
        yield
    except DeftError as error:
        if path.name not in str(error):
            raise AssertionError(f"the message does not name {path}") from error


def datasets(path: Path) -> list[str]:
    """Every data set of a file."""
    found: list[str] = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, held: found.append(name) if isinstance(held, h5py.Dataset) else None
        )
    return found


@st.composite
def damage(draw: st.DrawFn) -> Change:
    """Cut, flipped bytes, a data set taken away or of another dtype, shape or kind."""
    kind = draw(st.sampled_from(["cut", "flip", "drop", "dtype", "rows", "axes", "group", "nan"]))
    place = draw(st.floats(0, 1, exclude_max=True))
    if kind == "cut":
        return lambda path: _cut(path, place)
    if kind == "flip":
        value = draw(st.integers(1, 255))
        return lambda path: _flip(path, place, value)
    dtype = draw(st.sampled_from(["S4", "i1", "u8", "f2", "c8", "O"]))
    return lambda path: replace_dataset(path, place, kind, dtype)


def _cut(path: Path, place: float) -> str:
    data = path.read_bytes()
    path.write_bytes(data[: int(place * len(data))])
    return f"cut at {place:.2f}"


def _flip(path: Path, place: float, value: int) -> str:
    data = bytearray(path.read_bytes())
    at = int(place * len(data))
    data[at] ^= value
    path.write_bytes(data)
    return f"byte {at} xor {value}"


def replace_dataset(path: Path, place: float, kind: str, dtype: str) -> str:
    """Take away one data set, or make it another dtype, shape or kind; tells which."""
    names = datasets(path)
    name = names[int(place * len(names))]
    with h5py.File(path, "r+") as file:
        old = file[name][()]
        del file[name]
        if kind == "drop":
            return f"{name} dropped"
        if kind == "group":
            file.create_group(name)
        elif kind == "dtype":
            shape = np.shape(old)
            if dtype == "O":
                file.create_dataset(
                    name, data=np.full(shape, "text", object), dtype=h5py.string_dtype()
                )
            else:
                file.create_dataset(name, shape, dtype)
        elif np.ndim(old) == 0:
            file.create_dataset(name, data=7)
        elif kind == "rows":
            file.create_dataset(name, data=old[:-1])
        elif kind == "axes":
            file.create_dataset(name, data=old[None])
        elif np.asarray(old).dtype.kind == "f":
            old[-1] = np.nan
            file.create_dataset(name, data=old)
    return f"{name}: {kind} {dtype}"
