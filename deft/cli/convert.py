"""Turn recordings into a training store, or into any format that Deft writes.

examples:
  deft convert pusht.zarr data/pusht --fps 10
  deft convert bridge/ data/bridge --image-size 256x256 --workers 8
  deft convert bridge/ out/ --to bridge_numpy --image-size 128x128 --resize-filter lanczos
  deft convert lab_a lab_b data/both --map cam_high=image --fps 10    several become one
  deft convert hf://owner/name@v2.0 data/name --cameras top,wrist
  deft convert aloha/ data/aloha --include 'lift_*' --exclude 'lift_2*' --option base_action=true
  deft convert data/pusht data/pusht_raw --codec raw          a store is a recording too
  deft convert bridge/ data/few --episodes 0:10 --dry-run     what would be written, and stop
  deft convert new_day/ data/lab --append --id-prefix tuesday/     a store that grows

--image-size is height x width. SRC is looked for here and in $DEFT_DATA_DIR; a DST without a
folder goes to $DEFT_DATA_DIR when that is set, and one that ends in / is a folder for it. The same
command gives the same bytes, whatever --workers and --engine are and however often it was killed
and run again: it goes on where it was. A bad episode is left out and reported at the end: in
store.json, or in DST.conversion.json for other formats.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft.cli.sources import SALIENCY, add_map, add_option
from deft.errors import ConfigError, nearest

if TYPE_CHECKING:
    from deft import store
    from deft.cli.conversion import Conversion
    from deft.cli.sources import SourceRequest
    from deft.spec import Source

_RESIZE = ("squash", "pad", "crop")
_FILTERS = ("auto", "area", "linear", "nearest", "lanczos", "cubic")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "paths", nargs="+", metavar="SRC... DST", help="recordings, stores, hf:// data sets; result"
    )
    add(
        "--to",
        default="store",
        metavar="FORMAT",
        help="store, or a format (`--to list` names them)",
    )
    add(
        "--from", "--format", dest="format", metavar="FORMAT", help="format of SRC; else recognised"
    )
    add_option(parser)
    add_shape(parser.add_argument_group("what the result holds"))
    add_choice(parser.add_argument_group("which episodes"))
    add_work(parser.add_argument_group("how the work is done"))


def add_shape(group: Any) -> None:
    add = group.add_argument
    add("--image-size", metavar="HxW", help="height x width of pictures; else as in SRC")
    add("--resize", default="squash", choices=_RESIZE, help="what becomes of the aspect ratio")
    add("--resize-filter", default="auto", choices=_FILTERS, help="interpolation; recorded (auto)")
    add("--fps", type=float, help="ticks per second: resamples, or says it where SRC does not")
    add("--changes", metavar="NAMES", help="elements of the action that are changes per step")
    add("--cameras", metavar="A,B", help="pictures and depth to keep; else all")
    add("--all-cameras", action="store_true", help="keep every camera where FORMAT holds one else")
    add_map(group)
    add(
        "--transform",
        action="append",
        default=[],
        metavar="NAME[:KEY=VALUE,...]",
        help="change episodes: relabel_actions, binarize_gripper, latency_shift:steps=1, ..., or a "
        "JSON file of them; may be repeated, and is done in this order",
    )
    add("--saliency", choices=SALIENCY, help="where maps of attention come from (auto)")
    add(
        "--codec",
        action="append",
        default=[],
        metavar="[CAMERA=]CODEC",
        help="how a store keeps pictures: jpeg, raw, png or auto; may be given for single cameras",
    )
    add("--quality", type=int, help="JPEG quality, 1 to 100 (90)")
    add(
        "--write-option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the format that is written; may be repeated",
    )


def add_choice(group: Any) -> None:
    add = group.add_argument
    add("--episodes", metavar="LIST", help="numbers to take, as in 0:10 or 1,2,5; else all")
    for name, what in (("include", "to take"), ("exclude", "not to take")):
        add(
            f"--{name}",
            action="append",
            default=[],
            metavar="PATTERN",
            help=f"tasks, folders or episode ids {what}; may be repeated",
        )
    add("--val-fraction", type=float, help="share held out where SRC has no split (0.1)")
    add("--train-proportion", type=float, help="draw a new split, with this share in `train`")
    add("--split-seed", type=int, default=0, help="seed of the split (0)")
    add("--depth", type=int, help="accepted from older scripts; the depth of folders is found")


def add_work(group: Any) -> None:
    add = group.add_argument
    add("--workers", type=int, help="episodes worked on at a time; else one per core")
    add(
        "--engine", default="local", choices=["local", "ray"], help="threads here, or a Ray cluster"
    )
    add("--strict", action="store_true", help="stop at a bad episode instead of leaving it out")
    add("--overwrite", action="store_true", help="replace what is at DST")
    add("--append", action="store_true", help="add to the store at DST what it does not have yet")
    add("--id-prefix", default="", metavar="TEXT", help="with --append, before each episode's id")
    add("--dry-run", action="store_true", help="say what would be done, and stop")
    add("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Convert, and print what became of it."""
    from deft.cli import convert_report, convert_sink

    if args.to == "list":
        return _list_formats()
    workers = args.workers if args.workers is not None else len(os.sched_getaffinity(0))
    if workers < 1:
        raise ConfigError(f"--workers is {workers}.\nFix: give 1 or more.")
    if args.fps is not None and not 0 < args.fps < 1e6:
        raise ConfigError(f"--fps is {args.fps:g}.\nFix: give ticks per second above 0.")
    if args.depth is not None:
        print("--depth is not needed: how deep recordings lie is found.", file=sys.stderr)
    conversion, source = _asked(args)
    convert_report.announce(conversion, source)
    if args.strict:
        _refuse_left_out(source)
    if args.dry_run:
        convert_sink.check_fits(conversion, source)
        plan = convert_report.plan_of(conversion, source)
        print(json.dumps(plan, indent=2) if args.json else convert_report.plan_for_people(plan))
        return 0
    began = time.monotonic()
    if not (args.overwrite or args.append) and convert_sink.is_done(conversion, source):
        convert_sink.tidy(conversion)
        print("This is finished already; there is nothing to do.", file=sys.stderr)
        outcome = None
    else:
        Path(conversion.dst).parent.mkdir(parents=True, exist_ok=True)
        line = convert_report.ProgressLine()
        with _engine(args.engine, conversion, workers) as engine, line as progress:
            outcome = convert_sink.convert(
                conversion,
                source,
                engine,
                progress=progress.tell,
                strict=args.strict,
                overwrite=args.overwrite,
            )
    summary = convert_report.summary_of(conversion, outcome, time.monotonic() - began)
    print(json.dumps(summary, indent=2) if args.json else convert_report.for_people(summary))
    return 0


