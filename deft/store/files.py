"""Files that are whole or not there: safe names, durable writes, the writer's lock."""

import contextlib
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deft.errors import StoreError

LOCK = "lock"
_BUFFER = 1 << 17
"""Bytes; a store has many files open while it is packed."""


class DiskError(StoreError):
    """The disk refused a write; no episode is to blame, and running again goes on from here."""


def file_name(feature: str) -> str:
    """A feature name as a file name: everything but letters, digits and `_.-~` is %-quoted.

    Two names never share a file, and no name leaves its folder. Raises `StoreError` for names
    too long for a file system.
    """
    quoted = quote(feature, safe="")
    if quoted.startswith("."):
        quoted = "%2E" + quoted[1:]
    if len(quoted) > 200:
        raise StoreError(
            f"Feature '{feature[:40]}…' has a name of {len(quoted)} bytes as a file name.\n"
            "Fix: rename it to at most 200."
        )
    return quoted


def portable(text: str) -> str:
    """Text without absolute paths: each keeps its last part only, so stores can be compared."""
    return re.sub(r"(?<![\w.~:/-])/(?:[^\s/'\",:;()]+/)*(?=[^\s/])", "", text)


def to_json(value: Any) -> bytes:
    """Readable JSON with sorted keys: equal values give equal bytes."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    # File names and damaged attributes may hold bytes that are no text, `\\udcXX` in Python; as an
    # escape they are JSON, and are read back as they were.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def read_json(path: Path) -> Any:
    """Raises `StoreError` when the file is missing or no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path}: cannot be read.\nFound: {error}.\nFix: convert the data again."
        ) from error


def sync_folder(path: Path) -> None:
    """Make renames and new names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Write beside, sync, rename, sync: after a power cut the file is old or new, never half."""
    beside = path.with_name(path.name + ".tmp")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_folder(path.parent)


def empty_folder(path: Path, keep: str) -> None:
    """Remove everything in a folder but one name."""
    for entry in path.iterdir():
        if entry.name == keep:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def fingerprint(path: Path) -> dict[str, Any]:
    """Size and sha256 of a file, as store.json lists them."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def disk_refused(path: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{path}: cannot be written.\nFound: {error}.\n"
        "Fix: free or allow the space, then run the same command again; it goes on from here."
    )


class HashedFile:
    """A new file that counts and hashes what is written, and is durable once finished.

    A context manager: left without `finish`, the file is closed and unfinished. Raises
    `DiskError` when the disk refuses.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = hashlib.sha256()
        self.size = 0
        try:
            self._file = path.open("xb", buffering=_BUFFER)
        except OSError as error:
            raise disk_refused(path, error) from error

    def __enter__(self) -> "HashedFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._file.close()
            return
        with contextlib.suppress(OSError):  # flushing may fail again; the first error counts
            self._file.close()

    def write(self, data: bytes | memoryview) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise disk_refused(self._path, error) from error
        self._hash.update(data)
        self.size += len(data)

    def finish(self) -> dict[str, Any]:
        """Sync to disk; returns what `fingerprint` would."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise disk_refused(self._path, error) from error
        return {"bytes": self.size, "sha256": self._hash.hexdigest()}


class FolderLock:
    """Holds `<folder>/lock`; a second holder, in this process or another, is refused.

    The kernel drops the lock with the process, so a killed writer leaves none behind.
    """

    def __init__(self, folder: Path) -> None:
        import fcntl

        path = folder / LOCK
        self.held = True
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                continue  # the last holder has just removed the folder
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._descriptor)
                raise StoreError(
                    f"{folder}: another process is writing this store.\n"
                    "Fix: wait for it, or write to another path."
                ) from error
            if self._is_current(path):
                return
            os.close(self._descriptor)

    def _is_current(self, path: Path) -> bool:
        """False when the file was removed between opening and locking it."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let go; harmless twice."""
        if self.held:
            self.held = False
            os.close(self._descriptor)
