"""Many episodes worked on at a time, whoever writes them; a bad one costs only itself."""

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from deft.errors import DeftError, MissingPackageError, StoreError
from deft.spec import Episode, EpisodeInfo, Problem, Source
from deft.store.files import DiskError

Work = tuple[int, int]
"""Pictures that were encoded, and bytes that were written."""

Outcomes = Generator[tuple[int, "Work | DeftError"]]
"""Numbers of episodes with what became of them, in any order."""


class Engine(Protocol):
    """Runs the work of episodes, wherever that is."""

    def __call__(self, one: Callable[[int], Work], numbers: Sequence[int], /) -> Outcomes:
        """Work on all these episodes; yields each when it is done.

        Args:
            one: does one episode in this process; an engine elsewhere has its own.
            numbers: of the source's episodes.

        Yields:
            Number, and what was done or why it could not be. What is no episode's fault is raised.
        """
        ...


class Sink(Protocol):
    """What takes the episodes: a store's writer, or one of a format."""

    def has(self, id_: str, /) -> bool:
        """True when it has this episode already."""
        ...

    def add(self, episode: Episode, instructions: Sequence[str] = (), /) -> int:
        """Keep one episode for good, from any thread; returns the bytes it takes."""
        ...


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


@dataclass(frozen=True)
class Threads:
    """Episodes in threads of this process: decoders and encoders let go of the interpreter.

    Only a few episodes wait at a time, so memory does not grow with the recording. An exception
    that is no episode's fault ends the work: episodes in progress are finished, none is begun.
    """

    workers: int
    fatal: tuple[type[DeftError], ...] = ()
    """Errors that every other episode would meet alike, beside a disk that refuses and a missing
    package."""

    def __call__(self, one: Callable[[int], Work], numbers: Sequence[int], /) -> Outcomes:
        stop = threading.Event()

        def guarded(number: int) -> Work | DeftError:
            if stop.is_set():
                return 0, 0  # nobody asks any more
            return attempt(one, number, self.fatal)

        waiting = iter(numbers)
        running: dict[Future[Work | DeftError], int] = {}
        with ThreadPoolExecutor(max(1, self.workers), "deft-convert") as pool:
            try:
                while True:
                    for number in waiting:
                        running[pool.submit(guarded, number)] = number
                        if len(running) >= 2 * self.workers:
                            break
                    if not running:
                        return
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in sorted(done, key=lambda each: running[each]):
                        yield running.pop(future), future.result()
            finally:
                stop.set()


def attempt(
    one: Callable[[int], Work], number: int, fatal: tuple[type[DeftError], ...] = ()
) -> Work | DeftError:
    """Do one episode's work; an error that is the episode's own fault is returned.

    Raises:
        DeftError: every other episode would fail alike.
        StoreError: the recording cannot be read on.
    """
    try:
        return one(number)
    except (DiskError, MissingPackageError, *fatal):
        raise
    except DeftError as error:
        return error
    except OSError as error:
        raise StoreError(
            f"Episode number {number}: the recording cannot be read.\nFound: {error}.\n"
            "Fix: make it readable, then run the same command again; it goes on from here."
        ) from error


def do_one(source: Source, sink: Sink, number: int) -> Work:
    """Read one episode of a source and give it to a sink."""
    episode = source.read(number)
    size = sink.add(episode, source.episodes[number].instructions)
    return len(episode) * len(episode.frames), size


def fill(
    sink: Sink,
    source: Source,
    chosen: Sequence[int],
    engine: Engine,
    progress: Callable[[Progress], None] | None = None,
    strict: bool = False,
) -> tuple[list[tuple[str, str]], list[Problem]]:
    """Give a sink the chosen episodes that it does not have yet.

    Args:
        sink: what takes them.
        source: where they come from.
        chosen: their numbers.
        engine: who does the work.
        progress: called from this thread after each episode.
        strict: stop at the first bad episode instead of leaving it out.

    Returns:
        Ids left out with the reason, and the problems of all that were chosen, both in order.

    Raises:
        DeftError: of a bad episode when `strict`; else what is no episode's fault.
    """
    infos = source.episodes
    todo = [n for n in chosen if not sink.has(infos[n].id)]
    problems = list(source.problems)
    left_out: dict[str, str] = {}
    tell = Teller(progress, len(chosen))
    tell.begin(len(chosen) - len(todo))
    with closing(engine(lambda number: do_one(source, sink, number), todo)) as outcomes:
        for number, outcome in outcomes:
            if isinstance(outcome, DeftError):
                if strict:
                    raise outcome
                info = infos[number]
                left_out[info.id] = str(outcome)
                problems.append(_problem(info, outcome))
                outcome = (0, 0)
            tell.episode(*outcome)
    order = [infos[n].id for n in chosen]
    why = [(id_, left_out[id_]) for id_ in order if id_ in left_out]
    return why, _relevant(problems, source, order)


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


def _relevant(problems: list[Problem], source: Source, order: Sequence[str]) -> list[Problem]:
    """Without those of episodes that were not asked for; in the order of the store."""
    rank = {id_: number for number, id_ in enumerate(order)}
    others = {info.id for info in source.episodes} - rank.keys()
    kept = [problem for problem in problems if problem.episode not in others]
    return sorted(kept, key=lambda p: (rank.get(p.episode, -1), p.episode, p.severity, p.what))


def _problem(info: EpisodeInfo, error: DeftError) -> Problem:
    return Problem(episode=info.id, what=str(error), effect="left out", severity="error")
