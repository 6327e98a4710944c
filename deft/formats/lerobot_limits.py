"""The range of numbers that a LeRobot data set declares in its statistics."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import FormatError
from deft.formats.jsonfile import read_object, read_object_lines
from deft.formats.lerobot_features import Stored

_SLACK = 1e-5
"""Statistics are often rounded, or were computed in another precision: share of the range."""


def read_limits(path: Path, stored: Iterable[Stored]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Smallest and largest value of states and actions, each of the feature's shape.

    From `stats.json`, else the outermost of `episodes_stats.jsonl`; statistics that are missing,
    damaged or of another shape declare nothing, and nothing is said of them.

    Args:
        path: the data set.
        stored: its features.
    """
    wanted = [e for e in stored if e.kind == "table" and e.feature.role in ("state", "action")]
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for entry in _declared(path / "meta"):
        for each in wanted:
            low, high = (_numbers(entry, each, name) for name in ("min", "max"))
            if low is None or high is None:
                continue
            name = each.feature.name
            if name in found:
                low, high = np.minimum(low, found[name][0]), np.maximum(high, found[name][1])
            found[name] = low, high
    return {name: _widened(low, high) for name, (low, high) in found.items()}


def _declared(meta: Path) -> list[Mapping[str, Any]]:
    try:
        if (meta / "stats.json").is_file():
            return [read_object(meta / "stats.json")]
        if (meta / "episodes_stats.jsonl").is_file():
            lines = read_object_lines(meta / "episodes_stats.jsonl")
            return [each for line in lines if isinstance(each := line.get("stats"), dict)]
    except FormatError:
        return []
    return []


def _numbers(entry: Mapping[str, Any], each: Stored, name: str) -> np.ndarray | None:
    of_feature = entry.get(each.key)
    if not isinstance(of_feature, dict):
        return None
    try:
        values = np.asarray(of_feature.get(name), np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if values.size != each.feature.size or not np.isfinite(values).all():
        return None
    return values.reshape(each.feature.shape or (1,))


def _widened(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    slack = _SLACK * np.maximum(np.maximum(np.abs(low), np.abs(high)), high - low)
    return low - slack, high + slack
