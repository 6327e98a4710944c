"""What a sweep keeps on disk, from which it goes on after any end.

<sweep>/sweep.json              the plan: every run, its words, where it began
<sweep>/sweep.lock              held while a sweep is at work; holds its process number
<sweep>/orders/<run>.json       the newest attempt at a run
<sweep>/orders/<run>.lock       held while that attempt lives
<sweep>/orders/<run>.exit       how it ended
<sweep>/logs/<run>.log          all that its attempts printed
"""

import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deft.errors import ConfigError, DeftError
from deft.launch import child
from deft.launch.plan import Run

State = Literal["waiting", "running", "done", "failed", "stopped", "interrupted"]

OUT_OF_TIME = 3
"""Exit code of a training that `train.max_minutes` ended; it wants to go on."""
_ASKED_TO_STOP = (128 + 2, 128 + 15)


@dataclass(frozen=True, kw_only=True)
class Order:
    """One attempt at a run."""

    name: str
    attempt: int
    command: list[str]
    cwd: str
    env: dict[str, str]
    log: str
    lock: str
    exit: str
    began: float
    """Seconds since the epoch."""
    start_step: int
    """Where the training goes on, for its rate."""
    ends_with_parent: bool = False

    @property
    def path(self) -> Path:
        """The order's own file."""
        return Path(self.exit).with_suffix(".json")


class Book:
    """The folder of one sweep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, runs: Sequence[Run], cwd: Path, settings: dict[str, Any]) -> list[Run]:
        """Write the plan, or check that it still is what was begun; returns its runs.

        Raises `ConfigError` when a run that was begun has other words now.
        """
        if (self.folder / "sweep.json").exists():
            before = {run.name: run for run in self.runs()}
            for run in runs:
                old = before.get(run.name)
                if old and self.order(run.name) and old.words != run.words:
                    raise ConfigError(
                        f"{self.folder}: '{run.name}' was begun with other settings.\n"
                        f"Found: {' '.join(sorted(set(old.words) ^ set(run.words)))}.\n"
                        "Fix: restore them, or give the sweep another `name:`."
                    )
            cwd = Path(self.plan()["cwd"])
        for run in runs:
            if self.order(run.name) is None and Path(run.folder, "config.yaml").exists():
                raise ConfigError(
                    f"{run.folder}: this session exists already, and not of this sweep.\n"
                    "Fix: change `name_format`, or move the session away."
                )
        for name in ("orders", "logs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        tree = {
            "cwd": str(cwd),
            "settings": settings,
            "runs": [dataclasses.asdict(run) for run in runs],
        }
        _write(self.folder / "sweep.json", tree)
        return list(runs)

    def plan(self) -> dict[str, Any]:
        """What `open` wrote. Raises `ConfigError` when there is no sweep."""
        found = _read(self.folder / "sweep.json")
        if found is None:
            raise ConfigError(
                f"{self.folder}: there is no sweep.\n"
                "Fix: give the experiments.yaml of one, or its folder."
            )
        return found

    def runs(self) -> list[Run]:
        """The plan's runs."""
        return [Run(**each | {"words": tuple(each["words"])}) for each in self.plan()["runs"]]

    @contextmanager
    def at_work(self) -> Generator[None]:
        """Hold the sweep inside the block. Raises `DeftError` when another process does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "sweep.lock").open("a+") as file:
            if not child.take(file):
                raise DeftError(
                    f"{self.folder}: this sweep is at work already, in process {self.worker()}.\n"
                    f"Fix: deft sweep status {self.folder}"
                )
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def worker(self) -> int | None:
        """The process that is at work on the sweep here."""
        path = self.folder / "sweep.lock"
        if not is_held(path):
            return None
        text = path.read_text()
        return int(text) if text.isdigit() else None

    def order(self, name: str) -> Order | None:
        """The newest attempt at a run."""
        found = _read(self.folder / "orders" / f"{name}.json")
        return None if found is None else Order(**found)

    def give(
        self, run: Run, command: list[str], env: dict[str, str], *, ends_with_parent: bool = False
    ) -> Order:
        """Write the order for the next attempt at a run."""
        before = self.order(run.name)
        base = self.folder.absolute() / "orders" / run.name
        order = Order(
            name=run.name,
            attempt=1 if before is None else before.attempt + 1,
            command=command,
            cwd=self.plan()["cwd"],
            env=env,
            log=str(self.log(run.name)),
            lock=f"{base}.lock",
            exit=f"{base}.exit",
            began=time.time(),
            start_step=saved_step(Path(run.folder)),
            ends_with_parent=ends_with_parent,
        )
        with Path(order.log).open("a") as log:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            log.write(f"--- {stamp}, attempt {order.attempt}: {' '.join(command)}\n")
        _write(order.path, dataclasses.asdict(order))
        return order

    def log(self, name: str) -> Path:
        """What a run printed."""
        return self.folder.absolute() / "logs" / f"{name}.log"

    def code(self, order: Order) -> int | None:
        """The exit code of an attempt; None while there is none."""
        found = _read(Path(order.exit))
        return found["code"] if found and found["attempt"] == order.attempt else None

    def state(self, name: str) -> State:
        """How a run stands."""
        order = self.order(name)
        if order is None:
            return "waiting"
        # The lock first: a run writes its end before it lets go.
        held = is_held(Path(order.lock))
        code = self.code(order)
        if code is None:
            return "running" if held else "interrupted"
        if code in (OUT_OF_TIME, *_ASKED_TO_STOP):
            return "stopped"
        return "done" if code == 0 else "failed"

    def tail(self, name: str, lines: int) -> list[str]:
        """The last lines that a run printed."""
        try:
            with self.log(name).open("rb") as file:
                file.seek(max(0, self.log(name).stat().st_size - 200 * lines))
                text = file.read().decode(errors="replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-lines:]


def is_held(lock: Path) -> bool:
    """Whether some process holds a lock."""
    try:
        with lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def saved_step(run: Path) -> int:
    """The newest checkpoint of a training, 0 when there is none."""
    names = [path.name[5:] for path in (run / "checkpoints").glob("step_*")]
    return max((int(name) for name in names if name.isdigit()), default=0)


def _write(path: Path, tree: Any) -> None:
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w") as file:
        json.dump(tree, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigError(f"{path}: damaged: {error}.\nFix: delete this file.") from error
