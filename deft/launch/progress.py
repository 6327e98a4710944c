"""How far the runs of a sweep are, and what they came to, read from what they leave."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deft.launch.book import Book
from deft.launch.plan import Run
from deft.spec import mean_interval

_TAIL = 65_536
_SEED = "seed"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run in the table."""

    name: str
    state: str
    attempt: int = 0
    step: int = 0
    steps: int | None = None
    """Wanted in all; None while the run has not said so."""
    loss: float | None = None
    rate: float | None = None
    """Steps per second of this attempt."""
    left_s: float | None = None
    values: dict[str, float] = field(default_factory=dict[str, float])
    """The last value of every measurement."""
    labels: dict[str, str] = field(default_factory=dict[str, str])
    folder: str = ""
    log: str = ""
    last_lines: tuple[str, ...] = ()
    """What a run that failed said last."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ in their seed only, as one measurement's mean and 95 % interval."""

    label: str
    metric: str
    count: int
    """Finished runs that it is the mean of."""
    wanted: int
    mean: float
    low: float
    high: float


def rows(book: Book, *, tail_lines: int = 12) -> list[Row]:
    """Every run of a sweep."""
    is_at_work = book.worker() is not None
    return [_row(book, run, is_at_work, tail_lines) for run in book.runs()]


def groups(rows: Sequence[Row], metrics: Sequence[str]) -> list[Group]:
    """Mean and interval over seeds of the runs that are done."""
    members: dict[str, list[Row]] = {}
    for row in rows:
        members.setdefault(_label(row), []).append(row)
    found: list[Group] = []
    for label, own in members.items():
        for metric in metrics:
            values = [r.values[metric] for r in own if r.state == "done" and metric in r.values]
            if values:
                mean, low, high = mean_interval(values)
                found.append(
                    Group(
                        label=label,
                        metric=metric,
                        count=len(values),
                        wanted=len(own),
                        mean=mean,
                        low=low,
                        high=high,
                    )
                )
    return found


def _label(row: Row) -> str:
    kept = [f"{k}={v}" for k, v in row.labels.items() if k != _SEED]
    return " ".join(kept) or ("all" if _SEED in row.labels else row.name)


def _row(book: Book, run: Run, is_at_work: bool, tail_lines: int) -> Row:
    order, state = book.order(run.name), str(book.state(run.name))
    if state == "interrupted" and is_at_work:
        state = "queued"
    folder = Path(run.folder)
    values = last_values(folder / "metrics.jsonl")
    step, steps = int(values.pop("step", 0)), wanted_steps(folder)
    rate = left = None
    if order is not None and state == "running" and step > order.start_step:
        seconds = (folder / "metrics.jsonl").stat().st_mtime - order.began
        if seconds > 0:
            rate = (step - order.start_step) / seconds
            left = (steps - step) / rate if steps is not None else None
    return Row(
        name=run.name,
        state=state,
        attempt=order.attempt if order else 0,
        step=step,
        steps=steps,
        loss=values.get("train/loss"),
        rate=rate,
        left_s=left,
        values=values,
        labels=run.labels,
        folder=run.folder,
        log=str(book.log(run.name)),
        last_lines=tuple(book.tail(run.name, tail_lines)) if state == "failed" else (),
    )


def last_values(path: Path) -> dict[str, float]:
    """The last value of every measurement near the end of a metrics.jsonl, with its `step`."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL))
            lines = file.read().split(b"\n")
    except OSError:
        return {}
    found: dict[str, float] = {}
    for line in lines[1 if size > _TAIL else 0 : -1]:
        try:
            values: Any = json.loads(line)
        except ValueError:
            continue  # torn by a kill; the next launch of the run cleans it up
        numbers = {
            k: float(v)
            for k, v in values.items()
            if isinstance(v, int | float) and math.isfinite(v)
        }
        found |= numbers
    return found


def wanted_steps(folder: Path) -> int | None:
    """`train.steps` of a run's config.yaml, read without YAML: it is asked for all the time."""
    try:
        lines = (folder / "config.yaml").read_text().splitlines()
    except OSError:
        return None
    inside, found = False, dict[str, str]()
    for line in lines:
        if not line.startswith(" "):
            inside = line.startswith("train:")
        elif inside:
            key, _, value = line.strip().partition(":")
            found[key] = value.strip()
    steps = found.get("steps", "")
    return int(steps) if steps.isdigit() and found.get("epochs", "null") == "null" else None
