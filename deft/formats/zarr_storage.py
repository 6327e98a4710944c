"""Where the pieces of a zarr group lie: a folder, or a zip file that is read in place."""

import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Protocol

from deft.errors import FormatError
from deft.formats.regular import check_regular, open_regular

_ANCHORS = ("meta/episode_ends/.zarray", "meta/episode_ends/zarr.json")
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
    OSError,
)


class Storage(Protocol):
    """Named pieces of bytes. Safe to read from several threads."""

    @property
    def path(self) -> Path: ...

    @property
    def keys(self) -> frozenset[str]:
        """Every name, folders separated by `/`."""
        ...

    def get(self, key: str, limit: int) -> bytes:
        """One piece. Raises `FormatError` when it is damaged or larger than `limit` bytes."""
        ...

    def size(self, key: str) -> int:
        """Bytes of one piece. Raises `FormatError` when that cannot be told."""
        ...

    def part(self, key: str, start: int, count: int) -> bytes:
        """So many bytes of one piece. Raises `FormatError` when they are not there."""
        ...


class FolderStorage:
    """A zarr group in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys = frozenset(
            Path(folder, name).relative_to(path).as_posix()
            for folder, _, names in os.walk(path)
            for name in names
        )

    def get(self, key: str, limit: int) -> bytes:
        try:
            with open_regular(self.path / key) as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise _unreadable(self.path, key, error) from error
        _check_limit(len(data), limit, f"{self.path}/{key}")
        return data

    def size(self, key: str) -> int:
        try:
            return (self.path / key).stat().st_size
        except OSError as error:
            raise _unreadable(self.path, key, error) from error

    def part(self, key: str, start: int, count: int) -> bytes:
        try:
            with open_regular(self.path / key) as file:
                file.seek(start)
                data = file.read(count)
        except (OSError, ValueError) as error:
            raise _unreadable(self.path, key, error) from error
        return _check_count(data, start, count, f"{self.path}/{key}")


class ZipStorage:
    """A zarr group in a zip file, read in place; checksums of its members are verified.

    The group may lie in a folder inside the zip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            check_regular(path)
            self._zip = zipfile.ZipFile(path)
            names = self._zip.namelist()
        except _ZIP_ERRORS as error:
            raise _unreadable(path, "the table of contents", error) from error
        ends = ((n, anchor) for n in names for anchor in _ANCHORS if n.endswith(anchor))
        inside = sorted((n.removesuffix(anchor) for n, anchor in ends), key=len)
        self._prefix = inside[0] if inside else ""
        self.keys = frozenset(
            name.removeprefix(self._prefix)
            for name in names
            if name.startswith(self._prefix) and not name.endswith("/")
        )

    def get(self, key: str, limit: int) -> bytes:
        info = self._zip.getinfo(self._prefix + key)
        _check_limit(info.file_size, limit, f"{self.path}/{info.filename}")
        try:
            return self._zip.read(info)
        except _ZIP_ERRORS as error:
            raise _unreadable(self.path, info.filename, error) from error

    def size(self, key: str) -> int:
        return self._zip.getinfo(self._prefix + key).file_size

    def part(self, key: str, start: int, count: int) -> bytes:
        info = self._zip.getinfo(self._prefix + key)
        try:
            with self._zip.open(info) as file:
                file.seek(start)
                data = file.read(count)
        except _ZIP_ERRORS as error:
            raise _unreadable(self.path, info.filename, error) from error
        return _check_count(data, start, count, f"{self.path}/{info.filename}")


def _check_limit(size: int, limit: int, where: str) -> None:
    if size > limit:
        raise FormatError(
            f"{where}: is larger than what it describes can be.\n"
            f"Found: more than {limit} bytes.\nFix: copy the file again, or write the array again."
        )


def _check_count(data: bytes, start: int, count: int, where: str) -> bytes:
    if len(data) != count:
        raise FormatError(
            f"{where}: is cut short.\n"
            f"Found: {len(data)} bytes at byte {start}, wanted {count}.\n"
            "Fix: copy the file again, or write the array again."
        )
    return data


def _unreadable(path: Path, key: str, error: Exception) -> FormatError:
    return FormatError(
        f"{path}: '{key}' cannot be read.\nFound: {error}.\nFix: copy the recording again, whole."
    )
