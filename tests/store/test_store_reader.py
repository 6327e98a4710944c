"""Opening a store: what is damaged is named."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deft import store
from deft.errors import StoreError
from suites.memory_source import MemorySource, tiny_spec


@pytest.fixture
def path(tmp_path: Path) -> Path:
    source = MemorySource((5, 9, 4), spec=tiny_spec(depth=True))
    return store.write(tmp_path / "s", source, store.WriteConfig()).path


def edit(name: str, change: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        data = json.loads((path / name).read_bytes())
        change(data)
        (path / name).write_text(json.dumps(data))

    return spoil


def resized(name: str, data: bytes) -> Callable[[Path], None]:
    """Change a file and its listed size, as a stray tool might."""

    def spoil(path: Path) -> None:
        (path / name).write_bytes(data)
        edit("store.json", lambda d: d["files"][name].update(bytes=len(data)))(path)

    return spoil


def truncated(name: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        os.truncate(path / name, (path / name).stat().st_size - 1)

    return spoil


def npy(array: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


SHARD = "frames/image/shard-00000.bin"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: (p / "store.json").unlink(), "folder without store.json"),
        (lambda p: (p / "store.json").write_text("{"), r"store\.json: cannot be read"),
        (edit("store.json", lambda d: d.update(format="x")), "no store of Deft"),
        (
            edit("store.json", lambda d: d.update(version=3)),
            "version 3, this Deft reads versions 1",
        ),
        (edit("store.json", lambda d: d["parts"][0].update(folder="../x")), "lacks something"),
        (edit("store.json", lambda d: d["parts"][0].update(episodes=2)), "does not fit store.json"),
        (edit("store.json", lambda d: d.update(finished=False)), "unfinished"),
        (edit("store.json", lambda d: d.pop("files")), "list of files is missing"),
        (edit("store.json", lambda d: d.pop("spec")), "lacks something"),
        (edit("store.json", lambda d: d["spec"].update(fps="x")), "contract in store.json"),
        (edit("store.json", lambda d: d.update(steps=17)), "does not fit store.json"),
        (edit("store.json", lambda d: d["frames"].pop("image")), "lacks something"),
        (lambda p: (p / SHARD).unlink(), r"shard-00000\.bin: missing"),
        (truncated(SHARD), r"shard-00000\.bin: wrong size"),
        (truncated("tables/action.npy"), r"action\.npy: wrong size"),
        (resized(SHARD, b"x" * 100), "does not fit the shards"),
        (resized("tables/action.npy", npy(np.zeros((18, 3), "f4"))), "wrong contents"),
        (resized("tables/action.npy", b"x"), "cannot be read"),
        (resized("episodes.parquet", b"x" * 64), r"episodes\.parquet: cannot be read"),
        (resized("frames/image/offsets.npy", npy(np.arange(19))), "does not fit the shards"),
        (resized("frames/image/offsets.npy", npy(np.zeros(19, "i8"))), "does not fit the shards"),
        (lambda p: (p / "frames/image/offsets.npy").unlink(), r"offsets\.npy: missing"),
        (resized("frames/image/sums.npy", npy(np.zeros(17, "u8"))), "wrong contents"),
        (resized("stats.json", b"{}"), "lacks something"),
    ],
)
def test_damage_is_found_on_opening(path: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(path)
    with pytest.raises(StoreError, match=said) as caught:
        store.open(path)
    assert "Fix:" in str(caught.value)


def test_an_unfinished_store_says_how_to_go_on(tmp_path: Path) -> None:
    source = MemorySource()
    with store.Writer(tmp_path / "s", source.spec, store.WriteConfig(), {}) as writer:
        writer.add(source.read(0))
    with pytest.raises(StoreError, match=r"unfinished(.|\n)*run the command that began it again"):
        store.open(tmp_path / "s")
    assert not store.is_store(tmp_path / "s")
    with pytest.raises(StoreError, match="nothing there"):
        store.open(tmp_path / "elsewhere")


def test_a_bad_picture_is_named_when_it_is_read(path: Path) -> None:
    opened = store.open(path)
    column = opened.frames["image"]
    offsets = np.load(path / "frames/image/offsets.npy")
    with (path / SHARD).open("r+b") as file:
        file.seek(int(offsets[7]))
        file.write(bytes(40))
    out = np.empty((24, 32, 3), np.uint8)
    column.decode_into(6, out)
    with pytest.raises(StoreError, match=r"shard-00000.*'carrot/episode_001', frame 2, 'image'"):
        column.decode_into(7, out)


@pytest.mark.parametrize("name", ["image", "wrist/depth"])
def test_a_shard_that_shrinks_under_a_reader_is_named(path: Path, name: str) -> None:
    opened = store.open(path)
    file = path / opened.info["frames"][name]["shards"][0]["file"]
    os.truncate(file, 10)
    feature = opened.spec[name]
    with pytest.raises(StoreError, match=r"10 of|0 of"):
        opened.frames[name].decode_into(3, np.empty(feature.shape, feature.dtype))


def test_few_files_are_open_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deft.store.frames._OPEN_FILES", 2)
    source = MemorySource((40, 40, 40, 40), spec=tiny_spec(height=96, width=96))
    store.write(tmp_path / "s", source, store.WriteConfig(codec="raw", shard_mb=1))
    column = store.open(tmp_path / "s").frames["image"]
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    out = np.empty((96, 96, 3), np.uint8)
    for row in (0, 50, 90, 130, 10, 159):
        column.decode_into(row, out)
        assert (out == source.read(row // 40).frames["image"][row % 40]).all()
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before + 2
