"""What is in a recording, store, run or bundle.

examples:
  deft inspect my_recording                 any format that Deft reads, recognised by its files
  deft inspect my_recording --check         decode everything: what fails, black or frozen
                                            cameras, episodes that are there twice
  deft inspect robotwin_data --actions      tasks by action width, arm by arm; also of a folder
                                            with one recording per task
  deft inspect my_lerobot --map actions=action      when a reader cannot know what a name means
  deft inspect data/stores/pusht --json     for programs
  deft inspect runs/pusht/flow/a@best       the contract, settings and weights of a policy

Pictures are not decoded without --check; of a policy it compares every file with its digest. Exit
code 1 when --check finds an error.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft.cli.sources import add_map, add_option, parse_pairs
from deft.errors import BundleError, ConfigError

if TYPE_CHECKING:
    from deft.spec import EpisodeInfo, Problem, Source, Spec, findings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help="recording, store, bundle, checkpoint, run or RUN@best")
    parser.add_argument("--check", action="store_true", help="decode everything that can be")
    parser.add_argument("--actions", action="store_true", help="only tasks by action width")
    parser.add_argument("--format", help="name of the recording's format, when it is not found")
    add_option(parser)
    add_map(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    from deft.cli import inspect_text

    began = time.perf_counter()
    if args.actions:
        return _run_actions(args, began)
    if args.format is None and _is_policy(args.path):
        report = _policy(args.path, check=args.check)
    else:
        options, renames = parse_pairs(args.option), parse_pairs(args.map, "--map")
        report = _data(args.path, args.format, options, renames, check=args.check)
    report["seconds"] = round(time.perf_counter() - began, 3)
    if args.json:
        print(json.dumps(report))
    else:
        inspect_text.show_report(report)
    return 1 if report.get("failed") or (args.check and _has_left_out(report)) else 0


def _has_left_out(report: dict[str, Any]) -> bool:
    """Whether a reader left out what it cannot use; that a store lacks it was settled before."""
    problems = report["problems"] if report["kind"] == "recording" else ()
    return any(each["severity"] == "error" for each in problems)


def _run_actions(args: argparse.Namespace, began: float) -> int:
    from deft.cli import inspect_actions, inspect_text, places

    if args.check or args.format:
        raise ConfigError("--actions reads no episode.\nFix: leave --check and --format out.")
    report = inspect_actions.report(
        places.find_data(args.path), parse_pairs(args.option), parse_pairs(args.map, "--map")
    )
    report["seconds"] = round(time.perf_counter() - began, 3)
    if args.json:
        print(json.dumps(report))
    else:
        inspect_text.show_actions(report)
    return 1 if report["failed"] else 0


def _is_policy(text: str) -> bool:
    """Whether this names a bundle, checkpoint or run, here or below $DEFT_RUNS_DIR."""
    from deft import bundle
    from deft.cli import places

    name = text.rsplit("@", 1)[0] if "@" in text and not Path(text).exists() else text
    paths = (Path(name).expanduser(), places.runs_dir() / name)
    return any(bundle.is_bundle(path) or (path / "checkpoints").is_dir() for path in paths)


def _policy(text: str, *, check: bool) -> dict[str, Any]:
    from deft import bundle

    path = bundle.resolve(text)
    checkpoints = bundle.checkpoints(path.parent)
    report = {
        "kind": "policy",
        **bundle.describe(path, check=check),
        "checkpoints": list(checkpoints),
        "scores": {
            name: {"step": int(each.resolve().name[5:]), "scores": _scores(each)}
            for name, each in checkpoints.items()
        },
    }
    if check:  # a file that differs from its digest has raised an error
        report |= {"failed": [], "noticed": []}
    return report


def _scores(checkpoint: Path) -> dict[str, float]:
    """What was measured at a checkpoint; nothing of one that came without it.

    Read here and not by `train`, which needs torch: looking at a policy does not.
    """
    try:
        return json.loads((checkpoint / "training.json").read_text())["scores"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(
            f"{checkpoint / 'training.json'}: cannot be read.\nFound: {error}.\n"
            "Fix: resume the run from an earlier checkpoint, and delete this one."
        ) from error


def _data(
    text: str,
    format: str | None,  # noqa: A002
    options: dict[str, str],
    renames: dict[str, str],
    *,
    check: bool,
) -> dict[str, Any]:
    from deft import store
    from deft.cli import places
    from deft.cli.sources import open_recording, renamed

    path = places.find_data(text)
    if format is None and not options and store.is_store(path):
        opened = store.open(path)
        source = renamed(store.source(opened), renames)
        report = {
            "kind": "store",
            "path": str(path),
            "digest": opened.digest,
            **_summary(source),
            **store.describe(opened),
            "left_out": opened.info["left_out"],
        }
        if check:
            _note_findings(report, [*store.check_files(opened), *_check(source)])
        return report
    recording, source = open_recording(path, format, options, renames)
    report = {
        "kind": "recording",
        "path": str(recording.path),
        "format": recording.format,
        **_summary(source),
    }
    if check:
        _note_findings(report, _check(source, recording.read_limits()))
    return report


def _note_findings(report: dict[str, Any], found: "list[Problem]") -> None:
    """Findings of a check: what cannot be used, and what else is there to know."""
    known = {(each["episode"], each["what"]) for each in report["problems"]}
    fresh = [asdict(each) for each in found if (each.episode, each.what) not in known]
    report["failed"] = [each for each in fresh if each["severity"] == "error"]
    report["noticed"] = [each for each in fresh if each["severity"] != "error"]


def _summary(source: "Source") -> dict[str, Any]:
    """Counts of a source; nothing is decoded."""
    infos = source.episodes
    lengths = [info.length for info in infos]
    spec = source.spec
    return {
        "name": source.name,
        "spec": spec.to_json(),
        "episodes": len(infos),
        "steps": sum(lengths),
        "seconds_recorded": sum(lengths) / spec.fps if spec.fps else None,
        "length": {
            "min": min(lengths, default=0),
            "mean": sum(lengths) / len(lengths) if lengths else 0.0,
            "max": max(lengths, default=0),
        },
        "action_width": {feature.name: feature.size for feature in spec.role("action")},
        "splits": _count(infos, "split"),
        "tasks": _tasks(infos, spec),
        "problems": [asdict(problem) for problem in source.problems],
    }


def _count(infos: Iterable["EpisodeInfo"], key: str) -> list[dict[str, Any]]:
    """Episodes and steps by split or task, most steps first."""
    counts: dict[str, dict[str, Any]] = {}
    for info in infos:
        name = getattr(info, key)
        entry = counts.setdefault(name, {key: name, "episodes": 0, "steps": 0})
        entry["episodes"] += 1
        entry["steps"] += info.length
    return sorted(counts.values(), key=lambda entry: -entry["steps"])


def _tasks(infos: "Iterable[EpisodeInfo]", spec: "Spec") -> list[dict[str, Any]]:
    """The counts of every task, with an example of middling length and what its steps hold."""
    own: dict[str, list[EpisodeInfo]] = {}
    for info in infos:
        own.setdefault(info.task, []).append(info)
    holds = {
        "cameras": [feature.name for feature in spec.features if feature.is_frame],
        "shapes": {feature.name: list(feature.shape) for feature in spec.features},
        "action_width": {feature.name: feature.size for feature in spec.role("action")},
    }
    entries: list[dict[str, Any]] = []
    for count in _count(infos, "task"):
        middle = sorted(own[count["task"]], key=lambda each: each.length)
        example = middle[len(middle) // 2]
        shown = {"episode": example.id, "steps": example.length}
        entries.append({**count, "example": shown, **holds})
    return entries


def _check(source: "Source", limits: "findings.Limits | None" = None) -> "list[Problem]":
    """Read every episode and decode every picture, on all cores; findings by episode."""
    from deft.spec import findings

    return findings.check(source, progress=_progress, limits=limits)


def _progress(done: int, count: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == count else ""
        print(f"\rchecked {done} of {count} episodes", end=end, file=sys.stderr, flush=True)
