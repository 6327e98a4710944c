"""Stores on object storage or a web server: a local mirror, with a bounded cache of shards."""

import fcntl
import hashlib
import json
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deft.errors import ConfigError, MissingPackageError, StoreError, need
from deft.store.frames import OpenFile
from deft.store.reader import Store, is_shard, open_at

_TRIES = 3
_FETCHERS = 4
_WAITING = 256
_TOUCH_S = 0.05


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Where the parts of a remote store are kept, and how much of them."""

    folder: str | None = None
    """Shared by all stores and processes; None takes $DEFT_CACHE_DIR, else `~/.cache/deft`."""
    max_gb: float = 20.0
    """Shards kept, in billions of bytes, all stores together; the least recently read go first.
    What is no picture (tables, offsets) is kept besides."""

    def __post_init__(self) -> None:
        if not self.max_gb > 0:
            raise ConfigError(f"cache: max_gb is {self.max_gb}.\nFix: set it above 0.")

    def place(self) -> Path:
        """The folder, absolute."""
        given = self.folder or os.environ.get("DEFT_CACHE_DIR") or "~/.cache/deft"
        return Path(given).expanduser().absolute() / "stores"


def open_remote(
    url: str, cache: CacheConfig | None = None, options: Mapping[str, Any] | None = None
) -> Store:
    """Open a store at an address that fsspec knows: `s3://`, `gs://`, `https://`, `memory://`, ….

    Everything but pictures is fetched now; shards when a picture of theirs is read, whole, and at
    most `cache.max_gb` of them stay on disk. Every file is checked against its sha256. A process
    that is killed leaves nothing that looks whole; several may share the cache.

    Args:
        url: of the folder that holds store.json.
        cache: where and how much.
        options: for the file system, as fsspec takes them; keys and secrets are better left to
            the environment.

    Raises:
        MissingPackageError: fsspec, or what it needs for this address, is not installed.
        StoreError: as `store.open`; also when the address cannot be reached.
        ConfigError: the cache is smaller than the largest shard.
    """
    cache = cache or CacheConfig()
    place = _Place.of(url, options)
    head = place.read("store.json")
    try:
        info = json.loads(head)
        digest, files = str(info["digest"]), dict(info["files"])
        shards = {name: int(each["bytes"]) for name, each in files.items() if is_shard(name)}
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{url}/store.json: this is no finished store of Deft.\nFound: {error!r}.\n"
            "Fix: give the address of the folder that `deft convert --to store` wrote."
        ) from error
    largest = max(shards.values(), default=0)
    if cache.max_gb * 1e9 < largest:
        raise ConfigError(
            f"cache: max_gb is {cache.max_gb:g}, but {url} has a shard of {largest / 1e9:.2g} GB.\n"
            "Fix: raise max_gb; random reading wants many shards at once."
        )
    folder = cache.place() / digest[:24]
    held = ShardCache(place, folder, files, int(cache.max_gb * 1e9))
    held.mirror(head)
    opened = open_at(folder, held)
    about = {
        "url": url,
        "cache_bytes": held.max_bytes,
        "shard_bytes": sum(shards.values()),
    }
    return replace(opened, info={**opened.info, "remote": about})


def shards_together(store: Store) -> int:
    """How many shards of each camera `Blocks` should mix, so that these and the next ones fit into
    the cache of a remote store; 0 for a local one, which needs no blocks."""
    remote = store.info.get("remote")
    if remote is None:
        return 0
    blocks = max((len(column.first) for column in store.frames.values()), default=1)
    return max(1, int(remote["cache_bytes"] / 2 / max(remote["shard_bytes"] / blocks, 1)))


@dataclass(frozen=True)
class _Place:
    """A folder on a file system that fsspec opened."""

    url: str
    system: Any
    root: str
    is_web: bool

    @staticmethod
    def of(url: str, options: Mapping[str, Any] | None) -> "_Place":
        fsspec = need("fsspec", "remote")
        try:
            system, root = fsspec.core.url_to_fs(url.rstrip("/"), **(options or {}))
        except ImportError as error:
            raise _not_installed(url, error) from error
        except ValueError as error:
            raise StoreError(
                f"{url}: no address that fsspec knows.\nFound: {error}.\n"
                "Fix: give a folder, or an address such as s3://bucket/folder."
            ) from error
        return _Place(url.rstrip("/"), system, root, url.startswith("http"))

    def read(self, name: str) -> bytes:
        return self._tried(name, lambda: self.system.cat_file(self._at(name)))

    def fetch(self, name: str, target: Path) -> None:
        self._tried(name, lambda: self.system.get_file(self._at(name), str(target)))

    def _at(self, name: str) -> str:
        # File names may hold %, which an address would take for an escape.
        return f"{self.root}/{quote(name) if self.is_web else name}"

    def _tried(self, name: str, work: Any) -> Any:
        for attempt in range(1, _TRIES + 1):
            try:
                return work()
            except FileNotFoundError as error:
                raise StoreError(
                    f"{self.url}/{name}: there is no such file.\n"
                    "Fix: correct the address, or copy the store there again."
                ) from error
            except Exception as error:  # each file system has errors of its own
                if attempt == _TRIES:
                    raise StoreError(
                        f"{self.url}/{name}: it cannot be fetched.\n"
                        f"Found: {type(error).__name__}: {error}, {_TRIES} times.\n"
                        "Fix: check address, network and access, then run again."
                    ) from error
                time.sleep(0.2 * attempt)
        raise AssertionError("unreachable")


class ShardCache:
    """Opens the shards of one store, fetching those that are not there; see `open_remote`.

    Safe for many threads and processes. Locks between processes are `flock`s, so the cache must
    lie on a local disk.
    """

    def __init__(
        self, place: _Place, folder: Path, files: Mapping[str, Mapping[str, Any]], max_bytes: int
    ) -> None:
        self._place = place
        self._folder = folder
        self._files = files
        self.max_bytes = max_bytes
        self._open: OrderedDict[Path, OpenFile] = OrderedDict()
        self._touched: dict[Path, float] = {}
        self._guard = threading.Lock()
        self._coming: deque[Path] = deque()
        self._fetchers = 0

    def __call__(self, path: Path) -> OpenFile:
        """An open shard; its bytes stay readable as long as this is held."""
        with self._guard:
            file = self._open.get(path)
            # Another process may have made room: then the space must not stay taken.
            if file is not None and os.fstat(file.descriptor).st_nlink == 0:
                del self._open[path]
                file = None
            if file is not None:
                self._touch(path, file)
                return file
        return self._fetched(path)

    def ahead(self, paths: Sequence[Path]) -> None:
        """Fetch shards in the background; what goes wrong shows when they are read."""
        with self._guard:
            for path in paths:
                if path not in self._open and path not in self._coming:
                    self._coming.append(path)
            while len(self._coming) > _WAITING:
                self._coming.popleft()
            wanted = min(_FETCHERS, len(self._coming)) - self._fetchers
            self._fetchers += max(0, wanted)
        for _ in range(wanted):
            # They end when nothing is left to fetch, and never hold up the end of the process.
            threading.Thread(target=self._fetch_all, name="deft-fetch", daemon=True).start()

    def mirror(self, head: bytes) -> None:
        """Bring everything but shards; store.json comes last."""
        self._folder.mkdir(parents=True, exist_ok=True)
        _sweep(self._folder)
        for name in self._files:
            if not is_shard(name):
                path = self._folder / name
                with _locked(self._lock_of(path)):
                    if not self._is_there(path):
                        self._bring(path)
        target = self._folder / "store.json"
        beside = _beside(target)
        beside.write_bytes(head)
        beside.replace(target)

    def _fetch_all(self) -> None:
        while True:
            with self._guard:
                if not self._coming:
                    self._fetchers -= 1
                    return
                path = self._coming.popleft()
            with suppress(StoreError):
                self._fetched(path)

    def _fetched(self, path: Path) -> OpenFile:
        with _locked(self._lock_of(path)):
            file = self._found(path)
            if file is None:
                with self._room_for(path):
                    file = self._bring(path)
        os.utime(file.descriptor)
        with self._guard:
            self._open[path] = file
            self._touched[path] = time.monotonic()
        return file

    def _found(self, path: Path) -> OpenFile | None:
        """The shard, if it is there and is not being deleted at this moment."""
        try:
            return OpenFile(path) if self._is_there(path) else None
        except FileNotFoundError:
            return None

    def _touch(self, path: Path, file: OpenFile) -> None:
        now = time.monotonic()
        if now - self._touched.get(path, 0.0) > _TOUCH_S:
            self._touched[path] = now
            os.utime(file.descriptor)

    @contextmanager
    def _room_for(self, path: Path) -> Generator[None]:
        """Hold room for one more shard, deleting the least recently read ones of any store."""
        wanted = int(self._files[self._name(path)]["bytes"])
        root = self._folder.parent
        mark = path.with_name(f"{_beside(path).name}.wanted")
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with _locked(root / ".room"):
                coming = sum(_size(each) for each in root.glob("*/**/.*.wanted"))
                if not coming or coming + wanted <= self.max_bytes:
                    self._delete_down_to(self.max_bytes - coming - wanted)
                    with mark.open("wb") as file:
                        file.truncate(wanted)  # says how much, and takes none of it
                    break
            # What others fetch fills the cache by itself; they will soon be done, or dead.
            time.sleep(0.01)
            _sweep(root)
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)

    def _delete_down_to(self, limit: int) -> None:
        there: list[tuple[int, int, Path]] = []
        for shard in self._folder.parent.glob("*/**/*.bin"):
            with suppress(FileNotFoundError):
                found = shard.stat()
                there.append((found.st_mtime_ns, found.st_size, shard))
        total = sum(size for _, size, _ in there)
        for _, size, shard in sorted(there):
            if total <= limit:
                break
            shard.unlink(missing_ok=True)
            total -= size
            with self._guard:
                self._open.pop(shard, None)
                self._touched.pop(shard, None)

    def _bring(self, path: Path) -> OpenFile:
        """Fetch one file beside its place, check it, make it durable, move it there."""
        name = self._name(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = _beside(path)
        try:
            self._place.fetch(name, beside)
            with beside.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            wanted = self._files[name]["sha256"]
            if found != wanted:
                raise StoreError(
                    f"{self._place.url}/{name}: it is not what store.json lists.\n"
                    f"Found: sha256 {found[:12]}…, wanted {wanted[:12]}….\n"
                    "Fix: copy the store there again."
                )
            # Opened first: once it is in its place, another may delete it to make room.
            opened = OpenFile(beside)
            beside.replace(path)
            return opened
        except OSError as error:
            raise StoreError(
                f"{path}: the cache cannot be written.\nFound: {error}.\n"
                "Fix: make room, or name another folder in DEFT_CACHE_DIR."
            ) from error
        finally:
            beside.unlink(missing_ok=True)

    def _is_there(self, path: Path) -> bool:
        """Whole files only ever appear by a rename, so size is enough."""
        try:
            return path.stat().st_size == self._files[self._name(path)]["bytes"]
        except FileNotFoundError:
            return False

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _lock_of(self, path: Path) -> Path:
        return path.with_name(f".{path.name}.lock")


def _not_installed(url: str, error: ImportError) -> MissingPackageError:
    """The error that says what an address needs installed."""
    packages = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
    package = packages.get(url.split("://")[0], "'deft-robotics[remote]'")
    return MissingPackageError(
        f"{url}: what reads such addresses is not installed.\n"
        f"Found: {error}.\nFix: pip install {package}."
    )


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.part-{os.getpid()}-{threading.get_ident()}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sweep(folder: Path) -> None:
    """Remove what processes that have ended left half fetched."""
    for partial in folder.glob("**/.*.part-*"):
        pid = int(partial.name.rsplit(".part-", 1)[1].split("-")[0])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            partial.unlink(missing_ok=True)
        except PermissionError:
            continue


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Hold a file's lock, against other threads and processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
