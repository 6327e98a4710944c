"""The sweep at work: starts what has room, notes what ended, goes on after any end."""

import os
import site
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deft.launch import plan
from deft.launch.book import OUT_OF_TIME, Book, Order, is_held, saved_step
from deft.launch.engines import Engine, Handle, Held
from deft.launch.plan import Run, SweepConfig

_POLL_S = 0.2
_STOP_S = 120.0
_ATTEMPTS = 3
"""Of a run that is lost with its watcher, as on a node that dies."""


class Sweep:
    """Brings every run of a plan to its end.

    Args:
        config: the sweep's settings.
        book: its folder, opened.
        runs: the plan.
        engine: where runs happen.
        retry: give runs that failed another try.
        command: makes a run's command line; None takes `train_command`.
        on_change: called when a run starts or ends, with its name and its state.
        on_tick: called a few times per second.
    """

    def __init__(
        self,
        config: SweepConfig,
        book: Book,
        runs: Sequence[Run],
        engine: Engine,
        *,
        retry: bool = False,
        command: Callable[[Run, bool], list[str]] | None = None,
        on_change: Callable[[str, str], None] = lambda name, state: None,
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._book = book
        self._runs = {run.name: run for run in runs}
        self._engine = engine
        self._command = command or train_command
        self._on_change = on_change
        self._on_tick = on_tick
        self._handles: dict[str, Handle] = {}
        self._adopted: set[str] = set()
        self._waiting = [run.name for run in runs if self._is_to_do(run, retry)]

    def work(self) -> None:
        """Run everything; returns when nothing waits and nothing runs."""
        try:
            while self._waiting or self._handles:
                self._start_some()
                self._note_ends()
                self._on_tick()
                time.sleep(_POLL_S)
        except BaseException:
            self._stop_all()
            raise
        finally:
            self._engine.close()

    @property
    def running(self) -> list[str]:
        """Names of the runs under way."""
        return list(self._handles)

    def _is_to_do(self, run: Run, retry: bool) -> bool:
        """Whether a run is to be started; one that still goes on is taken over."""
        state = self._book.state(run.name)
        order = self._book.order(run.name)
        if order is not None and state in ("running", "interrupted"):
            handle = self._engine.adopt(order)
            if handle is not None:
                self._handles[run.name] = handle
                self._adopted.add(run.name)
                return False
        return state != "done" and (state != "failed" or retry)

    def _start_some(self) -> None:
        for name in list(self._waiting):
            run = self._runs[name]
            if not self._engine.has_room(run):
                break
            if self._waits_for_data(run):
                continue
            self._waiting.remove(name)
            order = self._order(run)
            self._handles[name] = self._engine.start(order, run)
            self._on_change(name, "running")

    def _waits_for_data(self, run: Run) -> bool:
        """Whether a run that was started may still be converting the recording of this one, too:
        it writes its config.yaml when the store is there. Two cannot write one store."""
        alike = [each for each in self._runs.values() if _data(each) == _data(run)]
        if any(Path(each.folder, "config.yaml").exists() for each in alike):
            return False
        return any(each.name in self._handles for each in alike)

    def _order(self, run: Run) -> Order:
        env = libraries(self._config.cuda_libs) | self._engine.environment(run) | run.env
        has_gpus = env.get("CUDA_VISIBLE_DEVICES") != ""
        return self._book.give(
            run, self._command(run, has_gpus), env, ends_with_parent=self._engine.ends_with_parent
        )

    def _note_ends(self) -> None:
        for name, handle in list(self._handles.items()):
            if handle.is_alive():
                continue
            order = self._book.order(name)
            assert order is not None
            code = self._book.code(order)
            if code is None and is_held(Path(order.lock)):
                # Who watched it was killed; the training itself goes on.
                self._handles[name] = Held(Path(order.lock))
                continue
            del self._handles[name]
            self._engine.release(name)
            if self._goes_on(name, order, code):
                self._waiting.append(name)
            self._adopted.discard(name)
            self._on_change(name, self._book.state(name))

    def _goes_on(self, name: str, order: Order, code: int | None) -> bool:
        """Whether an attempt that ended is followed by another."""
        if code == OUT_OF_TIME:  # as long as it gets further
            return saved_step(Path(self._runs[name].folder)) > order.start_step
        # Killed with who watched it. Whether it was done, a resume tells.
        return code is None and (name in self._adopted or order.attempt < _ATTEMPTS)

    def _stop_all(self) -> None:
        """Ask everything to save and leave, and wait for it."""
        for handle in self._handles.values():
            handle.stop()
        end = time.monotonic() + _STOP_S
        while time.monotonic() < end and any(h.is_alive() for h in self._handles.values()):
            time.sleep(_POLL_S)


def _data(run: Run) -> tuple[str, ...]:
    """The words that decide which store a run reads."""
    return tuple(sorted(word for word in run.words if word.startswith(("data.", "task="))))


def train_command(run: Run, has_gpus: bool) -> list[str]:
    """The command line of any attempt at a run: a resume without a checkpoint is a beginning."""
    runs_dir = Path(run.folder).parents[2]
    words = [f"session={run.name}", f"runs_dir={plan.word(str(runs_dir))}", "resume=true"]
    starter = [sys.executable, "-m"]
    if run.gpus > 1 and has_gpus:
        starter += ["torch.distributed.run", "--standalone", f"--nproc-per-node={run.gpus}", "-m"]
    return [*starter, "deft", "train", *run.words, *words]


def libraries(cuda_libs: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """LD_LIBRARY_PATH with the wheels' NVIDIA libraries first, for `pip`; nothing for `system`."""
    if cuda_libs != "pip":
        return {}
    places = [Path(each) for each in (*site.getsitepackages(), *sys.path) if each]
    found = dict.fromkeys(
        str(folder)
        for place in places
        for pattern in ("nvidia/*/lib", "nvidia/lib")
        for folder in sorted(place.glob(pattern))
    )
    before = (os.environ if env is None else env).get("LD_LIBRARY_PATH", "")
    return {"LD_LIBRARY_PATH": ":".join([*found, *([before] if before else [])])}
