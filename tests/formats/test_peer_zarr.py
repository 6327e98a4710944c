"""The real zarr package, of versions 2 and 3, opens what we write, and we open what it writes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft import formats
from deft.spec import Feature
from suites.formats import same
from suites.memory_source import MemorySource
from suites.peers import peer_program, run_peer
from suites.recordings import demonstration
from suites.writers import writable_spec, write_all

pytestmark = pytest.mark.peer

LENGTHS = (7, 4, 11)


@pytest.fixture(params=["zarr_v2", "zarr_v3"])
def python(request: pytest.FixtureRequest) -> Path:
    return peer_program(request.param)


# Every array of a group, and what zarr says of it.
READ = """
import json, sys
import numpy as np
import zarr
path, out = sys.argv[1:]
if zarr.__version__.startswith("2."):
    store = zarr.ZipStore(path, mode="r") if path.endswith(".zip") else path
    group = zarr.open_group(store, mode="r")
else:
    store = zarr.storage.ZipStore(path, mode="r") if path.endswith(".zip") else path
    group = zarr.open_group(store, mode="r", zarr_format=2)
held = {}
for part in ("data", "meta"):
    for key, array in group[part].arrays():
        held[f"{part}/{key}"] = array[:]
np.savez(out, **held)
print(json.dumps({key: list(group[key].chunks) for key in held}))
"""


def source() -> MemorySource:
    depth = Feature(name="deep", role="depth", shape=(24, 32, 1), dtype="uint16", unit="mm")
    spec = replace(writable_spec(), features=(*writable_spec().features, depth))
    return MemorySource(spec=spec, valid=lambda n, length: np.arange(length) % 3 != n)


def read_by_zarr(python: Path, path: Path, folder: Path) -> dict[str, np.ndarray]:
    chunks = run_peer(python, READ, path, folder / "read.npz")
    with np.load(folder / "read.npz") as read:
        held = {key: read[key] for key in read.files}
    assert chunks.keys() == held.keys()
    return held


def joined(made: MemorySource, name: str) -> np.ndarray:
    episodes = [made.read(number) for number in range(len(made.episodes))]
    if made.spec[name].is_frame:
        return np.concatenate([np.stack(list(episode.frames[name])) for episode in episodes])
    return np.concatenate([episode.arrays[name] for episode in episodes])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"zip": True},
        {"compressor": "default"},
        {"compressor": "none"},
        {"channels_first": True},
    ],
    ids=str,
)
def test_zarr_reads_our_replay_buffers(
    python: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    made = source()
    name = "replay.zarr.zip" if options.get("zip") else "replay.zarr"
    path = write_all(tmp_path / name, made, "replay_zarr", options)
    held = read_by_zarr(python, path, tmp_path)
    assert held["meta/episode_ends"].tolist() == np.cumsum(made.lengths).tolist()
    for name in ("state", "action", "image", "deep"):
        values = joined(made, name)
        if options.get("channels_first") and values.ndim == 4:
            values = np.moveaxis(values, 3, 1)
        assert held[f"data/{name}"].dtype == values.dtype
        np.testing.assert_array_equal(held[f"data/{name}"], values)
    flags = np.concatenate([made.read(n).valid for n in range(4)])
    np.testing.assert_array_equal(held["data/valid"], flags)


def test_zarr_reads_our_vita_data(python: Path, tmp_path: Path) -> None:
    made = source()
    held = read_by_zarr(python, write_all(tmp_path / "set", made, "vita_zarr"), tmp_path)
    for name, key in (
        ("state", "observation.state"),
        ("action", "action"),
        ("image", "observation.image"),
        ("deep", "observation.depth.deep"),
    ):
        np.testing.assert_array_equal(held[f"data/{key}"], joined(made, name))
    np.testing.assert_array_equal(held["data/index"], np.arange(sum(made.lengths)))


@pytest.mark.parametrize("shape", [(3, 4, 8), (16,)])
@pytest.mark.parametrize("layout", ["joined", "episodes"])
def test_zarr_reads_our_features(
    python: Path, tmp_path: Path, shape: tuple[int, ...], layout: str
) -> None:
    feature = Feature(name="dinov3", role="feature_map", shape=shape, dtype="float16")
    made = MemorySource(spec=replace(writable_spec(), features=(feature,)))
    path = write_all(tmp_path / "f", made, "feature_zarr", {"layout": layout})
    values = joined(made, "dinov3")
    if layout == "episodes":
        path, values = path / "episode1.zarr", made.read(1).arrays["dinov3"]
    held = read_by_zarr(python, path, tmp_path)
    assert held["data/features"].dtype == np.float16
    np.testing.assert_array_equal(held["data/features"], values)


# A buffer, a VITA set or features as people write them with zarr itself.
WRITE = """
import json, sys
import numpy as np
import zarr
source, path, kind = sys.argv[1:]
new = zarr.__version__.startswith("3.")
if kind.endswith("zip"):
    store = (zarr.storage.ZipStore if new else zarr.ZipStore)(path, mode="w")
