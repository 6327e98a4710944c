"""Block shuffle: everything once per epoch, a few shards at a time."""

from pathlib import Path

import numpy as np
import pytest

from deft import store
from deft.spec import Horizons
from suites.memory_source import MemorySource


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    """40 episodes in 20 shards of about 1 MB."""
    from suites.memory_source import tiny_spec

    source = MemorySource((7, 4, 9, 12) * 10, spec=tiny_spec(256, 256))
    config = store.WriteConfig(codec="raw", val_fraction=0.2, shard_mb=3)
    return store.open(store.write(tmp_path_factory.mktemp("s") / "s", source, config).path)


@pytest.mark.parametrize("together", [1, 3, 1000])
@pytest.mark.parametrize("epoch", [0, 5])
def test_everything_once_per_epoch_a_few_shards_at_a_time(
    opened: store.Store, together: int, epoch: int
) -> None:
    first = opened.frames["image"].first
    assert len(first) > 10
    windows = store.Windows(opened, Horizons(), split="train")
    n = len(windows)
    found = store.Blocks(windows, together, seed=4)(np.arange(n) + epoch * n)
    assert sorted(found.tolist()) == list(range(n))
    shard = np.searchsorted(first, windows.rows(found).obs[:, -1], "right") - 1
    # The shards of each group come, and are done with, before the next.
    seen: list[int] = []
    for each in shard.tolist():
        if each not in seen:
            seen.append(each)
    for begin in range(0, len(seen), together):
        group = seen[begin : begin + together]
        places = np.flatnonzero(np.isin(shard, group))
        assert (np.diff(places) == 1).all()


def test_epochs_differ_and_places_can_be_asked_in_any_order(opened: store.Store) -> None:
    windows = store.Windows(opened, Horizons(), split="train")
    n = len(windows)
    order = store.Blocks(windows, 3, seed=4)
    whole = order(np.arange(3 * n))
    assert not np.array_equal(whole[:n], whole[n : 2 * n])
    few = np.asarray([2 * n + 5, 3, n - 1, n])
    assert store.Blocks(windows, 3, seed=4)(few).tolist() == whole[few].tolist()


def test_a_store_without_pictures_is_one_block(tmp_path: Path) -> None:
    from deft.spec import Feature, Spec

    action = Feature(name="action", role="action", shape=(1,), dtype="float32")
    source = MemorySource((5, 6), spec=Spec(features=(action,), fps=1))
    config = store.WriteConfig(val_fraction=0.0)
    opened = store.open(store.write(tmp_path / "s", source, config).path)
    windows = store.Windows(opened, Horizons(), split="train")
    assert sorted(store.Blocks(windows, 2, 0)(np.arange(11)).tolist()) == list(range(11))


def test_windows_before_rows_count(opened: store.Store) -> None:
    windows = store.Windows(opened, Horizons(), split="train", drop_n_last=2)
    now = windows.rows(np.arange(len(windows))).obs[:, -1]
    rows = np.arange(len(opened) + 1)
    assert windows.before(rows).tolist() == [int((now < row).sum()) for row in rows]
    episode, first, count = windows.groups()
    owners = windows.rows(np.arange(len(windows))).episode
    assert episode.tolist() == np.unique(owners).tolist()
    assert count.tolist() == np.bincount(owners)[episode].tolist()
    assert (owners[first] == episode).all()
