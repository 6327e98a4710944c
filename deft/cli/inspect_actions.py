"""Tasks by action width, arm by arm, of one recording or of a folder with many."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft.errors import DeftError

if TYPE_CHECKING:
    from deft.spec import Feature, Source, Spec

_DEEP = 4
"""How far below a folder recordings are looked for: task, configuration, embodiment, data."""
_MOST = 5000
"""Folders that are looked into."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_SIDES = ("left", "right")


def report(
    path: Path, options: Mapping[str, Any] | None = None, renames: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Action widths per task.

    Args:
        path: a recording, a store, or a folder with recordings below it, one per task, say.
        options: settings of the recordings' format.
        renames: new feature name by old one, in each of them.

    Returns:
        `groups`: tasks of equal width and arms, most steps first; `failed`: recordings that
        cannot be opened, and why.
    """
    entries: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for place in _recordings(path):
        name = str(place.relative_to(path)) if place != path else path.name
        try:
            entries += _tasks(_open(place, options or {}, renames or {}), name)
        except DeftError as error:
            failed.append({"recording": name, "what": str(error)})
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in entries:
        key = (entry["width"], *entry["arms"].items())
        group = groups.setdefault(
            key, {"width": entry["width"], "arms": entry["arms"], "tasks": []}
        )
        group["tasks"].append(entry)
    ordered = sorted(groups.values(), key=lambda g: -sum(each["steps"] for each in g["tasks"]))
    return {"kind": "actions", "path": str(path), "groups": ordered, "failed": failed}


def arms(spec: "Spec") -> dict[str, int]:
    """Elements of all actions by arm, from the names of elements, else of features.

    Empty when no name tells left from right.
    """
    widths: dict[str, int] = {}
    for feature in spec.role("action"):
        for side in _sides(feature):
            widths[side] = widths.get(side, 0) + 1
    if not widths.keys() & set(_SIDES):
        return {}
    return {side or "both": widths[side] for side in sorted(widths)}


def _sides(feature: "Feature") -> list[str]:
    whole = _side(feature.name)
    names = feature.names or ("",) * feature.size
    return [_side(name) or whole for name in names]


def _side(name: str) -> str:
    """`left` or `right` where a name has this word, as in `left.joint_0` or `kLeftElbow`."""
    words = {word.lower() for word in _WORD.findall(name)}
    found = [side for side in _SIDES if side in words]
    return found[0] if len(found) == 1 else ""


def _open(path: Path, options: Mapping[str, Any], renames: Mapping[str, str]) -> "Source":
    from deft import store
    from deft.cli.sources import open_recording, renamed

    if store.is_store(path) and not options:
        return renamed(store.source(store.open(path)), renames)
    return open_recording(path, None, options, renames)[1]


def _recordings(path: Path) -> list[Path]:
    """The recording at a path, or those below a folder; the path itself when there is none."""
    from deft import formats, store

    def is_recording(place: Path) -> bool:
        return store.is_store(place) or formats.recognise(place) is not None

    if is_recording(path) or not path.is_dir():
        return [path]
    found = [place for place in _below(path) if is_recording(place)]
    # What lies inside a recording is a part of it.
    return [each for each in found if not any(up in found for up in each.parents)] or [path]


def _below(path: Path) -> Iterator[Path]:
    """Folders and files below a folder, those on top first; parts of large folders only."""
    level, seen = [path], 0
    for _ in range(_DEEP):
        deeper: list[Path] = []
        for folder in level:
            for child in sorted(folder.iterdir()):
                seen += 1
                if seen > _MOST:
                    return
                yield child
                if child.is_dir() and not child.is_symlink():
                    deeper.append(child)
        level = deeper


def _tasks(source: "Source", name: str) -> list[dict[str, Any]]:
    spec = source.spec
    width, own = sum(feature.size for feature in spec.role("action")), arms(spec)
    found: dict[str, dict[str, Any]] = {}
    for info in source.episodes:
        entry = found.setdefault(
            info.task,
            {
                "task": info.task,
                "recording": name,
                "episodes": 0,
                "steps": 0,
                "width": width,
                "arms": own,
            },
        )
        entry["episodes"] += 1
        entry["steps"] += info.length
    return sorted(found.values(), key=lambda entry: -entry["steps"])