else:
    store = path
layout = {}
if kind.startswith("3"):
    group = zarr.open_group(store, mode="w", zarr_format=3)
    from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec
    packers = {
        "zstd": ZstdCodec(level=3, checksum=True), "gzip": GzipCodec(level=3),
        "blosc": BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle"), "none": None,
    }
    name = next(each for each in packers if each in kind)
    layout["compressors"] = packers[name] and [packers[name]]
    if "crc" in kind:
        layout["compressors"] = [packers[name], Crc32cCodec()]
    if "big" in kind:
        layout["serializer"] = BytesCodec(endian="big")
    if "keys" in kind:
        layout["chunk_key_encoding"] = {"name": "v2", "separator": "."}
else:
    group = zarr.open_group(store, mode="w", **({"zarr_format": 2} if new else {}))
with np.load(source) as arrays:
    for key in arrays.files:
        values = arrays[key]
        chunks = (5, *values.shape[1:])
        if new:
            more = {"shards": (10, *values.shape[1:])} if "shard" in kind else {}
            if key.startswith("meta/"):
                made = group.create_array(key, shape=values.shape, chunks=values.shape,
                                          dtype=values.dtype)
            else:
                serial = layout if values.dtype.itemsize > 1 else {
                    k: v for k, v in layout.items() if k != "serializer"}
                made = group.create_array(key, shape=values.shape, chunks=chunks,
                                          dtype=values.dtype, **more, **serial)
            made[:] = values
        else:
            group.create_dataset(key, data=values, chunks=chunks)
if kind.endswith("zip"):
    store.close()
