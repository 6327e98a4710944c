"""What a robomimic file says of itself as a whole: simulator, masks, and Deft's own notes."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deft.errors import FormatError, SpecError, nearest
from deft.formats.hdf5 import Hdf5
from deft.spec import Feature, Problem, Spec

NAMES = {"rewards": "reward", "dones": "done", "states": "states"}
"""Data sets beside `obs`, and the features they become."""

_SPLITS = {"train": "train", "valid": "val"}
_ROBOSUITE = 1


def keys_of(spec: Spec) -> dict[str, str]:
    """Where each feature of a spec lies in a demonstration; text lies nowhere."""
    taken = {name: key for key, name in NAMES.items()}
    keys: dict[str, str] = {}
    for feature in spec.features:
        if feature.dtype == "str":
            continue
        if feature.role == "action":
            keys[feature.name] = "actions"
        elif feature.name in taken and feature.role in ("reward", "other"):
            keys[feature.name] = taken[feature.name]
        else:
            # HDF5 takes `/` for a level and `.` for here.
            quoted = feature.name.replace("%", "%25").replace("/", "%2F")
            keys[feature.name] = f"obs/{'%2E' if quoted == '.' else quoted}"
    return keys


@dataclass(frozen=True, kw_only=True)
class About:
    """What the file says of all its demonstrations."""

    fps: float
    """0 when it does not say."""
    embodiment: str
    is_normalized: bool
    """The simulator is robosuite, whose actions are -1 to 1."""
    task: str
    declared: dict[str, Feature]
    """By key; what a file that Deft wrote says of its features."""
    texts: tuple[Feature, ...]
    filled: frozenset[str]
    """Data sets that Deft put in because robomimic wants them; nobody recorded them."""
    problems: tuple[Problem, ...]


def read_about(file: Hdf5, names: list[str]) -> About:
    """Read the attributes of `data`; what is missing or damaged is a finding, never an error.

    Args:
        file: of robomimic.
        names: of all demonstrations.
    """
    attributes = file.attributes(
        "data", "env_args", "problem_info", "deft_spec", "deft_filled", "total"
    )
    problems: list[Problem] = []
    env = read_json(attributes, "env_args", problems)
    if "env_args" not in attributes:
        what = "there is no `env_args`: simulator and tick rate are not known"
        problems.append(finding(what, "read without it", "note"))
    kwargs = env.get("env_kwargs")
    kwargs = kwargs if isinstance(kwargs, dict) else {}
    robots = kwargs.get("robots", ())
    robots = [robots] if isinstance(robots, str) else robots
    declared, texts, embodiment = _declared(attributes, problems)
    if not embodiment and isinstance(robots, list) and all(isinstance(r, str) for r in robots):
        embodiment = "+".join(robots)
    task = read_json(attributes, "problem_info", problems).get("language_instruction")
    problems += _check_total(file, attributes.get("total"), names)
    return About(
        fps=_rate(kwargs.get("control_freq")),
        embodiment=embodiment,
        is_normalized=env.get("env_type", env.get("type")) == _ROBOSUITE,
        task=task if isinstance(task, str) else "",
        declared=declared,
        texts=texts,
        filled=frozenset(read_json(attributes, "deft_filled", problems)) & NAMES.keys(),
        problems=tuple(problems),
    )


def choose(
    file: Hdf5, names: list[str], mask: str
) -> tuple[list[str], dict[str, str], list[Problem]]:
    """The demonstrations of a mask, and who is held out.

    Args:
        file: of robomimic.
        names: of all demonstrations.
        mask: the one to read; empty for all. Its own `<mask>_train` and `<mask>_valid` make the
            split when both are there, otherwise `train` and `valid` do.

    Returns:
        Demonstrations in order, the split of each by name, and findings.

    Raises:
        FormatError: there is no such mask, or one is damaged.
    """
    masks = [name for name, kind in file.members("mask").items() if kind == "table"]
    problems: list[Problem] = []
    if mask and mask not in masks:
        raise FormatError(
            f"{file.path}: there is no mask '{mask}'. {nearest(mask, masks)}\n"
            "Fix: correct the option `mask`, or leave it out."
        )
    kept = set(_members(file, mask, names, problems)) if mask else set(names)
    pair = [f"{mask}_{name}" for name in _SPLITS]
    if not (mask and set(pair) <= set(masks)):
        pair = list(_SPLITS)
    absent = [name for name in pair if name not in masks]
    if absent:
        what = f"there is no mask {' or '.join(map(repr, absent))}"
        problems.append(finding(what, "no split is taken from it", "note"))
    train, valid = (_members(file, name, names, problems) if name in masks else [] for name in pair)
    both = sorted(set(train) & set(valid))
    if both:
        what = f"{len(both)} demonstrations are in '{pair[0]}' and in '{pair[1]}' ({both[0]})"
        problems.append(finding(what, "taken for training"))
    splits = dict.fromkeys(valid, "val") | dict.fromkeys(train, "train")
    return [name for name in names if name in kept], splits, problems


def read_json(attributes: Mapping[str, Any], key: str, problems: list[Problem]) -> dict[str, Any]:
    """The JSON object in a text attribute; empty when there is none, with a finding if damaged."""
    text = attributes.get(key)
    if text is None:
        return {}
    try:
        value = json.loads(text)
        if not isinstance(value, dict):
            raise TypeError(f"wanted an object, found {type(value).__name__}")
    except (TypeError, ValueError, RecursionError) as error:
        problems.append(finding(f"`{key}` is no JSON object: {error}", "not used"))
        return {}
    return value


def finding(what: str, effect: str, severity: str = "warning") -> Problem:
    """A finding about the recording as a whole."""
    return Problem(episode="", what=what, effect=effect, severity=severity)


def _rate(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0.0
    return float(value) if math.isfinite(value) and 0 < value < 1e6 else 0.0


def _declared(
    attributes: Mapping[str, Any], problems: list[Problem]
) -> tuple[dict[str, Feature], tuple[Feature, ...], str]:
    """Features by key, text features and embodiment, as a file that Deft wrote declares them."""
    tree = read_json(attributes, "deft_spec", problems)
    if not tree:
        return {}, (), ""
    try:
        spec = Spec.from_json(tree)
    except SpecError as error:
        problems.append(finding(f"`deft_spec` cannot be read: {error}", "not used"))
        return {}, (), ""
    by_key = {key: spec[name] for name, key in keys_of(spec).items()}
    return by_key, tuple(f for f in spec.features if f.dtype == "str"), spec.embodiment


def _check_total(file: Hdf5, total: Any, names: list[str]) -> Iterator[Problem]:
    held = (file.attributes(f"data/{name}", "num_samples") for name in names)
    counts = [each.get("num_samples") for each in held]
    if type(total) is int and all(type(count) is int for count in counts):
        steps = sum(count for count in counts if type(count) is int)
        if steps != total:
            what = f"`total` is {total}, the demonstrations have {steps} steps"
            yield finding(what, "the demonstrations are used")


def _members(file: Hdf5, mask: str, names: list[str], problems: list[Problem]) -> list[str]:
    table = file.table(f"mask/{mask}")
    listed = table.texts() if table is not None else []
    absent = [name for name in listed if name not in set(names)]
    if absent:
        what = f"mask '{mask}' names {len(absent)} demonstrations that are not there ({absent[0]})"
        problems.append(finding(what, "passed over"))
    return listed
