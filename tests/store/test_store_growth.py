"""A store that grows: it reads as if it had been written in one go."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deft import store
from deft.errors import FormatError, SpecError, StoreError
from deft.spec import Episode, Feature, Horizons, Spec
from suites.memory_source import MemorySource, tiny_spec

CONFIG = store.WriteConfig(val_fraction=0.3, codecs={"wrist/depth": "png"})
LENGTHS = (5, 9, 4, 12, 3, 7, 8, 6, 11)
SPEC = tiny_spec(depth=True)


def source(count: int, change: Callable[[int, Episode], Episode] = lambda _, e: e) -> MemorySource:
    def valid(index: int, length: int) -> np.ndarray | None:
        return None if index % 3 else np.arange(length) != 1

    return MemorySource(LENGTHS[:count], spec=SPEC, valid=valid, change=change)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def grown(path: Path, counts: Sequence[int], workers: int = 1) -> Path:
    """A store of the first episodes, then of some more at a time."""
    store.write(path, source(counts[0]), CONFIG, workers=workers)
    for count in counts[1:]:
        store.append(path, source(count), workers=workers)
    return path


def pixels(opened: store.Store, name: str) -> np.ndarray:
    feature = opened.spec[name]
    found = np.empty((len(opened), *feature.shape), feature.dtype)
    for row, out in enumerate(found):
        opened.frames[name].decode_into(row, out)
    return found


def same(one: object, other: object) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@pytest.mark.parametrize("counts", [(3, 9), (1, 2, 4, 5, 9)])
def test_it_reads_as_if_written_in_one_go(tmp_path: Path, counts: Sequence[int]) -> None:
    one = store.open(store.write(tmp_path / "one", source(9), CONFIG).path)
    parts = store.open(grown(tmp_path / "parts", counts))
    assert len(parts.info["parts"]) == len(counts)
    assert parts.episodes.ids == one.episodes.ids
    assert parts.tasks == one.tasks
    assert parts.episodes.source == one.episodes.source
    for name in ("start", "length", "task", "split", "valid", "wordings", "first_wording"):
        assert (getattr(parts.episodes, name) == getattr(one.episodes, name)).all(), name
    assert (parts.valid == one.valid).all()
    for name, table in one.tables.items():
        assert parts.tables[name].dtype == table.dtype
        assert (parts.tables[name] == table).all()
    for name in one.frames:
        assert (pixels(parts, name) == pixels(one, name)).all()
    told = [json.loads((s.path / s.info["stats"]).read_bytes()) for s in (one, parts)]
    assert same(*told)
    assert set(parts.image_stats) == {"image", "wrist/depth"}
    for key in ("episodes", "steps", "split", "left_out", "problems", "config", "spec"):
        assert same(parts.info[key], one.info[key]), key
    assert store.check(parts) == []


def test_batches_are_those_of_the_whole(tmp_path: Path) -> None:
    def drawn(path: Path) -> list[np.ndarray]:
        opened = store.open(path)
        horizons = Horizons(obs_horizon=2, pred_horizon=4, action_horizon=2)
        windows = store.Windows(opened, horizons, split="train")
        sampler = store.Sampler(len(windows), 8, seed=1)
        names = ["image", "wrist/depth", "state"]
        with store.Loader(opened, windows, sampler, observations=names, steps=6) as loader:
            return [
                np.concatenate([v.ravel().astype(float) for v in (*b.obs.values(), b.action)])
                for b in loader
            ]

    store.write(tmp_path / "one", source(9), CONFIG)
    pairs = zip(drawn(tmp_path / "one"), drawn(grown(tmp_path / "parts", (2, 5, 9))), strict=True)
    assert all((one == other).all() for one, other in pairs)


def test_the_number_of_workers_changes_no_byte(tmp_path: Path) -> None:
    one, other = (grown(tmp_path / str(n), (3, 6, 9), n) for n in (1, 3))
    assert files(one) == files(other)


def test_what_is_there_is_never_touched(tmp_path: Path) -> None:
    path = grown(tmp_path / "s", (3, 6))
    before = files(path)
    opened = store.open(path)
    row = len(opened) - 1
    store.append(path, source(9))
    after = files(path)
    assert {name for name in before if before[name] != after[name]} == {"store.json"}
    assert all(name.startswith("parts/00002/") for name in after.keys() - before.keys())
    # Whoever had it open goes on, with shards it has not read before.
    out = np.empty(SPEC["image"].shape, np.uint8)
    opened.frames["image"].decode_into(row, out)
    assert len(opened.episodes) == 6
    assert opened.tables["state"][row].tolist() == source(6).read(5).arrays["state"][-1].tolist()
    assert len(store.open(path).episodes) == 9
    assert store.open(path).digest != opened.digest


def test_a_recording_that_has_grown_is_given_again(tmp_path: Path) -> None:
    path = grown(tmp_path / "s", (3,))
    report = store.append(path, source(5))
    assert (report.added, report.episodes) == (2, 5)
    before = files(path)
    again = store.append(path, source(5))
    assert (again.added, again.episodes, again.digest) == (0, 5, report.digest)
    assert files(path) == before
    assert not (tmp_path / "s.partial").exists()
    assert again.size_bytes == report.size_bytes == sum(map(len, before.values()))


def test_ids_of_two_recordings_must_not_meet(tmp_path: Path) -> None:
    path = grown(tmp_path / "s", (3,))
    other = replace(source(4), name="another")
    with pytest.raises(StoreError, match=r"3 ids of another belong to other episodes(.|\n)*prefix"):
        store.append(path, other)
    longer = replace(source(4), lengths=(5, 10, 4))
    with pytest.raises(StoreError, match="1 ids of memory"):
        store.append(path, longer)
    assert store.append(path, other, prefix="lab2/").added == 4
    opened = store.open(path)
    assert opened.episodes.ids[3:] == tuple("lab2/" + info.id for info in other.episodes)
    assert opened.info["parts"][1]["provenance"]["source"] == "another"
    assert store.append(path, other, prefix="lab2/").added == 0


def torn(number: int, episode: Episode) -> Episode:
    if number in (1, 4):
        raise FormatError(f"number {number} is torn")
    return episode


def test_what_is_left_out_is_tried_again(tmp_path: Path) -> None:
    path = store.write(tmp_path / "s", source(3, torn), CONFIG).path
    names = [info.id for info in source(5).episodes]
    report = store.append(path, source(5, torn))
    assert [id_ for id_, _ in report.left_out] == [names[1], names[4]]
    assert report.added == 1
    opened = store.open(path)
    assert [each["id"] for each in opened.info["left_out"]] == [names[1], names[4]]
    assert len(opened.info["problems"]) == 2
    before = files(path)
    again = store.append(path, source(5, torn))
    assert again.added == 0
    assert len(again.left_out) == 2
    assert files(path) == before
    assert not (tmp_path / "s.partial").exists()
    assert store.append(path, source(5)).added == 2
    opened = store.open(path)
    assert opened.info["left_out"] == opened.info["problems"] == []
    assert set(opened.episodes.ids) == set(names)
    with pytest.raises(FormatError, match="is torn"):
        store.append(path, source(9, lambda n, e: torn(n - 4, e)), strict=True)


def with_feature(spec: Spec, feature: Feature) -> Spec:
    return replace(spec, features=(*spec.features, feature))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = store.write(tmp_path / "s", source(3), CONFIG).path
    before = files(path)
    small = MemorySource(LENGTHS, spec=tiny_spec(height=16, depth=True))
    with pytest.raises(SpecError, match="height 16"):
        store.append(path, small)
    extra = Feature(name="touch", role="state", shape=(1,), dtype="float32")
    with pytest.raises(StoreError, match="has no touch"):
        store.append(path, MemorySource(LENGTHS, spec=with_feature(SPEC, extra)))
    with pytest.raises(StoreError, match="no store"):
        store.append(tmp_path / "elsewhere", source(3))
    info = json.loads((path / "store.json").read_bytes())
    assert files(path) == before
    (path / "store.json").write_text(json.dumps(info | {"version": 1}))
    with pytest.raises(StoreError, match="version 1 cannot grow"):
        store.append(path, source(5))


def test_settings_are_the_stores_own(tmp_path: Path) -> None:
    config = store.WriteConfig(image_height=12, image_width=16, codec="auto", raw_limit_mb=0)
    path = store.write(tmp_path / "s", source(3), config).path
    larger = replace(source(9), spec=tiny_spec(height=48, width=64, depth=True))
    store.append(path, larger)
    opened = store.open(path)
    assert opened.spec["image"].shape == (12, 16, 3)
    assert {name: each["codec"] for name, each in opened.info["frames"].items()} == {
        "image": "jpeg",
        "wrist/depth": "png",
    }
    assert store.check(opened) == []


def test_the_source_s_split_goes_on(tmp_path: Path) -> None:
    first = replace(source(3), splits=("train", "val", "test"))
    path = store.write(tmp_path / "s", first, CONFIG).path
    store.append(path, replace(source(5), splits=("train",)))
    opened = store.open(path)
    assert opened.episodes.split.tolist() == ["train", "val", "test", "train", "train"]
    assert opened.info["split"]["episodes"] == {"train": 3, "val": 1, "test": 1}
    drawn = store.write(tmp_path / "t", source(3), CONFIG).path
    before = store.open(drawn).episodes.split.tolist()
    store.append(drawn, replace(source(5), splits=("val",)))
    opened = store.open(drawn)
    assert opened.episodes.split.tolist() == [*before, "val", "val"]
    assert opened.info["split"]["from"] == "source and hash"


def test_episodes_added_one_by_one(tmp_path: Path) -> None:
    path = grown(tmp_path / "s", (3,))
    opened = store.open(path)
    with (
        store.appender(opened, SPEC, {"source": "hand"}) as writer,
        pytest.raises(StoreError, match="another process"),
    ):
        store.appender(opened, SPEC, {"source": "hand"})
    with store.appender(opened, SPEC, {"source": "hand"}) as writer:
        episode = replace(source(9).read(4), id="by hand")
        writer.add(episode)
        writer.finish(["by hand"])
    assert store.open(path).episodes.ids[3:] == ("by hand",)
    with pytest.raises(StoreError, match="has changed since it was opened"):
        store.appender(opened, SPEC, {"source": "hand"})


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_stop_before_every_durable_act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at the n-th act of appending, for every n: readers see the old store or the new one,
    and the next run ends in equal bytes."""
    small = MemorySource((3, 4, 2), spec=tiny_spec())
    first = replace(small, lengths=(3, 4))
    old = files(store.write(tmp_path / "old", first, CONFIG_PLAIN).path)
    store.write(tmp_path / "whole", first, CONFIG_PLAIN)
    store.append(tmp_path / "whole", small)
    wanted = files(tmp_path / "whole")
    really = os.fsync
    for number in range(1, 100):
        acts = 0

        def counted(descriptor: int, number: int = number) -> None:
            nonlocal acts
            acts += 1
            if acts == number:
                raise Killed
            really(descriptor)

        path = tmp_path / f"s{number}"
        store.write(path, first, CONFIG_PLAIN)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", counted)
            try:
                store.append(path, small)
            except Killed:
                pass
            else:
                break
        there = (path / "store.json").read_bytes()
        assert there in (old["store.json"], wanted["store.json"])
        assert len(store.open(path).episodes) == (2 if there == old["store.json"] else 3)
        store.append(path, small)
        assert files(path) == wanted, f"stopped at act {number}"
        assert not path.with_name(path.name + ".partial").exists()
    assert number > 20