"""


def by_zarr(python: Path, folder: Path, kind: str, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(folder / "made.npz", **arrays)  # pyright: ignore[reportArgumentType]
    path = folder / ("made.zarr.zip" if kind.endswith("zip") else "made.zarr")
    run_peer(python, WRITE, folder / "made.npz", path, kind)
    return path


def replay() -> dict[str, np.ndarray]:
    parts = [demonstration(number, length) for number, length in enumerate(LENGTHS)]
    arrays = {f"data/{key}": np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return arrays | {"meta/episode_ends": np.cumsum(LENGTHS)}


def check_replay(path: Path) -> None:
    recording = formats.open(path)
    assert recording.format == "replay_zarr"
    assert not recording.problems
    for number, length in enumerate(LENGTHS):
        episode, made = recording.read(number), demonstration(number, length)
        np.testing.assert_array_equal(episode.arrays["state"], made["state"])
        np.testing.assert_array_equal(episode.arrays["action"], made["action"])
        np.testing.assert_array_equal(np.stack(list(episode.frames["image"])), made["image"])


@pytest.mark.parametrize("kind", ["2", "2 zip"])
def test_we_read_what_zarr_writes_as_version_2(python: Path, tmp_path: Path, kind: str) -> None:
    check_replay(by_zarr(python, tmp_path, kind, replay()))


@pytest.mark.parametrize(
    "kind",
    [
        "3 zstd",
        "3 blosc",
        "3 gzip",
        "3 none",
        "3 zstd crc",
        "3 zstd big",
        "3 blosc keys",
        "3 zstd shard",
        "3 blosc shard",
        "3 none shard big",
        "3 zstd zip",
        "3 blosc shard zip",
    ],
)
def test_we_read_what_zarr_writes_as_version_3(tmp_path: Path, kind: str) -> None:
    check_replay(by_zarr(peer_program("zarr_v3"), tmp_path, kind, replay()))


@pytest.mark.parametrize("kind", ["2", "3 zstd", "3 blosc shard"])
def test_we_read_features_that_zarr_writes(tmp_path: Path, kind: str) -> None:
    python = peer_program("zarr_v2" if kind == "2" else "zarr_v3")
    values = np.random.default_rng(0).normal(size=(22, 3, 4, 8)).astype(np.float16)
    arrays = {"data/features": values, "meta/episode_ends": np.cumsum(LENGTHS)}
    recording = formats.open(by_zarr(python, tmp_path, kind, arrays))
    assert recording.format == "feature_zarr"
    assert recording.spec["features"].dtype == "float16"
    np.testing.assert_array_equal(recording.read(1).arrays["features"], values[7:11])


# VITA's own converter: LeRobot's names and `config.json` beside zarr 2 arrays.
@pytest.mark.parametrize("version", ["zarr_v2", "zarr_v3"])
def test_we_read_vita_data_that_zarr_writes(tmp_path: Path, version: str) -> None:
    made = source()
    ours = write_all(tmp_path / "ours", made, "vita_zarr")
    parts = replay()
    steps = np.concatenate([np.arange(length) for length in LENGTHS])
    arrays = {
        "data/observation.state": parts["data/state"],
        "data/observation.image": parts["data/image"],
        "data/action": parts["data/action"],
        "data/timestamp": (steps / 10).astype(np.float32),
        "data/task_index": np.zeros(22, np.int64),
        "meta/episode_ends": parts["meta/episode_ends"],
    }
    path = by_zarr(peer_program(version), tmp_path, "2", arrays)
    config = (ours / "config.json").read_text().replace('"num_frames": 30', '"num_frames": 22')
    (path / "config.json").write_text(config.replace('"num_episodes": 4', '"num_episodes": 3'))
    recording = formats.open(path)
    assert recording.format == "vita_zarr"
    assert [each.what for each in recording.problems] == [
        "config.json declares 'observation.depth.deep', there is no such array"
    ]
    for number, length in enumerate(LENGTHS):
        episode, wanted = recording.read(number), demonstration(number, length)
        np.testing.assert_array_equal(episode.arrays["state"], wanted["state"])
        np.testing.assert_array_equal(np.stack(list(episode.frames["image"])), wanted["image"])


def test_what_zarr_3_rewrites_we_still_read(tmp_path: Path) -> None:
    """Our arrays and notes, copied into version 3 by zarr itself."""
    script = """
import sys, zarr
old = zarr.open_group(sys.argv[1], mode="r", zarr_format=2)
new = zarr.open_group(sys.argv[2], mode="w", zarr_format=3)
for part in ("data", "meta"):
    new.create_group(part).attrs.update(old[part].attrs)
    for key, array in old[part].arrays():
        new.create_array(f"{part}/{key}", data=array[:], chunks=array.chunks)
"""
    made = source()
    path = write_all(tmp_path / "replay.zarr", made, "replay_zarr")
    run_peer(peer_program("zarr_v3"), script, path, tmp_path / "new.zarr")
    recording = formats.open(tmp_path / "new.zarr")
    assert recording.spec == made.spec
    assert list(recording.episodes) == made.episodes
    assert all(same(recording.read(n), made.read(n)) for n in range(4))