def _refuse_left_out(source: "Source") -> None:
    """Raise `ConfigError` when the reader has left out an episode."""
    wrong = [each for each in source.problems if each.severity == "error"]
    if wrong:
        raise ConfigError(
            f"--strict: {source.name} has {len(wrong)} episodes or parts that cannot be used.\n"
            f"Found: {wrong[0].episode or 'the recording'}: {wrong[0].what}\n"
            "Fix: copy them again, or leave --strict out; `deft inspect` lists them all."
        )


@contextlib.contextmanager
def _engine(name: str, conversion: "Conversion", workers: int) -> "Generator[store.Engine]":
    from deft import store
    from deft.cli import convert_sink

    if name == "local":
        yield store.Threads(workers, convert_sink.FATAL)
        return
    with convert_sink.ray_engine(conversion, workers) as engine:
        yield engine


def _asked(args: argparse.Namespace) -> "tuple[Conversion, Source]":
    """The conversion that the words mean, and its source."""
    from dataclasses import replace

    from deft.cli.conversion import Conversion

    _check_format(args.to)
    requests, dst = _sources(args)
    _check_place(requests, dst)
    conversion = Conversion(
        sources=tuple(requests),
        to=args.to,
        dst=str(dst),
        config=_config_of_store(args, dst) if args.append else _config(args),
        append=args.append,
        id_prefix=args.id_prefix,
        write_options=_write_options(args),
        train_proportion=args.train_proportion,
        include=tuple(args.include),
        exclude=tuple(args.exclude),
    )
    source = conversion.source()
    if args.episodes:
        numbers = parse_episodes(args.episodes, len(source.episodes))
        conversion = replace(conversion, episodes=tuple(numbers))
    return conversion, source


def _sources(args: argparse.Namespace) -> "tuple[list[SourceRequest], Path]":
    """What is read, and where the result goes."""
    from deft.cli import places
    from deft.cli.sources import SourceRequest, default_name, parse_pairs, parse_transforms

    texts, dst = (args.paths[:-1], args.paths[-1]) if len(args.paths) > 1 else (args.paths, "")
    requests: list[SourceRequest] = []
    for text in texts:
        path = places.find_data(text)
        requests.append(
            SourceRequest(
                path=str(path),
                name=default_name(text, path),
                format=args.format,
                options=dict(parse_pairs(args.option)),
                fps=args.fps,
                changes=None if args.changes is None else _names(args.changes),
                renames=parse_pairs(args.map, "--map"),
                transforms=parse_transforms(args.transform),
                cameras=_names(args.cameras or ""),
                saliency=args.saliency,
                is_one_of_many=len(texts) > 1,
            )
        )
    return requests, destination(dst, args.to, [request.name for request in requests])


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def destination(text: str, to: str = "store", names: Sequence[str] = ()) -> Path:
    """Where the result goes.

    As given; a bare name into $DEFT_DATA_DIR when that is set. Inside the given folder when that
    ends in a slash, and into `<data dir>/stores` (or the format's name) when nothing is given: then
    under the default name of the one source.
    """
    from deft.cli import places
    from deft.cli.sources import folder_name

    inside = text.endswith("/")
    if not text or inside:
        if len(names) != 1:
            raise ConfigError(
                f"{len(names)} sources become one result, which needs a name.\n"
                "Fix: give DST as the last word."
            )
        home = Path(text).expanduser() if text else places.data_dir() / _shelf(to)
        return (home / folder_name(names[0])).absolute()
    path = Path(text).expanduser()
    data = os.environ.get("DEFT_DATA_DIR")
    if data and not path.is_absolute() and len(path.parts) == 1 and not text.startswith("."):
        path = Path(data) / path
    return path.resolve()


