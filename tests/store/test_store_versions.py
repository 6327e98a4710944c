"""Stores of the version before: read as they always were."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from deft import store
from deft.store.files import fingerprint, to_json
from deft.store.manifest import sealed
from suites.memory_source import MemorySource, tiny_spec

SOURCE = MemorySource((5, 9, 4), spec=tiny_spec(depth=True))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """What the Deft of version 1 wrote: a store without what came since."""
    path = store.write(
        tmp_path / "s", SOURCE, store.WriteConfig(codecs={"wrist/depth": "raw"})
    ).path
    index = path / "episodes.parquet"
    table = pq.read_table(index).drop_columns(["instructions"])
    pq.write_table(table, index, compression="zstd")
    for name in ("sums.npy", "histogram.npy"):
        for file in path.rglob(name):
            file.unlink()
    stats = json.loads((path / "stats.json").read_bytes())
    old = {key: stats[key] for key in ("features", "tasks", "skipped")}
    (path / "stats.json").write_bytes(to_json(old))
    info = json.loads((path / "store.json").read_bytes())
    for key in ("parts", "stats", "digest"):
        del info[key]
    for key in ("codecs", "raw_limit_mb", "resize", "resize_filter"):
        del info["config"][key]
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*.*"))
    info["files"] = {name: fingerprint(path / name) for name in names if name != "store.json"}
    (path / "store.json").write_bytes(to_json(sealed(info | {"version": 1})))
    return path


def test_it_reads_as_it_always_did(path: Path) -> None:
    opened = store.open(path)
    assert opened.texts == opened.tasks == ("push the block", "lift the carrot")
    assert opened.episodes.wordings.tolist() == opened.episodes.task.tolist()
    assert opened.instructions(1) == ()
    assert opened.image_stats == opened.task_image_stats == {}
    assert set(opened.stats) == {"state", "action", "counter"}
    assert store.check(opened) == []
    episode = store.source(opened).read(2)
    wanted = SOURCE.read(2)
    assert (episode.arrays["state"] == wanted.arrays["state"]).all()
    for found, drawn in zip(
        episode.frames["wrist/depth"], wanted.frames["wrist/depth"], strict=True
    ):
        assert (found == drawn).all()


def test_it_can_be_converted_into_one_that_grows(path: Path, tmp_path: Path) -> None:
    opened = store.open(path)
    new = store.write(tmp_path / "new", store.source(opened), store.WriteConfig()).path
    shard = "frames/image/shard-00000.bin"
    assert (new / shard).read_bytes() == (path / shard).read_bytes()
    assert store.open(new).info["version"] == 2
    assert store.open(new).episodes.split.tolist() == opened.episodes.split.tolist()
    assert store.append(new, MemorySource((5, 9, 4, 6), spec=SOURCE.spec)).added == 1


def test_a_second_conversion_is_still_recognised(path: Path) -> None:
    config = store.WriteConfig(codecs={"wrist/depth": "raw"})
    assert not store.is_made_from(path, SOURCE, config)
    # Settings that the old Deft did not have are what it did.
    info = json.loads((path / "store.json").read_bytes())
    assert store.is_made_from(path, SOURCE, store.WriteConfig())
    assert "codecs" not in info["config"]


def test_a_flipped_byte_is_found_by_the_check(path: Path) -> None:
    shard = path / "frames/wrist%2Fdepth/shard-00000.bin"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    opened = store.open(path)
    out = np.empty((24, 32, 1), np.uint16)
    opened.frames["wrist/depth"].decode_into(0, out)  # raw pictures of version 1 have no sums
    assert "depth/shard-00000.bin: changed" in store.check(opened)[0].what.replace("%2F", "/")
