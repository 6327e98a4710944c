"""robomimic's HDF5: one file, one group `data/demo_N` for each demonstration.

`obs/<key>` holds what was observed, `actions`, `rewards`, `dones` and `states` the rest; `mask`
names subsets; `env_args` describes the simulator. Source: ARISE-Initiative/robomimic 0.5.0.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from deft.errors import FormatError
from deft.formats.hdf5 import NUMBERS, Hdf5, is_hdf5
from deft.formats.hdf5_cameras import DepthFrames, RawFrames
from deft.formats.recording import (
    Recording,
    find_twins,
    first_not_finite,
    require_episodes,
    table_dtype,
)
from deft.formats.robomimic_meta import NAMES, About, choose, finding, read_about, read_json
from deft.spec import Episode, EpisodeInfo, Feature, Frames, Problem, Spec

MARK = "an HDF5 file with groups `data/demo_N` that hold `actions`"

_MILLIMETRES = {"m": 1000.0, "mm": 1.0}

_Form = tuple[tuple[str, tuple[int, ...], str], ...]


@dataclass(frozen=True, kw_only=True)
class RobomimicOptions:
    """What is read of a robomimic file."""

    action: str = "actions"
    """Data set with the commands: `actions`, `actions_abs`, or `action_dict/<key>`."""
    mask: str = ""
    """Only the demonstrations in this mask (filter key), as in `20_percent`; empty for all."""
    depth_unit: Literal["", "m", "mm"] = ""
    """What depth in `obs/*depth*` is measured in; the files do not say. With it, floats are read as
    depth too, in whole millimetres; without it they are `other`."""


def probe(path: Path) -> bool:
    """Whether this is a robomimic file."""
    if not is_hdf5(path):
        return False
    file = Hdf5(path)
    try:
        return any("actions" in file.members(f"data/{name}") for name in _demos(file)[:3])
    except FormatError:
        return False


def open_robomimic(path: Path, fps: float, options: RobomimicOptions) -> Recording:
    """Open a robomimic file.

    What lies in `obs` keeps its name: vectors of floats are states, uint8 `H W C` are images,
    uint16 `H W 1` is depth, everything else `other`. `next_obs` is not read. The tick rate is
    robosuite's `control_freq`; the instruction is `lang` of `ep_meta`, or LIBERO's. The masks
    `train` and `valid` make the split. A file that Deft wrote says units and element names too.

    Raises:
        FormatError: the file is damaged, or no demonstration can be used.
    """
    file = Hdf5(path)
    everything = _demos(file)
    about = read_about(file, everything)
    names, splits, notes = choose(file, everything, options.mask)
    demos = [_look(file, name, options.action, about) for name in names]
    columns, found = _agree(about, demos, options)
    problems = [*about.problems, *notes, *found]
    usable: list[_Demo] = []
    for demo in _with_own_ids(demos):
        wrong = demo.wrong or _departs(demo, columns)
        if wrong:
            problem = Problem(episode=demo.id, what=wrong, effect="left out", severity="error")
            problems.append(problem)
            continue
        usable.append(demo)
        problems += [replace(note, episode=demo.id) for note in demo.notes]
        if options.action == "actions" and about.is_normalized and demo.outside:
            what = f"{demo.outside} of {demo.length} actions leave the range -1 to 1"
            problems.append(Problem(episode=demo.id, what=what, effect="kept as they are"))
    infos = [
        EpisodeInfo(
            id=demo.id,
            length=demo.length,
            task=demo.task or about.task,
            split=splits.get(demo.name, ""),
        )
        for demo in usable
    ]
    problems += find_twins(zip(infos, (demo.digest for demo in usable), strict=True))
    require_episodes(path, infos, problems)
    spec = Spec(
        features=(*(column.feature for column in columns), *about.texts),
        fps=about.fps or fps,
        embodiment=about.embodiment,
    )
    scale = _MILLIMETRES.get(options.depth_unit, 1.0)
    return Recording(
        format="robomimic",
        path=path,
        name=path.stem,
        spec=spec,
        episodes=tuple(infos),
        problems=tuple(problems),
        reader=lambda index: _read(file, spec, columns, usable[index], infos[index], scale),
    )


@dataclass(frozen=True)
class _Column:
    """One data set of every demonstration, and the feature it becomes."""

    feature: Feature
    key: str
    shape: tuple[int, ...]
    dtype: str
    """As it is stored."""


@dataclass(frozen=True, kw_only=True)
class _Demo:
    """What one look at a demonstration found; `wrong` says why it cannot be used."""

    name: str
    id: str
    length: int = 0
    tables: dict[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    """Data set to its shape per step and its dtype."""
    task: str = ""
    source: str = ""
    digest: bytes = b""
    outside: int = 0
    """Actions that leave -1 to 1."""
    notes: tuple[Problem, ...] = ()
    wrong: str = ""

    @property
    def form(self) -> _Form:
        return tuple((key, *self.tables[key]) for key in sorted(self.tables))


def _demos(file: Hdf5) -> list[str]:
    return [name for name, kind in file.members("data").items() if kind == "group"]


def _look(file: Hdf5, name: str, action: str, about: About) -> _Demo:
    try:
        return _inspect(file, name, action, about)
    except FormatError as error:
        return _Demo(name=name, id=name, wrong=str(error))


def _inspect(file: Hdf5, name: str, action: str, about: About) -> _Demo:
    """Check the lengths of one demonstration, and the values of its states and actions."""
    group = f"data/{name}"
    attributes = file.attributes(group, "num_samples", "ep_meta", "deft_episode")
    keys = [action, *(key for key in NAMES if key not in about.filled)]
    keys += [f"obs/{key}" for key, kind in file.members(f"{group}/obs").items() if kind == "table"]
    opened = {key: file.table(f"{group}/{key}") for key in keys}
    tables = {key: table for key, table in opened.items() if table is not None and table.shape}
    notes: list[Problem] = []
    own = read_json(attributes, "deft_episode", notes)
    id_ = own.get("id")
    demo = _Demo(
        name=name,
        id=id_ if isinstance(id_, str) and id_ else name,
        length=len(tables[action]) if action in tables else 0,
        tables={key: (table.shape[1:], table.dtype.name) for key, table in tables.items()},
    )
    if action not in tables:
        there = ", ".join(file.members(group)) or "nothing"
        return replace(demo, wrong=f"there is no '{action}', only {there}")
    if demo.length == 0:
        return replace(demo, wrong="has no steps")
    uneven = [f"'{key}' {len(each)}" for key, each in tables.items() if len(each) != demo.length]
    if uneven:
        lengths = ", ".join(uneven)
        return replace(demo, wrong=f"lengths disagree: '{action}' {demo.length}, {lengths}")
    for key, table in tables.items():
        table.check_written()
        is_vector = len(table.shape) == 2 and table.dtype.kind == "f" and key not in NAMES
        if key in about.declared:
            is_vector = about.declared[key].role in ("state", "action")
        if is_vector and (where := first_not_finite(table.rows_as("float32"))):
            return replace(demo, wrong=f"'{key}': {where}")
    actions = tables[action].rows()
    task = read_json(attributes, "ep_meta", notes).get("lang")
    promised = attributes.get("num_samples", demo.length)
    if not (isinstance(promised, int | float) and promised == demo.length):
        what = f"has {demo.length} steps, `num_samples` says {promised}"
        notes.append(finding(what, "the steps are used"))
    return replace(
        demo,
        task=task if isinstance(task, str) else "",
        source=str(own.get("source", f"{file.path.name}, {name}")),
        digest=hashlib.blake2b(actions.tobytes(), digest_size=16).digest(),
        outside=int((np.abs(actions).reshape(demo.length, -1) > 1 + 1e-6).any(axis=1).sum()),
        notes=tuple(notes),
    )


def _with_own_ids(demos: Sequence[_Demo]) -> list[_Demo]:
    """Files that were merged by hand may hold an id twice; then the groups' names are used."""
    counts = Counter(demo.id for demo in demos)
    if max(counts.values(), default=0) < 2:
        return list(demos)
    return [replace(demo, id=demo.name) for demo in demos]


