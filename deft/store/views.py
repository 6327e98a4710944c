"""Stores seen otherwise: only some episodes, with another split, or several as one."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deft import spec
from deft.errors import ConfigError, StoreError, nearest
from deft.spec import Spec, Stats
from deft.store.frames import FrameColumn, OpenFile
from deft.store.layout import share_of, table_features
from deft.store.reader import EpisodeIndex, Store
from deft.store.selection import Label, select
from deft.store.statistics import MOST_TASKS, measure, why_none

LEFT_OUT = ""
"""Split of the episodes that a view does not hold."""

Episodes = str | Sequence[int | str] | None
Split = str | int | float | Sequence[int | str]


def view(
    store: Store,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    episodes: Episodes = None,
    split: Split = "stored",
    split_seed: int = 0,
) -> Store:
    """The same store with fewer episodes in use, or held out otherwise; nothing is copied.

    Episodes keep their numbers; those that are not in use are in split `LEFT_OUT`. When that
    changes who is trained on, statistics are computed again, over the train episodes that are left.

    Args:
        store: an open store.
        include: see `Windows`; none takes all.
        exclude: like `include`, and wins over it.
        episodes: numbers or ids, or a range of numbers as `0:100`, `:50` or `10:`; None takes all.
        split: who is held out: `stored`, as the store says; 0, nobody; a share below 1; from 1 on
            a number of episodes; or a list of numbers or ids. Share and number are drawn by hash of
            seed and id, so a larger one holds the smaller one's episodes out too.
        split_seed: of share and number.

    Raises:
        StoreError: a pattern or id fits nothing, or nothing is left to train on.
        ConfigError: a range or split cannot be understood.
    """
    where = str(store.path)
    index = store.episodes
    columns = zip(index.ids, index.task.tolist(), index.source, strict=True)
    labels = [Label(id_, store.tasks[task], source) for id_, task, source in columns]
    used = select(labels, include, where)
    if exclude:
        used &= ~select(labels, exclude, where)
    if episodes is not None:
        used &= _numbered(index, episodes, where)
    names = np.where(used, index.split, LEFT_OUT)
    if split != "stored":
        names = np.where(
            used,
            np.where(_held_out(index, used, split, split_seed, where), "val", "train"),
            LEFT_OUT,
        )
    if not (names == "train").any():
        raise StoreError(
            f"{where}: nothing is left to train on.\n"
            f"Found: {int(used.sum())} of {len(index)} episodes in use, none of them in 'train'.\n"
            "Fix: loosen include, exclude and episodes, or hold fewer out."
        )
    if np.array_equal(names, index.split):
        return store
    trains_on_others = not np.array_equal(names == "train", index.split == "train")
    changed = replace(store, episodes=replace(index, split=names))
    return measured_again(changed) if trains_on_others else changed


def join(stores: Sequence[Store]) -> Store:
    """Several stores as one, whose episodes follow each other; `origin_of` tells them apart.

    It holds the features that all of them have, which must agree. Ids begin with the store's name,
    so `include` can name a store. Numbers are copied into memory, pictures stay where they are.
    Statistics are those of all train episodes together, whatever weights are drawn with.

    Raises:
        SpecError: features, element names or tick rates differ; all differences are listed.
        StoreError: a camera is not kept with the same codec everywhere.
        ConfigError: there is no store.
    """
    if not stores:
        raise ConfigError("No store to join.\nFix: give one or more.")
    if len(stores) == 1:
        return stores[0]
    contract = _common([each.spec for each in stores], [str(each.path) for each in stores])
    index, tasks, texts = _joined_index(stores)
    frames = {
        feature.name: _joined_frames([each.frames[feature.name] for each in stores], index)
        for feature in contract.features
        if feature.is_frame
    }
    digests = [each.digest for each in stores]
    about = [
        {"name": s.path.name, "path": str(s.path), "digest": s.digest, "episodes": len(s.episodes)}
        for s in stores
    ]
    whole = Store(
        path=Path("+".join(each.path.name for each in stores)),
        spec=contract,
        digest=hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        episodes=index,
        tasks=tasks,
        texts=texts,
        stats={},
        task_stats={},
        tables={
            feature.name: np.concatenate([each.tables[feature.name] for each in stores])
            for feature in table_features(contract)
        },
        valid=np.concatenate([each.valid for each in stores]),
        frames=frames,
        info={"stores": about} | _joined_remote(stores),
    )
    return measured_again(whole)


def origin_of(store: Store) -> np.ndarray | None:
    """Which of the joined stores each episode is from, int64; None for a store by itself."""
    about = store.info.get("stores")
    if about is None:
        return None
    return np.repeat(np.arange(len(about)), [each["episodes"] for each in about])


def measured_again(store: Store) -> Store:
    """The store with statistics of the episodes that are `train` now."""
    index = store.episodes
    trained = np.flatnonzero(index.split == "train").tolist()
    spans = [(int(index.start[n]), int(index.start[n] + index.length[n])) for n in trained]
    groups: dict[str, list[int]] = {}
    for number, episode in enumerate(trained):
        groups.setdefault(store.tasks[int(index.task[episode])], []).append(number)
    stats: dict[str, Stats] = {}
    by_task: dict[str, dict[str, Stats]] = {}
    for feature in table_features(store.spec):
        if why_none(feature):
            continue
        few = groups if len(groups) <= MOST_TASKS else {}
        found = measure(store.tables[feature.name], np.asarray(store.valid), spans, few)
        if found.whole is not None:
            stats[feature.name] = found.whole
        for task, each in found.groups.items():
            by_task.setdefault(task, {})[feature.name] = each
    return replace(store, stats=stats, task_stats=by_task)


def _numbered(index: EpisodeIndex, wanted: str | Sequence[int | str], where: str) -> np.ndarray:
    """The episodes that numbers, ids, or a range of numbers mean; bool, one per episode."""
    found = np.zeros(len(index), np.bool_)
    if isinstance(wanted, str):
        low, colon, high = wanted.partition(":")
        if not colon or not all(each == "" or each.isdigit() for each in (low, high)):
            raise ConfigError(
                f"'{wanted}' is no range of episodes.\nFix: write it as 0:100, :50 or 10:."
            )
        found[int(low or 0) : int(high) if high else None] = True
        if not found.any():
            raise _no_episode(wanted, index, where)
        return found
    places = {id_: number for number, id_ in enumerate(index.ids)}
    for each in wanted:
        number = each if isinstance(each, int) else places.get(each, -1)
        if not 0 <= number < len(index):
            raise _no_episode(each, index, where)
        found[number] = True
    return found


def _held_out(
    index: EpisodeIndex, used: np.ndarray, split: Split, seed: int, where: str
) -> np.ndarray:
    """Who is held out, bool, one per episode."""
    if isinstance(split, str):
        raise ConfigError(
            f"'{split}' is no split. {nearest(split, ['stored'])}\n"
            "Fix: write stored, 0, a share below 1, a number of episodes, or a list of ids."
        )
    if not isinstance(split, int | float):
        return _numbered(index, split, where)
    shares = np.asarray([share_of(seed, id_) for id_ in index.ids])
    shares = np.where(used, shares, np.inf)
    count = int(used.sum())
    if isinstance(split, float) and not split.is_integer():
        if not 0 <= split < 1:
            raise ConfigError(f"A split of {split}.\nFix: give a share below 1, or whole episodes.")
        # At least one, or there would be nothing to measure; `view` sees to the other side.
        return (shares < split) | (shares == shares.min())
    if not 0 <= split < count:
        raise ConfigError(
            f"{where}: {split:g} episodes to hold out of {count}.\nFix: leave some to train on."
        )
    return np.argsort(np.argsort(shares, kind="stable"), kind="stable") < split


def _no_episode(wanted: int | str, index: EpisodeIndex, where: str) -> StoreError:
    hint = nearest(str(wanted), index.ids[:1000]) if isinstance(wanted, str) else ""
    return StoreError(
        f"{where}: there is no episode {wanted!r}. {hint}\n"
        f"Found: {len(index)} episodes, from '{index.ids[0]}' (0) to '{index.ids[-1]}'.\n"
        "Fix: give numbers or ids that it has."
    )


def _common(specs: Sequence[Spec], names: Sequence[str]) -> Spec:
    """The contract of what all have. Raises `SpecError` listing what they disagree about."""
    first = specs[0]
    shared = tuple(f for f in first.features if all(f.name in other for other in specs[1:]))
    # Several bodies may be mixed on purpose; their features must still mean the same.
    bodies = {each.embodiment for each in specs}
    body = first.embodiment if len(bodies) == 1 else ""
    contract = replace(first, features=shared, embodiment=body)
    for other, name in zip(specs[1:], names[1:], strict=True):
        spec.check(replace(other, embodiment=body), contract, f"{name} joined to {names[0]}")
    return contract


def _joined_index(
    stores: Sequence[Store],
) -> tuple[EpisodeIndex, tuple[str, ...], tuple[str, ...]]:
    """All episodes, tasks and texts; numbers of rows, tasks and texts count on."""
    tasks = tuple(dict.fromkeys(task for each in stores for task in each.tasks))
    texts = tuple(dict.fromkeys([*tasks, *(text for each in stores for text in each.texts)]))
    place = {text: number for number, text in enumerate(texts)}

    def renumbered(names: Iterable[str], numbers: np.ndarray) -> np.ndarray:
        return np.asarray([place[name] for name in names], np.int64)[numbers]

    def together(arrays: Iterable[np.ndarray]) -> np.ndarray:
        return np.concatenate(list(arrays))

    rows = np.cumsum([0, *(len(each) for each in stores)])
    said = np.cumsum([0, *(len(each.episodes.wordings) for each in stores)])
    indices = [each.episodes for each in stores]
    index = EpisodeIndex(
        ids=tuple(f"{each.path.name}/{id_}" for each in stores for id_ in each.episodes.ids),
        start=together(i.start + row for i, row in zip(indices, rows, strict=False)),
        length=together(i.length for i in indices),
        task=together(renumbered(s.tasks, s.episodes.task) for s in stores),
        split=together(i.split for i in indices),
        source=tuple(source for i in indices for source in i.source),
        valid=together(i.valid for i in indices),
        wordings=together(renumbered(s.texts, s.episodes.wordings) for s in stores),
        first_wording=np.append(
            together(i.first_wording[:-1] + n for i, n in zip(indices, said, strict=False)),
            said[-1],
        ),
    )
    return index, tasks, texts


class _Openers:
    """Opens a shard through the column that it came from."""

    def __init__(self, columns: Sequence[FrameColumn]) -> None:
        self._owners = {
            path: (column, number)
            for column in columns
            for number, path in enumerate(column._paths)
        }

    def __call__(self, path: Path) -> OpenFile:
        column, number = self._owners[path]
        return column._file(number)

    def ahead(self, paths: Sequence[Path]) -> None:
        for path in paths:
            column, _ = self._owners[path]
            if column._opener is not None:
                column._opener.ahead([path])


def _joined_frames(columns: Sequence[FrameColumn], index: EpisodeIndex) -> FrameColumn:
    """One column of all pictures of a camera."""
    kinds = {(column.codec, column._levels) for column in columns}
    if len(kinds) > 1:
        named = sorted({column.codec for column in columns})
        raise StoreError(
            f"'{columns[0].feature.name}' is kept as {' and '.join(named)} in the stores to be "
            "joined, or with other numbers of levels.\n"
            "Fix: convert one of them again with the other's codec."
        )
    rows = np.cumsum([0, *(len(column) for column in columns)]).tolist()
    begins = np.cumsum([0, *(int(column._offsets[-1]) for column in columns)]).tolist()
    pairs = list(zip(columns, rows, begins, strict=False))
    offsets = [column._offsets[:-1] + begin for column, _, begin in pairs]
    sums = [np.zeros(len(c), np.uint64) if c._sums is None else c._sums for c in columns]
    found = FrameColumn(
        columns[0].feature,
        columns[0].codec,
        [
            (path, int(first) + row)
            for column, row, _ in pairs
            for path, first in zip(column._paths, column._first, strict=True)
        ],
        np.append(np.concatenate(offsets), begins[-1]),
        index.describe,
        _Openers(columns),
        columns[0]._levels,
        np.concatenate(sums),
    )
    for column, row, _ in pairs:
        if column._sums is None:  # a store of version 1 has none to compare with
            found._sound[row : row + len(column)] = True
    return found


def _joined_remote(stores: Sequence[Store]) -> dict[str, Any]:
    """What `remote.shards_together` asks for, of all stores that are elsewhere."""
    held = [each.info["remote"] for each in stores if "remote" in each.info]
    if not held:
        return {}
    return {
        "remote": {
            "cache_bytes": min(each["cache_bytes"] for each in held),
            "shard_bytes": sum(each["shard_bytes"] for each in held),
        }
    }
