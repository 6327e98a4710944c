"""Turn a recording into a training store: pictures at training size, numbers in flat tables.

examples:
  deft convert pusht.zarr data/pusht --fps 10
  deft convert bridge/ data/bridge --image-size 256x256 --workers 8
  deft convert aloha/ data/aloha --include 'lift_*' --include 'open the drawer'
  deft convert data/pusht data/pusht_raw --codec raw          a store is a recording too
  deft convert bridge/ data/few --episodes 0:10 --dry-run     what would be stored, and stop

--image-size is height x width. SRC is looked for here and in $DEFT_DATA_DIR; a DST without a
folder goes to $DEFT_DATA_DIR when that is set. The same command gives the same bytes, whatever
--workers is and however often it was killed and run again: it goes on where it was.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft.errors import ConfigError

if TYPE_CHECKING:
    from deft import spec, store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("src", metavar="SRC", help="a recording, or a store")
    add("dst", metavar="DST", help="folder of the store to be")
    add("--to", default="store", choices=["store"], help="what to write")
    add("--from", dest="format", metavar="FORMAT", help="format of SRC; else recognised")
    add("--image-size", metavar="HxW", help="height x width of stored pictures; else as in SRC")
    add("--codec", default="jpeg", choices=["jpeg", "raw"], help="how pictures are kept")
    add("--quality", type=int, default=90, help="JPEG quality, 1 to 100 (90)")
    add("--val-fraction", type=float, default=0.1, help="share of episodes held out (0.1)")
    add("--split-seed", type=int, default=0, help="seed of the split (0)")
    add("--workers", type=int, help="episodes worked on at a time; else one per core")
    add("--episodes", metavar="LIST", help="numbers to take, as in 0:10 or 1,2,5; else all")
    add(
        "--include",
        action="append",
        default=[],
        metavar="PATTERN",
        help="tasks, folders or episode ids to take; may be given again",
    )
    add("--fps", type=float, help="ticks per second, when SRC does not say")
    add("--strict", action="store_true", help="stop at a bad episode instead of leaving it out")
    add("--overwrite", action="store_true", help="replace a store that is there")
    add("--dry-run", action="store_true", help="say what would be done, and stop")
    add("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Convert, and print what became of it."""
    from deft import store
    from deft.cli.ingest import parse_image_size
    from deft.cli.places import find_data

    height, width = parse_image_size(args.image_size) if args.image_size else (None, None)
    config = store.WriteConfig(
        image_height=height,
        image_width=width,
        codec=args.codec,
        quality=args.quality,
        val_fraction=args.val_fraction,
        split_seed=args.split_seed,
    )
    workers = args.workers if args.workers is not None else len(os.sched_getaffinity(0))
    if workers < 1:
        raise ConfigError(f"--workers is {workers}.\nFix: give 1 or more.")
    src, dst = find_data(args.src), destination(args.dst)
    source = _open(src, args.format, args.fps)
    episodes = parse_episodes(args.episodes, len(source.episodes)) if args.episodes else None
    _announce(source, config, dst)
    if args.dry_run:
        return _dry_run(source, args.include, episodes, as_json=args.json)
    began = time.monotonic()
    if not args.overwrite and store.is_made_from(dst, source, config, args.include, episodes):
        store.tidy(dst)
        print("This store is finished already; there is nothing to do.", file=sys.stderr)
        report = None
    else:
        with _Progress() as progress:
            report = store.write(
                dst,
                source,
                config,
                workers=workers,
                include=args.include,
                episodes=episodes,
                progress=progress.tell,
                strict=args.strict,
                overwrite=args.overwrite,
            )
    summary = _summary(dst, report, time.monotonic() - began)
    print(json.dumps(summary, indent=2) if args.json else _for_people(summary))
    return 0


def destination(text: str) -> Path:
    """Where a store goes: as given, but a bare name into $DEFT_DATA_DIR when that is set."""
    path = Path(text).expanduser()
    home = os.environ.get("DEFT_DATA_DIR")
    if home and not path.is_absolute() and len(path.parts) == 1 and not text.startswith("."):
        path = Path(home) / path
    return path.resolve()


