"""Decoded pictures kept in memory, once for all processes of a machine."""

import fcntl
import hashlib
import math
import os
import random
import shutil
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import simplejpeg

from deft.errors import ConfigError, StoreError
from deft.store.pictures import Pictures, decoded
from deft.store.reader import Store
from deft.store.ring import Seconds

_FOLDER = Path("/dev/shm")
_PREFIX = "deft-pictures-"
_PAGE = 4096


@dataclass(frozen=True)
class Kept:
    """Where the loader takes pictures from, and why from there."""

    pictures: dict[str, Pictures]
    """By feature, for `Loader(pictures=...)`."""
    in_memory: bool
    why: str
    """One line for people."""


def keep_pictures(
    store: Store,
    names: Sequence[str],
    choice: Literal["auto", "memory", "off"] = "auto",
    *,
    max_gb: float | None = None,
    folder: Path = _FOLDER,
) -> Kept:
    """Where to take pictures from: decoded each time, or kept in memory after the first time.

    The memory is a file in `/dev/shm`, reserved whole at once and shared by every process that
    reads the same store; the last one deletes it. Numbers are not kept: they are mapped anyway.

    Args:
        store: an open store.
        names: the features that are read; other pictures take no memory.
        choice: `auto` keeps them when they fit into the limit; `memory` insists; `off` decodes.
        max_gb: limit in billions of bytes; None takes half of the memory that is free.
        folder: where the memory is; a folder on disk works too, and is slower.

    Raises:
        ConfigError: the choice is unknown.
        StoreError: `memory`, and they do not fit.
    """
    if choice not in ("auto", "memory", "off"):
        raise ConfigError(
            f"There is no picture cache '{choice}'.\nFix: choose from auto, memory, off."
        )
    plain = decoded(store.frames)
    columns = {name: store.frames[name] for name in names if name in store.frames}
    if choice == "off" or not columns:
        return Kept(plain, False, "pictures are decoded each time")
    if choice == "auto" and all(column.codec == "raw" for column in columns.values()):
        return Kept(
            plain, False, "raw pictures are read from the store; there is nothing to decode"
        )
    _sweep(folder)
    plans = {name: _Plan.of(store, name, folder) for name in columns}
    wanted = sum(plan.size for plan in plans.values() if not plan.is_there())
    limit, of = _room(folder, max_gb)
    total = sum(plan.size for plan in plans.values())
    about = f"{len(store):,} steps take {total / 1e9:.2f} GB decoded, {of} {limit / 1e9:.2f} GB"
    if wanted > limit:
        if choice == "memory":
            raise StoreError(
                f"{store.path}: its pictures do not fit into memory.\nFound: {about}.\n"
                "Fix: raise the limit, free memory, or choose `auto` or `off`."
            )
        return Kept(plain, False, f"pictures are decoded each time: {about}")
    try:
        shared = {name: _Shared(plan) for name, plan in plans.items()}
    except OSError as error:
        if choice == "memory":
            raise StoreError(
                f"{folder}: no memory for pictures.\nFound: {error}; {about}.\n"
                "Fix: free memory, or choose `auto` or `off`."
            ) from error
        return Kept(plain, False, f"pictures are decoded each time: {error}; {about}")
    kept: dict[str, Pictures] = {name: _InMemory(plain[name], shared[name]) for name in shared}
    return Kept({**plain, **kept}, True, f"pictures are kept in memory: {about}")


