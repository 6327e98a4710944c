"""The bytes of a pickle in order, without reading the file whole."""

import io
from collections.abc import Callable
from typing import Any, BinaryIO

from deft.errors import FormatError

_WINDOW, _SMALL_WINDOW = 1 << 18, 1 << 13


class Tape:
    """The bytes of a file in order, through a window.

    Args:
        file: may be sought.
        where: what it is, for messages.
        lazy: read little ahead, since much will be skipped.
    """

    def __init__(self, file: BinaryIO, where: str, lazy: bool) -> None:
        self.where, self._file = where, file
        self._ahead = _SMALL_WINDOW if lazy else _WINDOW
        self._window = b""
        self._base = self._next = 0
        self.size = self._do(file.seek, 0, io.SEEK_END)

    @property
    def at(self) -> int:
        """Where the next byte lies in the file."""
        return self._base + self._next

    def take(self, count: int) -> bytes:
        """The next bytes, exactly so many."""
        stop = self._next + count
        if stop > len(self._window):
            self._check(count)
            self._move(self.at)
            self._window = self._read(max(count, self._ahead))
            stop = count
            if len(self._window) < count:
                raise self.damaged("the file has become shorter while it was read")
        data = self._window[self._next : stop]
        self._next = stop
        return data

    def byte(self) -> int:
        """The next byte."""
        try:
            value = self._window[self._next]
        except IndexError:
            return self.take(1)[0]
        self._next += 1
        return value

    def skip(self, count: int) -> None:
        """Pass over bytes that are there, unread."""
        self._check(count)
        self._next += count
        if self._next > len(self._window):
            self._move(self.at)

    def line(self) -> bytes:
        """What comes before the next line feed."""
        parts: list[bytes] = []
        while True:
            end = self._window.find(b"\n", self._next)
            if end >= 0:
                parts.append(self._window[self._next : end])
                self._next = end + 1
                return b"".join(parts)
            parts.append(self._window[self._next :])
            self._move(self._base + max(self._next, len(self._window)))
            self._window = self._read(self._ahead)
            if not self._window:
                raise self.damaged("it ends inside a line")

    def damaged(self, found: str) -> FormatError:
        """The error that says what was found at this place."""
        return FormatError(
            f"{self.where}: is no pickle of plain data and numpy arrays.\n"
            f"Found: {found} (at byte {self.at}).\n"
            "Fix: copy the file again; if it is meant to be so, save it anew as dictionaries, "
            "lists and numpy arrays. Deft never runs what a pickle asks for."
        )

    def _move(self, at: int) -> None:
        self._base, self._next, self._window = at, 0, b""

    def _check(self, count: int) -> None:
        if count > self.size - self.at:
            raise self.damaged(f"{count} bytes are promised, {self.size - self.at} are left")

    def _read(self, count: int) -> bytes:
        self._do(self._file.seek, self.at)
        parts: list[bytes] = []
        while count > 0 and (part := self._do(self._file.read, count)):
            parts.append(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _do(self, act: Callable[..., Any], *args: int) -> Any:
        try:
            return act(*args)
        except OSError as error:
            raise FormatError(
                f"{self.where}: cannot be read.\nFound: {error}.\n"
                "Fix: check the disk and the permissions, or copy the file again."
            ) from error
