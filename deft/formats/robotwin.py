"""RoboTwin 2.0: a folder of one HDF5 file per episode, in its own layout or in XPolicyLab's.

`joint_action` holds drive targets, not measured positions; so the state of a frame is its target,
and the action is the target of the next frame, as in RoboTwin's own training.
Source: RoboTwin-Platform/RoboTwin; Chen et al. 2025, arXiv:2506.18088.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deft.errors import FormatError
from deft.formats.hdf5 import Hdf5
from deft.formats.hdf5_folder import (
    Look,
    check_values,
    episode_files,
    gather,
    look_at,
    probe_files,
)
from deft.formats.jsonfile import read_object
from deft.formats.recording import Recording
from deft.formats.robotwin_layout import Arm, Content, fits, read_content
from deft.formats.robotwin_plans import Plan, read_plans
from deft.spec import Episode, Feature, Frames, Problem, Spec

MARK = "HDF5 files with `joint_action` and `observation`, or with `state` and `vision`"

Alignment = Literal["hdf5", "hdf5_same", "traj_resample", "traj_simulate"]

PLANNED = ("traj_resample", "traj_simulate")
"""Alignments whose actions are planned moves."""

ABOUT_PLANNED = {
    "traj_resample": "actions are planned moves stretched over the frames, without grippers and "
    "pauses",
    "traj_simulate": "actions are planned moves with pauses put between them evenly, without "
    "grippers",
}
"""What to say of actions that were never recorded."""

_FOLDER = "data"


@dataclass(frozen=True, kw_only=True)
class RoboTwinOptions:
    """What is read of RoboTwin episodes."""

    use_left_arm: bool = True
    """Whether the left arm is in state and action."""
    use_right_arm: bool = True
    """Whether the right arm is."""
    fuse_arms: bool = True
    """Whether both arms make one `action` and one `state`, left first; else there are
    `action_left`, `action_right`, `state_left` and `state_right`."""
    alignment: Alignment = "hdf5"
    """Where actions come from. `hdf5`: the next frame's targets. `hdf5_same`: the frame's own.
    `traj_resample`: the planned moves in `_traj_data`, stretched over the frames.
    `traj_simulate`: the same at their own speed, with the other frames as pauses between them.
    The last two are approximate, and without grippers."""
    save_freq: int = 15
    """Physics steps of 1/250 s between frames, for `traj_simulate`."""
    jpeg_colors: Literal["cv2", "rgb"] = "cv2"
    """How pictures were made: `cv2`, by OpenCV from RGB arrays, as RoboTwin does, which swaps red
    and blue in the JPEG; `rgb`, as JPEG is meant."""

    def __post_init__(self) -> None:
        if not (self.use_left_arm or self.use_right_arm):
            raise FormatError(
                "The options use_left_arm and use_right_arm are both false.\n"
                "Fix: keep at least one arm."
            )
        if self.save_freq < 1:
            raise FormatError(
                f"The option save_freq is {self.save_freq}.\nFix: give 1 or more; 15 is usual."
            )


def probe(path: Path) -> bool:
    """Whether this is a RoboTwin episode, or the folder of a task with its `data` inside."""
    return probe_files(episode_files(path, _FOLDER), fits)


def open_robotwin(path: Path, fps: float, options: RoboTwinOptions) -> Recording:
    """Open the episodes of one task.

    Cameras keep their names, with `<camera>_depth` in whole millimetres; `left_ee_pose` and
    `right_ee_pose` have their quaternions as x, y, z, w. The instructions are those in the file,
    or the `seen` ones in `instructions/`; the first is the task. RoboTwin's files do not hold a
    tick rate: it saves one frame per `save_freq` physics steps of 1/250 s. Segmentation,
    `scene_info.json` and `seed.txt` are not read.

    Args:
        path: the folder of a task, its `data` folder, or one file.
        fps: ticks per second; also for files whose `frequency` is RoboTwin's `save_freq`.
        options: see there.

    Raises:
        FormatError: no episode can be used.
    """
    files = episode_files(path, _FOLDER)
    looks = look_at(files, lambda file: _look(file, fps, options))
    folder = path.parent if path.is_file() or path.name == _FOLDER else path
    return gather(
        "robotwin",
        path,
        path.stem if path.is_file() else f"{folder.parent.name}-{folder.name}".strip("-"),
        looks,
        fps,
        list(_about_all(looks, fps, options)),
        lambda look, spec: _read(look, spec, options),
    )


def _about_all(looks: list[Look], fps: float, options: RoboTwinOptions) -> Iterator[Problem]:
    """Findings about the recording as a whole."""
    usable = [look for look in looks if not look.wrong]
    rates = {look.fps for look in usable}
    if usable and not fps:
        true_rate = "RoboTwin's rate is 250 / save_freq, 16.67 Hz at its default of 15"
        if rates == {0.0}:
            yield _note("the files do not say their tick rate", f"unknown; {true_rate}")
        elif read_content(Hdf5(usable[0].path), swapped=False).is_native:
            what = f"`frequency` is {max(rates):g}, where RoboTwin writes its save_freq"
            yield _note(what, f"taken for the rate; {true_rate}, which `fps` would set")
    if options.alignment in PLANNED:
        what = ABOUT_PLANNED[options.alignment]
        yield _note(what, "approximate, as was asked for", "warning")


@dataclass(frozen=True)
class _Vectors:
    """States and actions of one episode, with their features."""

    features: tuple[Feature, ...]
    arrays: dict[str, np.ndarray]
    length: int
    """Steps of the episode: one fewer than frames when the last one has no action."""
    notes: tuple[Problem, ...] = ()


def _look(path: Path, fps: float, options: RoboTwinOptions) -> Look:
    file = Hdf5(path)
    content = read_content(file, swapped=options.jpeg_colors == "cv2")
    look = Look(path=path)
    lengths = dict(content.lengths())
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"'{key}' {count}" for key, count in lengths.items())
        return replace(look, wrong=f"lengths disagree: {counts}")
    vectors = _vectors(path, content, options)
    if vectors.length < 1:
        return replace(look, wrong=f"has {max(lengths.values(), default=0)} frames, too few")
    wrong, _ = check_values(vectors.arrays)
    actions = {f.name: vectors.arrays[f.name] for f in vectors.features if f.role == "action"}
    instructions, notes = _instructions(path, content)
    # RoboTwin writes its save_freq as frequency, so a rate that is given counts for more.
    rate = fps if content.is_native and fps else content.frequency
    return replace(
        look,
        length=vectors.length,
        features=(
            *vectors.features,
            *(camera.feature for camera, _ in content.cameras.values()),
            *(extra.feature for extra in content.extras.values()),
        ),
        fps=rate,
        instructions=instructions,
        digest=check_values(actions)[1],
        notes=(*vectors.notes, *notes),
        wrong=wrong,
    )


def _vectors(path: Path, content: Content, options: RoboTwinOptions) -> _Vectors:
    if not content.arms:
        return _unsplit(path, content, options)
    arms = _chosen(path, content, options)
    own = [arm.rows() for arm in arms]
    frames = len(own[0])
    notes = list(_compare_vector(content))
    names = [arm.names for arm in arms]
    if options.alignment in PLANNED:
        plans = _plans(path, arms)
        commands = [
            plans[arm.side].aligned(
                options.alignment, frames, rows[0, : arm.dof], options.save_freq
            )
            if frames
            else rows
            for arm, rows in zip(arms, own, strict=True)
        ]
        command_names = [arm.names[: arm.dof] for arm in arms]
        notes += _about_plans(plans)
    else:
        following = [arm.next.rows() if arm.next is not None else None for arm in arms]
        if options.alignment == "hdf5_same":
            commands = own
        elif all(each is not None for each in following):
            commands = [each for each in following if each is not None]
        else:
            commands, own = [rows[1:] for rows in own], [rows[:-1] for rows in own]
        command_names = names
    sides = [arm.side for arm in arms]
    states = _named("state", "state", sides, own, names, options)
    actions = _named("action", "action", sides, commands, command_names, options)
    return _Vectors(
        features=(*(feature for feature, _ in actions), *(feature for feature, _ in states)),
        arrays={feature.name: rows for feature, rows in (*actions, *states)},
        length=len(own[0]),
        notes=tuple(notes),
    )


def _named(
    role: str,
    name: str,
    sides: list[str],
    rows: list[np.ndarray],
    names: list[tuple[str, ...]],
    options: RoboTwinOptions,
) -> list[tuple[Feature, np.ndarray]]:
    """One feature, or one for each arm."""
    if options.fuse_arms or len(sides) == 1:
        joined = np.concatenate(rows, axis=1)
        elements = tuple(each for group in names for each in group)
        return [(_vector(role, name, joined, elements), joined)]
    return [
        (_vector(role, f"{name}_{side}", own, elements), own)
        for side, own, elements in zip(sides, rows, names, strict=True)
    ]


def _vector(role: str, name: str, rows: np.ndarray, elements: tuple[str, ...]) -> Feature:
    return Feature(name=name, role=role, shape=rows.shape[1:], dtype="float32", names=elements)


def _chosen(path: Path, content: Content, options: RoboTwinOptions) -> list[Arm]:
    wanted = {"left": options.use_left_arm, "right": options.use_right_arm, "": True}
    arms = [arm for arm in content.arms if wanted[arm.side]]
    if not arms:
        found = ", ".join(arm.side for arm in content.arms)
        raise FormatError(
            f"{path}: the arm that was asked for is not there.\nFound: {found}.\n"
            "Fix: set the options use_left_arm and use_right_arm."
        )
    return arms


def _unsplit(path: Path, content: Content, options: RoboTwinOptions) -> _Vectors:
    """An old file, with all joints in one table and no word about which is which."""
    both = options.use_left_arm and options.use_right_arm and options.fuse_arms
    if content.vector is None or not both or options.alignment in PLANNED:
        raise FormatError(
            f"{path}: there are no joints of each arm (`left_arm`, `right_arm`).\n"
            f"Found: {'one vector of all joints' if content.vector is not None else 'none'}.\n"
            "Fix: leave options of arms and alignment out; the vector can be read as a whole."
        )
    rows = content.vector.rows_as("float32")
    same = options.alignment == "hdf5_same"
    states, actions = (rows, rows) if same else (rows[:-1], rows[1:])
    features = (_vector("action", "action", rows, ()), _vector("state", "state", rows, ()))
    return _Vectors(features, {"action": actions, "state": states}, len(states))


def _compare_vector(content: Content) -> Iterator[Problem]:
    if content.vector is None or any(arm.next is not None for arm in content.arms):
        return
    joined = np.concatenate([arm.rows() for arm in content.arms], axis=1)
    vector = content.vector.rows_as("float32")
    if vector.shape != joined.shape or not np.array_equal(vector, joined, equal_nan=True):
        yield _note(
            "`vector` differs from the joints and grippers of the arms",
            "the arms are used",
            "warning",
        )


def _plans(path: Path, arms: list[Arm]) -> dict[str, Plan]:
    """Planned moves of the arms in use, checked against the joints in the HDF5 file."""
    digits = "".join(each for each in path.stem if each.isdecimal())
    names = (f"{path.stem}.pkl", f"episode{int(digits or 0)}.pkl")
    places = [root / "_traj_data" / name for root in _roots(path) for name in names]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise FormatError(
            f"{path}: there are no planned moves.\nFound: no {places[-1]}.\n"
            "Fix: copy `_traj_data` too, or leave the option `alignment` out."
        )
    plans = read_plans(file)
    for arm in arms:
        plan = plans.get(arm.side)
        if plan is None:
            raise FormatError(f"{file}: planned moves are of a left and a right arm only.")
        if plan.paths and plan.dof != arm.dof:
            raise FormatError(
                f"{file}: the {arm.side} arm has {plan.dof} planned joints.\n"
                f"Found: {arm.dof} joints in {path.name}.\nFix: copy the files of one recording."
            )
    return {arm.side: plans[arm.side] for arm in arms}


def _about_plans(plans: dict[str, Plan]) -> Iterator[Problem]:
    for side, plan in plans.items():
        if plan.failed:
            yield _note(
                f"{plan.failed} of {plan.moves} moves of the {side} arm failed",
                "passed over",
                "warning",
            )
        if not plan.paths:
            yield _note(f"the {side} arm has no planned move", "held where its first frame has it")


def _roots(path: Path) -> tuple[Path, ...]:
    """Folders that may hold `instructions` and `_traj_data` for a file."""
    return (path.parent.parent, path.parent) if path.parent.name == _FOLDER else (path.parent,)


def _instructions(path: Path, content: Content) -> tuple[tuple[str, ...], list[Problem]]:
    """Wordings of the task, from the file itself or from the JSON beside it."""
    if content.instructions:
        return content.instructions, []
    for root in _roots(path):
        for folder in ("instructions", "instruction"):
            file = root / folder / f"{path.stem}.json"
            if not file.is_file():
                continue
            try:
                tree = read_object(file)
            except FormatError as error:
                return (), [_note(str(error), "read without instruction", "warning")]
            found = tuple(_texts(tree))
            if found:
                return found, []
    return (), []


def _texts(tree: dict[str, Any]) -> Iterator[str]:
    for key in ("seen", "instructions", "instruction", "unseen"):
        value = tree.get(key)
        listed = value if isinstance(value, list) else [value]
        texts = [each for each in listed if isinstance(each, str) and each]
        if texts:
            yield from texts
            return  # `unseen` is for evaluation


def _note(what: str, effect: str, severity: str = "note") -> Problem:
    return Problem(episode="", what=what, effect=effect, severity=severity)


def _read(look: Look, spec: Spec, options: RoboTwinOptions) -> Episode:
    content = read_content(Hdf5(look.path), swapped=options.jpeg_colors == "cv2")
    vectors = _vectors(look.path, content, options)
    if vectors.length != look.length:
        raise FormatError(
            f"{look.path}: is not what it was when it was opened.\n"
            "Fix: open the recording again, when nothing writes to it any more."
        )
    arrays = vectors.arrays | {
        name: extra.rows(look.length) for name, extra in content.extras.items() if name in spec
    }
    frames: dict[str, Frames] = {
        name: camera.frames(table, look.length)
        for name, (camera, table) in content.cameras.items()
        if name in spec
    }
    return Episode(spec=spec, id=look.id, arrays=arrays, frames=frames, source=look.path.name)
