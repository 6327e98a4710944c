"""A store as a source of episodes, and the check of all that is in it."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from deft.errors import StoreError
from deft.spec import Episode, EpisodeInfo, Problem, Spec
from deft.store.embeddings import changed_embeddings, embedding, embeddings
from deft.store.files import fingerprint
from deft.store.frames import FrameColumn
from deft.store.layout import table_features
from deft.store.manifest import sealed
from deft.store.reader import Store


@dataclass(frozen=True)
class StoreFrames:
    """The pictures of one camera in one episode of a store."""

    column: FrameColumn
    start: int
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int, /) -> np.ndarray:
        """One picture, `H W C`. Raises `IndexError` beyond the end, `StoreError` when damaged."""
        out = np.empty(self.column.feature.shape, self.column.feature.dtype)
        self.column.decode_into(self._row(index), out)
        return out

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(self.length))

    def encoded(self, index: int) -> bytes | None:
        """The JPEG as it is stored; None for raw pictures."""
        if self.column.codec != "jpeg":
            return None
        return self.column.stored(np.asarray([self._row(index)]))[0]

    def _row(self, index: int) -> int:
        if not -self.length <= index < self.length:
            raise IndexError(f"picture {index} of {self.length}")
        return self.start + index % self.length


class StoreSource:
    """The `spec.Source` of a store: look at it, or convert it again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        index = store.episodes
        self._episodes = tuple(
            EpisodeInfo(
                id=id_,
                length=length,
                task=store.tasks[task],
                split=split,
                instructions=store.instructions(number),
            )
            for number, (id_, length, task, split) in enumerate(
                zip(
                    index.ids,
                    index.length.tolist(),
                    index.task.tolist(),
                    index.split.tolist(),
                    strict=True,
                )
            )
        )
        self._problems = tuple(Problem(**each) for each in store.info["problems"])

    @property
    def spec(self) -> Spec:
        return self._store.spec

    @property
    def name(self) -> str:
        return str(self._store.info["provenance"].get("source", self._store.path.name))

    @property
    def episodes(self) -> tuple[EpisodeInfo, ...]:
        return self._episodes

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._problems

    def read(self, index: int) -> Episode:
        """Episode number `index`; arrays are views of the store, pictures are read on access."""
        store, info = self._store, self.episodes[index]
        start = int(store.episodes.start[index])
        rows = slice(start, start + info.length)
        valid = np.asarray(store.valid[rows])
        return Episode(
            spec=store.spec,
            id=info.id,
            arrays={name: np.asarray(table[rows]) for name, table in store.tables.items()},
            frames={
                name: StoreFrames(column, start, info.length)
                for name, column in store.frames.items()
            },
            task=info.task,
            split=info.split,
            source=store.episodes.source[index],
            valid=None if valid.all() else valid,
        )


def source(store: Store) -> StoreSource:
    """A store as any other recording, for `deft inspect`, `view` and `convert`."""
    return StoreSource(store)


def describe(store: Store) -> dict[str, Any]:
    """How a store is kept, as plain values for `deft inspect`: pictures with their codec and why it
    was chosen, parts, embeddings, and features that lie elsewhere."""
    whole = store.info["frames"]
    return {
        "pictures": [
            {
                "feature": name,
                "codec": column.codec,
                "quality": whole[name].get("quality"),
                "levels": whole[name].get("levels"),
                "why": whole[name].get("codec_reason", ""),
                "bytes": column.size_bytes,
                "kept_as_is": whole[name].get("kept_as_is", 0),
            }
            for name, column in store.frames.items()
        ],
        "parts": [
            {
                "folder": part["folder"],
                "episodes": part["episodes"],
                "steps": part["steps"],
                "source": part["provenance"].get("source", ""),
            }
            for part in store.info.get("parts", ())
        ],
        "texts": len(store.texts),
        "embeddings": [
            {"name": name, "texts": len(found.texts), "digest": found.digest}
            for name in embeddings(store)
            for found in (embedding(store, name),)
        ],
        "references": [
            {"feature": each.feature.name, "file": each.about["file"], "digest": each.digest}
            for each in store.references
        ],
    }


def check(store: Store, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
    """Read everything: compare every file with its hash, and decode every picture.

    A damaged picture is named by shard, episode and frame. All cores work on it.

    Args:
        store: an open store.
        progress: told how many episodes are done, and of how many.

    Returns:
        All that is wrong, in the order of the store; empty for a sound one.
    """
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "deft-check") as pool:
        changed = pool.submit(check_files, store)
        numbers = range(len(store.episodes))
        wrong: list[Problem] = []
        for done, found in enumerate(pool.map(lambda n: _check_episode(store, n), numbers), 1):
            wrong += found
            if progress is not None:
                progress(done, len(store.episodes))
        return changed.result() + wrong


def check_files(store: Store) -> list[Problem]:
    """Compare every file with its hash: parts, embeddings, and what is referred to elsewhere."""
    return [_problem("", found) for found in _changed(store)]


def _check_episode(store: Store, number: int) -> list[Problem]:
    id_ = store.episodes.ids[number]
    start, length = int(store.episodes.start[number]), int(store.episodes.length[number])
    found: list[Problem] = []
    for column in store.frames.values():
        out = np.empty(column.feature.shape, column.feature.dtype)
        for row in range(start, start + length):
            try:
                [data] = column.stored(np.asarray([row]), again=True)
                column.decode(data, row, out)
            except StoreError as error:
                found.append(_problem(id_, str(error)))
    for feature in table_features(store.spec):
        rows = store.tables[feature.name][start : start + length]
        if feature.role != "other" and rows.dtype.kind == "f" and not np.isfinite(rows).all():
            found.append(_problem(id_, f"'{feature.name}' holds NaN or infinity"))
    return found


def _changed(store: Store) -> Iterator[str]:
    """Files that are not what they were."""
    for name, wanted in store.info["files"].items():
        path = store.path / name
        try:
            found = fingerprint(path)
        except OSError as error:
            yield f"{path}: cannot be read: {error}"
            continue
        if found != wanted:
            yield (
                f"{path}: changed since it was written "
                f"({found['bytes']} bytes, sha256 {found['sha256'][:12]}…; wanted "
                f"{wanted['bytes']}, {wanted['sha256'][:12]}…)"
            )
    if sealed({k: v for k, v in store.info.items() if k != "digest"}) != store.info:
        yield f"{store.path}/store.json: changed since it was written"
    yield from changed_embeddings(store.path)
    yield from filter(None, (each.changed() for each in store.references))


def _problem(episode: str, what: str) -> Problem:
    return Problem(episode=episode, what=what, effect="training would stop there", severity="error")
