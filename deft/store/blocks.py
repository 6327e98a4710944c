"""An order for stores that are slow to reach at random: a few shards at a time, then the next."""

import numpy as np

from deft.store.keyed import Permutation, key
from deft.store.windows import Windows

_SHARDS, _WINDOWS = 4, 5
"""Keep the streams of one seed apart."""


class Blocks:
    """Every window once per epoch; the windows of some shards first, mixed, then those of others.

    An epoch takes the shards in a random order, `together` at a time. Of 64 together, batches of
    256 hold 251 distinct episodes where a full shuffle gives 255.5. A window that looks back into
    the shard before its own is drawn with its own; episodes never cross shards.

    Args:
        windows: what is drawn from.
        together: shards that are mixed, 1 or more; so many must fit the local cache at once.
        seed: of the order.
    """

    def __init__(self, windows: Windows, together: int, seed: int) -> None:
        edges = windows.before(_shard_rows(windows))
        counts = np.diff(np.append(edges, len(windows)))
        kept = counts > 0
        self._first, self._count = edges[kept], counts[kept]
        self._n = len(windows)
        self._together = max(1, together)
        self._seed = seed
        self._epoch: tuple[int, np.ndarray, np.ndarray] | None = None

    def __call__(self, places: np.ndarray) -> np.ndarray:
        found = np.empty_like(places)
        epochs, within = np.divmod(places, self._n)
        for epoch in np.unique(epochs).tolist():
            order, ends = self._shards(epoch)
            last = np.append(np.arange(self._together, len(order), self._together), len(order)) - 1
            groups = np.searchsorted(ends[last], within, "right")
            here = epochs == epoch
            for group in np.unique(groups[here]).tolist():  # one or two per batch
                these = here & (groups == group)
                low = group * self._together
                begin = int(ends[low - 1]) if low else 0
                size = int(ends[last[group]]) - begin
                stream = int(key(self._seed, _WINDOWS, epoch)[0])
                place = begin + Permutation(size, stream, group)(within[these] - begin)
                at = np.searchsorted(ends, place, "right")
                shard = order[at]
                found[these] = self._first[shard] + place - (ends[at] - self._count[shard])
        return found

    @property
    def windows_together(self) -> int:
        """About how many windows are mixed at a time."""
        return max(1, self._n * min(self._together, len(self._count)) // len(self._count))

    def _shards(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The shards in the order of an epoch, and how many windows they and those before hold."""
        held = self._epoch
        if held is None or held[0] != epoch:
            many = len(self._count)
            stream = int(key(self._seed, _SHARDS)[0])
            order = Permutation(many, stream, epoch)(np.arange(many))
            # Replaced as a whole: several threads may ask at once.
            held = self._epoch = (epoch, order, np.cumsum(self._count[order]))
        return held[1], held[2]


def _shard_rows(windows: Windows) -> np.ndarray:
    """First rows of the shards of the camera that has most; all rows are one without cameras."""
    firsts = [column.first for column in windows.store.frames.values()]
    return max(firsts, key=len, default=np.zeros(1, np.int64))
