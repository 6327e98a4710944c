"""The table of a sweep: while it runs, and at its end."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live as RichLive
from rich.markup import escape
from rich.table import Table

from deft import launch

_COLOURS = {"done": "green", "failed": "bold red", "running": "cyan", "interrupted": "yellow",
            "stopped": "yellow"}  # fmt: skip
_REFRESH_S = 1.0
_PLAIN_S = 60.0


class Live:
    """Redraws the table in place on a terminal; elsewhere, a line per change and the table now and
    then."""

    def __init__(self, book: launch.Book) -> None:
        self._book = book
        self._console = Console(stderr=True, highlight=False)
        self._live = (
            RichLive(console=self._console, auto_refresh=False) if sys.stderr.isatty() else None
        )
        self._drawn = time.monotonic()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def note(self, name: str, state: str) -> None:
        """A run has begun or ended."""
        self.say(f"{name}: {state}")
        if state == "failed":
            for line in self._book.tail(name, 12):
                self.say(f"    {line}")

    def say(self, line: str) -> None:
        self._console.print(escape(line), soft_wrap=True)

    def tick(self) -> None:
        """Draw, when it is time."""
        now = time.monotonic()
        if now - self._drawn < (_REFRESH_S if self._live is not None else _PLAIN_S):
            return
        self._drawn = now
        table = runs_table(launch.rows(self._book))
        if self._live is not None:
            self._live.update(table, refresh=True)
        else:
            _wide().print(table)


def show(folder: Path, rows: Sequence[launch.Row], groups: Sequence[launch.Group]) -> None:
    """The table with what failed, and the means over seeds."""
    console = Console(highlight=False) if sys.stdout.isatty() else _wide(sys.stdout)
    console.print(runs_table(rows))
    for row in rows:
        if row.state == "failed":
            console.print(f"[bold red]{escape(row.name)} failed[/], {escape(row.log)}")
            for line in row.last_lines:
                console.print(f"    {escape(line)}", soft_wrap=True)
    if groups:
        console.print(groups_table(groups))
    done = sum(row.state == "done" for row in rows)
    console.print(f"{done} of {len(rows)} runs done, {escape(str(folder))}", soft_wrap=True)


def runs_table(rows: Sequence[launch.Row]) -> Table:
    """State, step, loss, rate and time left of every run."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold")
    table.add_column("state")
    for title in ("step", "loss", "steps/s", "left"):
        table.add_column(title, justify="right")
    for row in rows:
        colour = _COLOURS.get(row.state, "default")
        table.add_row(
            escape(row.name),
            f"[{colour}]{row.state}[/]" + (f" ({row.attempt})" if row.attempt > 1 else ""),
            f"{row.step}/{row.steps if row.steps is not None else '?'}" if row.attempt else "",
            _number(row.loss),
            _number(row.rate),
            _clock(row.left_s),
        )
    return table


def groups_table(groups: Sequence[launch.Group]) -> Table:
    """Mean and 95 % interval over seeds."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("runs", overflow="fold")
    table.add_column("measurement")
    for title in ("done", "mean", "95 % interval"):
        table.add_column(title, justify="right")
    for each in groups:
        interval = f"{each.low:.4g} to {each.high:.4g}" if each.count > 1 else "one run only"
        table.add_row(
            escape(each.label),
            escape(each.metric),
            f"{each.count} of {each.wanted}",
            _number(each.mean),
            interval,
        )
    return table


def _wide(file: Any = None) -> Console:
    """For files and pipes: nothing is cut to a terminal's width."""
    return Console(file=file or sys.stderr, highlight=False, width=160)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return ""
    whole = int(max(0.0, seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
