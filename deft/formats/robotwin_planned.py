"""RoboTwin's planned moves without its HDF5 files: `_traj_data` alone.

What is read so was never recorded: grippers, pauses and how the arms take turns are not in the
files (see `robotwin_plans`). So the contract and the lengths are told to whoever opens it, and
actions only to those who choose, with `alignment`, how to guess them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from deft.errors import DeftError, FormatError
from deft.formats.hdf5_folder import episode_files
from deft.formats.recording import Recording, require_episodes
from deft.formats.robotwin import ABOUT_PLANNED, PLANNED, RoboTwinOptions
from deft.formats.robotwin_layout import SIDES
from deft.formats.robotwin_plans import Plan, plan_files, read_plans
from deft.spec import Episode, EpisodeInfo, Feature, Problem, Spec

NAME = "robotwin_plans"
PLANS = "_traj_data"
MARK = "a folder `_traj_data` of `episode0.pkl` files, with no HDF5 files beside it"


@dataclass(frozen=True, kw_only=True)
class RoboTwinPlansOptions:
    """How planned moves become actions."""

    alignment: Literal["none", "traj_resample", "traj_simulate"] = "none"
    """`none`: not at all, episodes are listed only. `traj_resample`: an arm's moves end to end,
    stretched over the frames. `traj_simulate`: each at its own speed, pauses between them. Both
    arms move at the same time in these guesses, and grippers do not move at all."""
    use_left_arm: bool = True
    """Whether the left arm is in the action."""
    use_right_arm: bool = True
    """Whether the right arm is."""
    fuse_arms: bool = True
    """Whether both arms make one `action`, left first; else `action_left` and `action_right`."""
    save_freq: int = 15
    """Physics steps of 1/250 s between frames."""

    def __post_init__(self) -> None:
        self.as_robotwin()

    def as_robotwin(self) -> RoboTwinOptions:
        """The same for recordings; raises `FormatError` when they make no sense."""
        return RoboTwinOptions(
            use_left_arm=self.use_left_arm,
            use_right_arm=self.use_right_arm,
            fuse_arms=self.fuse_arms,
            alignment="traj_simulate" if self.alignment == "none" else self.alignment,
            save_freq=self.save_freq,
        )


def task_folder(path: Path) -> Path:
    """The folder that holds `_traj_data`, which may itself be what was named."""
    return path.absolute().parent if path.name == PLANS else path


def probe(path: Path) -> bool:
    """Whether this is a folder of planned moves, or the folder of a task that holds one."""
    folder = task_folder(path)
    if folder is path and episode_files(path, "data"):
        return False
    return bool(plan_files(folder / PLANS))


def open_plans(path: Path, fps: float, options: RoboTwinPlansOptions) -> Recording:
    """Open the planned moves of one task.

    An arm that never moves is left out, for nothing says where it is. Frames are counted as
    RoboTwin counts those of moves; a recording has more, because grippers take time too.

    Args:
        path: `_traj_data`, or the folder it is in.
        fps: as `save_freq` has it; not needed.
        options: see there.

    Raises:
        FormatError: no file can be used, or `fps` is another.
    """
    del fps
    settings = options.as_robotwin()
    folder = task_folder(path)
    planned = read_planned(plan_files(folder / PLANS), folder, settings)
    problems = [*planned.problems, *_still(planned)]
    if options.alignment == "none":
        what = "actions are planned moves, never recorded: no grippers, no pauses, no turns of arms"
        effect = f"listed only; the option `alignment={PLANNED[1]}` accepts guesses"
        problems = [Problem(episode="", what=what, effect=effect), *planned.problems[1:]]
        problems += _still(planned)
    infos: list[EpisodeInfo] = []
    places: list[int] = []
    for place, ((_, file), frames) in enumerate(zip(planned.files, planned.frames, strict=True)):
        if frames:
            infos.append(EpisodeInfo(id=file.stem, length=frames))
            places.append(place)
        else:
            what = "no arm in use has a move"
            problems.append(
                Problem(episode=file.stem, what=what, effect="left out", severity="error")
            )
    require_episodes(path, infos, [each for each in problems if each.severity == "error"])

    def read(index: int) -> Episode:
        if options.alignment == "none":
            file = planned.files[places[index]][1]
            raise FormatError(
                f"{file}: planned moves are no recorded actions.\nFound: no choice of how to guess "
                f"these.\nFix: copy RoboTwin's HDF5 files, or set the option "
                f"alignment={PLANNED[1]} or {PLANNED[0]}."
            )
        return planned.read(places[index], infos[index].length)

    return Recording(
        format=NAME,
        path=path,
        name=planned.name,
        spec=planned.spec,
        episodes=tuple(infos),
        problems=tuple(problems),
        reader=read,
    )


def _still(planned: "Planned") -> Iterator[Problem]:
    for side in planned.sides:
        if side not in planned.holds:
            what = f"the {side} arm never moves, so nothing says where it is"
            yield Problem(episode="", what=what, effect="left out of the action")


@dataclass(frozen=True)
class Planned:
    """RoboTwin's planned moves without its HDF5 files; satisfies `Trajectories`."""

    name: str
    files: tuple[tuple[int, Path], ...]
    holds: Mapping[str, np.ndarray]
    """Where each arm in use is while it does not move, `dof`."""
    options: RoboTwinOptions
    problems: tuple[Problem, ...]
    frames: tuple[int, ...]
    """Of each file, at the arms' own speed; see `Plan.frames`."""

    @property
    def sides(self) -> list[str]:
        """The arms that were asked for."""
        chosen = {"left": self.options.use_left_arm, "right": self.options.use_right_arm}
        return [side for side in SIDES if chosen[side]]

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


def read_planned(files: Mapping[int, Path], folder: Path, settings: RoboTwinOptions) -> Planned:
    """The plans of a task, with the pose of every arm that moves in one of them.

    Args:
        files: by number of the episode.
        folder: of the task, for its name.
        settings: arms, alignment and `save_freq`.
    """
    problems = [
        Problem(
            episode="",
            what=ABOUT_PLANNED[settings.alignment],
            effect="approximate, as was asked for",
        )
    ]
    usable: list[tuple[int, Path]] = []
    frames: list[int] = []
    holds: dict[str, np.ndarray] = {}
    chosen = {"left": settings.use_left_arm, "right": settings.use_right_arm}
    sides = [side for side in SIDES if chosen[side]]
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
        frames.append(_frames(plans, sides, settings))
        for side in sides:
            # RoboTwin starts every episode of a task from the same pose.
            if plans[side].paths and side not in holds:
                holds[side] = plans[side].paths[0][0]
            if plans[side].failed:
                what = f"{plans[side].failed} of {plans[side].moves} moves of the {side} arm failed"
                problems.append(Problem(episode=file.stem, what=what, effect="passed over"))
    return Planned(
        name=f"{folder.parent.name}-{folder.name}",
        files=tuple(usable),
        holds={side: holds[side] for side in sides if side in holds},
        options=settings,
        problems=tuple(problems),
        frames=tuple(frames),
    )


def _frames(plans: Mapping[str, Plan], sides: Sequence[str], settings: RoboTwinOptions) -> int:
    return max(plans[side].frames(settings.save_freq) for side in sides)


def _check_width(file: Path, plans: Mapping[str, Plan], holds: Mapping[str, np.ndarray]) -> None:
    for side, hold in holds.items():
        if plans[side].paths and plans[side].dof != len(hold):
            raise FormatError(
                f"{file}: the {side} arm has {plans[side].dof} planned joints.\n"
                f"Found: {len(hold)} in earlier episodes.\nFix: leave this episode out."
            )
