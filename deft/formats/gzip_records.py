"""TFRecord files that are packed with gzip as a whole."""

import copy
import struct
import threading
import zlib
from collections import OrderedDict
from pathlib import Path

from deft.errors import FormatError
from deft.formats.regular import open_regular
from deft.formats.tfrecord import crc32c, masked

_MAGIC = b"\x1f\x8b\x08"
_PIECE, _UNPACKED = 1 << 16, 1 << 20
_CURSORS = 8
_LIMIT = 4 << 30
_GZIP = zlib.MAX_WBITS | 16


def is_gzip(path: Path) -> bool:
    """Whether a file begins as gzip does. Raises `OSError`."""
    with open_regular(path) as file:
        return file.read(3) == _MAGIC


class GzipRecords:
    """The records of one file. Safe to use from several threads.

    Reading them in order unpacks everything once; going back begins at one of the last few places,
    or at the start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cursors: OrderedDict[int, _Stream] = OrderedDict({0: _Stream(path)})
        self._guard = threading.Lock()

    def __len__(self) -> int:
        """How many records there are; unpacks the whole file. Raises `FormatError` as `read`."""
        stream, count = _Stream(self.path), 0
        while not stream.is_at_end():
            stream.skip_record(count)
            count += 1
        return count

    def read(self, number: int) -> bytes:
        """The data of one record, its checksum verified.

        Raises:
            FormatError: the file is damaged, or ends before or inside the record.
        """
        with self._guard:
            start = max((n for n in self._cursors if n <= number), default=0)
            stream = self._cursors.get(start)
            stream = stream.copy() if stream else _Stream(self.path)
        for skipped in range(start, number):
            stream.skip_record(skipped)
        data = stream.read_record(number)
        with self._guard:
            self._cursors[number + 1] = stream
            self._cursors.move_to_end(number + 1)
            while len(self._cursors) > _CURSORS:
                self._cursors.popitem(last=False)
        return data


class _Stream:
    """The unpacked bytes of a file from some place on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unpacker = zlib.decompressobj(_GZIP)
        self._at = 0
        self._packed = self._ready = b""

    def copy(self) -> "_Stream":
        """An independent stream at the same place."""
        twin = copy.copy(self)
        twin._unpacker = self._unpacker.copy()
        return twin

    def is_at_end(self) -> bool:
        return not self._ready and not self._fill()

    def skip_record(self, number: int) -> None:
        self._take(self._size(number) + 4, number, keep=False)

    def read_record(self, number: int) -> bytes:
        size = self._size(number)
        data = self._take(size + 4, number)
        (wanted,) = struct.unpack("<I", data[size:])
        data = data[:size]
        if masked(crc32c(data)) != wanted:
            raise self._damaged(number, "the data does not match its checksum")
        return data

    def _size(self, number: int) -> int:
        header = self._take(12, number)
        size, wanted = struct.unpack("<QI", header)
        if masked(crc32c(header[:8])) != wanted or size > _LIMIT:
            raise self._damaged(number, f"length {size} does not match its checksum")
        return size

    def _take(self, count: int, number: int, *, keep: bool = True) -> bytes:
        parts: list[bytes] = []
        while count > 0:
            if not self._ready and not self._fill():
                raise self._damaged(number, f"the file ends {count} bytes too early")
            part, self._ready = self._ready[:count], self._ready[count:]
            count -= len(part)
            if keep:
                parts.append(part)
        return b"".join(parts)

    def _fill(self) -> bool:
        """Unpack a little more; False at the end of the file."""
        try:
            while not self._ready:
                if not self._packed:
                    with open_regular(self._path, 0) as file:
                        file.seek(self._at)
                        self._packed = file.read(_PIECE)
                    self._at += len(self._packed)
                if self._unpacker.eof and self._packed:  # one gzip stream behind the other
                    self._unpacker = zlib.decompressobj(_GZIP)
                if not self._packed:
                    if self._unpacker.eof:
                        return False
                    raise zlib.error("the packed data is cut short")
                self._ready = self._unpacker.decompress(self._packed, _UNPACKED)
                self._packed = (
                    self._unpacker.unused_data
                    if self._unpacker.eof
                    else self._unpacker.unconsumed_tail
                )
        except (OSError, zlib.error) as error:
            raise FormatError(
                f"{self._path}: cannot be unpacked.\nFound: {error}.\n"
                "Fix: copy the file again; this copy is damaged."
            ) from error
        return True

    def _damaged(self, number: int, found: str) -> FormatError:
        return FormatError(
            f"{self._path}, record {number}: is damaged.\nFound: {found}.\n"
            "Fix: copy the file again; this copy is damaged, or holds no TFRecords."
        )
