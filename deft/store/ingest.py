"""A whole source into a store, several episodes at a time."""

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from deft.errors import DeftError, MissingPackageError, StoreError
from deft.spec import EpisodeInfo, Problem, Source, from_plain
from deft.store.files import DiskError
from deft.store.layout import WriteConfig, is_store, stored_spec
from deft.store.reader import open  # noqa: A004 - read as `store.open`
from deft.store.selection import Label, select
from deft.store.writer import Writer, WriteReport


@dataclass(frozen=True)
class Progress:
    """How far a conversion is."""

    stage: str
    """`episodes` while they are read and encoded, then `packing`."""
    done: int
    total: int
    frames: int
    """Pictures encoded by this process."""
    size_bytes: int
    """Bytes written by this process."""


def write(
    path: str | Path,
    source: Source,
    config: WriteConfig,
    *,
    workers: int = 1,
    include: Sequence[str] = (),
    episodes: Sequence[int] | None = None,
    progress: Callable[[Progress], None] | None = None,
    strict: bool = False,
    overwrite: bool = False,
) -> WriteReport:
    """Turn a recording into a store; run again after an interruption, it goes on.

    Args:
        path: folder of the store to be.
        source: any recording; `read` is called from `workers` threads.
        config: sizes, codec, split.
        workers: episodes worked on at a time.
        include: see `store.Windows`; episodes that no pattern names are not read.
        episodes: numbers of the source's episodes to take; None takes all.
        progress: called from this thread after each episode.
        strict: stop at the first bad episode instead of leaving it out.
        overwrite: replace a finished store.

    Raises:
        StoreError: see `Writer`; also when the recording cannot be read on, or nothing is left.
    """
    chosen = chosen_episodes(source, include, episodes)
    origin = provenance_of(source, include, episodes)
    steps = sum(source.episodes[n].length for n in chosen)
    with Writer(path, source.spec, config, origin, overwrite=overwrite, steps=steps) as writer:
        _, problems = fill(writer, source, chosen, workers, progress, strict)
        order = [source.episodes[n].id for n in chosen]
        return writer.finish(order, problems, Teller(progress, len(chosen)).packed)


def fill(
    writer: Writer,
    source: Source,
    chosen: Sequence[int],
    workers: int,
    progress: Callable[[Progress], None] | None,
    strict: bool,
) -> tuple[list[tuple[str, str]], list[Problem]]:
    """Give a Writer the chosen episodes that it does not have yet.

    Returns:
        Ids left out with the reason, and the problems of all that were chosen, both in order.

    Raises:
        StoreError: see `write`.
    """
    names_pictures = sum(feature.is_frame for feature in source.spec.features)
    infos = source.episodes
    todo = [n for n in chosen if not writer.has(infos[n].id)]
    problems = list(source.problems)
    left_out: dict[str, str] = {}
    tell = Teller(progress, len(chosen))
    tell.begin(len(chosen) - len(todo))

    def one(number: int) -> tuple[int, int]:
        episode = source.read(number)
        return len(episode) * names_pictures, writer.add(episode, infos[number].instructions)

    with closing(_each(one, todo, max(1, workers))) as outcomes:
        for number, outcome in outcomes:
            if isinstance(outcome, DeftError):
                if strict:
                    raise outcome
                info = infos[number]
                left_out[info.id] = str(outcome)
                writer.leave_out(info.id, str(outcome))
                problems.append(_problem(info, outcome))
                outcome = (0, 0)
            tell.episode(*outcome)
    order = [infos[n].id for n in chosen]
    why = [(id_, left_out[id_]) for id_ in order if id_ in left_out]
    return why, _relevant(problems, source, order)


def chosen_episodes(
    source: Source, include: Sequence[str] = (), episodes: Sequence[int] | None = None
) -> list[int]:
    """Numbers of the source's episodes that `write` would take, in order.

    Raises:
        StoreError: a number or pattern fits nothing, or two episodes share an id.
    """
    infos = source.episodes
    seen: set[str] = set()
    for info in infos:
        if info.id in seen:
            raise StoreError(
                f"{source.name}: two episodes have the id '{info.id}'.\n"
                "Fix: repair the reader; ids must be unique."
            )
        seen.add(info.id)
    if not infos:
        raise StoreError(f"{source.name}: there are no episodes.\nFix: check the recording.")
    numbers = range(len(infos)) if episodes is None else sorted(set(episodes))
    for number in numbers:
        if not 0 <= number < len(infos):
            raise StoreError(
                f"{source.name}: there is no episode number {number}.\n"
                f"Found: {len(infos)} episodes, 0 to {len(infos) - 1}.\n"
                "Fix: correct `--episodes`."
            )
    fits = select([Label(info.id, info.task) for info in infos], include, source.name)
    return [number for number in numbers if fits[number]]