CONFIG_PLAIN = store.WriteConfig(val_fraction=0.3)


def test_damage_in_a_part_is_named(tmp_path: Path) -> None:
    path = grown(tmp_path / "s", (3, 6))
    shard = path / "parts/00001/frames/image/shard-00000.bin"
    data = bytearray(shard.read_bytes())
    data[-20] ^= 1
    shard.write_bytes(data)
    opened = store.open(path)
    said = "\n".join(each.what for each in store.check(opened))
    last = source(6).episodes[5]
    assert f"parts/00001/frames/image/shard-00000.bin, episode '{last.id}', frame 6" in said
    os.truncate(shard, len(data) - 1)
    with pytest.raises(StoreError, match=r"parts/00001(.|\n)*wrong size"):
        store.open(path)


SCRIPT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from deft import store
from suites.memory_source import MemorySource
def slow(number, episode):
    time.sleep(0.01)
    return episode
store.append(sys.argv[2], MemorySource([6] * 24, change=slow), workers=2)
"""


@pytest.mark.slow
def test_kill_9_at_any_moment_ends_in_equal_bytes(tmp_path: Path) -> None:
    def run(target: Path, kill_after_s: float | None = None) -> None:
        tests = str(Path(__file__).parents[1])
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, tests, str(target)])
        try:
            assert process.wait(kill_after_s) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    first = MemorySource([6] * 4)
    store.write(tmp_path / "whole", first, CONFIG_PLAIN)
    began = time.monotonic()
    run(tmp_path / "whole")
    took = time.monotonic() - began
    moments = random.Random(0)
    for number in range(6):
        path = tmp_path / f"s{number}"
        store.write(path, first, CONFIG_PLAIN)
        for _ in range(3):
            run(path, moments.uniform(0.4, 1.0) * took)
            assert len(store.open(path).episodes) in (4, 24)
        run(path)
        assert files(path) == files(tmp_path / "whole")
        assert not path.with_name(path.name + ".partial").exists()
