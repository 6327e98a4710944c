"""Opening the files of recordings, and nothing else that may lie under such a name.

Opening a named pipe waits for a writer for ever, and reading a device may never end; so whatever is
no regular file is refused before a byte of it is read.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def open_regular(path: Path, buffering: int = -1) -> BinaryIO:
    """A file, open for reading bytes.

    Raises:
        OSError: it is not there, cannot be read, or is no regular file.
    """
    return open(path, "rb", buffering, opener=_open)


def read_regular(path: Path) -> bytes:
    """All bytes of a file; raises as `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def check_regular(path: Path) -> None:
    """For files that others open; raises as `open_regular`, for a file that may not be read not."""
    _check(os.stat(path), path)


def _open(path: str, flags: int) -> int:
    # Without waiting for the other end of a pipe; to a regular file the flag means nothing.
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    try:
        _check(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check(found: os.stat_result, path: str | Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something special")
        raise OSError(errno.EINVAL, f"is {kind}, not a regular file", str(path))
