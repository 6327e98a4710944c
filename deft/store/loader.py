"""Batches out of a store: threads decode pictures straight into a ring of reused arrays."""

import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from deft.errors import ConfigError
from deft.store.batch import Allocate, Assembler, Batch, Filling, Vary
from deft.store.goals import GoalConfig
from deft.store.pictures import Pictures, decoded
from deft.store.reader import Store
from deft.store.ring import STAGES, Ring, Seconds
from deft.store.windows import Windows


class Batches(Protocol):
    """Says which samples make up a batch; `store.Sampler` is one."""

    @property
    def rows(self) -> int:
        """Rows of a full batch."""
        ...

    @property
    def batches(self) -> int | None:
        """Number of batches; None without end."""
        ...

    @property
    def seed(self) -> int: ...

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]: ...


class Loader:
    """Iterates over batches, in the sampler's order whatever the number of threads.

    A batch is valid until the next call of `next`; with `keep` of 2, until the one after, and so
    on: its arrays are then used again. Copy, or transfer, what must last. Use it as a context
    manager; leaving it ends the threads, as does losing the last reference to it.

    Args:
        store: an open store.
        windows: what a sample is.
        sampler: which samples make a batch; `Sampler(len(windows), ...)`.
        observations: features to give, pictures or numbers, in `Batch.obs`.
        action: name of the action feature; None takes the only one.
        goals: which later step is the goal, or the name of a strategy in `goals.STRATEGIES`; None
            for no goals.
        goal_features: which of `observations` the goal holds; None takes them all.
        next_observations: also give `Batch.next_obs`.
        pictures: by name, where pictures come from, as `memory_cache` gives it; None decodes them
            each time.
        vary: augmentation, done in the threads as soon as pictures are decoded; see `Vary`.
        threads: decoding threads, 1 or more.
        prefetch: batches made ahead of the consumer, 1 or more.
        keep: see above.
        start_step: number of the first batch, to resume.
        steps: how many batches; None goes on to the end of the sampler, if it has one.
        announce: tell the store which pictures will be needed so many batches later; for remote
            stores, whose shards then come in the background.
        allocate: (shape, dtype name) to array, called once per array of the ring; give one that
            returns page-locked memory when batches go to a GPU.

    Raises:
        ConfigError: a name is unknown, or a number out of range.
        SpecError: `action` is None and there is not exactly one action feature.
        StoreError: from `next`: the data of the batch that would come cannot be read; episode and
            step are named. The loader is closed then.
    """

    def __init__(
        self,
        store: Store,
        windows: Windows,
        sampler: Batches,
        *,
        observations: Sequence[str],
        action: str | None = None,
        goals: GoalConfig | str | None = None,
        goal_features: Sequence[str] | None = None,
        next_observations: bool = False,
        pictures: Mapping[str, Pictures] | None = None,
        vary: Vary | None = None,
        threads: int = 2,
        prefetch: int = 3,
        keep: int = 1,
        start_step: int = 0,
        steps: int | None = None,
        announce: int = 0,
        allocate: Allocate = np.empty,
    ) -> None:
        for name, value in (("threads", threads), ("prefetch", prefetch), ("keep", keep)):
            if value < 1:
                raise ConfigError(f"Loader: {name} is {value}.\nFix: set it to 1 or more.")
        assembler = Assembler(
            store,
            windows,
            decoded(store.frames) if pictures is None else pictures,
            observations=observations,
            action=action,
            goals=GoalConfig.of(goals),
            goal_features=goal_features,
            next_observations=next_observations,
            vary=vary,
            seed=sampler.seed,
        )
        maker = _Maker(assembler, sampler, threads, announce)
        slots = range(prefetch + keep)
        maker.slots = [assembler.allocate(sampler.rows, allocate) for _ in slots]
        last = sampler.batches
        if steps is not None:
            last = start_step + steps if last is None else min(last, start_step + steps)
        self._maker = maker
        self._ring = Ring(prefetch + keep, keep, start_step, last, threads, maker.plan, maker.fill)
        self._threads = threads
        # Only tells them: a finaliser may run in any thread, even in one of these.
        self._finaliser = weakref.finalize(self, self._ring.halt)
        self._finaliser.atexit = False  # the ring sees to the end of the process itself

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Batch:
        try:
            slot = self._ring.take()
        except BaseException:
            self.close()
            raise
        if slot is None:
            raise StopIteration
        return self._maker.made(slot)

    def close(self) -> None:
        """End the threads; `next` stops. Harmless twice."""
        self._ring.stop()

    @property
    def ready(self) -> int:
        """How many batches are made and wait to be taken, up to `prefetch`."""
        return self._ring.ready

    def timings(self) -> dict[str, float]:
        """Shares of the time since the last call, at first since the start.

        `wait` is the consumer's for a batch; the rest is the threads', as a share of one thread:
        `plan` for the order, windows and goals, `read`, `decode`, `augment`, and `copy` for numbers
        and pictures that were there already. What is missing to 1 without `wait`, they spent idle.
        """
        spent = self._ring.spent()
        wall = max(time.perf_counter() - spent.started, 1e-9)
        workers = {stage: 1 if stage == "wait" else self._threads for stage in STAGES}
        return {stage: getattr(spent, stage) / (wall * workers[stage]) for stage in STAGES}


class _Maker:
    """Makes batches; holds no reference to the Loader, so that losing that one ends the threads."""

    def __init__(self, assembler: Assembler, sampler: Batches, threads: int, announce: int) -> None:
        self._announce = announce
        self._assembler = assembler
        self._sampler = sampler
        # Small pieces share the work evenly; each costs one turn of the lock.
        self._piece = max(1, sampler.rows // (4 * threads))
        self.slots: list[Batch] = []
        self._filling: dict[int, tuple[Batch, Filling]] = {}

    def plan(self, number: int, slot: int, seconds: Seconds) -> int:
        """Everything of a batch but its pictures; returns how many pieces of those there are."""
        if self._announce:
            self._assembler.announce(self._sampler.batch(number + self._announce)[0])
        positions, draws = self._sampler.batch(number)
        batch = self.slots[slot].first(len(positions))
        filling = self._assembler.plan(batch, positions, draws, seconds)
        self._filling[slot] = (batch, filling)
        return -(-len(positions) // self._piece) if filling.cameras else 0

    def fill(self, slot: int, piece: int, seconds: Seconds) -> None:
        """Decode the pictures of some rows of a batch."""
        batch, filling = self._filling[slot]
        some = slice(piece * self._piece, min((piece + 1) * self._piece, len(batch.draws)))
        self._assembler.fill(filling, some, seconds)

    def made(self, slot: int) -> Batch:
        """The batch in a slot, as long as it is."""
        return self._filling[slot][0]
