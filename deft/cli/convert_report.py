"""What `deft convert` says: before the work, during it, and of what came of it."""

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft import store
from deft.cli.conversion import Conversion
from deft.cli.convert_sink import Outcome, report_path

if TYPE_CHECKING:
    from deft.spec import Source

_SHOWN = 20
"""Findings that people see; the report file has all of them."""


def announce(conversion: Conversion, source: "Source") -> None:
    """Say by name what sizes mean, how ticks are merged and where the result goes."""
    kind = "" if conversion.is_store else f" ({conversion.to})"
    print(f"{source.name} -> {conversion.dst}{kind}", file=sys.stderr)
    described = _stored if conversion.is_store else _written
    for line in described(conversion, source):
        print(f"  {line}", file=sys.stderr)
    for line in _about_time(conversion, source):
        print(f"  {line}", file=sys.stderr)


def _stored(conversion: Conversion, source: "Source") -> list[str]:
    lines: list[str] = []
    config, steps = conversion.config, conversion.steps(source)
    for feature in store.stored_spec(source.spec, config).features:
        note = ""
        if feature.is_frame:
            plan = store.plan_frames(source.spec[feature.name], config, steps)
            note = f", from {plan.resize.describe()}" if plan.resize else ""
            note += f", {plan.codec}" + (f" {plan.quality}" if plan.codec == "jpeg" else "")
            note += f" ({plan.why})" if plan.why else ""
        lines.append(f"{feature.name}: {feature.describe()}{note}")
    return lines


def _written(_: Conversion, source: "Source") -> list[str]:
    lines: list[str] = []
    for feature in source.spec.features:
        note = f", from {feature.resized[-1].describe()}" if feature.resized else ""
        lines.append(f"{feature.name}: {feature.describe()}{note}")
    return lines


def _about_time(conversion: Conversion, source: "Source") -> list[str]:
    if source.spec.fps == 0:
        return ["The recording does not say its ticks per second; give --fps if you know."]
    if all(request.fps is None for request in conversion.sources):
        return []
    lines = [f"{source.spec.fps:g} ticks per second"]
    changes = conversion.sources[0].summed(source)
    if changes:
        lines.append(f"added up where ticks are merged: {', '.join(changes)}")
    else:
        lines.append(
            "commands are those in force; name elements that are changes per step with --changes"
        )
    return lines


def plan_of(conversion: Conversion, source: "Source") -> dict[str, Any]:
    """What a conversion would do, as plain values."""
    chosen = conversion.chosen(source)
    infos = [source.episodes[n] for n in chosen]
    steps = sum(info.length for info in infos)
    return {
        "to": conversion.to,
        "path": conversion.dst,
        "episodes": len(chosen),
        "of": len(source.episodes),
        "steps": steps,
        "frames": steps * len(source.spec.role("image", "depth", "saliency")),
        "tasks": len({info.task for info in infos}),
        "split": dict(Counter(info.split or "(none)" for info in infos)),
        "problems": [asdict(problem) for problem in source.problems],
    }


def plan_for_people(plan: dict[str, Any]) -> str:
    splits = ", ".join(f"{count} {name}" for name, count in plan["split"].items())
    lines = [
        f"would store {plan['episodes']} of {plan['of']} episodes, {plan['steps']} steps, "
        f"{plan['frames']} pictures, {plan['tasks']} tasks; split in the source: {splits}",
        *_findings(plan["problems"]),
    ]
    return "\n".join(lines)


def summary_of(conversion: Conversion, outcome: Outcome | None, seconds: float) -> dict[str, Any]:
    """What came of a conversion, as plain values; of what is there when nothing was done."""
    dst = Path(conversion.dst)
    summary = _of_store(dst) if conversion.is_store else _of_format(dst, conversion.to)
    if outcome is not None:
        summary["seconds"] = round(seconds, 1)
        summary["left_out"] = [{"id": id_, "why": why} for id_, why in outcome.left_out]
        summary["problems"] = [asdict(problem) for problem in outcome.problems]
    return summary


