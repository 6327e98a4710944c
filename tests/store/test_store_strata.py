"""Orders by weight: exact shares, nothing twice before its turn, the same for any ranks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deft import store
from deft.errors import ConfigError
from deft.spec import Horizons
from suites.memory_source import MemorySource


@st.composite
def groups(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[float]]:
    """First, count and stratum of some groups that lie one after the other, and weights."""
    counts = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    strata = draw(st.integers(1, len(counts)))
    owner = [*range(strata), *(draw(st.integers(0, strata - 1)) for _ in counts[strata:])]
    owner = draw(st.permutations(owner))
    weights = draw(st.lists(st.floats(0.05, 3), min_size=strata, max_size=strata))
    count = np.asarray(counts)
    return np.cumsum(count) - count, count, np.asarray(owner), weights


@settings(max_examples=60, deadline=None)
@given(groups(), st.integers(0, 2**62), st.booleans())
def test_shares_are_exact_and_nothing_comes_twice_before_its_turn(
    made: tuple[np.ndarray, np.ndarray, np.ndarray, list[float]], seed: int, by_group: bool
) -> None:
    first, count, stratum, weights = made
    order = store.Strata(first, count, stratum, weights, seed, by_group=by_group)
    places = np.arange(6000)
    found = order(places)
    group = np.searchsorted(first, found, "right") - 1
    assert (found - first[group] < count[group]).all()
    shares = np.asarray(weights) / sum(weights)
    drawn = np.bincount(stratum[group], minlength=len(weights))
    # To the nearest sample at the end of each block of 1024 (weights here need no longer ones);
    # within the last one, which is in random order, to a few standard deviations.
    assert np.abs(drawn - shares * len(places)).max() < 140
    for each in range(len(weights)):
        mine = found[stratum[group] == each]
        things = group[stratum[group] == each] if by_group else mine
        owned = stratum == each
        size = int(owned.sum()) if by_group else int(count[owned].sum())
        # Whole rounds hold everything once, though the order within a block is not that of rounds.
        times = np.bincount(np.unique(things, return_inverse=True)[1])
        assert len(times) == size or len(things) < 3 * size
        assert times.max() - times.min() <= 1 + 1024 // size


def test_a_round_holds_everything_once() -> None:
    """Shares of one half: after 2 blocks of 1024 each stratum of 128 came round 8 times."""
    first, count = np.asarray([0, 128]), np.asarray([128, 128])
    order = store.Strata(first, count, np.asarray([0, 1]), [1, 1], seed=3)
    times = np.bincount(order(np.arange(2048)), minlength=256)
    assert times.tolist() == [8] * 256


def test_shares_hold_in_every_batch() -> None:
    first, count = np.asarray([0, 1000]), np.asarray([1000, 50])
    order = store.Strata(first, count, np.asarray([0, 1]), [3, 1], seed=0)
    sampler = store.Sampler(1050, 64, 0, order=order)
    shares = [float((sampler.batch(step)[0] >= 1000).mean()) for step in range(200)]
    assert abs(float(np.mean(shares)) - 0.25) < 0.001
    assert min(shares) > 0.08
    assert max(shares) < 0.45


@given(st.sampled_from([1, 2, 3, 4, 6]), st.integers(0, 400), st.booleans())
def test_ranks_share_one_order_from_any_step(world: int, step: int, by_group: bool) -> None:
    first, count = np.asarray([0, 5, 14]), np.asarray([5, 9, 2])
    order = store.Strata(first, count, np.asarray([0, 1, 1]), [2, 1], 9, by_group=by_group)
    whole = store.Sampler(16, 12, 9, order=order).batch(step)
    ranks = [
        store.Sampler(16, 12, 9, rank=rank, world_size=world, order=order).batch(step)
        for rank in range(world)
    ]
    for one, parts in zip(whole, zip(*ranks, strict=True), strict=True):
        assert one.tolist() == np.concatenate(parts).tolist()


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    source = MemorySource((30, 4, 9, 12, 3, 8), tasks=("push", "lift", "push"))
    config = store.WriteConfig(val_fraction=0.0)
    return store.open(store.write(tmp_path_factory.mktemp("s") / "s", source, config).path)


def drawn(opened: store.Store, sampling: str, **options: object) -> np.ndarray:
    windows = store.Windows(opened, Horizons(), split=None)
    order = store.order_of(windows, 1, sampling, **options)  # pyright: ignore
    sampler = store.Sampler(len(windows), 2**14, 1, order=order)
    return windows.rows(sampler.batch(0)[0]).episode


def test_uniform_draws_steps_alike(opened: store.Store) -> None:
    times = np.bincount(drawn(opened, "uniform"))
    assert times / opened.episodes.length == pytest.approx(2**14 / len(opened), rel=0.05)


def test_by_episode_draws_episodes_alike(opened: store.Store) -> None:
    times = np.bincount(drawn(opened, "by_episode"))
    assert times == pytest.approx(2**14 / 6, rel=0.03)


def test_by_task_draws_tasks_alike_and_their_steps_alike(opened: store.Store) -> None:
    times = np.bincount(drawn(opened, "by_task"))
    task = opened.episodes.task
    assert np.bincount(task, weights=times) == pytest.approx(2**13, rel=0.001)
    for each in range(len(opened.tasks)):
        per_step = (times / opened.episodes.length)[task == each]
        assert per_step == pytest.approx(per_step.mean(), rel=0.05)


def test_within_a_mixture_tasks_share_their_stores_weight(opened: store.Store) -> None:
    both = store.join([opened, opened])
    origin = store.origin_of(both)
    assert origin is not None
    times = np.bincount(drawn(both, "by_task", origin=origin, weights=[3, 1]))
    shares = np.bincount(origin, weights=times) / 2**14
    assert shares == pytest.approx([0.75, 0.25], rel=0.001)
    first = origin == 0
    assert np.bincount(both.episodes.task[first], weights=times[first]) == pytest.approx(
        2**14 * 0.375, rel=0.01
    )


def test_orders_never_change_between_versions() -> None:
    first, count = np.asarray([0, 5, 14]), np.asarray([5, 9, 2])
    order = store.Strata(first, count, np.asarray([0, 1, 1]), [2, 1], 9)
    assert order(np.arange(12)).tolist() == GOLDEN


GOLDEN = [14, 6, 0, 0, 4, 4, 3, 5, 15, 1, 1, 12]


def test_wrong_use_is_named(opened: store.Store) -> None:
    windows = store.Windows(opened, Horizons(), split=None)
    with pytest.raises(ConfigError, match="no sampling 'by_tsk'"):
        store.order_of(windows, 0, "by_tsk")
    with pytest.raises(ConfigError, match="2 weights for 1 stores"):
        store.order_of(windows, 0, weights=[1, 2])
    with pytest.raises(ConfigError, match="above 0"):
        store.order_of(windows, 0, weights=[0.0])