def parse_episodes(text: str, count: int) -> list[int]:
    """`0:10`, `:5`, `20:` or `1,2,5`, also mixed, as numbers below `count`.

    Raises:
        ConfigError: it is nothing of the kind, or names episodes that are not there.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        first, colon, last = (word.strip() for word in part.partition(":"))
        try:
            begin = int(first) if first or not colon else 0
            end = (int(last) if last else count) if colon else begin + 1
        except ValueError as error:
            raise ConfigError(
                f"--episodes '{text}': '{part}' is no number and no range.\n"
                "Fix: write numbers and ranges, as in 0:10 or 1,2,5; the end is not included."
            ) from error
        if not 0 <= begin < end <= count:
            raise ConfigError(
                f"--episodes '{text}': '{part}' names no episode.\n"
                f"Found: {count} episodes, numbers 0 to {count - 1}.\nFix: stay below {count}."
            )
        numbers.update(range(begin, end))
    return sorted(numbers)


def _open(path: Path, format_: str | None, fps: float | None) -> "spec.Source":
    from deft import formats, store

    if format_ is None and store.is_store(path):
        source = store.source(store.open(path))
        if fps is not None and source.spec.fps != fps:
            raise ConfigError(
                f"{path}: this store has {source.spec.fps:g} ticks per second, --fps says "
                f"{fps:g}.\nFix: leave --fps out, or convert the recording itself."
            )
        return source
    return formats.open(path, format_, fps)


def _announce(source: "spec.Source", config: "store.WriteConfig", dst: Path) -> None:
    """Say by name what the sizes mean and where the store goes, before any work."""
    from deft import store

    print(f"{source.name} -> {dst}", file=sys.stderr)
    for feature in store.stored_spec(source.spec, config).features:
        note = ""
        if feature.is_frame:
            plan = store.plan_frames(source.spec[feature.name], config)
            if plan.resize:
                note = f", from {plan.resize.describe()}"
            note += f", {plan.codec}" + (f" {plan.quality}" if plan.codec == "jpeg" else "")
            note += f" ({plan.why})" if plan.why else ""
        print(f"  {feature.name}: {feature.describe()}{note}", file=sys.stderr)
    if source.spec.fps == 0:
        print(
            "  The recording does not say its ticks per second; give --fps if you know.",
            file=sys.stderr,
        )


def _dry_run(
    source: "spec.Source",
    include: list[str],
    episodes: list[int] | None,
    *,
    as_json: bool,
) -> int:
    from deft import store

    chosen = store.chosen_episodes(source, include, episodes)
    steps = sum(source.episodes[n].length for n in chosen)
    tasks = {source.episodes[n].task for n in chosen}
    cameras = source.spec.role("image", "depth", "saliency")
    summary = {
        "episodes": len(chosen),
        "steps": steps,
        "frames": steps * len(cameras),
        "tasks": len(tasks),
        "problems": [asdict(problem) for problem in source.problems],
    }
    if as_json:
        print(json.dumps(summary, indent=2))
        return 0
    print(
        f"would store {len(chosen)} of {len(source.episodes)} episodes, {steps} steps, "
        f"{summary['frames']} pictures, {len(tasks)} tasks"
    )
    for each in source.problems:
        print(f"{each.severity}: {each.episode or 'recording'}: {each.what} ({each.effect})")
    return 0


class _Progress:
    """Rate and time left on stderr: a bar on a terminal, else a line every ten seconds."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._stage = ""
        self._began = self._said = time.monotonic()
        self._first = 0

    def __enter__(self) -> "_Progress":
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

    def tell(self, now: "store.Progress") -> None:
        """Take in one step of `store.write`."""
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
            rate += f", {now.size_bytes / seconds / 1e6:.1f} MB/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=now.done, rate=rate)
        elif now.done == now.total or moment - self._said >= 10:
            self._said = moment
            done = now.done - self._first
            left = f", {(now.total - now.done) * seconds / done:.0f} s left" if done else ""
            print(f"{now.stage}: {now.done}/{now.total}, {rate}{left}", file=sys.stderr, flush=True)


def _summary(dst: Path, report: "store.WriteReport | None", seconds: float) -> dict[str, Any]:
    """The report as plain values; of the store that is there when nothing was done."""
    from deft import store

    opened = store.open(dst)
    splits = opened.info["split"]["episodes"]
    summary: dict[str, Any] = {
        "path": str(dst),
        "digest": opened.digest,
        "episodes": len(opened.episodes),
        "steps": len(opened),
        "frames": len(opened) * len(opened.frames),
        "size_bytes": sum(each["bytes"] for each in opened.info["files"].values()),
        "kept_as_is": sum(each.get("kept_as_is", 0) for each in opened.info["frames"].values()),
        "split": splits,
        "split_from": opened.info["split"]["from"],
        "left_out": opened.info["left_out"],
        "problems": opened.info["problems"],
    }
    if report is not None:
        summary["seconds"] = round(seconds, 1)
        summary["left_out"] = [{"id": id_, "why": why} for id_, why in report.left_out]
        summary["problems"] = [asdict(problem) for problem in report.problems]
    return summary


def _for_people(summary: dict[str, Any]) -> str:
    splits = ", ".join(f"{count} {name}" for name, count in summary["split"].items())
    lines = [
        f"{summary['episodes']} episodes ({splits}), {summary['steps']} steps, "
        f"{summary['frames']} pictures, {summary['size_bytes'] / 1e6:.1f} MB"
        + (f" in {summary['seconds']} s" if "seconds" in summary else "")
    ]
    if summary["kept_as_is"]:
        lines.append(f"{summary['kept_as_is']} pictures keep the JPEG that SRC holds")
    for each in summary["left_out"]:
        why = " ".join(each["why"].split())
        lines.append(f"left out: {each['id']}: {why}")
    rest = [p for p in summary["problems"] if p["effect"] != "left out"]
    for each in rest[:20]:
        where = each["episode"] or "recording"
        lines.append(f"{each['severity']}: {where}: {each['what']} ({each['effect']})")
    if len(rest) > 20:
        lines.append(f"and {len(rest) - 20} more; all are in {summary['path']}/store.json")
    return "\n".join([*lines, summary["path"]])
