"""Statistics of numeric features: moments merged episode by episode, exact quantiles after.

They are taken over the valid steps of train episodes. Booleans count as 0 and 1; whole numbers are
taken as float64, so those beyond 2^53 lose their last digits (the tables keep them). A dimension
that never changes has exactly this value as its mean, and a standard deviation of exactly 0. A
feature with a value that is not finite has none at all, with the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deft.spec import Feature, Stats

LARGEST = 512
"""Features with more elements per step have no statistics; nothing normalises them so."""
MOST_TASKS = 256
"""Statistics per task are kept for at most this many tasks."""
_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class Moments:
    """Mean, summed squared deviation, smallest and largest of some steps; float64 `D`."""

    count: int
    mean: np.ndarray
    squares: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @staticmethod
    def of(values: np.ndarray) -> "Moments":
        """Moments of `T ...` with T of 1 or more; the trailing axes are flattened."""
        flat = values.reshape(len(values), -1).astype(np.float64)
        # Around the first row: a large offset would otherwise eat the digits of small changes.
        moved = flat - flat[0]
        mean = moved.mean(0)
        squares = ((moved - mean) ** 2).sum(0)
        return Moments(len(flat), mean + flat[0], squares, flat.min(0), flat.max(0))

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets of steps. Source: Chan, Golub and LeVeque 1983, eq. 2.1."""
        count = self.count + other.count
        gap = other.mean - self.mean
        return Moments(
            count,
            self.mean + gap * (other.count / count),
            self.squares + other.squares + gap**2 * (self.count * other.count / count),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    def to_json(self) -> dict[str, Any]:
        arrays = {key: getattr(self, key).tolist() for key in ("mean", "squares", "low", "high")}
        return {"count": self.count, **arrays}

    @staticmethod
    def from_json(data: dict[str, Any]) -> "Moments":
        arrays = (np.asarray(data[key], np.float64) for key in ("mean", "squares", "low", "high"))
        return Moments(int(data["count"]), *arrays)

    def std(self) -> np.ndarray:
        """Population standard deviation, exactly 0 where nothing ever changes."""
        return np.where(self.low == self.high, 0.0, np.sqrt(self.squares / self.count))

    def stats(self, quantiles: np.ndarray) -> Stats:
        """Together with the quantiles `2 D` (1 % and 99 %)."""
        return Stats(
            mean=np.where(self.low == self.high, self.low, self.mean),
            std=self.std(),
            min=self.low,
            max=self.high,
            q01=quantiles[0],
            q99=quantiles[1],
            count=self.count,
        )


@dataclass(frozen=True)
class Measured:
    """Statistics of one feature."""

    whole: Stats | None
    """None when there are none."""
    groups: dict[str, Stats]
    """Of every group with a valid step."""
    why: str = ""
    """Why there are none."""


def measure(
    table: np.ndarray,
    valid: np.ndarray,
    spans: Sequence[tuple[int, int]],
    groups: Mapping[str, Sequence[int]],
) -> Measured:
    """Statistics of a table over some episodes, and over groups of these.

    The table is read twice, episode by episode and then in blocks of columns, so memory does not
    grow with it. The result depends on the episodes and their order alone.

    Args:
        table: `N ...` of all steps, memory-mapped.
        valid: bool `N`; other steps do not count.
        spans: first row and row after the last of each episode that counts.
        groups: numbers of the spans of each group; a span is in one group at most.
    """
    owner = {number: name for name, numbers in groups.items() for number in numbers}
    total: Moments | None = None
    parts: dict[str, Moments] = {}
    for number, (start, end) in enumerate(spans):
        good = table[start:end][valid[start:end]]
        if len(good) == 0:
            continue
        if not np.isfinite(good).all():
            return Measured(None, {}, "some values are not finite")
        found = Moments.of(good)
        total = found if total is None else total.merge(found)
        name = owner.get(number)
        if name is not None:
            parts[name] = parts[name].merge(found) if name in parts else found
    if total is None:
        return Measured(None, {}, "no valid step in a train episode")
    within = {name: [spans[n] for n in groups[name]] for name in parts}
    each = {
        name: parts[name].stats(quantiles(table, valid, within[name]))
        for name in groups
        if name in parts
    }
    return Measured(total.stats(quantiles(table, valid, spans)), each)


def quantiles(table: np.ndarray, valid: np.ndarray, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Exact 1 % and 99 % quantiles, a block of columns at a time, at most 8 MB or one column.

    Args:
        table: `N ...` of all steps, memory-mapped.
        valid: bool `N`; other steps do not count.
        spans: first row and row after the last of the episodes that count; at least one good step.

    Returns:
        float64 `2 D`.
    """
    flat = table.reshape(len(table), -1)
    steps = sum(int(np.count_nonzero(valid[start:end])) for start, end in spans)
    width = max(1, _BLOCK_BYTES // (8 * steps))
    found = np.empty((2, flat.shape[1]))
    for first in range(0, flat.shape[1], width):
        columns = slice(first, first + width)
        block = np.empty((steps, min(width, flat.shape[1] - first)))
        at = 0
        for start, end in spans:
            good = flat[start:end, columns][valid[start:end]]
            block[at : at + len(good)] = good
            at += len(good)
        found[:, columns] = np.quantile(block, (0.01, 0.99), axis=0, overwrite_input=True)
    return found


def why_none(feature: Feature) -> str:
    """Why a feature can have no statistics, as stats.json says it; empty when it can."""
    if feature.size > LARGEST:
        return f"{feature.size} elements per step, more than {LARGEST}"
    return ""
