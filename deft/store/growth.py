"""A finished store that takes in more episodes: a new part beside those that are there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deft.errors import StoreError
from deft.spec import Episode, EpisodeInfo, Problem, Source, Spec, check, from_plain
from deft.store.ingest import chosen_episodes, fill, provenance_of
from deft.store.jobs import Engine, Progress, Teller
from deft.store.layout import VERSION, WriteConfig, stored_spec
from deft.store.overall import Row
from deft.store.packing import Base
from deft.store.parts import parts_of
from deft.store.reader import Store, open  # noqa: A004 - read as `store.open`
from deft.store.writer import Writer, WriteReport, report_of, tidy


def append(
    path: str | Path,
    source: Source,
    *,
    workers: int = 1,
    engine: Engine | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    episodes: Sequence[int] | None = None,
    prefix: str = "",
    origin: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
    strict: bool = False,
) -> WriteReport:
    """Add the episodes of a recording that a store does not have yet; run again, it goes on.

    They become a new part, kept as the first one is: size, codecs, quality and the rule of the
    split are the store's. No file changes but store.json, which is replaced last, so a reader that
    has it open goes on. No episode changes its split; statistics are those of the whole. Given
    again, a recording that has grown adds what is new in it.

    Args:
        path: folder of a finished store.
        source: any recording that fits the store; `read` is called from `workers` threads.
        workers: episodes worked on at a time.
        engine: who works on them; None takes threads of this process.
        include: see `store.Windows`; other episodes are not read.
        exclude: patterns of episodes that are not taken, though included.
        episodes: numbers of the source's episodes to take; None takes all.
        prefix: put before every episode's id, as in `lab2/`, when ids of two recordings meet. An
            engine that reads episodes elsewhere must do the same, with `renamed`.
        origin: what else the content depends on, for the provenance: plain JSON values.
        progress: called from this thread after each episode.
        strict: stop at the first bad episode instead of leaving it out.

    Returns:
        Counts of the whole store; `added` is 0 when there was nothing new, and then nothing
        changed.

    Raises:
        StoreError: there is no such store, or it has another episode of the same id; see `Writer`.
        SpecError: the recording does not fit the store; every difference is named.
    """
    path = Path(path)
    if prefix:
        source = renamed(source, prefix)
    opened = open(path)
    _refuse_unfit(opened)
    todo = _new(opened, source, chosen_episodes(source, include, episodes, exclude))
    if not todo:
        tidy(path)
        return report_of(path, opened.info, 0, (), ())
    whence = provenance_of(source, include, episodes, exclude, origin)
    with appender(opened, source.spec, whence) as writer:
        left_out, problems = fill(writer, source, todo, workers, progress, strict, engine)
        if not writer.kept:
            writer.abandon()
            return report_of(path, opened.info, 0, left_out, problems)
        order = [source.episodes[n].id for n in todo]
        return writer.finish(order, problems, Teller(progress, len(todo)).packed)


def appender(store: Store, spec: Spec, provenance: Mapping[str, Any]) -> Writer:
    """A Writer that adds a part to a finished store.

    Args:
        store: as it was opened; nothing may have been appended since.
        spec: contract of the episodes to come.
        provenance: see `Writer`.

    Raises:
        StoreError: it is of version 1, or refers to features elsewhere, or another process
            writes it.
        SpecError: the episodes do not fit the store.
    """
    _refuse_unfit(store)
    config = config_of(store)
    given = stored_spec(spec, config)
    where = f"{store.path}, and what is appended"
    check(given, store.spec, where)
    surplus = [name for name in given.names if name not in store.spec]
    if surplus:
        raise StoreError(
            f"{where}: the store has no {', '.join(surplus)}.\n"
            "Fix: leave these features out of the recording, or convert both into a new store."
        )
    return Writer(store.path, spec, config, provenance, base=_base(store))


def config_of(store: Store) -> WriteConfig:
    """How episodes are kept that join a store: its own settings, each camera's codec settled."""
    codecs = {name: camera["codec"] for name, camera in store.info["frames"].items()}
    return replace(from_plain(WriteConfig, store.info["config"]), codecs=codecs)


def _refuse_unfit(store: Store) -> None:
    if store.references:
        names = ", ".join(each.feature.name for each in store.references)
        raise StoreError(
            f"{store.path}: {names} lie in files elsewhere, which have rows for "
            f"{len(store)} steps only.\n"
            "Fix: `store.remove_reference` them, append, and refer to files with more rows."
        )
    if store.info["version"] != VERSION:
        raise StoreError(
            f"{store.path}: a store of version {store.info['version']} cannot grow.\n"
            f"Fix: `deft convert {store.path.name} NEW` makes one that can; JPEGs stay as they are."
        )


def _base(store: Store) -> Base:
    index, info = store.episodes, store.info
    columns = (
        index.ids,
        index.start.tolist(),
        index.length.tolist(),
        [store.tasks[task] for task in index.task.tolist()],
        index.split.tolist(),
        index.source,
        index.valid.tolist(),
    )
    rows = [Row(*each) for each in zip(*columns, strict=True)]
    origins = {part["split_from"] for part in info["parts"]}
    drawn = sum(row.split in ("train", "val") for row in rows)
    return Base(
        path=store.path,
        spec=store.spec,
        info=info,
        parts=parts_of(info),
        rows=rows,
        # Where the source has named some, both sides are there already.
        drawn=max(drawn, 2) if "source" in origins else drawn,
        by_source=origins == {"source"},
        bytes={name: column.size_bytes for name, column in store.frames.items()},
    )


def _new(store: Store, source: Source, chosen: Sequence[int]) -> list[int]:
    """Those of the chosen episodes that the store does not have.

    Raises:
        StoreError: it has an id from another recording, or with another length.
    """
    held = {id_: number for number, id_ in enumerate(store.episodes.ids)}
    origins: list[str] = []
    for part in store.info.get("parts", ()):
        origins += [str(part["provenance"].get("source"))] * part["episodes"]
    new: list[int] = []
    strangers: list[str] = []
    for number in chosen:
        info = source.episodes[number]
        place = held.get(info.id)
        if place is None:
            new.append(number)
        elif origins[place] != source.name or store.episodes.length[place] != info.length:
            strangers.append(info.id)
    if strangers:
        raise StoreError(
            f"{store.path}: {len(strangers)} ids of {source.name} belong to other episodes there: "
            f"{', '.join(strangers[:5])}.\n"
            "Fix: give `prefix` (`--id-prefix`), as in 'lab2/', to tell the recordings apart."
        )
    return new


def renamed(source: Source, prefix: str) -> Source:
    """The same recording, with something before every episode's id."""
    return _Renamed(
        source=source,
        prefix=prefix,
        spec=source.spec,
        name=source.name,
        episodes=tuple(replace(info, id=prefix + info.id) for info in source.episodes),
        problems=tuple(
            replace(each, episode=prefix + each.episode) if each.episode else each
            for each in source.problems
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Renamed:
    """A source whose episodes have longer ids; satisfies `spec.Source`."""

    source: Source
    prefix: str
    spec: Spec
    name: str
    episodes: Sequence[EpisodeInfo]
    problems: Sequence[Problem]

    def read(self, index: int) -> Episode:
        episode = self.source.read(index)
        return replace(episode, id=self.prefix + episode.id)
