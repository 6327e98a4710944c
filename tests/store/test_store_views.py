"""Stores seen otherwise: fewer episodes, another split, several as one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deft import store
from deft.errors import ConfigError, SpecError, StoreError
from deft.spec import Feature, Horizons, Spec, Stats
from suites.memory_source import MemorySource, tiny_spec


def write(path: Path, source: MemorySource, **config: object) -> store.Store:
    settings = store.WriteConfig(**{"val_fraction": 0.25, **config})  # pyright: ignore
    return store.open(store.write(path, source, settings).path)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    return write(tmp_path_factory.mktemp("s") / "one", MemorySource((7, 4, 9, 12, 3, 8, 5, 6)))


def splits(opened: store.Store, **options: object) -> list[str]:
    return store.view(opened, **options).episodes.split.tolist()  # pyright: ignore


def test_nothing_asked_changes_nothing(opened: store.Store) -> None:
    assert store.view(opened) is opened


def test_include_exclude_and_episodes_meet(opened: store.Store) -> None:
    whole = opened.episodes.split.tolist()
    tasks = opened.episodes.task.tolist()
    carrot = opened.tasks.index("lift the carrot")
    wanted = [s if t == carrot else "" for s, t in zip(whole, tasks, strict=True)]
    assert splits(opened, include=["lift the carrot"]) == wanted
    assert splits(opened, exclude=["push *"]) == wanted
    assert splits(opened, episodes="1:4")[1:4] == whole[1:4]
    assert set(splits(opened, episodes="1:4")) == {"", *whole[1:4]}
    assert splits(opened, episodes=":3") == whole[:3] + [""] * 5
    assert splits(opened, episodes="5:") == [""] * 5 + whole[5:]
    some = [0, opened.episodes.ids[6]]
    assert [n for n, s in enumerate(splits(opened, episodes=some)) if s] == [0, 6]
    both = splits(opened, include=["lift the carrot"], episodes="0:4", split=0)
    assert [n for n, s in enumerate(both) if s] == [n for n in range(4) if tasks[n] == carrot]


def test_splits_by_share_number_and_names(opened: store.Store) -> None:
    assert set(splits(opened, split=0)) == {"train"}
    by_count = {n: np.flatnonzero(np.asarray(splits(opened, split=n)) == "val") for n in (1, 3, 7)}
    assert [len(held) for held in by_count.values()] == [1, 3, 7]
    assert set(by_count[1]) < set(by_count[3]) < set(by_count[7])
    assert splits(opened, split=3) != splits(opened, split=3, split_seed=1)
    share = np.asarray(splits(opened, split=0.4)) == "val"
    assert set(np.flatnonzero(np.asarray(splits(opened, split=0.1)) == "val")) <= set(
        np.flatnonzero(share)
    )
    named = splits(opened, split=[2, opened.episodes.ids[5]])
    assert [n for n, s in enumerate(named) if s == "val"] == [2, 5]
    few = splits(opened, episodes=":4", split=1)
    assert sorted(few[:4]) == ["train", "train", "train", "val"]
    assert few[4:] == [""] * 4


def test_a_share_splits_the_same_when_the_store_has_more(
    opened: store.Store, tmp_path: Path
) -> None:
    longer = write(tmp_path / "longer", MemorySource((7, 4, 9, 12, 3, 8, 5, 6, 4, 4)))
    assert splits(longer, split=0.7)[:8] == splits(opened, split=0.7)


def test_windows_and_statistics_follow(opened: store.Store) -> None:
    seen = store.view(opened, exclude=["lift *"], split=[0])
    windows = store.Windows(seen, Horizons(), split="train")
    used = np.unique(windows.rows(np.arange(len(windows))).episode)
    push = opened.tasks.index("push the block")
    assert used.tolist() == [n for n in range(1, 8) if opened.episodes.task[n] == push]
    rows = np.concatenate(
        [
            np.arange(
                opened.episodes.start[n], opened.episodes.start[n] + opened.episodes.length[n]
            )
            for n in used
        ]
    )
    wanted = Stats.of(np.asarray(opened.tables["state"][rows]))
    for name in ("mean", "std", "min", "max", "q01", "q99"):
        assert getattr(seen.stats["state"], name) == pytest.approx(getattr(wanted, name))
    assert seen.stats["state"].count == len(rows)
    assert set(seen.task_stats) == {"push the block"}
    assert seen.digest == opened.digest
    # When nobody is trained on who was not before, they stay those of the writer.
    assert store.view(opened, split=opened_val(opened)).stats is opened.stats


def opened_val(opened: store.Store) -> list[int | str]:
    return [n for n, s in enumerate(opened.episodes.split.tolist()) if s == "val"]


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"episodes": "a:b"}, ConfigError, "no range"),
        ({"episodes": "3"}, ConfigError, "no range"),
        ({"episodes": "90:"}, StoreError, "no episode '90:'"),
        ({"episodes": [8]}, StoreError, "no episode 8"),
        ({"episodes": ["carrot/episode_0"]}, StoreError, "Did you mean"),
        ({"exclude": ["nothing"]}, StoreError, "no episode fits 'nothing'"),
        ({"exclude": ["*"]}, StoreError, "nothing is left to train on"),
        ({"split": "stord"}, ConfigError, "Did you mean 'stored'"),
        ({"split": 8}, ConfigError, "8 episodes to hold out of 8"),
        ({"split": -0.5}, ConfigError, "A split of -0.5"),
        ({"split": [0, 1, 2, 3, 4, 5, 6, 7]}, StoreError, "nothing is left to train on"),
    ],
)
def test_what_cannot_be_is_named(
    opened: store.Store, options: dict[str, object], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        store.view(opened, **options)  # pyright: ignore


def test_a_join_reads_as_one(opened: store.Store, tmp_path: Path) -> None:
    other = write(
        tmp_path / "two", MemorySource((3, 5, 4), tasks=("lift the carrot", "fold")), split_seed=3
    )
    both = store.join([opened, other])
    assert len(both) == len(opened) + len(other)
    assert both.tasks[:2] == opened.tasks
    assert set(both.tasks) == {"push the block", "lift the carrot", "fold"}
    assert both.episodes.ids[0] == f"one/{opened.episodes.ids[0]}"
    assert both.episodes.ids[8] == f"two/{other.episodes.ids[0]}"
    origin = store.origin_of(both)
    assert origin is not None
    assert origin.tolist() == [0] * 8 + [1] * 3
    assert store.origin_of(opened) is None
    for number, (part, begin) in enumerate(((opened, 0), (other, len(opened)))):
        mine = np.flatnonzero(origin == number)
        assert both.episodes.split[mine].tolist() == part.episodes.split.tolist()
        said = [both.tasks[t] for t in both.episodes.task[mine]]
        assert said == [part.tasks[t] for t in part.episodes.task]
        for name, table in part.tables.items():
            assert (both.tables[name][begin : begin + len(part)] == table).all()
        wanted, found = (np.empty(part.spec["image"].shape, np.uint8) for _ in range(2))
        for row in (0, 3, len(part) - 1):
            part.frames["image"].decode_into(row, wanted)
            both.frames["image"].decode_into(begin + row, found)
            assert (found == wanted).all()
    rows = [
        row
        for n in np.flatnonzero(both.episodes.split == "train").tolist()
        for row in range(both.episodes.start[n], both.episodes.start[n] + both.episodes.length[n])
    ]
    assert both.stats["state"].mean == pytest.approx(
        Stats.of(np.asarray(both.tables["state"])[rows]).mean
    )
    assert store.join([opened]) is opened
    named = store.view(both, include=["two"])
    assert set(np.flatnonzero(named.episodes.split != "")) == {8, 9, 10}


def test_a_fault_in_a_joined_store_is_named(opened: store.Store, tmp_path: Path) -> None:
    other = write(tmp_path / "two", MemorySource((3, 5)))
    shard = tmp_path / "two/frames/image/shard-00000.bin"
    both = store.join([opened, other])
    with shard.open("r+b") as file:
        file.write(bytes(60))
    out = np.empty(both.spec["image"].shape, np.uint8)
    with pytest.raises(StoreError, match=r"two/frames/image(.|\n)*episode 'two/.*', frame 0"):
        both.frames["image"].decode_into(len(opened), out)


def test_a_join_needs_one_contract(opened: store.Store, tmp_path: Path) -> None:
    larger = write(tmp_path / "larger", MemorySource((3, 5), spec=tiny_spec(32, 32)))
    with pytest.raises(SpecError, match=r"(?s)larger joined to.*image size.*height 32"):
        store.join([opened, larger])
    raw = write(tmp_path / "raw", MemorySource((3, 5)), codec="raw")
    with pytest.raises(StoreError, match="kept as jpeg and raw"):
        store.join([opened, raw])
    fewer = tiny_spec()
    fewer = replace(fewer, features=tuple(f for f in fewer.features if f.name != "counter"))
    assert (
        "counter"
        not in store.join(
            [opened, write(tmp_path / "fewer", MemorySource((3, 5), spec=fewer))]
        ).spec
    )
    with pytest.raises(ConfigError, match="No store"):
        store.join([])


def test_one_camera_less_is_no_hindrance(opened: store.Store, tmp_path: Path) -> None:
    action = Feature(name="action", role="action", shape=(2,), dtype="float64", names=("dx", "dy"))
    blind = MemorySource((4, 4), spec=Spec(features=(action,), fps=10.0))
    both = store.join([opened, write(tmp_path / "blind", blind)])
    assert both.spec.names == ["action"] or both.spec.names == ("action",)
    assert both.frames == {}
