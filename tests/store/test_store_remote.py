"""Stores at an address: the same batches, a bounded cache, nothing half fetched."""

import fcntl
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft import store
from deft.errors import ConfigError, MissingPackageError, StoreError
from deft.spec import Horizons
from suites.memory_source import MemorySource, tiny_spec

fsspec = pytest.importorskip("fsspec")
NAMES = ["image", "wrist/depth", "state"]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    """12 episodes, about 4 MB of pictures in shards of 1 MB."""
    source = MemorySource((7, 4, 9, 12) * 3, spec=tiny_spec(96, 96, depth=True))
    config = store.WriteConfig(codec="raw", val_fraction=0.2, shard_mb=1)
    return store.open(store.write(tmp_path_factory.mktemp("s") / "s", source, config).path)


@pytest.fixture
def url(local: store.Store) -> Iterator[str]:
    """The store on fsspec's file system in memory."""
    system = fsspec.filesystem("memory")
    system.put(str(local.path), "/bucket/s", recursive=True)
    yield "memory://bucket/s"
    system.rm("/bucket", recursive=True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEFT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def shard_bytes(cache: Path) -> int:
    return sum(path.stat().st_size for path in cache.rglob("*.bin"))


def batches(opened: store.Store, steps: int = 12, **options: Any) -> list[np.ndarray]:
    windows = store.Windows(opened, Horizons(obs_horizon=2), split="train")
    together = store.shards_together(opened)
    order = store.Blocks(windows, together, 3) if options.pop("blocks", False) else None
    sampler = store.Sampler(len(windows), 8, 3, order=order)
    with store.Loader(
        opened, windows, sampler, observations=NAMES, goals="uniform", steps=steps, **options
    ) as loader:
        return [
            np.concatenate(
                [
                    each.ravel().view(np.uint8)
                    for each in (*batch.obs.values(), *batch.goal.values())
                ]
            )
            for batch in loader
        ]


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all((a == b).all() for a, b in zip(one, other, strict=True))


def test_a_remote_store_gives_the_same_batches(local: store.Store, url: str, cache: Path) -> None:
    opened = store.open(url)
    assert opened.digest == local.digest
    assert shard_bytes(cache) == 0, "opening fetches no pictures"
    assert same(batches(opened), batches(local))
    assert shard_bytes(cache) > 0
    assert store.shards_together(opened) > 0
    assert store.shards_together(local) == 0


def test_the_second_time_nothing_is_fetched(local: store.Store, url: str) -> None:
    batches(store.open(url))
    for path in fsspec.filesystem("memory").find("/bucket"):
        if path.endswith(".bin"):
            fsspec.filesystem("memory").rm(path)
    assert same(batches(store.open(url)), batches(local))


@pytest.mark.parametrize("announce", [0, 5])
def test_the_cache_stays_within_its_limit(
    local: store.Store, url: str, cache: Path, announce: int
) -> None:
    limit = 3.2e6
    opened = store.open_remote(url, store.CacheConfig(max_gb=limit / 1e9))
    largest = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal largest
        while not done.wait(0.005):
            # Shards are deleted under this lock only, so that none is counted that has gone.
            with (cache / "stores/.room").open("a") as room:
                fcntl.flock(room, fcntl.LOCK_EX)
                largest = max(largest, shard_bytes(cache))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        found = batches(opened, 40, threads=3, announce=announce)
        blocks = batches(opened, 40, threads=3, announce=announce, blocks=True)
    finally:
        done.set()
        watcher.join()
    assert same(found, batches(local, 40))
    # The same windows in another order: pixels are right if those of the full shuffle are.
    assert len(blocks) == 40
    assert 0 < largest <= limit
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(
        thread.name == "deft-fetch" for thread in threading.enumerate()
    ):
        time.sleep(0.01)
    assert not any(thread.name == "deft-fetch" for thread in threading.enumerate())


def test_block_shuffle_fetches_each_shard_about_once(
    url: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    system = type(fsspec.filesystem("memory"))
    get_file = system.get_file

    def counted(self: Any, path: str, *args: Any, **kwargs: Any) -> None:
        fetched.append(path)
        get_file(self, path, *args, **kwargs)

    monkeypatch.setattr(system, "get_file", counted)
    opened = store.open_remote(url, store.CacheConfig(max_gb=3.2e-3))
    windows = store.Windows(opened, Horizons(obs_horizon=2), split="train")
    steps = len(windows) // 8

    def shards() -> int:
        return sum(path.endswith(".bin") for path in fetched)

    batches(opened, steps, blocks=True)
    in_blocks = shards()
    fetched.clear()
    batches(opened, steps)
    assert in_blocks < 0.5 * shards()


def test_bytes_that_changed_on_the_way_are_refused(
    url: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = fsspec.filesystem("memory")
    shard = next(path for path in system.find("/bucket") if path.endswith(".bin"))
    data = bytearray(system.cat_file(shard))
    data[1000] ^= 1
    system.pipe_file(shard, bytes(data))
    with pytest.raises(StoreError, match=r"shard-0.*\n?.*not what store.json lists"):
        batches(store.open(url), 30)
    assert not list(cache.rglob("*.part-*"))


def test_what_a_killed_process_left_is_swept(url: str, cache: Path) -> None:
    opened = store.open(url)
    shard = opened.frames["image"]._paths[0]
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    dead = shard.with_name(f".{shard.name}.part-{process.pid}-1")
    alive = shard.with_name(f".{shard.name}.part-{os.getpid()}-1")
    shard.parent.mkdir(parents=True, exist_ok=True)
    for path in (dead, alive):
        path.write_bytes(b"half")
    store.open(url)
    assert (dead.exists(), alive.exists()) == (False, True)


def test_wrong_addresses_are_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match=r"memory://bucket/none/store.json: there is no such"):
        store.open("memory://bucket/none")
    with pytest.raises(StoreError, match="no address that fsspec knows"):
        store.open("nonsense://bucket/none")
    with pytest.raises(ConfigError, match="has a shard of"):
        store.open_remote(url, store.CacheConfig(max_gb=1e-6))
    with pytest.raises(ConfigError, match="max_gb is 0"):
        store.CacheConfig(max_gb=0)
    if "s3fs" not in sys.modules:
        with pytest.raises(MissingPackageError, match="pip install s3fs"):
            store.open("s3://bucket/store")


def test_a_network_that_fails_is_tried_again(
    local: store.Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = type(fsspec.filesystem("memory"))
    get_file = system.get_file
    calls = 0

    def shaky(self: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise TimeoutError("a slow day")
        get_file(self, *args, **kwargs)

    monkeypatch.setattr(system, "get_file", shaky)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert same(batches(store.open(url), threads=1), batches(local))

    def broken(self: Any, *args: Any, **kwargs: Any) -> None:
        raise TimeoutError("a very slow day")

    monkeypatch.setattr(system, "get_file", broken)
    other = store.CacheConfig(folder=str(local.path.parent / "other cache"))
    with pytest.raises(StoreError, match="TimeoutError: a very slow day, 3 times"):
        store.open_remote(url, other)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_web_server_will_do(local: store.Store) -> None:
    pytest.importorskip("aiohttp", reason="fsspec's http file system needs aiohttp")
    with served(local.path.parent) as address:
        opened = store.open(f"{address}/s/")
        assert same(batches(opened, announce=3), batches(local))
        with pytest.raises(StoreError, match="there is no such file"):
            store.open(f"{address}/none")