def _of_store(dst: Path) -> dict[str, Any]:
    opened = store.open(dst)
    return {
        "path": str(dst),
        "to": "store",
        "digest": opened.digest,
        "episodes": len(opened.episodes),
        "steps": len(opened),
        "frames": len(opened) * len(opened.frames),
        "size_bytes": sum(each["bytes"] for each in opened.info["files"].values()),
        "kept_as_is": sum(each.get("kept_as_is", 0) for each in opened.info["frames"].values()),
        "split": opened.info["split"]["episodes"],
        "split_from": opened.info["split"]["from"],
        "left_out": opened.info["left_out"],
        "problems": opened.info["problems"],
    }


def _of_format(dst: Path, name: str) -> dict[str, Any]:
    report = json.loads(report_path(dst).read_bytes())
    files = [dst] if dst.is_file() else [path for path in dst.rglob("*") if path.is_file()]
    return {
        "path": str(dst),
        "to": name,
        "report": str(report_path(dst)),
        "episodes": report["episodes"],
        "steps": report["steps"],
        "size_bytes": sum(path.stat().st_size for path in files),
        "left_out": report["left_out"],
        "problems": report["problems"],
    }


def for_people(summary: dict[str, Any]) -> str:
    splits = ", ".join(f"{count} {name}" for name, count in summary.get("split", {}).items())
    lines = [
        f"{summary['episodes']} episodes{f' ({splits})' if splits else ''}, "
        f"{summary['steps']} steps"
        + (f", {summary['frames']} pictures" if "frames" in summary else "")
        + f", {summary['size_bytes'] / 1e6:.1f} MB"
        + (f" in {summary['seconds']} s" if "seconds" in summary else "")
    ]
    if summary.get("kept_as_is"):
        lines.append(f"{summary['kept_as_is']} pictures keep the JPEG that SRC holds")
    for each in summary["left_out"]:
        lines.append(f"left out: {each['id']}: {' '.join(each['why'].split())}")
    rest = [p for p in summary["problems"] if p["effect"] != "left out"]
    lines += _findings(rest[:_SHOWN])
    if len(rest) > _SHOWN:
        where = summary.get("report", f"{summary['path']}/store.json")
        lines.append(f"and {len(rest) - _SHOWN} more; all are in {where}")
    return "\n".join([*lines, summary["path"]])


def _findings(problems: Sequence[dict[str, Any]]) -> list[str]:
    return [
        f"{each['severity']}: {each['episode'] or 'recording'}: {each['what']} ({each['effect']})"
        for each in problems
    ]


class ProgressLine:
    """Rate and time left on stderr: a bar on a terminal, else a line every ten seconds."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._stage = ""
        self._began = self._said = time.monotonic()
        self._first = 0

    def __enter__(self) -> "ProgressLine":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tell(self, now: store.Progress) -> None:
        """Take in one step of a conversion."""
        moment = time.monotonic()
        if now.stage != self._stage:
            self._stage, self._began, self._first = now.stage, moment, now.done
            if now.stage == "episodes" and now.done:
                print(f"going on: {now.done} episodes are there already", file=sys.stderr)
            if self._bar is not None:
                if self._task is not None:
                    self._bar.remove_task(self._task)
                self._task = self._bar.add_task(now.stage, total=now.total, rate="")
        seconds = max(moment - self._began, 1e-6)
        rate = f"{(now.done - self._first) / seconds:.1f} episodes/s"
        if now.stage == "episodes":
            rate += f", {now.frames / seconds:.0f} pictures/s"
        if now.size_bytes:
            rate += f", {now.size_bytes / seconds / 1e6:.1f} MB/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=now.done, rate=rate)
        elif now.done == now.total or moment - self._said >= 10:
            self._said = moment
            done = now.done - self._first
            left = f", {(now.total - now.done) * seconds / done:.0f} s left" if done else ""
            print(f"{now.stage}: {now.done}/{now.total}, {rate}{left}", file=sys.stderr, flush=True)
