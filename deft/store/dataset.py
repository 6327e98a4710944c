"""A store for people's own loops: batch after batch, or sample by sample."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deft.spec import Horizons
from deft.store.batch import Assembler, Batch
from deft.store.goals import GoalConfig
from deft.store.loader import Loader
from deft.store.pictures import decoded
from deft.store.reader import Store, open  # noqa: A004 - read as `store.open`
from deft.store.ring import Seconds
from deft.store.sampler import Sampler
from deft.store.strata import order_of
from deft.store.windows import Windows


def batches(
    path: str | Path | Store,
    batch_size: int,
    *,
    observations: Sequence[str] | None = None,
    horizons: Horizons | None = None,
    split: str | None = "train",
    include: Sequence[str] = (),
    sampling: str = "uniform",
    shuffle: bool = True,
    seed: int = 0,
    **options: Any,
) -> Loader:
    """Batches of any store, the fast way.

        with store.batches("my_store", 64, horizons=Horizons(obs_horizon=2)) as loader:
            for batch in loader:
                learn(batch.obs["image"], batch.action)  # uint8 B To H W C, float32 B Tp A

    Args:
        path: of a store, an address (see `open`), or a store that is open already.
        batch_size: rows of a batch.
        observations: features to give; None takes every picture and state.
        horizons: observed ticks and actions per sample; None takes one of each.
        split: `train`, `val`, another that the store has, or None for every episode.
        include: see `Windows`.
        sampling: see `order_of`; only with `shuffle`.
        shuffle: without end and in a new order each epoch, or once through in the store's order.
        seed: of order and goals.
        options: what else `Loader` takes: `goals`, `threads`, `prefetch`, `start_step`, ….

    Raises:
        StoreError: there is no store, or no window in it.
        ConfigError: a setting is out of range.
    """
    opened = path if isinstance(path, Store) else open(path)
    windows = Windows(opened, horizons or Horizons(), split=split, include=include)
    order = order_of(windows, seed, sampling) if shuffle else None
    sampler = Sampler(len(windows), batch_size, seed, shuffle, order=order)
    names = seen(opened) if observations is None else observations
    return Loader(opened, windows, sampler, observations=names, **options)


def seen(store: Store) -> list[str]:
    """Names of every picture and state of a store: what a policy may look at."""
    return [f.name for f in store.spec.features if f.role in ("image", "depth", "state")]


@dataclass
class Dataset:
    """A store sample by sample, as `torch.utils.data.DataLoader` takes it (map-style).

    Works with any number of workers, forked or spawned: each opens the store for itself. Samples
    are `{"obs": {name: To H W C or To ...}, "action": Tp A, "action_valid": Tp, ...}`, the fields
    of `Batch` without their first axis, so the usual collation makes the same batches of them.
    It decodes one sample per call and copies it between processes; `batches` is several times as
    fast, and needs no workers.

    Args:
        path: of a store, or an address.
        observations, horizons, split, include, seed: as `batches` takes them.
        goals: which later step is the goal, or the name of a strategy; None for no goals. They are
            drawn anew in each epoch that `set_epoch` begins.
        next_observations: also give `next_obs`.

    Raises:
        StoreError, ConfigError: as `batches`.
    """

    path: str | Path
    observations: Sequence[str] | None = None
    horizons: Horizons = field(default_factory=Horizons)
    split: str | None = "train"
    include: Sequence[str] = ()
    seed: int = 0
    goals: GoalConfig | str | None = None
    next_observations: bool = False
    epoch: int = 0

    def __post_init__(self) -> None:
        self._opened_by = -1
        self._ready()

    def __len__(self) -> int:
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Number of the epoch; it decides which goals are drawn."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample. Raises `IndexError` beyond the end; `StoreError` as `Loader`."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several samples, which is what a DataLoader asks for."""
        self._ready()
        wanted = np.asarray(indices, np.int64)
        positions = np.where(wanted < 0, wanted + self._length, wanted)
        if ((positions < 0) | (positions >= self._length)).any():
            raise IndexError(f"samples {list(indices)} of {self._length}")
        batch = self._assembler.allocate(len(positions), np.empty)
        spent = Seconds()
        draws = positions + self.epoch * self._length
        filling = self._assembler.plan(batch, positions, draws, spent)
        self._assembler.fill(filling, slice(0, len(positions)), spent)
        return [_row(batch, row) for row in range(len(positions))]

    def __getstate__(self) -> dict[str, Any]:
        """Only the settings travel to a worker; files and locks stay."""
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._opened_by = -1
        self._ready()

    def _ready(self) -> None:
        """Open the store, once per process: a fork must not share locks with its parent."""
        if self._opened_by == os.getpid():
            return
        opened = open(self.path)
        windows = Windows(opened, self.horizons, split=self.split, include=self.include)
        self._assembler = Assembler(
            opened,
            windows,
            decoded(opened.frames),
            observations=seen(opened) if self.observations is None else self.observations,
            action=None,
            goals=GoalConfig.of(self.goals),
            goal_features=None,
            next_observations=self.next_observations,
            vary=None,
            seed=self.seed,
        )
        self._length = len(windows)
        self._opened_by = os.getpid()


def _row(batch: Batch, row: int) -> dict[str, Any]:
    """One sample as nested dicts of arrays; empty groups are left out, for collation."""
    part = batch.each(lambda array: array[row])
    return {
        name: value for name, value in vars(part).items() if not isinstance(value, dict) or value
    }
