"""What every writer of recordings does: whole episodes only, resumed after a stop."""

import contextlib
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from deft.errors import FormatError
from deft.spec import Episode, Spec

_LOCK = "lock"


class DiskError(FormatError):
    """The disk refused a write; no episode is to blame, and running again goes on from here."""


class Writer(Protocol):
    """Turns episodes into a recording of one format; a context manager.

    Nothing is at `path` until `finish`; then the whole recording is, by one rename. A process
    that is killed leaves `<path>.partial/` behind, and a new writer with the same arguments has
    every episode for which `add` returned. Equal episodes in equal order give equal files.
    """

    @property
    def path(self) -> Path: ...

    @property
    def spec(self) -> Spec:
        """Contract of the episodes to come."""
        ...

    def has(self, id_: str, /) -> bool:
        """True when `add` has kept this episode, now or before an interruption."""
        ...

    def add(self, episode: Episode, /) -> None:
        """Keep one episode for good; safe to call from several threads.

        Raises:
            FormatError: the format cannot hold it, or its id was added before.
            SpecError: it follows another contract than the writer.
            DiskError: the disk refused.
        """
        ...

    def finish(self, order: Sequence[str], /) -> Path:
        """Let the recording appear at `path`, and return that.

        Args:
            order: the id of every episode that was added, in the order of the recording.

        Raises:
            FormatError: ids are missing, surplus or named twice, or there is none.
            DiskError: the disk refused; nothing appears.
        """
        ...

    def close(self) -> None:
        """Let go; what was added stays for the next writer. Harmless twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...


class Workspace:
    """The folder `<path>.partial/` in which a writer collects episodes, one file or folder each.

    A writer holds one, and gives it two functions: one that writes a single episode, and one that
    packs all of them into the recording. Locked against a second process; safe for threads.

    Args:
        path: where the recording will appear.
        plan: what the content depends on (format, spec, options), plain JSON values. A workspace
            begun with another plan is refused.
        may_replace: asked when something is at `path` already.
        may_drop: whether a workspace begun with another plan is thrown away instead.
        join: help a process that has this workspace open: only `keep` and `has` may be used.

    Raises:
        FormatError: `path` is taken, another process writes it, or the plan differs; with `join`,
            there is no such workspace.
        DiskError: the disk refused.
    """

    def __init__(
        self,
        path: Path,
        plan: Mapping[str, Any],
        may_replace: Callable[[Path], bool] = lambda _: False,
        *,
        may_drop: bool = False,
        join: bool = False,
    ) -> None:
        self.path = path
        self._plan = json.loads(json.dumps(plan))
        self._may_replace = may_replace
        self._may_drop = may_drop
        self._folder = _partial(path)
        self._guard = threading.Lock()
        self._kept: set[str] = set()
        self._adding: set[str] = set()
        if join:
            self._descriptor = -1
            self._compare_plan(self._folder / "plan.json")
            return
        if not self._folder.exists():
            self._refuse_taken()
        try:
            self._descriptor = _lock(self._folder)
            try:
                self._begin()
            except BaseException:
                self._release()
                raise
        except OSError as error:
            raise disk_refused(self._folder, error) from error

    def close(self) -> None:
        """Let go; a workspace that keeps nothing goes away. Harmless twice."""
        if self._descriptor < 0:
            return
        try:
            if not self._kept:
                self._dissolve()
        except OSError as error:
            raise disk_refused(self._folder, error) from error
        finally:
            self._release()

    def has(self, id_: str) -> bool:
        """True when `keep` has finished for this episode, here, in a process that joined, or
        before an interruption."""
        name = _name(id_)
        if name not in self._kept and self.place(id_).exists():
            with self._guard:
                self._kept.add(name)
        return name in self._kept

    def place(self, id_: str) -> Path:
        """Where an episode that is kept lies."""
        name = _name(id_)
        return self._folder / "episodes" / name[:2] / name

    def keep(self, id_: str, write: Callable[[Path], None]) -> None:
        """Keep one episode: durable when this returns, absent when it raises.

        Args:
            id_: of the episode; not kept before.
            write: makes a file or folder at the path it is given, where nothing is.

        Raises:
            FormatError: the id is there already, or whatever `write` raises.
            DiskError: the disk refused.
        """
        name, place = _name(id_), self.place(id_)
        with self._guard:
            twice = name in self._kept or name in self._adding
            self._adding.add(name)
        if twice:
            raise FormatError(
                f"{self.path}: episode '{id_}' was added already.\n"
                "Fix: give every episode an id of its own."
            )
        beside = place.with_name(name + ".tmp")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write(beside)
            sync(beside)
            beside.rename(place)
            _sync_folder(place.parent)
        except OSError as error:
            raise disk_refused(beside, error) from error
        finally:
            with contextlib.suppress(OSError):
                _remove(beside)
            with self._guard:
                self._adding.discard(name)
        with self._guard:
            self._kept.add(name)

    def publish(self, order: Sequence[str], pack: Callable[[Path, list[Path]], None]) -> Path:
        """Pack all episodes and let the result appear at `path`; returns that.

        Args:
            order: every id that was kept, each once.
            pack: makes the recording, a file or folder, at the path it is given, from the
                episodes' places in this order.

        Raises:
            FormatError: `order` is wrong, or whatever `pack` raises; nothing appears.
            DiskError: the disk refused; nothing appears.
        """
        self._check_order(order)
        packed = self._folder / "packed"
        try:
            _remove(packed)
            pack(packed, [self.place(id_) for id_ in order])
            sync(packed)
            _write_durably(self._folder / "finished", b"")
            if self.path.is_dir() or (packed.is_dir() and self.path.exists()):
                # A rename replaces a file by a file, and nothing else.
                _remove(self._folder / "old")
                self.path.rename(self._folder / "old")
            packed.rename(self.path)
            _sync_folder(self.path.parent)
            self._dissolve()
        except OSError as error:
            raise disk_refused(packed, error) from error
        return self.path

    def _begin(self) -> None:
        """Take up what an earlier writer left, or begin anew; the lock is held."""
        mark, packed = self._folder / "finished", self._folder / "packed"
        if mark.exists() and self.path.exists() and not packed.exists():
            # Killed after the recording appeared, before this folder was removed.
            (self._folder / "plan.json").unlink(missing_ok=True)
        mark.unlink(missing_ok=True)
        plan_file = self._folder / "plan.json"
        if self._may_drop and plan_file.exists() and _read_plan(plan_file) != self._plan:
            plan_file.unlink()
        if not plan_file.exists():
            # Without a plan this is a new folder, or one whose removal was interrupted.
            for entry in self._folder.iterdir():
                if entry.name != _LOCK:
                    _remove(entry)
            if self.path.exists() and not self._may_replace(self.path):
                self._dissolve()
                self._refuse_taken()
            _write_durably(plan_file, json.dumps(self._plan, indent=1, sort_keys=True).encode())
        self._refuse_taken()
        self._compare_plan(plan_file)
        for place in (self._folder / "episodes").glob("??/*"):
            if place.suffix == ".tmp":
                _remove(place)
            else:
                self._kept.add(place.name)

    def _compare_plan(self, file: Path) -> None:
        before = _read_plan(file)
        if before != self._plan:
            keys = sorted(k for k in {*before, *self._plan} if before.get(k) != self._plan.get(k))
            raise FormatError(
                f"{self._folder}: a recording begun with other arguments waits here.\n"
                f"Found: {', '.join(keys)} differ.\n"
                f"Fix: give the same arguments to go on, or delete {self._folder}."
            )

    def _refuse_taken(self) -> None:
        if self.path.exists() and not self._may_replace(self.path):
            raise FormatError(
                f"{self.path}: something is there already.\nFix: give another path, or remove it."
            )

    def _check_order(self, order: Sequence[str]) -> None:
        names = [_name(id_) for id_ in order]
        twice = len(names) - len(set(names))
        missing = [id_ for id_ in order if not self.has(id_)]
        surplus = len(self._kept - set(names))
        if twice or missing or surplus or not order:
            raise FormatError(
                f"{self.path}: the order must name every episode that was added once.\n"
                f"Found: {len(order)} names, {twice} twice, {len(missing)} never added "
                f"({', '.join(missing[:5]) or 'none'}), {surplus} added but not named.\n"
                f"Fix: name each once; when the recording has changed, delete {self._folder}."
            )

    def _dissolve(self) -> None:
        _clear(self._folder)
        self._release()

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def is_unfinished(path: str | Path) -> bool:
    """True when a workspace beside a path could still become, or replace, what is there."""
    folder = _partial(Path(path).absolute())
    if not (folder / "plan.json").exists():
        return False
    is_done = (folder / "finished").exists() and not (folder / "packed").exists()
    return not (is_done and Path(path).exists())


def tidy(path: str | Path) -> None:
    """Remove what a writer left beside its recording when it was killed after finishing it.

    An unfinished one is left alone. Raises `FormatError` while another process writes there.
    """
    path = Path(path).absolute()
    folder = _partial(path)
    if not folder.exists() or not path.exists() or is_unfinished(path):
        return
    descriptor = _lock(folder)
    try:
        if not is_unfinished(path):
            _clear(folder)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Make a file, or a folder with all that is in it, durable."""
    if path.is_dir():
        for entry in path.iterdir():
            sync(entry)
        _sync_folder(path)
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())


