"""Trajectories to be joined with features: recordings of any format, or RoboTwin's plans alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from deft.errors import DeftError, FormatError
from deft.formats.composite_names import episode_number
from deft.formats.options import build_options
from deft.formats.recording import Recording
from deft.formats.robotwin import ABOUT_PLANNED, PLANNED, RoboTwinOptions
from deft.formats.robotwin_layout import SIDES
from deft.formats.robotwin_plans import Plan, plan_files, read_plans
from deft.spec import Episode, EpisodeInfo, Feature, Problem, Spec

_DEPTH = 3
_PLANS = "_traj_data"

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


@dataclass(frozen=True)
class Planned:
    """RoboTwin's planned moves without its HDF5 files; satisfies `Trajectories`."""

    name: str
    files: tuple[tuple[int, Path], ...]
    holds: Mapping[str, np.ndarray]
    """Where each arm in use is while it does not move, `dof`."""
    options: RoboTwinOptions
    problems: tuple[Problem, ...]

    @property
    def spec(self) -> Spec:
        names = {
            side: tuple(f"{side}.joint_{n + 1}" for n in range(len(hold)))
            for side, hold in self.holds.items()
        }
        if self.options.fuse_arms or len(names) == 1:
            names = {"": tuple(each for group in names.values() for each in group)}
        features = tuple(
            Feature(
                name=f"action_{side}" if side else "action",
                role="action",
                shape=(len(elements),),
                dtype="float32",
                unit="rad",
                names=elements,
            )
            for side, elements in names.items()
        )
        return Spec(features=features, fps=250 / self.options.save_freq)

    @property
    def episodes(self) -> Sequence[EpisodeInfo]:
        return [EpisodeInfo(id=file.stem, length=0) for _, file in self.files]

    @property
    def numbers(self) -> Mapping[int, int]:
        return {number: place for place, (number, _) in enumerate(self.files)}

    def read(self, index: int, length: int) -> Episode:
        file = self.files[index][1]
        plans = read_plans(file)
        try:
            rows = {
                side: plans[side].aligned(
                    self.options.alignment, length, hold, self.options.save_freq
                )
                for side, hold in self.holds.items()
            }
        except FormatError as error:
            raise FormatError(f"{file}: {error}") from error
        spec = self.spec
        joined = [np.concatenate(list(rows.values()), axis=1)]
        parts = joined if len(spec.features) == 1 else list(rows.values())
        arrays = {f.name: part for f, part in zip(spec.features, parts, strict=True)}
        return Episode(spec=spec, id=file.stem, arrays=arrays, source=file.name)


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
        if name is not None:
            yield path, name
        elif plan_files(path / _PLANS):
            yield path, None
        elif depth < _DEPTH and path.is_dir():
            children = sorted(each for each in path.iterdir() if not each.name.startswith("."))
            todo += [(child, depth + 1) for child in children if _may_hold(child)]


def _may_hold(path: Path) -> bool:
    return path.is_dir() or path.suffix in (".hdf5", ".h5", ".zip")


def _planned(folder: Path, align: str, options: Mapping[str, Any]) -> Planned:
    settings = build_options(RoboTwinOptions, {**options, "alignment": align}, "robotwin")
    files = plan_files(folder / _PLANS)
    if align not in PLANNED:
        raise FormatError(
            f"{folder}: there are planned moves, but no recorded ones, and `align` is '{align}'.\n"
            f"Found: {len(files)} files in {_PLANS}.\n"
            f"Fix: copy the HDF5 files, or accept guesses with `align={PLANNED[0]}`."
        )
    chosen = {"left": settings.use_left_arm, "right": settings.use_right_arm}
    sides = [side for side in SIDES if chosen[side]]
    usable: list[tuple[int, Path]] = []
    problems = [
        Problem(episode="", what=ABOUT_PLANNED[align], effect="approximate, as was asked for")
    ]
    holds: dict[str, np.ndarray] = {}
    for number, file in files.items():
        try:
            plans = read_plans(file)
            _check_width(file, plans, holds)
        except DeftError as error:
            problems.append(
                Problem(episode=file.stem, what=str(error), effect="left out", severity="error")
            )
            continue
        usable.append((number, file))
        for side in sides:
            # RoboTwin starts every episode of a task from the same pose.
            if plans[side].paths and side not in holds:
                holds[side] = plans[side].paths[0][0]
    still = [side for side in sides if side not in holds]
    if still:
        raise FormatError(
            f"{folder}: the {' and '.join(still)} arm never moves, so nothing says where it is.\n"
            f"Found: {len(usable)} readable files in {_PLANS}.\n"
            f"Fix: set use_{still[0]}_arm=false, or copy the HDF5 files."
        )
    return Planned(
        name=f"{folder.parent.name}-{folder.name}",
        files=tuple(usable),
        holds={side: holds[side] for side in sides},
        options=settings,
        problems=tuple(problems),
    )


def _check_width(file: Path, plans: Mapping[str, Plan], holds: Mapping[str, np.ndarray]) -> None:
    for side, hold in holds.items():
        if plans[side].paths and plans[side].dof != len(hold):
            raise FormatError(
                f"{file}: the {side} arm has {plans[side].dof} planned joints.\n"
                f"Found: {len(hold)} in earlier episodes.\nFix: leave this episode out."
            )
