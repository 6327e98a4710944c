"""Threads that fill a ring of reused slots in order, with back-pressure."""

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakSet


@dataclass
class _Slot:
    """The state of one batch in the making."""

    pending: int = 0
    """Pieces still to be filled."""
    planned: bool = False
    error: BaseException | None = None

    @property
    def ready(self) -> bool:
        return self.error is not None or (self.planned and self.pending == 0)


STAGES = ("wait", "plan", "read", "decode", "augment", "copy")
"""What time is spent on, in the order it happens."""


@dataclass
class Seconds:
    """Where time went: waiting is the consumer's, the rest is summed over the threads."""

    wait: float = 0.0
    plan: float = 0.0
    read: float = 0.0
    decode: float = 0.0
    augment: float = 0.0
    copy: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, other: "Seconds") -> None:
        """Sum up everything but the start."""
        for name in STAGES:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_running: "WeakSet[Ring]" = WeakSet()
"""Rings whose threads may still work."""

_LAST_PIECE_S = 10.0
"""How long the end of the process waits for a thread; one that fetches from afar may take long."""


class _Worker(threading.Thread):
    """Told from other threads by its class."""


def _end_all() -> None:
    """Let all threads end before the interpreter does.

    One that came back from C++ after that would find no interpreter and be ended in the middle of
    a destructor, which takes the process down with `terminate called`. That goes for one inside
    OpenCV, and for one that is ending anyway and lets go of torch's tensors as the last.
    """
    for ring in list(_running):
        if ring.owner == os.getpid():
            ring.halt()
    # Rings whose threads are just ending may be gone from the set.
    for thread in threading.enumerate():
        if isinstance(thread, _Worker):
            thread.join(_LAST_PIECE_S)


class Ring:
    """Batches number `first` to `last`, each planned by one thread and filled by all.

    Slot `number % slots` holds batch `number`. A batch is begun only when its slot has been
    released, so threads never run further ahead than the ring is long.

    Args:
        slots: length of the ring.
        keep: how many of the last taken batches stay untouched, 1 or more.
        first: number of the first batch.
        last: number after the last batch; None goes on for ever.
        threads: how many, 1 or more.
        plan: (batch, slot, seconds) prepares a batch in its slot; returns how many pieces there
            are to fill.
        fill: (slot, piece, seconds) fills one piece.
    """

    def __init__(
        self,
        slots: int,
        keep: int,
        first: int,
        last: int | None,
        threads: int,
        plan: Callable[[int, int, Seconds], int],
        fill: Callable[[int, int, Seconds], None],
    ) -> None:
        self.seconds = Seconds()
        self._slots = [_Slot() for _ in range(slots)]
        self._keep = keep
        self._last = last
        self._plan = plan
        self._fill = fill
        self._begun = first
        self._taken = first
        self._released = first
        self._planning = False
        self._stopped = False
        self._pieces: deque[tuple[int, int]] = deque()
        self._changed = threading.Condition()
        self._threads = [
            _Worker(target=self._work, name=f"deft-loader-{n}", daemon=True) for n in range(threads)
        ]
        self.owner = os.getpid()
        """The process that has its threads; a forked child has a copy without any."""
        # Registered again each time, it is there once, and not before there is a ring.
        atexit.unregister(_end_all)
        atexit.register(_end_all)
        _running.add(self)
        for thread in self._threads:
            thread.start()

    def take(self) -> int | None:
        """The slot of the next batch, filled; None after the last. Releases an older one.

        Raises what a thread raised while it made this batch, once the earlier ones are taken.
        """
        begun = time.perf_counter()
        with self._changed:
            number = self._taken
            if self._stopped or number == self._last:
                return None
            self._released = max(self._released, number - self._keep + 1)
            self._changed.notify_all()
            place = number % len(self._slots)
            # Looked up anew each time: planning puts a fresh state into the slot.
            self._changed.wait_for(lambda: self._begun > number and self._slots[place].ready)
            error = self._slots[place].error
            if error is not None:
                raise error
            self._taken += 1
            self.seconds.wait += time.perf_counter() - begun
        return place

    @property
    def ready(self) -> int:
        """How many batches are filled and wait to be taken."""
        with self._changed:
            waiting = range(self._taken, self._begun)
            return sum(self._slots[number % len(self._slots)].ready for number in waiting)

    def spent(self) -> Seconds:
        """What was spent since the last call, or since the start."""
        with self._changed:
            found, self.seconds = self.seconds, Seconds()
        return found

    def halt(self) -> None:
        """Tell all threads to end, after the piece they are at. Harmless twice."""
        with self._changed:
            self._stopped = True
            self._pieces.clear()
            self._changed.notify_all()

    def stop(self) -> None:
        """Halt, and wait for the threads."""
        self.halt()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._next_job()) is not None:
            number, piece = job
            spent = Seconds()
            pieces = 0
            error: BaseException | None = None
            try:
                if piece < 0:
                    pieces = self._plan(number, number % len(self._slots), spent)
                    spent.plan = time.perf_counter() - spent.started
                    spent.plan -= spent.copy + spent.augment
                else:
                    self._fill(number % len(self._slots), piece, spent)
            except BaseException as caught:  # whatever it is, `take` raises it in the consumer
                error = caught
            self._done(number, piece, pieces, spent, error)

    def _next_job(self) -> tuple[int, int] | None:
        """(batch, piece), piece -1 for planning; None when it is over."""
        with self._changed:
            while not self._stopped:
                room = self._begun - self._released < len(self._slots)
                more = self._last is None or self._begun < self._last
                # Plan ahead while the others still have pieces, so that none runs dry.
                if len(self._pieces) <= len(self._threads) and room and more and not self._planning:
                    self._planning = True
                    number = self._begun
                    self._slots[number % len(self._slots)] = _Slot()
                    return number, -1
                if self._pieces:
                    return self._pieces.popleft()
                self._changed.wait()
            return None

    def _done(
        self, number: int, piece: int, pieces: int, spent: Seconds, error: BaseException | None
    ) -> None:
        with self._changed:
            slot = self._slots[number % len(self._slots)]
            if piece < 0:
                self._planning = False
                self._begun += 1
                slot.planned, slot.pending = True, pieces
                self._pieces.extend((number, n) for n in range(pieces))
            else:
                slot.pending -= 1
            slot.error = slot.error or error
            self.seconds.add(spent)
            if piece < 0 or slot.ready:
                self._changed.notify_all()
