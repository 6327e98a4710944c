"""One episode in a writer's workspace: every feature packed quickly, read back in order."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from deft.errors import FormatError, ShapeError, need
from deft.formats.zarr_writing import pack
from deft.spec import Episode, Feature, Frames, Spec, expect

_FAST = {"id": "blosc", "cname": "lz4", "clevel": 1, "shuffle": 1, "blocksize": 0}
_BLOCK = 4 << 20
_ABOUT, _VALID = "episode.json", "valid"


@dataclass(frozen=True)
class Staged:
    """A staged episode."""

    path: Path
    about: dict[str, Any]
    """`id`, `task`, `split`, `source`, `length`, `valid`, and what the writer added."""

    @staticmethod
    def open(path: Path) -> "Staged":
        return Staged(path, json.loads((path / _ABOUT).read_bytes()))

    @property
    def length(self) -> int:
        return self.about["length"]

    def blocks(self, spec: Spec, name: str) -> Iterator[np.ndarray]:
        """The steps of a feature in order, some at a time: `n ...`."""
        feature = spec[name]
        number = spec.names.index(name)
        yield from _read(self.path / str(number), feature.shape, feature.dtype)

    def valid(self) -> np.ndarray:
        """bool `T`, all true when the episode marks none."""
        if not self.about["valid"]:
            return np.ones(self.length, bool)
        return np.concatenate(list(_read(self.path / _VALID, (), "bool")))


def stage(path: Path, spec: Spec, episode: Episode, **more: Any) -> None:
    """Write an episode into a new folder.

    Args:
        path: of the folder.
        spec: of the writer.
        episode: with at least one step.
        more: plain values to keep with it.

    Raises:
        FormatError: pictures are missing, surplus, or not what the spec says.
    """
    path.mkdir()
    length = len(episode)
    for number, feature in enumerate(spec.features):
        if feature.dtype == "str":
            continue
        if feature.is_frame:
            frames = episode.frames[feature.name]
            blocks = _picture_blocks(feature, frames, length, episode.id)
        else:
            blocks = _table_blocks(episode.arrays[feature.name])
        with (path / str(number)).open("xb") as file:
            _write(file, blocks)
    if episode.valid is not None:
        with (path / _VALID).open("xb") as file:
            _write(file, [np.asarray(episode.valid, bool)])
    about = {
        "id": episode.id,
        "task": episode.task,
        "split": episode.split,
        "source": episode.source,
        "length": length,
        "valid": episode.valid is not None,
        **more,
    }
    (path / _ABOUT).write_text(json.dumps(about, sort_keys=True))


def checked_frames(
    feature: Feature, frames: Frames, length: int, episode: str
) -> Iterator[np.ndarray]:
    """Exactly `length` pictures of the right kind.

    Raises:
        FormatError: there are more or fewer, or one is of another size or dtype.
    """
    step = -1
    for step, picture in enumerate(frames):
        where = f"Episode '{episode}', '{feature.name}', step {step}"
        try:
            expect(picture, feature.shape, feature.dtype, where)
        except ShapeError as error:
            raise FormatError(str(error)) from error
        if step == length:
            break
        yield picture
    if step + 1 != length:
        raise FormatError(
            f"Episode '{episode}', '{feature.name}': promised {length} pictures.\n"
            f"Found: {'more' if step >= length else step + 1}.\n"
            "Fix: repair the recording, or leave the episode out."
        )


def _picture_blocks(
    feature: Feature, frames: Frames, length: int, episode: str
) -> Iterator[np.ndarray]:
    held: list[np.ndarray] = []
    rows = max(1, _BLOCK // (feature.size * np.dtype(feature.dtype).itemsize))
    for picture in checked_frames(feature, frames, length, episode):
        held.append(picture)
        if len(held) == rows:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)


def _table_blocks(table: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(1, _BLOCK // max(1, table[:1].nbytes))
    return (table[at : at + rows] for at in range(0, len(table), rows))


def _write(file: BinaryIO, blocks: Iterable[np.ndarray]) -> None:
    for block in blocks:
        np.save(file, np.frombuffer(pack(block, _FAST), np.uint8), allow_pickle=False)


def _read(path: Path, shape: tuple[int, ...], dtype: str) -> Iterator[np.ndarray]:
    numcodecs = need("numcodecs", "zarr")
    size = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size:
            packed = np.load(file, allow_pickle=False)
            content = numcodecs.Blosc().decode(packed)
            yield np.frombuffer(content, dtype).reshape(-1, *shape)
