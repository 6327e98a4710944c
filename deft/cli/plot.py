"""Curves of one or many runs, as a page and as a picture.

examples:
  deft plot runs/pusht/flow/a                        every measurement of a run
  deft plot runs/pusht/flow/a runs/pusht/bc/a        two runs over each other
  deft plot runs/sweeps/experiments                  a sweep: seeds as mean and 95 % band
  deft plot runs/pusht --metrics val/action_error val/loss --log --out error.png
  deft plot runs/pusht/flow/a --smooth 20            running mean of 20 points

A folder stands for all runs in it. Runs that differ in nothing but their seed become one curve.
Without --out, plot.html and plot.png are written here.
"""

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft.errors import ConfigError, nearest

if TYPE_CHECKING:
    import numpy as np

_FIRST = ("train/loss", "val/loss", "val/action_error")
_OF_NO_EFFECT = ("session", "runs_dir", "resume", "debug", "seed", "tracker", "device")
"""Settings that runs of one curve may differ in."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One run, or several that differ in their seed, by measurement."""

    label: str
    runs: tuple[Path, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs, folders of runs, or sweeps")
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="measurements to draw")
    parser.add_argument("--smooth", type=int, default=1, metavar="N", help="mean of N points")
    parser.add_argument("--log", action="store_true", help="logarithmic upward axis")
    parser.add_argument("--each", action="store_true", help="one curve per run, whatever its seed")
    parser.add_argument("--out", metavar="FILE", help=".html or .png; else plot.html and plot.png")


def run(args: argparse.Namespace) -> int:
    if args.smooth < 1:
        raise ConfigError(f"--smooth is {args.smooth}.\nFix: give 1 or more.")
    outs = [Path(args.out)] if args.out else [Path("plot.html"), Path("plot.png")]
    for out in outs:
        if out.suffix not in (".html", ".png"):
            raise ConfigError(f"--out {out}: neither a page nor a picture.\nFix: .html or .png")
    curves = group(find(args.runs), each=args.each)
    figures = draw(curves, args.metrics, smooth=args.smooth, log_y=args.log)
    for out in outs:
        if out.suffix == ".html":
            _page(args.runs, curves, figures).save(out)
        else:
            _picture(figures, out)
        print(out)
    return 0


def find(words: Sequence[str]) -> list[Path]:
    """The runs that are named, found here or below the runs' folder.

    Raises `ConfigError` for a word that leads to none.
    """
    from deft.cli import places

    found: list[Path] = []
    for word in words:
        tried = [Path(word).expanduser(), places.runs_dir() / word]
        runs = next((each for each in map(_below, tried) if each), [])
        if not runs:
            raise ConfigError(
                f"There is no run at '{word}'.\n"
                f"Found no metrics.jsonl at: {', '.join(str(p.absolute()) for p in tried)}.\n"
                "Fix: correct the path, or set DEFT_RUNS_DIR."
            )
        found += [each for each in runs if each not in found]
    return found


def _below(folder: Path) -> list[Path]:
    if (folder / "sweep.json").is_file():
        plan = json.loads((folder / "sweep.json").read_text())
        runs = [Path(each["folder"]) for each in plan["runs"]]
        return [each for each in runs if (each / "metrics.jsonl").is_file()]
    return sorted(path.parent.resolve() for path in folder.rglob("metrics.jsonl"))


def group(runs: Sequence[Path], *, each: bool = False) -> list[Curve]:
    """Runs by what they are trained with; `each` keeps them apart."""
    settings = [_settings(run) for run in runs]
    members: dict[str, list[int]] = {}
    for i, tree in enumerate(settings):
        kept = {k: v for k, v in tree.items() if k.split(".")[0] not in _OF_NO_EFFECT}
        key = str(runs[i]) if each or not kept else json.dumps(kept, sort_keys=True, default=str)
        members.setdefault(key, []).append(i)
    firsts = [own[0] for own in members.values()]
    labels = _labels([runs[i] for i in firsts], [settings[i] for i in firsts], each=each)
    return [
        Curve(
            label=f"{label} ({len(own)} seeds)" if len(own) > 1 else label,
            runs=tuple(runs[i] for i in own),
        )
        for label, own in zip(labels, members.values(), strict=True)
    ]


def _settings(run: Path) -> dict[str, Any]:
    import yaml

    from deft.cli import settings

    try:
        tree = yaml.safe_load((run / "config.yaml").read_text())
    except (OSError, yaml.YAMLError):
        return {}  # a run without its settings is a curve of its own
    return settings.flatten(tree) if isinstance(tree, dict) else {}


