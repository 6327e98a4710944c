"""Which features the records of an RLDS data set hold, and what they mean."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deft.errors import FormatError
from deft.formats.example import Example
from deft.formats.pictures import picture_size
from deft.formats.recording import last_name, table_dtype
from deft.formats.tfds import Leaf
from deft.formats.tfrecord import RecordPlace, read_record
from deft.spec import Feature, Problem

_SALIENCY = ("saliency", "gaze")
_INSTRUCTIONS = ("language_instruction", "natural_language_instruction", "instruction")


@dataclass(frozen=True)
class Column:
    """One array of a step and the feature it becomes."""

    leaf: Leaf
    feature: Feature


@dataclass(frozen=True)
class Layout:
    """How the records of one data set are read."""

    columns: list[Column]
    instruction: str
    """Key of the instruction; empty when there is none."""
    flags: dict[str, str]
    """Camera name to the key of the flag that says whether it has pictures."""
    is_bridge: bool

    @property
    def cameras(self) -> list[Column]:
        """Pictures and depth; maps of saliency may well be black."""
        return [c for c in self.columns if c.feature.role in ("image", "depth")]

    @property
    def vectors(self) -> list[Column]:
        """States and actions, the action first."""
        roles = {"action": 0, "state": 1}
        held = [column for column in self.columns if column.feature.role in roles]
        return sorted(held, key=lambda column: roles[column.feature.role])


def declare(
    path: Path, leaves: list[Leaf], first: RecordPlace | None, name: str
) -> tuple[Layout, list[Problem]]:
    """Which features there are; only where a picture's size is not declared is one looked at."""
    columns: list[Column] = []
    problems: list[Problem] = []
    instruction = next((k for n in _INSTRUCTIONS for k in _text_keys(leaves, n)), "")
    for leaf in leaves:
        if not leaf.is_step or leaf.key == instruction:
            continue
        taken = [column.feature.name for column in columns]
        name_ = "saliency" if leaf.name in _SALIENCY and "saliency" not in taken else leaf.key
        feature = _feature(leaf, last_name(name_.removeprefix("steps/"), taken), first)
        if feature is None:
            what = f"'{leaf.key}' ({leaf.kind}, {leaf.dtype or 'no dtype'}, {list(leaf.shape)})"
            problems.append(Problem(episode="", what=f"{what} is not supported", effect="left out"))
        else:
            columns.append(Column(leaf, feature))
    by_name = {column.feature.name: column.feature for column in columns}
    if not any(feature.role == "action" for feature in by_name.values()):
        raise FormatError(
            f"{path}/features.json: there is no 'steps/action' with numbers in it.\n"
            f"Found: {', '.join(leaf.key for leaf in leaves)}.\nFix: point to an RLDS data set."
        )
    is_bridge = name.startswith("bridge") and all(
        key in by_name and by_name[key].shape == (7,) for key in ("state", "action")
    )
    if is_bridge:
        columns = [Column(c.leaf, _bridge_feature(c.feature)) for c in columns]
    metadata = {leaf.name: leaf.key for leaf in leaves if not leaf.is_step}
    flags = {
        feature.name: metadata[f"has_{feature.name}"]
        for feature in by_name.values()
        if feature.is_frame and f"has_{feature.name}" in metadata
    }
    return Layout(columns, instruction, flags, is_bridge), problems


def _text_keys(leaves: list[Leaf], name: str) -> list[str]:
    return [leaf.key for leaf in leaves if leaf.kind == "text" and leaf.name == name]


def _feature(leaf: Leaf, name: str, first: RecordPlace | None) -> Feature | None:
    """None when this kind of leaf is not supported."""
    if leaf.kind == "image" and leaf.dtype in ("uint8", "uint16"):
        shape = leaf.shape
        if (len(shape) != 3 or -1 in shape) and first is not None:
            shape = _first_picture_shape(leaf, first)
        if len(shape) != 3 or shape[2] not in (1, 3):
            return None
        role = "depth" if leaf.dtype == "uint16" and shape[2] == 1 else "image"
        if leaf.name in _SALIENCY and shape[2] == 1:
            role = "saliency"
        return Feature(name=name, role=role, shape=shape, dtype=leaf.dtype)
    if leaf.kind != "tensor" or -1 in leaf.shape or leaf.dtype == "uint64":
        return None
    dtype = np.dtype(leaf.dtype)
    if leaf.name in _SALIENCY and dtype.kind == "f":
        size = tuple(n for n in leaf.shape if n != 1)
        if len(size) == 2:
            return Feature(name=name, role="saliency", shape=(*size, 1), dtype="float32")
    role = _role(leaf, dtype.kind)
    return Feature(name=name, role=role, shape=leaf.shape, dtype=table_dtype(dtype, role, leaf.key))


def _role(leaf: Leaf, kind: str) -> str:
    inside = leaf.key.removeprefix("steps/").split("/")[0]
    is_vector = kind == "f" and len(leaf.shape) == 1
    if inside == "action" and is_vector:
        return "action"
    if leaf.name == "reward":
        return "reward"
    if is_vector and ("language" in leaf.name or "embedding" in leaf.name):
        return "language"
    return "state" if inside == "observation" and is_vector else "other"


def _bridge_feature(feature: Feature) -> Feature:
    """BridgeData V2's elements; the texts in its features.json are those of a template.

    Poses are in metres and radians in the robot's base frame, actions are changes of them; the
    gripper is 0 closed, 1 open, and absolute in both.
    """
    pose = ("x", "y", "z", "roll", "pitch", "yaw")
    names = {"state": (*pose, "gripper"), "action": (*(f"d{axis}" for axis in pose), "gripper")}
    if feature.name not in names:
        return feature
    return replace(feature, names=names[feature.name], frame="base")


def _first_picture_shape(leaf: Leaf, place: RecordPlace) -> tuple[int, ...]:
    data = read_record(place)
    blob = parse_record(data, place).first_blob(leaf.key)
    if blob is None:
        return ()
    return picture_size(blob, f"{place.where}, '{leaf.key}'")[:3]


def parse_record(data: bytes, place: RecordPlace) -> Example:
    """The message in one whole record."""
    return Example.parse(lambda start, stop: data[start:stop], len(data), place.where)