@dataclass(frozen=True)
class _Plan:
    """The memory of one feature's pictures: a byte per step that says it is there, then pixels."""

    path: Path
    steps: int
    shape: tuple[int, ...]
    dtype: str

    @staticmethod
    def of(store: Store, name: str, folder: Path) -> "_Plan":
        feature = store.spec[name]
        # Decoders differ in the last bit between versions.
        versions = (simplejpeg.__version__, cv2.__version__)
        marks = (store.digest, name, len(store), feature.shape, feature.dtype, versions)
        mark = hashlib.sha256(repr(marks).encode()).hexdigest()[:24]
        path = folder / f"{_PREFIX}{os.getuid()}-{mark}"
        return _Plan(path, len(store), feature.shape, feature.dtype)

    @property
    def begin(self) -> int:
        """Bytes before the first pixel."""
        return -(-self.steps // _PAGE) * _PAGE

    @property
    def size(self) -> int:
        return self.begin + self.steps * math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def is_there(self) -> bool:
        try:
            return self.path.stat().st_size == self.size
        except FileNotFoundError:
            return False


class _Shared:
    """Memory that processes share; who lets go last deletes it. Raises `OSError` without room."""

    def __init__(self, plan: _Plan) -> None:
        lock = _joined(plan)
        self._finaliser = weakref.finalize(self, _left, lock, plan.path, os.getpid())
        whole = np.memmap(plan.path, np.uint8, "r+", shape=(plan.size,))
        self.there = np.asarray(whole[: plan.steps])
        self.pixels = np.asarray(
            whole[plan.begin :].view(plan.dtype).reshape(plan.steps, *plan.shape)
        )


class _InMemory:
    """Pictures from memory, those that are not there yet from elsewhere, once."""

    def __init__(self, source: Pictures, shared: _Shared) -> None:
        self._source = source
        self._shared = shared

    def read(self, rows: np.ndarray, outs: Sequence[np.ndarray], seconds: Seconds) -> None:
        begun = time.perf_counter()
        there, pixels = self._shared.there, self._shared.pixels
        known = there[rows] == 1
        for place in np.flatnonzero(known).tolist():
            np.copyto(outs[place], pixels[rows[place]])
        seconds.copy += time.perf_counter() - begun
        if known.all():
            return
        missing = np.flatnonzero(~known)
        self._source.read(rows[missing], [outs[place] for place in missing.tolist()], seconds)
        begun = time.perf_counter()
        for place in missing.tolist():
            np.copyto(pixels[rows[place]], outs[place])
            # Only after its pixels: a reader, or a kill in between, never finds half a picture.
            # Two that write the same picture write the same bytes.
            there[rows[place]] = 1
        seconds.copy += time.perf_counter() - begun

    def ahead(self, rows: np.ndarray) -> None:
        missing = rows[self._shared.there[rows] != 1]
        if len(missing):
            self._source.ahead(missing)


def _joined(plan: _Plan) -> int:
    """Create the memory if it is not there, and hold its lock, shared; the lock's descriptor.

    Whoever uses it holds the lock shared, for as long; whoever creates or deletes it, alone.
    """
    path = _lock_of(plan.path)
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            # Whoever left last may have deleted it meanwhile.
            if _is_same(lock, path):
                if plan.is_there():
                    return lock
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if not plan.is_there():
                        _reserve(plan)
        except BaseException:
            _left(lock, plan.path, os.getpid())
            raise
        # Look again: changing the kind of a lock lets go of it for a moment.
        os.close(lock)
        time.sleep(random.uniform(0, 0.02))


def _reserve(plan: _Plan) -> None:
    beside = plan.path.with_name(plan.path.name + ".new")
    file = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        # All of it now: a full memory must be an error here, not a killed process later.
        os.posix_fallocate(file, 0, plan.size)
        beside.replace(plan.path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


def _left(lock: int, path: Path, owner: int) -> None:
    """Let go of the memory, and delete it when nobody else holds it."""
    if os.getpid() != owner:
        os.close(lock)  # a forked child shares its parent's lock, which stays with the parent
        return
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_same(lock, _lock_of(path)):
            path.unlink(missing_ok=True)
            _lock_of(path).unlink(missing_ok=True)
    os.close(lock)


def _sweep(folder: Path) -> None:
    """Delete what processes that were killed left behind; files that others hold stay."""
    for path in folder.glob(f"{_PREFIX}{os.getuid()}-*.lock"):
        with suppress(OSError):
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            _left(lock, path.with_suffix(""), os.getpid())


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _room(folder: Path, max_gb: float | None) -> tuple[int, str]:
    """Bytes that may be taken, and what decides."""
    try:
        disk = shutil.disk_usage(folder).free
    except OSError:
        return 0, f"{folder} is not there:"
    limits = [(int(0.9 * disk), f"{folder} has room for")]
    if max_gb is None:
        limits.append((_free_memory() // 2, "half of the free memory is"))
    else:
        limits.append((int(max_gb * 1e9), "the limit is"))
    return min(limits)


def _free_memory() -> int:
    """Bytes that programs may still take, also within a container's limit."""
    found: list[int] = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) * 1024)
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        limit = int((group / "memory.max").read_text())
        found.append(limit - int((group / "memory.current").read_text()))
    return max(0, min(found, default=0))