def is_made_from(
    path: str | Path,
    source: Source,
    config: WriteConfig,
    include: Sequence[str] = (),
    episodes: Sequence[int] | None = None,
) -> bool:
    """True when `write` with these arguments has finished the store at `path` already.

    Compared are settings, contract, the source's name and its episodes' ids; not their contents.

    Raises:
        StoreError: the store there is damaged, or see `chosen_episodes`.
    """
    if not is_store(path):
        return False
    there = open(path)
    info = there.info
    origin = provenance_of(source, include, episodes)
    had: dict[str, object] = info["provenance"]
    ids = {source.episodes[n].id for n in chosen_episodes(source, include, episodes)}
    return (
        from_plain(WriteConfig, info["config"]) == config
        and info["spec_digest"] == stored_spec(source.spec, config).digest()
        and {key: had.get(key) for key in origin} == origin
        and ids == {*there.episodes.ids, *(each["id"] for each in info["left_out"])}
    )


def provenance_of(
    source: Source, include: Sequence[str], episodes: Sequence[int] | None
) -> dict[str, object]:
    """What a store keeps of where its episodes come from."""
    return {
        "source": source.name,
        "include": list(include),
        "episodes": None if episodes is None else list(episodes),
    }


def _relevant(problems: list[Problem], source: Source, order: Sequence[str]) -> list[Problem]:
    """Without those of episodes that were not asked for; in the order of the store."""
    rank = {id_: number for number, id_ in enumerate(order)}
    others = {info.id for info in source.episodes} - rank.keys()
    kept = [problem for problem in problems if problem.episode not in others]
    return sorted(kept, key=lambda p: (rank.get(p.episode, -1), p.episode, p.severity, p.what))


def _problem(info: EpisodeInfo, error: DeftError) -> Problem:
    return Problem(episode=info.id, what=str(error), effect="left out", severity="error")


class Teller:
    """Turns what happens into `Progress`."""

    def __init__(self, progress: Callable[[Progress], None] | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._frames = 0
        self._bytes = 0

    def begin(self, done: int) -> None:
        self._done = done
        self._tell("episodes", done)

    def episode(self, frames: int, size: int) -> None:
        self._done += 1
        self._frames += frames
        self._bytes += size
        self._tell("episodes", self._done)

    def packed(self, done: int) -> None:
        self._tell("packing", done)

    def _tell(self, stage: str, done: int) -> None:
        if self._progress is not None:
            self._progress(Progress(stage, done, self._total, self._frames, self._bytes))


def _each(
    one: Callable[[int], tuple[int, int]], numbers: Sequence[int], workers: int
) -> Generator[tuple[int, tuple[int, int] | DeftError]]:
    """Run `one` over all numbers in threads; yields (number, result or DeftError) as they end.

    Only a few episodes wait in the pool at a time. An exception that is no episode's fault ends
    the work: episodes in progress are finished, no other is begun.
    """
    stop = threading.Event()

    def guarded(number: int) -> tuple[int, int] | DeftError:
        if stop.is_set():
            return 0, 0  # nobody asks any more
        try:
            return one(number)
        except (DiskError, MissingPackageError):
            raise  # every other episode would fail alike
        except DeftError as error:
            return error
        except OSError as error:
            raise StoreError(
                f"Episode number {number}: the recording cannot be read.\nFound: {error}.\n"
                "Fix: make it readable, then run the same command again; it goes on from here."
            ) from error

    waiting = iter(numbers)
    running: dict[Future[tuple[int, int] | DeftError], int] = {}
    with ThreadPoolExecutor(workers, "deft-convert") as pool:
        try:
            while True:
                for number in waiting:
                    running[pool.submit(guarded, number)] = number
                    if len(running) >= 2 * workers:
                        break
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda each: running[each]):
                    yield running.pop(future), future.result()
        finally:
            stop.set()