def _agree(
    about: About, demos: Sequence[_Demo], options: RobomimicOptions
) -> tuple[list[_Column], list[Problem]]:
    """The columns that most demonstrations have, and findings about what cannot be read."""
    forms = Counter(demo.form for demo in demos if not demo.wrong)
    columns: list[_Column] = []
    problems: list[Problem] = []
    rank = {key: number for number, key in enumerate(about.declared)}
    form = forms.most_common(1)[0][0] if forms else ()
    for key, shape, dtype in sorted(form, key=lambda each: rank.get(each[0], len(rank))):
        if dtype not in NUMBERS or dtype == "uint64" or 0 in shape:
            what = f"'{key}' ({dtype}, shape {list(shape)}) is of a kind that is not supported"
            problems.append(finding(what, "left out"))
            continue
        declared = about.declared.get(key)
        if declared is None or (declared.shape, declared.dtype) != (shape, dtype):
            declared = _feature(key, shape, dtype, options)
        taken = {column.feature.name for column in columns}
        if declared.name in taken:
            declared = replace(declared, name=key)
        columns.append(_Column(declared, key, shape, dtype))
    if forms and not any(column.feature.role == "action" for column in columns):
        what = f"'{options.action}' holds no vectors of numbers"
        problems.append(finding(what, "nothing can be read"))
        columns = []
    return columns, problems


