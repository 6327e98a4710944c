"""What every reader hands out, and the small decisions they all share."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

import numpy as np

from deft.errors import FormatError, ShapeError
from deft.spec import Episode, EpisodeInfo, Problem, Spec, findings

_WIDER = {"int8": "int32", "int16": "int32", "uint32": "int64"}


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A recording that was opened; satisfies `spec.Source`."""

    format: str
    """Name in `formats.FORMATS`."""
    path: Path
    """The folder or file that was recognised."""
    name: str
    """Short name for provenance; no folders."""
    spec: Spec
    episodes: tuple[EpisodeInfo, ...]
    """Every usable episode, in a stable order."""
    problems: tuple[Problem, ...]
    reader: Callable[[int], Episode]
    """Reads one episode by its number in `episodes`; called from several threads."""
    read_limits: Callable[[], Mapping[str, tuple[np.ndarray, np.ndarray]]] = dict
    """Finds the smallest and largest value that the recording declares, by feature; none for
    formats that declare none."""

    def read(self, index: int) -> Episode:
        """Episode number `index`; pictures are decoded when they are asked for.

        Raises:
            FormatError: there is no such episode, or its files are damaged.
        """
        if not 0 <= index < len(self.episodes):
            raise FormatError(
                f"{self.path}: there is no episode number {index}.\n"
                f"Found: {len(self.episodes)} episodes.\n"
                f"Fix: ask for a number from 0 to {len(self.episodes) - 1}."
            )
        info = self.episodes[index]
        try:
            episode = self.reader(index)
        except ShapeError as error:
            raise FormatError(f"{self.path}, {error}") from error
        if (episode.id, episode.task, episode.split) == (info.id, info.task, info.split):
            return episode
        return replace(episode, id=info.id, task=info.task, split=info.split)


def with_clean_texts(recording: Recording) -> Recording:
    """The recording with text in its listing and findings that any file can hold.

    Names of files, and texts in damaged ones, may hold bytes that are no UTF-8; those become `?`.
    """
    return replace(
        recording,
        name=_clean(recording.name),
        episodes=tuple(map(_clean_info, recording.episodes)),
        problems=tuple(
            replace(each, episode=_clean(each.episode), what=_clean(each.what))
            for each in recording.problems
        ),
    )


def _clean_info(info: EpisodeInfo) -> EpisodeInfo:
    texts = (info.id, info.task, info.split, *info.instructions)
    if all(map(str.isascii, texts)):
        return info
    id_, task, split, *instructions = map(_clean, texts)
    return replace(info, id=id_, task=task, split=split, instructions=tuple(instructions))


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def require_episodes(path: Path, episodes: Sequence[object], problems: Sequence[Problem]) -> None:
    """Raise `FormatError` when nothing usable is left."""
    if not episodes:
        reasons = "\n".join(f"  - {each.episode}: {each.what}" for each in problems[:5])
        raise FormatError(
            f"{path}: there is no usable episode.\n"
            f"Found: {reasons or 'none at all'}\n"
            "Fix: copy the recording again, whole."
        )


def table_dtype(found: np.dtype, role: str, where: str) -> str:
    """The dtype of `spec.DTYPES` in which a table of this dtype is handed out.

    State and action are float32 (as everywhere outside a policy); small integers are widened.
    """
    if found.kind == "f" and role in ("state", "action"):
        return "float32"
    if found.name == "uint64":
        raise FormatError(
            f"{where}: unsigned 64-bit numbers are not supported.\nFound: {found}.\n"
            "Fix: save it as int64."
        )
    return _WIDER.get(found.name, found.name)


first_not_finite = findings.first_not_finite
find_twins = findings.twins


def last_name(key: str, taken: Iterable[str]) -> str:
    """Deft's name for a source's key: its last part, all of it when that is taken, or numbered."""
    key, used = key.replace("/", "."), set(taken)
    numbered = (f"{key}_{number}" for number in count(2))
    return next(n for n in chain([key.rsplit(".", 1)[-1], key], numbered) if n not in used)
