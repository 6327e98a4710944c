"""What a run leaves to read: metrics.jsonl, a console log, and progress on the terminal."""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from deft.errors import TrainError
from deft.train.trackers import Tracker


class Journal:
    """Writes measurements as JSON lines and tells the person at the terminal how it goes.

    `metrics.jsonl` holds one object per line with `step` and numbers. On resume, lines after the
    checkpoint are dropped, since those steps are done again.
    """

    def __init__(
        self, run: Path, *, start_step: int, total_steps: int, tracker: Tracker | None = None
    ) -> None:
        self.total_steps = total_steps
        self._tracker = tracker
        self.start_step = start_step
        self._began = time.monotonic()
        (run / "logs").mkdir(parents=True, exist_ok=True)
        path = run / "metrics.jsonl"
        _keep_until(path, start_step)
        self._metrics = path.open("a")
        self._log = (run / "logs" / "train.log").open("a")
        self._bar: Progress | None = None
        self._task: Any = None
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("[bold]train"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=total_steps, completed=start_step)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._metrics.close()
        self._log.close()

    def write(self, step: int, values: Mapping[str, float]) -> Mapping[str, float]:
        """Append one line of measurements, show it, and hand the values back."""
        self._metrics.write(json.dumps({"step": step, **values}) + "\n")
        self._metrics.flush()
        if self._tracker is not None:
            self._tracker.write(step, values)
        # What is told apart by dimension or step ahead is for metrics.jsonl; a line must be read.
        shown = "  ".join(
            f"{name} {value:.4g}" for name, value in values.items() if name.count("/") < 2
        )
        rate = (step - self.start_step) / max(time.monotonic() - self._began, 1e-9)
        left = (self.total_steps - step) / max(rate, 1e-9)
        line = f"step {step}/{self.total_steps}  {rate:.1f} steps/s  {_clock(left)} left  {shown}"
        self._say(line)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=_brief(rate, values))
        return values

    def say(self, line: str) -> None:
        """One line for people, on the terminal and in logs/train.log."""
        self._say(line)
        if self._bar is not None:
            self._bar.console.print(line, highlight=False)

    def _say(self, line: str) -> None:
        self._log.write(line + "\n")
        self._log.flush()
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)


class Mute:
    """In place of a journal on all ranks but the first: keeps and says nothing."""

    def __init__(
        self, run: Path, *, start_step: int, total_steps: int, tracker: Tracker | None = None
    ) -> None:
        pass

    def __enter__(self) -> "Mute":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, step: int, values: Mapping[str, float]) -> Mapping[str, float]:
        """The values as they are."""
        return values

    def say(self, line: str) -> None:
        """Nothing."""


def read_metrics(path: Path) -> list[dict[str, float]]:
    """All lines of a metrics.jsonl; a torn last line is left out.

    Raises `TrainError` for a damaged line elsewhere.
    """
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    rows: list[dict[str, float]] = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise TrainError(
                f"{path}, line {number}: this is no JSON object.\nFound: {line[:80]!r}.\n"
                "Fix: delete the line."
            ) from error
    return rows


def _keep_until(path: Path, step: int) -> None:
    rows = [row for row in read_metrics(path) if row["step"] <= step]
    beside = path.with_name(".metrics.jsonl.new")
    with beside.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _brief(rate: float, values: Mapping[str, float]) -> str:
    """Rate, loss, share of waiting for data, and memory, for the progress bar."""
    parts = [f"{rate:.1f} steps/s"]
    if "train/loss" in values:
        parts.append(f"loss {values['train/loss']:.4g}")
    if "time/wait" in values:
        parts.append(f"waiting {values['time/wait']:.0%}")
    if "memory_gb" in values:
        parts.append(f"{values['memory_gb']:.1f} GB")
    return "  ".join(parts)


def _clock(seconds: float) -> str:
    whole = int(min(seconds, 359_999))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
