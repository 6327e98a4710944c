"""Writing episode by episode: refused when wrong, resumed when stopped, equal at the end."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deft import store
from deft.errors import DeftError, ShapeError, SpecError, StoreError
from deft.spec import Episode, Feature, Spec
from deft.store.staging import staged_path
from suites.memory_source import DrawnFrames, MemorySource, tiny_spec, with_array, with_frames

CONFIG = store.WriteConfig(val_fraction=0.25)


def writer(path: Path, source: MemorySource, **changes: object) -> store.Writer:
    options: dict[str, object] = {"config": CONFIG, "provenance": {"source": "memory"}}
    return store.Writer(path, source.spec, **(options | changes))  # pyright: ignore


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def ids(source: MemorySource) -> list[str]:
    return [info.id for info in source.episodes]


def write_all(path: Path, source: MemorySource) -> store.WriteReport:
    with writer(path, source) as open_:
        for number in range(len(source.lengths)):
            open_.add(source.read(number))
        return open_.finish(ids(source))


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    source = MemorySource((5, 1, 4), spec=tiny_spec(depth=True))
    report = write_all(tmp_path / "s", source)
    opened = store.open(report.path)
    assert (report.episodes, report.steps, report.frames) == (3, 10, 20)
    assert report.size_bytes == sum(map(len, files(report.path).values()))
    assert opened.digest == report.digest
    assert opened.episodes.ids == tuple(ids(source))
    assert opened.episodes.start.tolist() == [0, 5, 6]
    assert [opened.tasks[n] for n in opened.episodes.task] == [
        source.episodes[n].task for n in range(3)
    ]
    assert opened.tables["action"].dtype == np.float32
    assert opened.tables["counter"].dtype == np.int64
    assert opened.tables["counter"].tolist() == [0, 1, 2, 3, 4, 1000, 2000, 2001, 2002, 2003]
    depth = np.empty((24, 32, 1), np.uint16)
    opened.frames["wrist/depth"].decode_into(7, depth)
    assert (depth == source.read(2).frames["wrist/depth"][1]).all()
    assert opened.info["finished"] is True
    assert opened.info["provenance"]["source"] == "memory"


def test_tables_keep_their_types(tmp_path: Path) -> None:
    """Nanoseconds since 1970 are beyond what float64 counts; feature maps are half floats."""
    spec = Spec(
        features=(
            Feature(name="stamp_ns", role="other", shape=(), dtype="int64", unit="ns"),
            Feature(name="map", role="feature_map", shape=(2, 3, 4), dtype="float16"),
            Feature(name="touches", role="state", shape=(2,), dtype="bool"),
            Feature(name="action", role="action", shape=(2,), dtype="float64"),
        ),
        fps=10,
    )
    rng = np.random.default_rng(0)
    arrays = {
        "stamp_ns": 1_795_000_000_123_456_789 + np.arange(20, dtype=np.int64) * 33_333_333,
        "map": rng.normal(size=(20, 2, 3, 4)).astype(np.float16),
        "touches": rng.random((20, 2)) < 0.5,
        "action": rng.normal(size=(20, 2)),
    }
    with store.Writer(tmp_path / "s", spec, CONFIG, {}) as open_:
        open_.add(Episode(spec=spec, id="a", arrays=arrays))
        open_.finish(["a"])
    tables = store.open(tmp_path / "s").tables
    for name in ("stamp_ns", "map", "touches"):
        assert tables[name].dtype == arrays[name].dtype
        assert (tables[name] == arrays[name]).all()
    assert tables["action"].dtype == np.float32
    assert (tables["action"] == arrays["action"].astype(np.float32)).all()


def test_resuming_ends_in_equal_bytes(tmp_path: Path) -> None:
    source = MemorySource()
    write_all(tmp_path / "whole", source)
    with writer(tmp_path / "s", source) as first:
        first.add(source.read(2))
        first.add(source.read(0))
    with writer(tmp_path / "s", source) as second:
        assert [second.has(id_) for id_ in ids(source)] == [True, False, True, False]
        assert second.kept == 2
        second.add(source.read(3))
        second.add(source.read(1))
        second.finish(ids(source))
    assert files(tmp_path / "s") == files(tmp_path / "whole")
    assert not (tmp_path / "s.partial").exists()


def test_half_an_episode_is_no_episode(tmp_path: Path) -> None:
    source = MemorySource()
    with writer(tmp_path / "s", source) as first:
        first.add(source.read(0))
    waiting = tmp_path / "s.partial/episodes"
    torn = staged_path(waiting, ids(source)[1])
    torn.parent.mkdir(exist_ok=True)
    torn.with_name(torn.name + ".tmp").write_bytes(b"half")
    (tmp_path / "s.partial/packed").mkdir()
    (tmp_path / "s.partial/packed/stats.json").write_text("half")
    with writer(tmp_path / "s", source) as second:
        assert not second.has(ids(source)[1])
        for number in (1, 2, 3):
            second.add(source.read(number))
        second.finish(ids(source))
    write_all(tmp_path / "whole", source)
    assert files(tmp_path / "s") == files(tmp_path / "whole")


def test_killed_between_appearing_and_tidying_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = MemorySource()
    with monkeypatch.context() as patch:
        patch.setattr("deft.store.writer._remove_folder", lambda folder, lock: lock.release())
        for name in ("s", "t"):
            write_all(tmp_path / name, source)
    assert (tmp_path / "s.partial").exists()
    before = files(tmp_path / "s")
    with pytest.raises(StoreError, match="finished store is there"):
        writer(tmp_path / "s", source)
    store.tidy(tmp_path / "t")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "t"]
    assert files(tmp_path / "s") == before


def test_killed_while_tidying_up_beside_a_store(tmp_path: Path) -> None:
    write_all(tmp_path / "s", MemorySource())
    (tmp_path / "s.partial").mkdir()
    (tmp_path / "s.partial/lock").touch()
    store.tidy(tmp_path / "s")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    store.tidy(tmp_path / "s")


def test_tidying_spares_what_is_unfinished(tmp_path: Path) -> None:
    source = MemorySource()
    with writer(tmp_path / "s", source) as first:
        first.add(source.read(0))
    store.tidy(tmp_path / "s")
    with writer(tmp_path / "s", source) as second:
        assert second.kept == 1


def test_killed_while_tidying_up(tmp_path: Path) -> None:
    source = MemorySource()
    with writer(tmp_path / "s", source) as first:
        first.add(source.read(0))
    (tmp_path / "s.partial/plan.json").unlink()
    with writer(tmp_path / "s", source) as second:
        assert second.kept == 0


def test_two_writers_are_refused(tmp_path: Path) -> None:
    source = MemorySource()
    with (
        writer(tmp_path / "s", source),
        pytest.raises(StoreError, match="another process is writing"),
    ):
        writer(tmp_path / "s", source)
    writer(tmp_path / "s", source).close()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": store.WriteConfig(quality=50)}, "config"),
        ({"provenance": {"source": "other"}}, "provenance"),
    ],
)
def test_other_arguments_do_not_resume(
    tmp_path: Path, change: dict[str, object], named: str
) -> None:
    source = MemorySource()
    with writer(tmp_path / "s", source) as first:
        first.add(source.read(0))
    with pytest.raises(StoreError, match=f"{named} differ"):
        writer(tmp_path / "s", source, **change)
    with writer(tmp_path / "s", source, overwrite=True, **change) as anew:
        assert anew.kept == 0


def test_a_finished_store_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write_all(tmp_path / "s", MemorySource())
    other = MemorySource((3, 3))
    with pytest.raises(StoreError, match="--overwrite"):
        writer(tmp_path / "s", other)
    assert not (tmp_path / "s.partial").exists()
    with writer(tmp_path / "s", other, overwrite=True) as again:
        again.add(other.read(0))
        again.add(other.read(1))
        assert len(store.open(tmp_path / "s").episodes) == 4  # until the last moment
        again.finish(ids(other))
    assert len(store.open(tmp_path / "s").episodes) == 2


def test_what_is_no_store_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s/thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="no store"):
        writer(tmp_path / "s", MemorySource(), overwrite=True)
    assert (tmp_path / "s/thesis.txt").read_text() == "years of work"


def nan(episode: Episode) -> Episode:
    state = episode.arrays["state"].copy()
    state[2, 1] = np.nan
    return with_array(episode, "state", state)


def too_large(episode: Episode) -> Episode:
    action = episode.arrays["action"].copy()
    action[1, 0] = 1e300
    return with_array(episode, "action", action)


def short_camera(episode: Episode) -> Episode:
    class Short(DrawnFrames):
        def __iter__(self):
            return iter([])

    return with_frames(episode, "image", Short(len(episode), lambda n: np.zeros((24, 32, 3))))


def empty(episode: Episode) -> Episode:
    arrays = {name: array[:0] for name, array in episode.arrays.items()}
    return replace(episode, arrays=arrays, frames={"image": DrawnFrames(0, lambda n: np.zeros(1))})


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (nan, r"'state', step 2, element \[1\]"),
        (too_large, r"'action', step 1, element \[0\](.|\n)*1e\+300"),
        (short_camera, "'image', frame 0 of 5"),
        (empty, "no steps"),
    ],
)
def test_a_bad_episode_leaves_nothing(
    tmp_path: Path, spoil: Callable[[Episode], Episode], named: str
) -> None:
    source = MemorySource()
    with writer(tmp_path / "s", source) as open_:
        with pytest.raises(StoreError, match=named):
            open_.add(spoil(source.read(0)))
        assert not open_.has(ids(source)[0])
        assert [f for f in (tmp_path / "s.partial/episodes").rglob("*") if f.is_file()] == []
        open_.add(source.read(0))


def test_wrong_use_is_named(tmp_path: Path) -> None:
    source = MemorySource()
    other = MemorySource(spec=tiny_spec(height=40))
    with writer(tmp_path / "s", source) as open_:
        open_.leave_out(ids(source)[3], "why not")
        with pytest.raises(StoreError, match=r"no episode to store(.|\n)*why not"):
            open_.finish(ids(source)[3:])
        open_.add(source.read(0))
        with pytest.raises(StoreError, match="in the store already"):
            open_.add(source.read(0))
        with pytest.raises(SpecError, match="height 40"):
            open_.add(other.read(1))
        for order, said in (
            (ids(source)[:2], "1 neither kept nor left out: carrot"),
            (ids(source)[1:], "1 kept but not named"),
            ([ids(source)[0]] * 2, "1 named twice"),
        ):
            with pytest.raises(StoreError, match=said):
                open_.finish(order)
    assert not (tmp_path / "s").exists()
    with pytest.raises(StoreError, match="plain JSON"):
        writer(tmp_path / "t", source, provenance={"when": object()})


def test_a_damaged_waiting_episode_is_named(tmp_path: Path) -> None:
    source = MemorySource((5,))
    with writer(tmp_path / "s", source) as open_:
        open_.add(source.read(0))
        file = staged_path(tmp_path / "s.partial/episodes", ids(source)[0])
        file.write_bytes(file.read_bytes()[:-9])
        with pytest.raises(StoreError, match="delete this file"):
            open_.finish(ids(source))
    assert not (tmp_path / "s").exists()


def test_shards_hold_whole_episodes_in_order(tmp_path: Path) -> None:
    source = MemorySource((30, 50, 20, 110, 5), spec=tiny_spec(height=96, width=96))
    config = store.WriteConfig(codec="raw", shard_mb=2)
    report = store.write(tmp_path / "s", source, config)
    opened = store.open(report.path)
    shards = opened.info["frames"]["image"]["shards"]
    # 27 648 bytes a picture: two megabytes hold 72; an episode of 110 has a shard of its own.
    assert [shard["first"] for shard in shards] == [0, 30, 100, 210]
    for number, start in enumerate(opened.episodes.start.tolist()):
        out = np.empty((96, 96, 3), np.uint8)
        opened.frames["image"].decode_into(start, out)
        assert (out == source.read(number).frames["image"][0]).all()


def test_no_path_of_this_machine_is_kept(tmp_path: Path) -> None:
    def change(number: int, episode: Episode) -> Episode:
        if number == 1:
            raise ShapeError(f"{tmp_path}/x.h5, step 3: is broken")
        return replace(episode, source=f"{tmp_path}/x.h5")

    store.write(tmp_path / "s", MemorySource(change=change), CONFIG)
    for name, data in files(tmp_path / "s").items():
        assert str(tmp_path).encode() not in data, name
    opened = store.open(tmp_path / "s")
    assert opened.episodes.source[0] == "x.h5"
    assert "x.h5, step 3" in json.dumps(opened.info["left_out"])


def test_every_error_is_ours() -> None:
    assert issubclass(store.DiskError, DeftError)
