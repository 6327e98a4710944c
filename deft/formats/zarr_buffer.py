"""Zarr groups in which all episodes lie joined along time, with `meta/episode_ends`.

What Diffusion Policy's replay buffers, VITA's data sets and feature zarr have in common.
Source: real-stanford/diffusion_policy, `common/replay_buffer.py`.
"""

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deft.errors import FormatError
from deft.formats.recording import Recording, find_twins, first_not_finite, require_episodes
from deft.formats.zarr_array import ZarrArray
from deft.formats.zarr_notes import Column as NotedColumn
from deft.formats.zarr_notes import Notes
from deft.formats.zarr_storage import FolderStorage, Storage, ZipStorage
from deft.spec import Episode, EpisodeInfo, Feature, Frames, Problem, Spec

ENDS = "meta/episode_ends"

_MAX_STEPS = 1 << 31


@dataclass(frozen=True)
class Column:
    """One array of the buffer and the feature it becomes."""

    feature: Feature
    array: ZarrArray


@dataclass(frozen=True)
class Span:
    """One usable episode and its place in every array."""

    info: EpisodeInfo
    start: int
    number: int
    """Among all episodes of the buffer."""

    @property
    def stop(self) -> int:
        return self.start + self.info.length


@dataclass(frozen=True)
class SlabFrames:
    """The pictures of one episode, decoded one zarr chunk at a time; satisfies `spec.Frames`."""

    array: ZarrArray
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int, /) -> np.ndarray:
        row = range(self.start, self.stop)[index]
        return self.array.rows(row, row + 1)[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        for rows in self.array.pieces(self.start, self.stop):
            yield from rows.copy()


@dataclass(frozen=True)
class ToPictures:
    """Turns a slab of any numbers into uint8 `n H W C`; refuses what is no 8-bit picture."""

    where: str
    channels_first: bool

    def __call__(self, slab: np.ndarray, first: int) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            pictures = slab.astype(np.uint8)
        wrong = pictures != slab
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise FormatError(
                f"{self.where}, step {first + at[0]}: pictures must hold whole numbers from 0 to "
                f"255.\nFound: {slab[at]} at {at[1:]}.\n"
                "Fix: scale the pictures to 0..255 and save them as uint8."
            )
        return channels_last(pictures) if self.channels_first else pictures


def channels_last(slab: np.ndarray, _: int = 0) -> np.ndarray:
    """`n C H W` as `n H W C`."""
    return np.ascontiguousarray(np.moveaxis(slab, 1, 3))


def has_ends(path: Path) -> bool:
    """Whether a folder or zip holds `meta/episode_ends`; looks at names only."""
    names = (f"{ENDS}/.zarray", f"{ENDS}/zarr.json")
    if path.is_dir():
        return any((path / name).is_file() for name in names)
    if not (path.is_file() and zipfile.is_zipfile(path)):
        return False
    try:
        return any(key in names for key in ZipStorage(path).keys)
    except FormatError:
        return False


def open_storage(path: Path) -> Storage:
    return FolderStorage(path) if path.is_dir() else ZipStorage(path)


def read_ends(storage: Storage) -> list[int]:
    """Where each episode ends, exclusive.

    Raises:
        FormatError: they are damaged, or do not rise.
    """
    array = ZarrArray(storage, ENDS)
    if len(array.layout.shape) != 1 or array.layout.dtype.kind not in "iu":
        raise FormatError(
            f"{array.where}: must be a list of whole numbers.\n"
            f"Found: {array.layout.dtype} of shape {list(array.layout.shape)}.\n"
            "Fix: copy the recording again, whole."
        )
    ends = array.rows(0, len(array)).astype(np.int64)
    if ends[0] < 0 or (np.diff(ends) < 0).any() or ends[-1] > _MAX_STEPS:
        at = int(np.argmax(np.diff(ends, prepend=0) < 0))
        raise FormatError(
            f"{array.where}: episode ends must rise, up to {_MAX_STEPS}.\n"
            f"Found: number {at} is {ends[at]}, the last is {ends[-1]}.\n"
            "Fix: copy the recording again, whole."
        )
    return [int(end) for end in ends]


def noted_column(storage: Storage, key: str, noted: NotedColumn) -> Column | None:
    """The array of a feature that Deft wrote; None when it is no longer what was written."""
    feature = noted.feature
    array = ZarrArray(storage, f"data/{key}", channels_last if noted.channels_first else None)
    height, width, channels = (*feature.shape, 0, 0, 0)[:3]
    shape = (channels, height, width) if noted.channels_first else feature.shape
    if array.layout.shape[1:] != shape or array.layout.dtype.name != feature.dtype:
        return None
    return Column(feature, array)


def gather(
    format_: str,
    path: Path,
    columns: Sequence[Column],
    notes: Notes,
    ends: Sequence[int],
    spec: Spec,
    problems: Sequence[Problem] = (),
    task_of: Callable[[int, int], str] = lambda start, stop: "",
    valid: ZarrArray | None = None,
) -> Recording:
    """The recording in such a group; episodes that cannot be used are left out.

    Args:
        format_: its name.
        path: what was recognised.
        columns: every array that is read.
        notes: Deft's own.
        ends: from `read_ends`.
        spec: contract of the episodes.
        problems: found so far.
        task_of: what the format says the task of rows `start` up to `stop` is.
        valid: marks the steps of those episodes whose notes say so.

    Raises:
        FormatError: no episode can be used.
    """
    found = [*problems, *notes.problems]
    for column in columns:
        found += _check_column(column, ends[-1])
    spans, left_out = _survey(columns, notes, ends, task_of)
    found += left_out
    require_episodes(path, [span.info for span in spans], left_out)
    return Recording(
        format=format_,
        path=path,
        name=path.name,
        spec=spec,
        episodes=tuple(span.info for span in spans),
        problems=tuple(found),
        reader=lambda index: _read(path, spec, columns, notes, spans[index], valid),
    )


def _check_column(column: Column, steps: int) -> Iterator[Problem]:
    name, rows = column.feature.name, len(column.array)
    if rows > steps:
        yield Problem(
            episode="",
            what=f"'{name}' has {rows} rows, the last episode ends at {steps}",
            effect=f"the last {rows - steps} rows are left out",
        )
    missing = column.array.missing_chunks()
    if missing:
        yield Problem(
            episode="",
            what=f"{missing} chunks of '{name}' are not there",
            effect=f"read as the fill value {column.array.layout.fill}, as zarr does",
        )


def _survey(
    columns: Sequence[Column],
    notes: Notes,
    ends: Sequence[int],
    task_of: Callable[[int, int], str],
) -> tuple[list[Span], list[Problem]]:
    """Usable episodes, and findings from their states and actions."""
    spans: list[Span] = []
    problems: list[Problem] = []
    digests: list[tuple[EpisodeInfo, bytes]] = []
    start = 0
    for number, stop in enumerate(ends):
        info = notes.info(number, stop - start)
        try:
            wrong, digest = _check_rows(columns, start, stop)
            if not wrong:
                info = notes.info(number, stop - start, task_of(start, stop))
        except FormatError as error:
            wrong, digest = str(error), b""
        if wrong:
            problems.append(
                Problem(episode=info.id, what=wrong, effect="left out", severity="error")
            )
        else:
            spans.append(Span(info, start, number))
            if digest:
                digests.append((info, digest))
        start = stop
    return spans, problems + find_twins(digests)


def _check_rows(columns: Sequence[Column], start: int, stop: int) -> tuple[str, bytes]:
    """Why an episode cannot be used, empty when it can, and a digest of its actions."""
    if start == stop:
        return "has no steps", b""
    digest = hashlib.blake2b(digest_size=16)
    has_action = False
    for column in columns:
        if len(column.array) < stop:
            rows = len(column.array)
            return f"ends at step {stop}, '{column.feature.name}' has {rows} rows", b""
        if column.feature.role not in ("state", "action"):
            continue
        rows = column.array.rows(start, stop)
        if column.feature.role == "action":
            has_action = True
            digest.update(rows.tobytes())
        if where := first_not_finite(rows):
            return f"'{column.feature.name}': {where}", b""
    return "", digest.digest() if has_action else b""


def _read(
    path: Path,
    spec: Spec,
    columns: Sequence[Column],
    notes: Notes,
    span: Span,
    valid: ZarrArray | None,
) -> Episode:
    arrays: dict[str, np.ndarray] = {}
    frames: Mapping[str, Frames] = {
        column.feature.name: SlabFrames(column.array, span.start, span.stop)
        for column in columns
        if column.feature.is_frame
    }
    for column in columns:
        if not column.feature.is_frame:
            rows = column.array.rows(span.start, span.stop)
            arrays[column.feature.name] = rows.astype(column.feature.dtype, copy=False)
    flags = None
    if valid is not None and notes.has_valid(span.number):
        flags = valid.rows(span.start, span.stop)
    return Episode(
        spec=spec,
        id=span.info.id,
        arrays=arrays,
        frames=frames,
        task=span.info.task,
        split=span.info.split,
        source=notes.source(span.number) or f"{path.name}, steps {span.start} to {span.stop}",
        valid=flags,
    )


def valid_array(storage: Storage, notes: Notes, names: Sequence[str]) -> ZarrArray | None:
    """The array of steps that may be learned from, when Deft wrote one."""
    if notes.valid not in names:
        return None
    array = ZarrArray(storage, f"data/{notes.valid}")
    is_fit = len(array.layout.shape) == 1 and array.layout.dtype == np.bool_
    return array if is_fit else None