def _shelf(to: str) -> str:
    return "stores" if to == "store" else to


def _check_place(requests: "Sequence[SourceRequest]", dst: Path) -> None:
    """Refuse to write over, into or around what is read."""
    for request in requests:
        path = Path(request.path)
        if dst == path or dst in path.parents or path in dst.parents:
            raise ConfigError(
                f"{dst}: the result and the source {path} lie in each other.\n"
                "Fix: give a DST elsewhere."
            )


def _config_of_store(args: argparse.Namespace, dst: Path) -> "store.WriteConfig":
    """How the store keeps its episodes, for those that join them."""
    from deft import store

    given = {
        "image_size": args.image_size,
        "codec": args.codec,
        "quality": args.quality,
        "val_fraction": args.val_fraction,
        "train_proportion": args.train_proportion,
        "overwrite": args.overwrite,
    }
    for flag, value in given.items():
        if value:
            raise ConfigError(
                f"--append keeps to the store's own settings, so --{flag.replace('_', '-')} has no "
                "meaning.\nFix: leave it out."
            )
    if args.to != "store":
        raise ConfigError(f"--append adds to stores, not to {args.to}.\nFix: leave --to out.")
    return store.config_of(store.open(dst))


def _config(args: argparse.Namespace) -> "store.WriteConfig":
    from deft import store
    from deft.cli.conversion import with_proportion
    from deft.cli.ingest import parse_image_size
    from deft.cli.sources import parse_pairs

    if args.id_prefix:
        raise ConfigError("--id-prefix is for --append.\nFix: leave it out, or give both.")
    for flag in ("codec", "quality", "val_fraction"):
        if args.to != "store" and getattr(args, flag) not in (None, []):
            raise ConfigError(
                f"--{flag.replace('_', '-')} is for stores, and this writes {args.to}.\n"
                f"Fix: leave it out; --write-option sets what {args.to} knows."
            )
    if args.train_proportion is not None and args.val_fraction is not None:
        raise ConfigError(
            "--train-proportion and --val-fraction both draw the split.\nFix: give one of them."
        )
    height, width = parse_image_size(args.image_size) if args.image_size else (None, None)
    wholes = [word for word in args.codec if "=" not in word]
    given: dict[str, Any] = {
        "codec": wholes[-1] if wholes else None,
        "codecs": parse_pairs([word for word in args.codec if "=" in word], "--codec"),
        "quality": args.quality,
        "val_fraction": args.val_fraction,
    }
    config = store.WriteConfig(
        image_height=height,
        image_width=width,
        resize=args.resize,
        resize_filter=args.resize_filter,
        split_seed=args.split_seed,
        **{key: value for key, value in given.items() if value is not None},
    )
    if args.train_proportion is None:
        return config
    if not 0 < args.train_proportion <= 1:
        raise ConfigError(
            f"--train-proportion is {args.train_proportion}.\nFix: give a share above 0, up to 1."
        )
    return with_proportion(config, args.train_proportion)


def _write_options(args: argparse.Namespace) -> dict[str, Any]:
    from deft import formats
    from deft.cli.sources import parse_pairs

    options: dict[str, Any] = dict(parse_pairs(args.write_option, "--write-option"))
    if args.to == "store":
        if options:
            raise ConfigError(
                "--write-option is for formats, and this writes a store.\nFix: see -h."
            )
        return options
    if args.all_cameras and "all_cameras" in formats.options_to_write(args.to):
        options.setdefault("all_cameras", True)
    return options


def _check_format(to: str) -> None:
    from deft import formats

    known = ("store", *formats.WRITABLE)
    if to not in known:
        raise ConfigError(
            f"--to {to}: this is no format that Deft writes. {nearest(to, known)}\n"
            "Fix: correct it; `deft convert x --to list` names them all."
        )


def _list_formats() -> int:
    from deft import formats

    for name, about in {"store": "training store of Deft", **formats.WRITABLE}.items():
        print(f"{name:<16} {about}")
    return 0


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
