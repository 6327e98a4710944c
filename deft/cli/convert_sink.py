"""Where converted episodes go, and who works on them: threads here, or processes of a cluster."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from deft import formats, store
from deft.cli.conversion import Conversion
from deft.errors import DeftError, FormatError, StoreError
from deft.spec import Episode, Problem, Source

if TYPE_CHECKING:
    from deft.store import Progress

FATAL = (formats.DiskError,)
"""Errors of formats that are no episode's fault."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a conversion, of a store or of any format."""

    path: Path
    episodes: int
    steps: int
    left_out: tuple[tuple[str, str], ...]
    problems: tuple[Problem, ...]


class FormatSink:
    """A format's writer as a `store.Sink`."""

    def __init__(self, writer: formats.Writer) -> None:
        self.writer = writer

    def has(self, id_: str, /) -> bool:
        return self.writer.has(id_)

    def add(self, episode: Episode, _instructions: Sequence[str] = (), /) -> int:
        self.writer.add(episode)
        return 0


def report_path(dst: Path) -> Path:
    """Beside the recording, since not every format bears a foreign file."""
    return dst.with_name(dst.name + ".conversion.json")


def is_done(conversion: Conversion, source: Source) -> bool:
    """True when the same conversion has been finished already."""
    dst = Path(conversion.dst)
    if conversion.is_store:
        return store.is_made_from(
            dst,
            source,
            conversion.config,
            conversion.include,
            conversion.episodes,
            conversion.exclude,
            conversion.origin(),
        )
    try:
        report = json.loads(report_path(dst).read_bytes())
    except (OSError, ValueError):
        return False
    there = dst.exists() and not formats.is_unfinished(dst)
    return there and report.get("mark") == _mark(conversion, source)


def tidy(conversion: Conversion) -> None:
    """Remove what a process left that was killed when it had finished."""
    (store.tidy if conversion.is_store else formats.tidy)(Path(conversion.dst))


def convert(
    conversion: Conversion,
    source: Source,
    engine: "store.Engine",
    *,
    progress: "Callable[[Progress], None] | None" = None,
    strict: bool = False,
    overwrite: bool = False,
) -> Outcome:
    """Do a conversion, or go on with one that was interrupted.

    Args:
        conversion: what is asked for.
        source: `conversion.source()`.
        engine: who works on the episodes.
        progress: called after each.
        strict: stop at the first bad episode instead of leaving it out.
        overwrite: replace what is there.

    Raises:
        DeftError: the recording cannot be read on, or the result cannot be written.
    """
    if conversion.is_store:
        write = (
            partial(store.append, conversion.dst, source)
            if conversion.append
            else partial(
                store.write, conversion.dst, source, conversion.config, overwrite=overwrite
            )
        )
        report = write(
            engine=engine,
            include=conversion.include,
            exclude=conversion.exclude,
            episodes=conversion.episodes,
            origin=conversion.origin(),
            progress=progress,
            strict=strict,
        )
        return Outcome(
            path=report.path,
            episodes=report.episodes,
            steps=report.steps,
            left_out=report.left_out,
            problems=report.problems,
        )
    return _to_format(conversion, source, engine, progress, strict, overwrite)


def _to_format(
    conversion: Conversion,
    source: Source,
    engine: "store.Engine",
    progress: "Callable[[Progress], None] | None",
    strict: bool,
    overwrite: bool,
) -> Outcome:
    dst = Path(conversion.dst)
    chosen = conversion.chosen(source)
    tidy(conversion)
    with formats.write(
        dst,
        conversion.to,
        source.spec,
        conversion.options(),
        overwrite=overwrite,
        origin={"mark": _mark(conversion, source)},
    ) as writer:
        sink = FormatSink(writer)
        left_out, problems = store.fill(sink, source, chosen, engine, progress, strict)
        kept = [n for n in chosen if writer.has(source.episodes[n].id)]
        if not kept:
            reasons = "; ".join(sorted({why for _, why in left_out})[:3])
            raise FormatError(
                f"{dst}: no episode to write.\nFound: {reasons}\n"
                "Fix: repair the recording, or select other episodes."
            )
        if progress is not None:
            progress(store.Progress("packing", 0, len(kept), 0, 0))
        outcome = Outcome(
            path=dst,
            episodes=len(kept),
            steps=sum(source.episodes[n].length for n in kept),
            left_out=tuple(left_out),
            problems=tuple(problems),
        )
        # Before the recording appears: whoever finds that finds this as well.
        _write_report(conversion, source, outcome)
        writer.finish([source.episodes[n].id for n in kept])
    if progress is not None:
        progress(store.Progress("packing", len(kept), len(kept), 0, 0))
    return outcome


