"""The features of a LeRobot data set: what `meta/info.json` says, and what is made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deft.errors import FormatError, nearest
from deft.formats.jsonfile import take, take_sizes
from deft.formats.lerobot_depth import DepthCodes, is_twelve_bits
from deft.formats.recording import last_name, table_dtype
from deft.spec import Feature, Problem

BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Columns that LeRobot adds to every table."""
PERSISTENT = "language_persistent"
"""The column whose rows may hold other wordings of the task."""
_NUMBERS = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "uint16")
_OTHER_NAMES = {"actions": "action", "observation.states": "state", "states": "state"}
_WORDS = ("language", "instruction", "task", "annotation")


@dataclass(frozen=True)
class Stored:
    """A feature, and how it lies in the files."""

    feature: Feature
    key: str
    """Its name there."""
    kind: str
    """`table`, `image` (in the table, or files of their own) or `video`."""
    codes: DepthCodes | None = None
    """For depth as video."""


@dataclass
class Declared:
    """The features of `info.json`, as far as they are understood."""

    stored: dict[str, Stored] = field(default_factory=dict)
    """By Deft's name."""
    texts: list[str] = field(default_factory=list)
    """Keys of text columns that may hold wordings of the task."""
    has_rows_of_language: bool = False
    """Whether there is a column `language_persistent`."""
    problems: list[Problem] = field(default_factory=list)


def finding(what: str, effect: str, severity: str = "warning") -> Problem:
    """Something that concerns the whole recording."""
    return Problem(episode="", what=what, effect=effect, severity=severity)


def declare(features: Mapping[str, Any], renames: Mapping[str, str], where: str) -> Declared:
    """Everything the data set declares.

    Args:
        features: of `info.json`.
        renames: key, or the last part of one, to Deft's name, where somebody asked for it;
            `action` and `state` also are roles, an empty name leaves the feature out.
        where: the file, for messages.

    Raises:
        FormatError: an entry is damaged, a rename fits nothing, or nothing can be the action.
    """
    renames = {_key(old, features, where): name for old, name in renames.items()}
    declared = Declared()
    taken = set(renames.values())
    for key, entry in features.items():
        if key in BOOKKEEPING or renames.get(key) == "":
            continue
        place = f"{where}, feature '{key}'"
        if not isinstance(entry, dict):
            raise FormatError(f"{place}: must be an object.\nFound: {entry!r}.\nFix: correct it.")
        if key in renames:
            name = renames[key]
        else:
            name = _name(key, features, {*declared.stored, *taken}, declared)
        _add(declared, name, key, entry, place, is_renamed=key in renames)
    if not any(each.feature.role == "action" for each in declared.stored.values()):
        raise _no_action(declared, features, where)
    return declared


def _key(old: str, features: Mapping[str, Any], where: str) -> str:
    """The key that a rename means."""
    fitting = [key for key in features if key.rsplit(".", 1)[-1] == old]
    if old in features:
        return old
    if len(fitting) != 1:
        raise FormatError(
            f"{where}: there is no feature '{old}' to rename. {nearest(old, features)}\n"
            "Fix: correct it in `--map`."
        )
    return fitting[0]


def _name(key: str, features: Mapping[str, Any], taken: set[str], declared: Declared) -> str:
    """Deft's name; another name of action or state is understood where there is no doubt."""
    wanted = _OTHER_NAMES.get(key)
    proper = {"action": "action", "state": "observation.state"}
    if wanted and proper[wanted] not in features and wanted not in {*taken, *features}:
        what = "commands are called" if wanted == "action" else "the state is called"
        declared.problems.append(finding(f"{what} '{key}'", f"read as '{wanted}'"))
        return wanted
    return last_name(key, taken)


def _add(
    declared: Declared, name: str, key: str, entry: Mapping[str, Any], where: str, is_renamed: bool
) -> None:
    dtype = take(entry, "dtype", str, where)
    if name in declared.stored:
        raise FormatError(f"{where}: '{name}' is named twice.\nFix: correct `--map`.")
    if dtype == "string" and any(word in key.lower() for word in _WORDS):
        declared.texts.append(key)
        return
    if dtype == "language" and key == PERSISTENT:
        declared.has_rows_of_language = True
        return
    found: Stored | None = None
    if dtype in ("video", "image"):
        found = _picture(name, key, dtype, entry, where)
    elif dtype in _NUMBERS or dtype == "bool":
        found = Stored(_number(name, key, entry, dtype, where, declared, is_renamed), key, "table")
    if found is None:
        what = f"'{key}' ({dtype}) is of a kind that is not supported"
        declared.problems.append(finding(what, "left out"))
        return
    declared.stored[name] = found


