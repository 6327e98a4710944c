"""Look at a recording, a training store or a run as one HTML page.

examples:
  deft view pusht.zarr.zip                  contract, tasks, statistics, problems, three episodes
  deft view my_store --episodes 8           a training store
  deft view runs/pusht/flow/a --open        training curves, checkpoints, links to evaluations
  deft view runs/b/gc_bc/a@best --saliency  where the policy looks, on held-out moments
  deft view my_lerobot --out look.html
  deft view my_lerobot --rerun look.rrd     whole episodes for the Rerun viewer, instead of a page
  deft view my_lerobot --rerun spawn        the same in the viewer itself

The page needs no server and no network; pictures are inside it. Without --out it is
./view-<name>.html, or view.html inside a run, with --saliency saliency.html. --rerun needs the
extra `view`.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deft.cli.sources import add_map, add_option, parse_pairs
from deft.errors import ConfigError

if TYPE_CHECKING:
    from deft import report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", help="recording, store or run; also inside $DEFT_DATA_DIR")
    parser.add_argument("--out", metavar="PAGE", help="the .html to write")
    parser.add_argument("--episodes", type=int, default=3, metavar="N", help="shown (default 3)")
    parser.add_argument(
        "--saliency",
        nargs="?",
        type=int,
        const=8,
        metavar="N",
        help="of a run: where its policy looks, in N held-out moments (default 8)",
    )
    parser.add_argument("--fps", type=float, help="ticks per second, when the recording has none")
    add_option(parser)
    add_map(parser)
    parser.add_argument("--rerun", metavar="FILE.rrd|spawn", help="for Rerun, instead of a page")
    parser.add_argument("--open", action="store_true", help="open it in the browser")


def run(args: argparse.Namespace) -> int:
    if args.episodes < 0:
        raise ConfigError(f"--episodes is {args.episodes}.\nFix: give 0 or more.")
    if args.saliency is not None:
        return _show_saliency(args)
    path = _find(args.path)
    if args.rerun is not None:
        return _show_in_rerun(path, args)
    out = Path(args.out) if args.out else None
    command = shlex.join(["deft", "view", args.path])
    if (path / "metrics.jsonl").exists():
        from deft.cli import view_run

        out = out or path / "view.html"
        page = view_run.page(path, command, out.parent)
    else:
        from deft.cli import view_recording

        out = out or Path(f"view-{path.name}.html")
        names = parse_pairs(args.option), parse_pairs(args.map, "--map")
        page = view_recording.page(path, command, args.episodes, args.fps, *names)
    return _save(page, out, args)


def _save(page: "report.Page", out: Path, args: argparse.Namespace) -> int:
    if out.suffix != ".html":
        raise ConfigError(f"--out {out}: a page is HTML.\nFix: end its name in .html.")
    page.save(out)
    print(out)
    if args.open:
        import webbrowser

        webbrowser.open(out.absolute().as_uri())
    return 0


def _show_saliency(args: argparse.Namespace) -> int:
    from deft import bundle
    from deft.cli import view_saliency

    if args.rerun is not None or args.saliency < 1:
        raise ConfigError(
            f"--saliency {args.saliency} makes a page of a run.\n"
            "Fix: leave --rerun out, and show 1 moment or more."
        )
    checkpoint = bundle.resolve(args.path)
    command = shlex.join(["deft", "view", args.path, "--saliency", str(args.saliency)])
    page = view_saliency.page(checkpoint, command, args.saliency)
    in_run = checkpoint.parent.name == "checkpoints"
    beside = checkpoint.parent.parent if in_run else Path()
    return _save(page, Path(args.out) if args.out else beside / "saliency.html", args)


def _show_in_rerun(path: Path, args: argparse.Namespace) -> int:
    from deft.cli import view_recording, view_rerun

    if args.out or args.open or (path / "metrics.jsonl").exists():
        raise ConfigError(
            "--rerun shows recordings and stores, and makes no page.\n"
            "Fix: leave --out and --open out, and name a recording or a store."
        )
    view_rerun.check_target(args.rerun)
    names = parse_pairs(args.option), parse_pairs(args.map, "--map")
    source, _, _ = view_recording.open_source(path, args.fps, *names)
    numbers = view_recording.choose(source, args.episodes)
    problems = view_rerun.send(source, numbers, args.rerun)
    for problem in problems:
        print(f"{problem.episode}: {problem.effect}: {problem.what}", file=sys.stderr)
    print(args.rerun)
    return 0


def _find(text: str) -> Path:
    from deft.cli import places

    if text.startswith("hf://"):
        return places.find_data(text)
    tried = [Path(text).expanduser(), places.data_dir() / text, places.runs_dir() / text]
    for path in tried:
        if path.exists():
            return path.resolve()
    raise ConfigError(
        f"There is nothing to look at under '{text}'.\n"
        f"Found nothing at: {', '.join(str(path.absolute()) for path in tried)}.\n"
        "Fix: correct the path, or set DEFT_DATA_DIR or DEFT_RUNS_DIR."
    )
