"""Trajectories to be joined with features: recordings of any format, or RoboTwin's plans alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from deft.errors import FormatError
from deft.formats.composite_names import episode_number
from deft.formats.options import build_options
from deft.formats.recording import Recording
from deft.formats.robotwin import PLANNED, RoboTwinOptions
from deft.formats.robotwin_planned import NAME as PLANS_ALONE
from deft.formats.robotwin_planned import PLANS, Planned, read_planned, task_folder
from deft.formats.robotwin_plans import plan_files
from deft.spec import Episode, EpisodeInfo, Problem, Spec

_DEPTH = 3

Opener = Callable[..., Recording]
"""`formats.open`."""


class Trajectories(Protocol):
    """The episodes of one task."""

    @property
    def name(self) -> str: ...

    @property
    def spec(self) -> Spec: ...

    @property
    def numbers(self) -> Mapping[int, int]:
        """Number of an episode, as in its id, to its place in `episodes`."""
        ...

    @property
    def episodes(self) -> Sequence[EpisodeInfo]:
        """Those without a length of their own (0) take that of their features."""
        ...

    @property
    def problems(self) -> Sequence[Problem]: ...

    def read(self, index: int, length: int) -> Episode:
        """One episode; `length` is that of its features."""
        ...


@dataclass(frozen=True)
class Recorded:
    """Trajectories in a recording; satisfies `Trajectories`."""

    recording: Recording

    @property
    def name(self) -> str:
        return self.recording.name.removesuffix(".zip").removesuffix(".zarr")

    @property
    def spec(self) -> Spec:
        return self.recording.spec

    @property
    def episodes(self) -> Sequence[EpisodeInfo]:
        return self.recording.episodes

    @property
    def problems(self) -> Sequence[Problem]:
        return self.recording.problems

    @property
    def numbers(self) -> Mapping[int, int]:
        found = [episode_number(info.id) for info in self.episodes]
        if None in found or len(set(found)) != len(found):
            return {place: place for place in range(len(found))}
        return {n: place for place, n in enumerate(found) if n is not None}

    def read(self, index: int, length: int) -> Episode:
        return self.recording.read(index)


def find_trajectories(
    root: Path,
    opener: Opener,
    recognise: Callable[[Path], str | None],
    *,
    fps: float | None,
    align: str,
    options: Mapping[str, Any],
) -> tuple[list[Trajectories], list[Problem]]:
    """Every recording at a path or up to three folders below it, and RoboTwin's plans.

    Args:
        root: where to look.
        opener: `formats.open`.
        recognise: `formats.recognise`.
        fps: for recordings that do not say it.
        align: see `formats.composite`.
        options: of the format.

    Raises:
        FormatError: the alignment does not fit the format, or options are wrong.
    """
    problems: list[Problem] = []
    found: list[Trajectories] = []
    for path, name in _places(root, recognise):
        try:
            if name is None:
                found.append(_planned(path, align, options))
                continue
            settings = dict(options)
            if name == "robotwin":
                settings["alignment"] = align
            elif align != "hdf5":
                raise AlignmentError(
                    f"{path}: `align` is '{align}', which only RoboTwin's files know.\n"
                    f"Found: {name}.\nFix: leave `align` out."
                )
            found.append(Recorded(opener(path, name, fps, settings)))
        except AlignmentError:
            raise
        except FormatError as error:
            problems.append(
                Problem(episode="", what=f"{path}: {error}", effect="left out", severity="error")
            )
    return found, problems


class AlignmentError(FormatError):
    """What was asked for cannot be; no recording is to blame."""


def _places(
    root: Path, recognise: Callable[[Path], str | None]
) -> Iterator[tuple[Path, str | None]]:
    """Recordings with their format; None for plans alone."""
    todo = [(root, 0)]
    while todo:
        path, depth = todo.pop(0)
        name = recognise(path)
        if name == PLANS_ALONE:
            yield task_folder(path), None
        elif name is not None:
            yield path, name
        elif plan_files(path / PLANS):
            yield path, None
        elif depth < _DEPTH and path.is_dir():
            children = sorted(each for each in path.iterdir() if not each.name.startswith("."))
            todo += [(child, depth + 1) for child in children if _may_hold(child)]


def _may_hold(path: Path) -> bool:
    return path.is_dir() or path.suffix in (".hdf5", ".h5", ".zip")


def _planned(folder: Path, align: str, options: Mapping[str, Any]) -> Planned:
    settings = build_options(RoboTwinOptions, {**options, "alignment": align}, "robotwin")
    files = plan_files(folder / PLANS)
    if align not in PLANNED:
        raise FormatError(
            f"{folder}: there are planned moves, but no recorded ones, and `align` is '{align}'.\n"
            f"Found: {len(files)} files in {PLANS}.\n"
            f"Fix: copy the HDF5 files, or accept guesses with `align={PLANNED[0]}`."
        )
    planned = read_planned(files, folder, settings)
    still = [side for side in planned.sides if side not in planned.holds]
    if still:
        raise FormatError(
            f"{folder}: the {' and '.join(still)} arm never moves, so nothing says where it is.\n"
            f"Found: {len(planned.files)} readable files in {PLANS}.\n"
            f"Fix: set use_{still[0]}_arm=false, or copy the HDF5 files."
        )
    return planned