def check_fits(conversion: Conversion, source: Source) -> None:
    """Raise what beginning to write would raise, without writing; for dry runs.

    Raises:
        DeftError: the format cannot hold the contract, or an option is wrong.
    """
    import tempfile

    if conversion.is_store:
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / Path(conversion.dst).name
        formats.write(place, conversion.to, source.spec, conversion.options()).close()


def joined(conversion: Conversion, source: Source) -> "store.Sink":
    """What a process that helps gives its episodes to."""
    dst = Path(conversion.dst)
    if conversion.is_store:
        steps = conversion.steps(source)
        return store.Helper(dst, source.spec, conversion.config, steps)
    writer = formats.write(
        dst,
        conversion.to,
        source.spec,
        conversion.options(),
        origin={"mark": _mark(conversion, source)},
        join=True,
    )
    return FormatSink(writer)


@lru_cache(1)
def _opened(text: str) -> tuple[Source, "store.Sink"]:
    conversion = Conversion.from_text(text)
    source = conversion.source()
    return source, joined(conversion, source)


def work(text: str, number: int) -> tuple[int, int] | str:
    """One episode's work in a process that helps.

    Args:
        text: the conversion, `Conversion.to_text`.
        number: of the source's episode.

    Returns:
        As `store.Work`; or why the episode cannot be had, when that is its own fault.

    Raises:
        DeftError: every other episode would fail alike.
    """
    source, sink = _opened(text)
    outcome = store.attempt(lambda n: store.do_one(source, sink, n), number, FATAL)
    return str(outcome) if isinstance(outcome, DeftError) else outcome


def _mark(conversion: Conversion, source: Source) -> str:
    """A digest of all that the content depends on, as far as it can be known without reading."""
    parts = [
        conversion.to,
        conversion.origin(),
        conversion.options(),
        source.spec.to_json(),
        [
            [source.episodes[n].id, source.episodes[n].length, source.episodes[n].split]
            for n in conversion.chosen(source)
        ],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _write_report(conversion: Conversion, source: Source, outcome: Outcome) -> None:
    """What store.json says of a store, for other formats: a file beside the recording."""
    report = {
        "format": "deft conversion",
        "mark": _mark(conversion, source),
        "to": conversion.to,
        **conversion.origin(),
        "episodes": outcome.episodes,
        "steps": outcome.steps,
        "left_out": [{"id": id_, "why": why} for id_, why in outcome.left_out],
        "problems": [asdict(problem) for problem in outcome.problems],
    }
    path = report_path(outcome.path)
    beside = path.with_name(path.name + ".tmp")
    try:
        beside.write_text(json.dumps(report, indent=1) + "\n")
        beside.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written.\nFound: {error}.\n"
            "Fix: free or allow the space, then run the same command again; it goes on from here."
        ) from error


@contextlib.contextmanager
def ray_engine(conversion: Conversion, workers: int) -> Generator["store.Engine"]:
    """Episodes in processes of a Ray cluster: of $RAY_ADDRESS, else of one started here.

    Every process reads the source and writes into the same folder, so all must see the same files
    under the same paths; this process packs what they wrote.

    Raises:
        MissingPackageError: Ray is not installed.
    """
    from deft.cli import ray_jobs

    with ray_jobs.cluster(workers) as ray:
        yield ray_jobs.RayEngine(ray, conversion.to_text(), workers)
