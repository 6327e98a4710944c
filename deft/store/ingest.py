"""A whole source into a store, several episodes at a time."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import StoreError
from deft.spec import Problem, Source, from_plain
from deft.store import jobs
from deft.store.jobs import Engine, Progress, Teller, Threads
from deft.store.layout import WriteConfig, is_store, stored_spec
from deft.store.reader import open  # noqa: A004 - read as `store.open`
from deft.store.selection import Label, select
from deft.store.writer import Writer, WriteReport


def write(
    path: str | Path,
    source: Source,
    config: WriteConfig,
    *,
    workers: int = 1,
    engine: Engine | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    episodes: Sequence[int] | None = None,
    origin: Mapping[str, Any] | None = None,
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
        engine: who works on them; None takes threads of this process.
        include: see `store.Windows`; episodes that no pattern names are not read.
        exclude: patterns of episodes that are not taken, though included.
        episodes: numbers of the source's episodes to take; None takes all.
        origin: what else the content depends on, for the provenance: plain JSON values.
        progress: called from this thread after each episode.
        strict: stop at the first bad episode instead of leaving it out.
        overwrite: replace a finished store.

    Raises:
        StoreError: see `Writer`; also when the recording cannot be read on, or nothing is left.
    """
    chosen = chosen_episodes(source, include, episodes, exclude)
    whence = provenance_of(source, include, episodes, exclude, origin)
    steps = sum(source.episodes[n].length for n in chosen)
    with Writer(path, source.spec, config, whence, overwrite=overwrite, steps=steps) as writer:
        _, problems = fill(writer, source, chosen, workers, progress, strict, engine)
        order = [source.episodes[n].id for n in chosen]
        return writer.finish(order, problems, Teller(progress, len(chosen)).packed)


def fill(
    writer: Writer,
    source: Source,
    chosen: Sequence[int],
    workers: int,
    progress: Callable[[Progress], None] | None,
    strict: bool,
    engine: Engine | None = None,
) -> tuple[list[tuple[str, str]], list[Problem]]:
    """Give a Writer the chosen episodes that it does not have yet, and tell it who is left out.

    Returns:
        Ids left out with the reason, and the problems of all that were chosen, both in order.

    Raises:
        StoreError: see `write`.
    """
    engine = engine or Threads(workers)
    left_out, problems = jobs.fill(writer, source, chosen, engine, progress, strict)
    for id_, why in left_out:
        writer.leave_out(id_, why)
    return left_out, problems


def chosen_episodes(
    source: Source,
    include: Sequence[str] = (),
    episodes: Sequence[int] | None = None,
    exclude: Sequence[str] = (),
) -> list[int]:
    """Numbers of the source's episodes that `write` would take, in order.

    Raises:
        StoreError: a number or pattern fits nothing, two episodes share an id, or all are
            excluded.
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
    labels = [Label(info.id, info.task) for info in infos]
    fits = select(labels, include, source.name)
    if exclude:
        fits = fits & ~select(labels, exclude, source.name)
        if not np.any(fits):
            raise StoreError(
                f"{source.name}: every episode is excluded.\n"
                f"Found: {', '.join(exclude)}.\nFix: exclude less."
            )
    return [number for number in numbers if fits[number]]


def is_made_from(
    path: str | Path,
    source: Source,
    config: WriteConfig,
    include: Sequence[str] = (),
    episodes: Sequence[int] | None = None,
    exclude: Sequence[str] = (),
    origin: Mapping[str, Any] | None = None,
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
    whence = provenance_of(source, include, episodes, exclude, origin)
    had: dict[str, object] = info["provenance"]
    chosen = chosen_episodes(source, include, episodes, exclude)
    ids = {source.episodes[n].id for n in chosen}
    return (
        from_plain(WriteConfig, info["config"]) == config
        and info["spec_digest"] == stored_spec(source.spec, config).digest()
        and {key: value for key, value in had.items() if key != "written_by"} == whence
        and ids == {*there.episodes.ids, *(each["id"] for each in info["left_out"])}
    )


def provenance_of(
    source: Source,
    include: Sequence[str],
    episodes: Sequence[int] | None,
    exclude: Sequence[str] = (),
    origin: Mapping[str, Any] | None = None,
) -> dict[str, object]:
    """What a store keeps of where its episodes come from."""
    found: dict[str, object] = {
        "source": source.name,
        "include": list(include),
        "episodes": None if episodes is None else list(episodes),
    }
    if exclude:
        found["exclude"] = list(exclude)
    return found | dict(origin or {})
