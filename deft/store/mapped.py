"""Arrays that lie in several .npy files, mapped to memory as one, without a copy."""

import ctypes
import math
import mmap
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import StoreError

AGAIN = "Fix: convert the data again."
_PAGE = 4096
"""Rows of an appended file begin where they can be mapped right behind those before them, on
machines with pages of this size; on others they are read into memory."""
_MAGIC = b"\x93NUMPY\x01\x00"
_HEAD = re.compile(
    rb"\{'descr': '([<|>=]?[a-z]\d+)', 'fortran_order': (True|False), "
    rb"'shape': \(([\d, ]*)\), \} *\n"
)
_FIXED = 0x10
"""MAP_FIXED, which Python does not name; the same on Linux and macOS."""


@dataclass(frozen=True)
class Npy:
    """What the head of a .npy file says."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    """Bytes before the first row."""

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize


def npy_header(shape: tuple[int, ...], dtype: str, begin: int | None = None) -> bytes:
    """The head of a .npy file.

    Args:
        shape: of all rows to come.
        dtype: numpy's name.
        begin: where the first row will be mapped, counted from the start of a page; the head is
            filled up so that file and memory agree. None: as numpy writes it.
    """
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    least = len(_MAGIC) + 2 + len(text) + 1
    size = -(-least // 64) * 64 if begin is None else least + (begin - least) % _PAGE
    padded = text.ljust(size - len(_MAGIC) - 3) + "\n"
    return _MAGIC + struct.pack("<H", len(padded)) + padded.encode("latin1")


def look(path: Path) -> Npy:
    """Read the head of a .npy file. Raises `StoreError` when it is missing or none."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC) + 2)
            if start[: len(_MAGIC)] != _MAGIC or len(start) != len(_MAGIC) + 2:
                raise ValueError("no .npy file of version 1.0")
            head = _HEAD.fullmatch(file.read(int.from_bytes(start[-2:], "little")))
            if head is None:
                raise ValueError("its head is damaged, or holds no plain numbers")
            descr, by_column, sizes = (each.decode() for each in head.groups())
            shape = tuple(int(each) for each in sizes.split(",") if each.strip())
            found = Npy(path, shape, np.dtype(descr), file.tell())
            size = file.seek(0, os.SEEK_END) - found.offset
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path}: cannot be read.\nFound: {error}.\n{AGAIN}") from error
    if by_column == "True" and len(shape) > 1:
        raise StoreError(f"{path}: its rows do not lie one after the other.\n{AGAIN}")
    wanted = math.prod(shape) * found.dtype.itemsize
    if size != wanted:
        raise StoreError(f"{path}: wrong size.\nFound: {size} bytes, wanted {wanted}.\n{AGAIN}")
    return found


def mapped(
    files: Sequence[Path], rows: Sequence[int], shape: tuple[int, ...], dtype: str, shared: int = 0
) -> np.ndarray:
    """The rows of several files as one array, read-only, of which the disk is read as it is used.

    Args:
        files: one or more, in order.
        rows: how many each must have.
        shape: of one row.
        dtype: numpy's name.
        shared: the first so many rows of each file but the first are the last ones of the file
            before it.

    Returns:
        `N ...` with N the sum of `rows`, those that are shared counted once.

    Raises:
        StoreError: a file is missing, damaged, or holds something else.
    """
    heads = [look(path) for path in files]
    for head, count in zip(heads, rows, strict=True):
        if head.shape != (count, *shape) or head.dtype != np.dtype(dtype):
            raise StoreError(
                f"{head.path}: wrong contents.\nFound: {head.dtype} of shape {head.shape}, wanted "
                f"{dtype} of shape {(count, *shape)}.\n{AGAIN}"
            )
    if len(heads) == 1:
        return np.load(files[0], mmap_mode="r", max_header_size=1 << 16)
    starts = np.cumsum([0, *(count - shared for count in rows[:-1])]).tolist()
    total = starts[-1] + rows[-1]
    width = heads[0].row_bytes
    lead = heads[0].offset % _PAGE
    # Address space only: pages of it that are never touched take no memory.
    region = mmap.mmap(
        -1, max(1, lead + total * width), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _no_reserve()
    )
    for head, start in zip(heads, starts, strict=True):
        _lay(region, head, lead + start * width)
    array = np.frombuffer(region, dtype, total * math.prod(shape), lead).reshape(total, *shape)
    array.setflags(write=False)
    return array


def _no_reserve() -> int:
    return 0x4000 if os.uname().sysname == "Linux" else 0


def _lay(region: mmap.mmap, head: Npy, begin: int) -> None:
    """Put the rows of one file at `begin` of the region: whole pages are mapped, the rest read."""
    end = begin + head.shape[0] * head.row_bytes
    first, last = -(-begin // _PAGE) * _PAGE, end // _PAGE * _PAGE
    fits = mmap.PAGESIZE == _PAGE and (head.offset - begin) % _PAGE == 0
    if not fits or last <= first:
        first = last = end
    try:
        file = os.open(head.path, os.O_RDONLY)
        try:
            for low, high in ((begin, first), (last, end)):
                _read(file, region, low, high, head.offset - begin, head.path)
            if last > first:
                _map(file, region, first, last, head.offset - begin)
        finally:
            os.close(file)
    except OSError as error:
        raise StoreError(f"{head.path}: cannot be read.\nFound: {error}.\n{AGAIN}") from error


def _read(file: int, region: mmap.mmap, low: int, high: int, shift: int, path: Path) -> None:
    with memoryview(region) as view:
        while low < high:
            with view[low:high] as rest:
                got = os.preadv(file, [rest], low + shift)
            if got == 0:
                raise StoreError(f"{path}: it ends before its last row.\n{AGAIN}")
            low += got


def _map(file: int, region: mmap.mmap, low: int, high: int, shift: int) -> None:
    """Lay pages of a file over the region, which unmaps them with itself."""
    base = np.frombuffer(region, np.uint8).ctypes.data
    flags = mmap.MAP_SHARED | _FIXED
    got = _libc().mmap(base + low, high - low, mmap.PROT_READ, flags, file, low + shift)
    if got != base + low:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@lru_cache(1)
def _libc() -> Any:
    """The C library; Python's own mmap cannot say where to map."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_longlong,
    ]
    return libc