def disk_refused(path: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{path}: cannot be written.\nFound: {error}.\n"
        "Fix: free or allow the space, then run the same command again; it goes on from here."
    )


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _clear(folder: Path) -> None:
    """Remove a workspace whose lock is held."""
    # The plan goes first: a folder without one is rubbish to every later writer.
    (folder / "plan.json").unlink(missing_ok=True)
    for entry in folder.iterdir():
        if entry.name != _LOCK:
            _remove(entry)
    (folder / _LOCK).unlink()
    folder.rmdir()


def _read_plan(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise FormatError(
            f"{file}: nothing has been begun here.\nFix: begin with a writer of its own."
        ) from error
    except ValueError as error:
        raise FormatError(
            f"{file}: is damaged.\nFound: {error}.\nFix: delete {file.parent}."
        ) from error
    if not isinstance(found, dict):
        raise FormatError(f"{file}: is damaged.\nFix: delete {file.parent}.")
    return found


def _name(id_: str) -> str:
    """A file name for any id."""
    return hashlib.sha256(id_.encode()).hexdigest()[:40]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_durably(path: Path, data: bytes) -> None:
    beside = path.with_name(path.name + ".tmp")
    beside.write_bytes(data)
    sync(beside)
    beside.replace(path)
    _sync_folder(path.parent)


def _lock(folder: Path) -> int:
    """An open descriptor that holds `<folder>/lock`; the kernel drops it with the process."""
    import fcntl

    path = folder / _LOCK
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # the last holder has just removed the folder
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:  # removed between opening and locking
            pass
        except BlockingIOError as error:
            os.close(descriptor)
            raise FormatError(
                f"{folder}: another process is writing here.\n"
                "Fix: wait for it, or write to another path."
            ) from error
        os.close(descriptor)
