"""Pictures kept in memory: the same pixels, shared, bounded, and gone afterwards."""

import gc
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from deft import store
from deft.errors import ConfigError, StoreError
from deft.spec import Horizons
from suites.memory_source import MemorySource, tiny_spec

NAMES = ["image", "wrist/depth", "state"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    source = MemorySource((7, 4, 9, 12, 3, 8), spec=tiny_spec(depth=True))
    path = tmp_path_factory.mktemp("s") / "s"
    return store.open(store.write(path, source, store.WriteConfig(val_fraction=0.0)).path)


def batches(opened: store.Store, kept: store.Kept | None, steps: int = 20) -> list[np.ndarray]:
    windows = store.Windows(opened, Horizons(obs_horizon=2), split="train")
    sampler = store.Sampler(len(windows), 8, seed=5)
    with store.Loader(
        opened,
        windows,
        sampler,
        observations=NAMES,
        pictures=kept.pictures if kept else None,
        goals="uniform",
        threads=3,
        steps=steps,
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


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pixels_are_the_same_and_decoded_once(
    opened: store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = batches(opened, None)
    kept = store.keep_pictures(opened, NAMES, "auto", folder=tmp_path)
    assert kept.in_memory
    assert "kept in memory: 43 steps" in kept.why
    assert all((a == b).all() for a, b in zip(batches(opened, kept), wanted, strict=True))
    assert len(left(tmp_path)) == 4  # two features, a file and a lock each

    def never(*args: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(store.FrameColumn, "decode", never)
    monkeypatch.setattr(store.FrameColumn, "read_raw", never)
    found = batches(opened, kept)
    assert all((a == b).all() for a, b in zip(found, wanted, strict=True))
    del kept
    gc.collect()
    assert left(tmp_path) == []


def test_two_readers_share_and_the_last_one_cleans_up(opened: store.Store, tmp_path: Path) -> None:
    one = store.keep_pictures(opened, NAMES, "memory", folder=tmp_path)
    two = store.keep_pictures(opened, NAMES, "memory", folder=tmp_path)
    names = left(tmp_path)
    batches(opened, one)
    del one
    gc.collect()
    assert left(tmp_path) == names
    assert all(
        (a == b).all() for a, b in zip(batches(opened, two), batches(opened, None), strict=True)
    )
    del two
    gc.collect()
    assert left(tmp_path) == []


def test_auto_says_why_not(opened: store.Store, tmp_path: Path) -> None:
    small = store.keep_pictures(opened, NAMES, "auto", max_gb=1e-6, folder=tmp_path)
    assert not small.in_memory
    assert "the limit is 0.00 GB" in small.why
    assert store.keep_pictures(opened, ["state"], "auto", folder=tmp_path).in_memory is False
    gone = store.keep_pictures(opened, NAMES, "auto", folder=tmp_path / "nowhere")
    assert "nowhere is not there" in gone.why
    assert not store.keep_pictures(opened, NAMES, "off", folder=tmp_path).in_memory
    with pytest.raises(StoreError, match="do not fit into memory"):
        store.keep_pictures(opened, NAMES, "memory", max_gb=1e-6, folder=tmp_path)
    with pytest.raises(ConfigError, match="no picture cache 'on'"):
        store.keep_pictures(opened, NAMES, "on", folder=tmp_path)  # pyright: ignore
    assert left(tmp_path) == []


def test_raw_pictures_are_left_where_they_are(tmp_path: Path) -> None:
    config = store.WriteConfig(codec="raw", val_fraction=0.0)
    raw = store.open(store.write(tmp_path / "raw", MemorySource((4, 4)), config).path)
    kept = store.keep_pictures(raw, ["image"], "auto", folder=tmp_path)
    assert (kept.in_memory, "nothing to decode" in kept.why) == (False, True)


SCRIPT = """
import hashlib, sys
from pathlib import Path
import numpy as np
from deft import store
from test_store_memory_cache import NAMES, batches
opened = store.open(sys.argv[1])
kept = store.keep_pictures(opened, NAMES, "memory", folder=Path(sys.argv[2]))
print("joined", flush=True)
if sys.argv[3] == "hang":
    batches(opened, kept, steps=5)
    print("read", flush=True)
    sys.stdin.read()
assert sys.stdin.readline()
digest = hashlib.sha256(b"".join(b.tobytes() for b in batches(opened, kept, steps=30)))
print(digest.hexdigest(), flush=True)
"""


@contextmanager
def reader(opened: store.Store, folder: Path, how: str) -> Iterator[subprocess.Popen[str]]:
    tests = Path(__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(opened.path), str(folder), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests}/store"},
    ) as process:
        try:
            assert said(process) == "joined\n"
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_processes_share_one_memory_and_a_killed_one_harms_nobody(
    opened: store.Store, tmp_path: Path
) -> None:
    wanted = hashlib.sha256(b"".join(b.tobytes() for b in batches(opened, None, steps=30)))
    with ExitStack() as stack:
        hanging, *others = (
            stack.enter_context(reader(opened, tmp_path, how)) for how in ("hang", "read", "read")
        )
        assert len(left(tmp_path)) == 4
        assert said(hanging) == "read\n"
        hanging.kill()
        hanging.wait()
        for each in others:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        assert [said(each) for each in others] == [wanted.hexdigest() + "\n"] * 2
        for each in others:
            each.wait(timeout=60)
    assert left(tmp_path) == []


def test_what_a_killed_process_left_is_swept(opened: store.Store, tmp_path: Path) -> None:
    with reader(opened, tmp_path, "hang"):
        pass
    assert len(left(tmp_path)) == 4
    other = store.keep_pictures(opened, ["image"], "auto", folder=tmp_path)
    assert len(left(tmp_path)) == 2
    del other
