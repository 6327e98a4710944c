"""Which samples make up batch number so-and-so: a pure function, so resuming is exact."""

from typing import Protocol

import numpy as np

from deft.errors import ConfigError
from deft.store.keyed import chained, key, permuted


class Order(Protocol):
    """Which sample stands at each place of an endless row."""

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Positions at these places, int64 `B` to int64 `B`; places count from 0."""
        ...


class Shuffled:
    """Every position of `range(n)` once per epoch, in a keyed random order, new in each."""

    def __init__(self, n: int, seed: int) -> None:
        self._n = np.asarray([n])
        self._key = key(seed)

    def __call__(self, places: np.ndarray) -> np.ndarray:
        epochs, within = np.divmod(places, self._n)
        return permuted(within, self._n, chained(self._key, epochs))


class Sampler:
    """Draws positions in `range(n)`, every one once per epoch unless `order` says otherwise.

    With `shuffle` batches run on across the ends of epochs, so none is short and there is no
    last one. Without, one pass in order, and the last batch may be short.

    Args:
        n: number of samples.
        batch_size: of all ranks together; must divide by `world_size`.
        seed: of the order.
        shuffle: in a keyed random order, new in each epoch, or as they come.
        rank: this process; takes its block of rows of each batch.
        world_size: number of processes. The order of all rows does not depend on it.
        order: another order than `Shuffled`, as `Strata` or `Blocks`; only with `shuffle`.

    Raises:
        ConfigError: the sizes do not fit together.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        order: Order | None = None,
    ) -> None:
        if n < 1 or batch_size < 1:
            raise ConfigError(
                f"Batches of {batch_size} from {n} samples.\nFix: both must be 1 or more."
            )
        if order is not None and not shuffle:
            raise ConfigError("An order without shuffling.\nFix: leave `order` out, or shuffle.")
        if batch_size % world_size or not 0 <= rank < world_size:
            raise ConfigError(
                f"batch_size {batch_size} for rank {rank} of {world_size} processes.\n"
                f"Fix: set batch_size to a multiple of {world_size}."
            )
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.order = order or Shuffled(n, seed)
        self.rank = rank
        self.world_size = world_size

    @property
    def rows(self) -> int:
        """Rows of one batch for this rank."""
        return self.batch_size // self.world_size

    @property
    def batches(self) -> int | None:
        """Number of batches of one pass; None when shuffled, for there is no end."""
        return None if self.shuffle else -(-self.n // self.batch_size)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch number `step`, from 0 on.

        Returns:
            Positions in `range(n)` and draws, int64 `B` each; a draw is the place in the endless
            row of all samples, so no two samples of a run share one.
        """
        first = step * self.batch_size + self.rank * self.rows
        draws = np.arange(first, first + self.rows, dtype=np.int64)
        if not self.shuffle:
            draws = draws[draws < self.n]
            return draws, draws
        return self.order(draws), draws
