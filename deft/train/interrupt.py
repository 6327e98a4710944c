"""Being told to stop: by a signal, or by the clock."""

import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from deft.errors import TrainError

OUT_OF_TIME = 3
"""Exit code of a run that `train.max_minutes` ended: not done, and nothing is wrong."""


class StoppedError(TrainError):
    """Training was asked to stop, and has saved everything; `code` is the process's exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Stopping:
    """Knows whether to stop after the step that is being taken.

    Args:
        max_minutes: how long training may last; 0 for ever.
    """

    def __init__(self, max_minutes: float) -> None:
        self._signal: signal.Signals | None = None
        self._minutes = max_minutes
        self._end = time.monotonic() + 60 * max_minutes if max_minutes else None

    @contextmanager
    def listening(self) -> Generator[None]:
        """SIGTERM and SIGINT ask to stop inside the block; a second one stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may change what signals do
            return
        kinds = (signal.SIGTERM, signal.SIGINT)
        before = {kind: signal.getsignal(kind) for kind in kinds}

        def note(number: int, frame: FrameType | None) -> None:
            if self._signal is not None:
                raise KeyboardInterrupt
            self._signal = signal.Signals(number)

        for kind in kinds:
            signal.signal(kind, note)
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    @property
    def is_asked(self) -> bool:
        """Whether training should save and leave."""
        return self._signal is not None or (self._end is not None and time.monotonic() >= self._end)

    def stopped(self, run: object, step: int) -> StoppedError:
        """The end of a run that has saved at this step."""
        if self._signal is not None:
            why, code = f"{self._signal.name} came", 128 + self._signal
        elif self._end is not None and time.monotonic() >= self._end:
            why, code = f"train.max_minutes={self._minutes:g} are over", OUT_OF_TIME
        else:
            why, code = "another rank was asked to stop", OUT_OF_TIME
        return StoppedError(
            f"{run}: {why}; stopped after step {step}, which is saved.\n"
            "Fix: the same command with resume=true goes on from there.",
            code,
        )
