"""The writer behind every zarr format: episodes wait in a workspace, then join along time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from deft.errors import FormatError
from deft.formats import zarr_notes
from deft.formats.writing import Workspace
from deft.formats.zarr_buffer import ENDS
from deft.formats.zarr_notes import Column
from deft.formats.zarr_stage import Staged, stage
from deft.formats.zarr_writing import NewArray, Target, put_array, put_group
from deft.spec import Episode, Feature, Spec, check

_CHUNK_BYTES = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What sets one zarr format apart from another."""

    columns: dict[str, Column]
    """Every array of `data` by name."""
    compressor: dict[str, Any] | None
    rows: Callable[[Feature, Sequence[int]], int]
    """Steps in a chunk of a feature, given the lengths of all episodes."""
    pack: Callable[[Path, Sequence[Staged]], None]
    """Makes the recording; see `put_buffer`."""
    describe: Callable[[Episode], dict[str, Any]] = lambda _: {}
    """What else to keep of an episode, such as its statistics."""
    check: Callable[[Episode], None] = lambda _: None
    """Raises `FormatError` for an episode that the format cannot hold."""


class ZarrWriter:
    """Satisfies `formats.Writer`."""

    def __init__(self, workspace: Workspace, spec: Spec, dialect: Dialect) -> None:
        self.spec = spec
        self._workspace, self._dialect = workspace, dialect

    @property
    def path(self) -> Path:
        return self._workspace.path

    def __enter__(self) -> "ZarrWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._workspace.close()

    def has(self, id_: str, /) -> bool:
        return self._workspace.has(id_)

    def add(self, episode: Episode, /) -> None:
        if episode.spec != self.spec:
            check(episode.spec, self.spec, f"Episode '{episode.id}'")
        if len(episode) == 0:
            raise FormatError(f"Episode '{episode.id}' has no steps.\nFix: leave it out.")
        self._dialect.check(episode)

        def write(path: Path) -> None:
            stage(path, self.spec, episode, **self._dialect.describe(episode))

        self._workspace.keep(episode.id, write)

    def finish(self, order: Sequence[str], /) -> Path:
        def pack(path: Path, places: list[Path]) -> None:
            self._dialect.pack(path, [Staged.open(place) for place in places])

        return self._workspace.publish(order, pack)


def put_buffer(
    target: Target,
    spec: Spec,
    dialect: Dialect,
    episodes: Sequence[Staged],
    watch: Callable[[str, np.ndarray], None] = lambda key, block: None,
) -> None:
    """The groups `data` and `meta` with all their arrays and Deft's notes.

    Args:
        target: of the whole group.
        spec: of the episodes.
        dialect: see there.
        episodes: in the order of the recording.
        watch: given the name of each array and its blocks of steps, as they pass.
    """
    lengths = [episode.length for episode in episodes]
    total = sum(lengths)
    put_group(target, "data")
    for key, column in dialect.columns.items():
        feature = column.feature
        shape = feature.shape
        if column.channels_first:
            shape = (shape[2], *shape[:2])
        array = NewArray(
            key=f"data/{key}",
            shape=shape,
            dtype=np.dtype(feature.dtype),
            length=total,
            rows=dialect.rows(feature, lengths),
            compressor=dialect.compressor,
            attributes={"unit": feature.unit} if feature.unit else {},
        )
        put_array(target, array, _steps(spec, key, column, episodes, watch))
    valid = _put_valid(target, dialect, episodes, total)
    about = [
        {key: episode.about[key] for key in ("id", "task", "split", "source", "valid")}
        for episode in episodes
    ]
    put_group(target, "meta", zarr_notes.to_json(spec, dialect.columns, valid, about))
    ends = NewArray(
        key=ENDS, shape=(), dtype=np.dtype(np.int64), length=len(lengths), rows=len(lengths)
    )
    put_array(target, ends, [np.cumsum(lengths)])


def two_megabytes(feature: Feature, limit: int) -> int:
    """Steps in a chunk of about 2 MB, as in Diffusion Policy, but no more than `limit`."""
    size = feature.size * np.dtype(feature.dtype).itemsize
    return max(1, min(-(-_CHUNK_BYTES // size), limit))


def array_name(feature: Feature) -> str:
    """A feature's name as the name of an array: one level, never hidden or special."""
    quoted = feature.name.replace("%", "%25").replace("/", "%2F").replace("\\", "%5C")
    for start in (".", "__"):
        if quoted.startswith(start):
            quoted = f"%{ord(start[0]):02X}{quoted[1:]}"
    return quoted


def refuse_names(path: Path, columns: dict[str, Column]) -> None:
    """Raise `FormatError` for names that cannot be those of folders."""
    for key, column in columns.items():
        if not key.isprintable() or len(key.encode()) > 200:
            raise FormatError(
                f"{path}: feature {column.feature.name!r} cannot be the name of a zarr array.\n"
                "Fix: rename it, with letters and digits."
            )


def _steps(
    spec: Spec,
    key: str,
    column: Column,
    episodes: Sequence[Staged],
    watch: Callable[[str, np.ndarray], None],
) -> Iterator[np.ndarray]:
    for episode in episodes:
        for block in episode.blocks(spec, column.feature.name):
            watch(key, block)
            yield np.moveaxis(block, 3, 1) if column.channels_first else block


def _put_valid(target: Target, dialect: Dialect, episodes: Sequence[Staged], total: int) -> str:
    """The array of steps that may be learned from, if any episode marks some; returns its name."""
    if not any(episode.about["valid"] for episode in episodes):
        return ""
    name = "valid"
    while name in dialect.columns:
        name += "_"
    array = NewArray(
        key=f"data/{name}",
        shape=(),
        dtype=np.dtype(bool),
        length=total,
        rows=min(total, 1 << 20),
        compressor=dialect.compressor,
    )
    put_array(target, array, (episode.valid() for episode in episodes))
    return name