def _feature(key: str, shape: tuple[int, ...], dtype: str, options: RobomimicOptions) -> Feature:
    name = NAMES.get(key, key.removeprefix("obs/"))
    is_map = len(shape) == 3 and shape[2] == 1
    is_known = bool(options.depth_unit) and dtype in ("uint16", "float32", "float64")
    if is_map and is_known and "depth" in name:
        return Feature(name=name, role="depth", shape=shape, dtype="uint16", unit="mm")
    if key == options.action:
        name, role = "action", "action"
    elif key == "rewards":
        role = "reward"
    elif key in NAMES:
        role = "other"
    elif len(shape) == 3 and dtype == "uint8" and shape[2] in (1, 3):
        role = "image"
    elif is_map and dtype == "uint16":
        role = "depth"
    else:
        role = "state" if len(shape) == 1 and dtype.startswith("float") else "other"
    return Feature(name=name, role=role, shape=shape, dtype=table_dtype(np.dtype(dtype), role, key))


def _departs(demo: _Demo, columns: Sequence[_Column]) -> str:
    """How a demonstration departs from the columns that most have; empty when it does not."""
    if not columns:
        return "there is nothing that can be read"
    for column in columns:
        found = demo.tables.get(column.key)
        if found is None:
            return f"there is no '{column.key}', which most demonstrations have"
        if found != (column.shape, column.dtype):
            shape, dtype = found
            return (
                f"'{column.key}' is {dtype} of shape {list(shape)} per step, in most "
                f"demonstrations {column.dtype} of shape {list(column.shape)}"
            )
    return ""


def _read(
    file: Hdf5,
    spec: Spec,
    columns: Sequence[_Column],
    demo: _Demo,
    info: EpisodeInfo,
    scale: float,
) -> Episode:
    arrays: dict[str, np.ndarray] = {}
    frames: dict[str, Frames] = {}
    group = f"data/{demo.name}"
    for column in columns:
        feature = column.feature
        table = file.table(f"{group}/{column.key}")
        if table is None or table.shape != (info.length, *column.shape):
            raise FormatError(
                f"{file.path}, '{group}/{column.key}': is not what it was when it was opened.\n"
                "Fix: open the recording again, when nothing writes to it any more."
            )
        if feature.is_frame:
            held = RawFrames(table, info.length, feature.shape)
            is_float = feature.dtype == "uint16" and table.dtype.kind == "f"
            frames[feature.name] = DepthFrames(held, scale) if is_float else held
        else:
            arrays[feature.name] = table.rows_as(feature.dtype)
    valid = file.table(f"{group}/valid")
    return Episode(
        spec=spec,
        id=info.id,
        arrays=arrays,
        frames=frames,
        task=info.task,
        split=info.split,
        source=demo.source,
        valid=valid.rows() if valid is not None and valid.dtype == np.bool_ else None,
    )