def _labels(
    runs: Sequence[Path], settings: Sequence[Mapping[str, Any]], *, each: bool
) -> list[str]:
    """What tells curves apart, as short as it can be; else where the runs lie."""
    keys = [
        key
        for key in dict.fromkeys(key for tree in settings for key in tree)
        if (each or key != "seed")
        and key.split(".")[0] not in set(_OF_NO_EFFECT) - {"seed"}
        and len({str(tree.get(key)) for tree in settings}) > 1
    ]
    first = [key for key in keys if key in ("policy.family", "task", "seed")]
    for chosen in (first, keys):
        words = [
            " ".join(
                f"{tree[key]}" if key in ("policy.family", "task")
                else f"{key.rsplit('.', 1)[-1]}={tree[key]}"
                for key in chosen if key in tree
            )
            for tree in settings
        ]  # fmt: skip
        if len(set(words)) == len(words) and all(0 < len(word) < 60 for word in words):
            return words
    return ["/".join(run.parts[-3:]) for run in runs]


def draw(
    curves: Sequence[Curve], metrics: Sequence[str] | None, *, smooth: int, log_y: bool
) -> list[dict[str, Any]]:
    """One figure per measurement: title, series, bands, log_y.

    Raises `ConfigError` when a measurement that is asked for is in no run.
    """
    from deft.cli.view_run import read_metrics

    rows = {run: read_metrics(run / "metrics.jsonl") for each in curves for run in each.runs}
    known = dict.fromkeys(key for some in rows.values() for row in some for key in row)
    known.pop("step", None)
    for name in metrics or ():
        if name not in known:
            raise ConfigError(
                f"No run has measured '{name}'. {nearest(name, known)}\nFix: name one of these."
            )
    usual = [name for name in known if not name.startswith("time/") and name.count("/") < 2]
    chosen = metrics or sorted(usual, key=lambda name: (name not in _FIRST, name))
    figures: list[dict[str, Any]] = []
    for name in chosen:
        series: dict[str, Any] = {}
        bands: dict[str, Any] = {}
        for curve in curves:
            own = [points(rows[run], name, smooth) for run in curve.runs]
            own = [each for each in own if len(each[0])]
            if len(own) > 1:
                x, mean, low, high = mean_band(own)
                series[curve.label], bands[curve.label] = (x, mean), (x, low, high)
            elif own:
                series[curve.label] = own[0]
        figures.append({"title": name, "series": series, "bands": bands, "log_y": log_y})
    if not figures:
        raise ConfigError("These runs have measured nothing yet.\nFix: wait for their first line.")
    return figures


def points(
    rows: Sequence[Mapping[str, float]], name: str, smooth: int
) -> "tuple[np.ndarray, np.ndarray]":
    """Steps and values of a measurement, each value the mean of up to `smooth` last ones."""
    import numpy as np

    kept = [(row["step"], row[name]) for row in rows if name in row]
    if not kept:
        return np.empty(0), np.empty(0)
    x, y = np.asarray(kept, np.float64).T
    if smooth > 1:
        sums = np.concatenate([[0.0], np.cumsum(y)])
        starts = np.maximum(np.arange(len(y)) - smooth + 1, 0)
        y = (sums[1:] - sums[starts]) / (np.arange(len(y)) + 1 - starts)
    return x, y


def mean_band(
    runs: "Sequence[tuple[np.ndarray, np.ndarray]]",
) -> "tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]":
    """Mean and 95 % interval of several curves, where all of them have got to.

    Returns:
        Steps, mean, low, high; each a vector. Between its points a curve is a straight line.
    """
    import numpy as np

    from deft import spec

    begin, end = max(x[0] for x, _ in runs), min(x[-1] for x, _ in runs)
    every = np.unique(np.concatenate([x for x, _ in runs]))
    x = every[(every >= begin) & (every <= end)]
    table = np.stack([np.interp(x, *run) for run in runs])  # runs steps
    rows = [spec.mean_interval(column) for column in table.T]
    mean, low, high = np.asarray(rows, np.float64).reshape(-1, 3).T
    return x, mean, low, high


def _page(words: Sequence[str], curves: Sequence[Curve], figures: list[dict[str, Any]]) -> Any:
    from deft import report

    page = report.Page("Curves").command(shlex.join(["deft", "plot", *words]))
    for i, each in enumerate(figures):
        page.curves(
            each["title"],
            each["series"],
            x_label="step",
            bands=each["bands"],
            log_y=each["log_y"],
            size="wide" if i == 0 or len(figures) == 1 else "half",
        )
    if any(len(curve.runs) > 1 for curve in curves):
        page.text("Bands: 95 % interval of the mean over seeds, where all of them have got to.")
    rows = [[curve.label, str(run)] for curve in curves for run in curve.runs]
    return page.heading("Runs").table(["curve", "run"], rows)


def _picture(figures: list[dict[str, Any]], out: Path) -> None:
    import cv2

    from deft import report

    drawn = report.picture([report.Figure(**each, x_label="step") for each in figures])
    ok, data = cv2.imencode(".png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    assert ok
    report.write_whole(out, data.tobytes())
