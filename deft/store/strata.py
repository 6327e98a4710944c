"""Orders that draw from groups of samples by weight: mixtures, balanced tasks, whole episodes."""

from collections.abc import Sequence

import numpy as np

from deft.errors import ConfigError
from deft.store.keyed import below, chained, key, mix, permuted
from deft.store.windows import Windows

SAMPLINGS = ("uniform", "by_episode", "by_task")
"""`uniform`: every window once per epoch; `by_episode`: every episode as often as the others, a
window of it at random; `by_task`: every task as often as the others, all its windows in turn."""

_BLOCKS, _ORDERS, _STEPS = 1, 2, 3
"""Keep the streams of one seed apart."""
_SCALE = 1 << 24


class Strata:
    """An endless order that takes from each stratum by its weight, evenly spread.

    Places are taken in blocks; each holds what the weights promise up to that point, to the
    nearest whole sample, in a random order. So a stratum's share is exact in the long run and
    nearly so in a batch, and its n-th sample is known without counting. A stratum's samples come
    in rounds of all of them, each once; rounds overlap by less than a block.

    Args:
        first: int64 `G`, position of the first sample of each group.
        count: int64 `G`, samples of each group, 1 or more; they stand next to each other.
        stratum: int64 `G`, which stratum the group is in, from 0 on, none left out.
        weights: one per stratum, above 0; their sum does not matter.
        seed: of the order.
        by_group: take every group of a stratum once before any comes again, and of each a sample
            at random.

    Raises:
        ConfigError: a weight is 0 or less.
    """

    def __init__(
        self,
        first: np.ndarray,
        count: np.ndarray,
        stratum: np.ndarray,
        weights: Sequence[float] | np.ndarray,
        seed: int,
        *,
        by_group: bool = False,
    ) -> None:
        shares = np.asarray(weights, np.float64)
        if not (np.isfinite(shares).all() and (shares > 0).all()):
            raise ConfigError(
                f"Weights {np.asarray(weights).tolist()}.\nFix: give numbers above 0."
            )
        order = np.argsort(stratum, kind="stable")
        self._first, self._count = first[order], count[order]
        groups = np.bincount(stratum, minlength=len(shares))
        self._group_start = np.cumsum(groups) - groups
        self._ends = np.cumsum(self._count)  # of groups, samples counted stratum by stratum
        sizes = np.bincount(stratum, weights=count, minlength=len(shares)).astype(np.int64)
        self._sample_start = np.cumsum(sizes) - sizes
        self._by_group = by_group
        self._limits = groups if by_group else sizes
        # Whole numbers, so that shares add up without rounding however long a run is.
        whole = np.maximum(np.round(shares / shares.sum() * _SCALE).astype(np.int64), 1)
        self._edges = np.concatenate([[0], np.cumsum(whole)])
        self._block = max(1024, int(-(-2 * self._edges[-1] // whole.min())))
        self._seed = seed
        self._block_key = key(seed, _BLOCKS)
        self._stratum_keys = chained(key(seed, _ORDERS), np.arange(len(shares)))

    def __call__(self, places: np.ndarray) -> np.ndarray:
        stratum, number = self._strata(places)
        rounds, within = np.divmod(number, self._limits[stratum])
        keys = mix(self._stratum_keys[stratum] ^ rounds.astype(np.uint64))
        picked = permuted(within, self._limits[stratum], keys)
        if self._by_group:
            group = self._group_start[stratum] + picked
            return self._first[group] + below(self._count[group], places, self._seed, _STEPS)
        sample = self._sample_start[stratum] + picked
        group = np.searchsorted(self._ends, sample, "right")
        return self._first[group] + sample - (self._ends[group] - self._count[group])

    def _strata(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each place the stratum, and how many samples came from that before; int64 `B`."""
        blocks, within = np.divmod(places, self._block)
        slot = permuted(within, np.asarray([self._block]), chained(self._block_key, blocks))
        stratum, number = np.empty_like(places), np.empty_like(places)
        for block in np.unique(blocks).tolist():  # one or two per batch
            here = blocks == block
            before = np.diff(self._promised(block))
            ends = np.cumsum(np.diff(self._promised(block + 1)) - before)
            found = np.searchsorted(ends, slot[here], "right")
            stratum[here] = found
            begins = np.concatenate([[0], ends[:-1]])
            number[here] = before[found] + slot[here] - begins[found]
        return stratum, number

    def _promised(self, blocks: int) -> np.ndarray:
        """Samples of the first 0 to K strata that a number of blocks holds, int64 `K + 1`."""
        total = self._edges[-1]
        return (blocks * self._block * self._edges + total // 2) // total


def order_of(
    windows: Windows,
    seed: int,
    sampling: str = "uniform",
    *,
    origin: np.ndarray | None = None,
    weights: Sequence[float] | None = None,
) -> Strata | None:
    """The order in which windows are drawn; None for the plain one, every window once per epoch.

    Args:
        windows: what is drawn from.
        seed: of the order.
        sampling: one of `SAMPLINGS`; with weights it holds within each store.
        origin: int64, which store of a mixture each episode is from; None for one store.
        weights: of those stores; None draws from them as from one.

    Raises:
        ConfigError: the sampling is unknown, there is not one weight per store, or a store with a
            weight has no window.
    """
    if sampling not in SAMPLINGS:
        raise ConfigError(
            f"There is no sampling '{sampling}'.\nFix: choose from {', '.join(SAMPLINGS)}."
        )
    if sampling == "uniform" and weights is None:
        return None
    episode, first, count = windows.groups()
    task = windows.store.episodes.task[episode]
    store = np.zeros(len(episode), np.int64)
    shares = np.ones(1)
    if weights is not None:
        shares = np.asarray(weights, np.float64)
        store = store if origin is None else origin[episode]
        stores = 1 if origin is None else int(origin.max()) + 1
        if len(shares) != stores or len(np.unique(store)) != stores:
            raise ConfigError(
                f"{len(shares)} weights for {stores} stores, of which {len(np.unique(store))} have "
                "windows to draw.\nFix: give one weight per store, and leave empty stores out."
            )
    # A stratum is a store, or one task of it; tasks share their store's weight alike.
    inner = task if sampling == "by_task" else np.zeros_like(task)
    pairs, stratum = np.unique(np.stack([store, inner], 1), axis=0, return_inverse=True)
    tasks = np.bincount(pairs[:, 0], minlength=len(shares))
    by_stratum = (shares / tasks)[pairs[:, 0]]
    return Strata(
        first, count, stratum.ravel(), by_stratum, seed, by_group=sampling == "by_episode"
    )