def _no_action(declared: Declared, features: Mapping[str, Any], where: str) -> FormatError:
    vectors = [
        each
        for each in declared.stored.values()
        if each.kind == "table" and len(each.feature.shape) == 1 and "float" in each.feature.dtype
    ]
    likely = [each for each in vectors if each.feature.role == "other"] or vectors
    best = max(likely, key=lambda each: each.feature.size, default=None)
    example = best.key if best else "actions"
    return FormatError(
        f"{where}: there is no feature 'action'.\nFound: {', '.join(features)}.\n"
        f"Fix: say which one holds the commands, as in `--map {example}=action`."
    )


def _picture(
    name: str, key: str, dtype: str, entry: Mapping[str, Any], where: str
) -> Stored | None:
    """None for depth whose meaning is not certain."""
    info = entry.get("info") or entry.get("video_info") or {}
    info = info if isinstance(info, dict) else {}
    shape = take_sizes(entry.get("shape"), f"{where}, 'shape'")
    axes = entry.get("names")
    if isinstance(axes, list) and axes and str(axes[0]).startswith("channel"):
        shape = (*shape[1:], *shape[:1])
    if len(shape) == 2 and dtype == "image":
        shape = (*shape, 1)
    is_depth = any(info.get(each) is True for each in ("is_depth_map", "video.is_depth_map"))
    if is_depth and len(shape) == 3:
        # LeRobot: whole numbers are millimetres. Pictures hold them as they are, videos as codes.
        depth = Feature(name=name, role="depth", shape=(*shape[:2], 1), dtype="uint16", unit="mm")
        if dtype == "image" and shape[2] == 1:
            return Stored(depth, key, dtype)
        codes = DepthCodes.read(info)
        if dtype == "video" and codes and is_twelve_bits(str(info.get("video.pix_fmt"))):
            return Stored(depth, key, dtype, codes)
        return None
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise FormatError(
            f"{where}: pictures need height, width and 1 or 3 channels.\nFound: {list(shape)}.\n"
            "Fix: correct 'shape' and 'names'."
        )
    if dtype == "video" and shape[2] == 1:
        return None  # grey videos hold depth, saliency or grey pictures, and do not say which
    return Stored(Feature(name=name, role="image", shape=shape, dtype="uint8"), key, dtype)


def _number(
    name: str,
    key: str,
    entry: Mapping[str, Any],
    dtype: str,
    where: str,
    declared: Declared,
    is_renamed: bool,
) -> Feature:
    shape = take_sizes(entry.get("shape"), f"{where}, 'shape'")
    role = name if is_renamed and name in ("action", "state") else _role(key, len(shape), dtype)
    elements = _element_names(entry.get("names"))
    if elements and (len(shape) != 1 or len(elements) != shape[0]):
        declared.problems.append(
            finding(f"'{key}' has {len(elements)} names for shape {list(shape)}", "names left out")
        )
        elements = ()
    elif len(set(elements)) != len(elements):
        declared.problems.append(finding(f"'{key}' has names that repeat", "names left out"))
        elements = ()
    return Feature(
        name=name,
        role=role,
        shape=shape,
        dtype=table_dtype(np.dtype(dtype), role, where),
        names=elements,
    )


def _role(key: str, axes: int, dtype: str) -> str:
    if key.split(".")[0] in ("action", "actions"):
        return "action"
    if key.split(".")[-1] == "reward":
        return "reward"
    if "language" in key:
        return "language"
    is_vector = axes == 1 and dtype.startswith("float")
    is_state = key.startswith("observation.") or key in ("state", "states")
    return "state" if is_state and is_vector else "other"


def _element_names(value: Any) -> tuple[str, ...]:
    """Element names in any of the forms in use: a list, nested lists, or objects of either."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, dict) and value and all(type(n) is int for n in value.values()):
        return tuple(sorted(value, key=lambda name: value[name]))
    if isinstance(value, dict) and len(value) == 1:
        return _element_names(next(iter(value.values())))
    if isinstance(value, dict):
        return tuple(f"{group}.{each}" for group in value for each in _element_names(value[group]))
    if isinstance(value, list):
        return tuple(name for each in value for name in _element_names(each))
    return ()


def parse_renames(pairs: Sequence[str]) -> dict[str, str]:
    """`key=name` pairs as a mapping. Raises `FormatError` for anything else, and for twins."""
    renames: dict[str, str] = {}
    for pair in pairs:
        key, equals, name = pair.partition("=")
        if not (key and equals) or key in renames or (name and name in renames.values()):
            raise FormatError(
                f"'{pair}' renames nothing, or what another pair renames too.\n"
                "Fix: write KEY=NAME, as in `--map actions=action`."
            )
        renames[key] = name
    return renames
