"""Statistics in LeRobot's shape: of an episode, and of a data set.

Each is a mapping with `min`, `max`, `mean`, `std`, `count` and, since v3, quantiles. Numbers have
the shape of one step; pictures three channels, `3 1 1`, in 0 to 1 (depth: as it is), from some
sampled and thinned frames. Source: huggingface/lerobot 0.4.4, `datasets/compute_stats.py`; where
it averages the quantiles of episodes, ours are those of all steps, to a 5,000th of the range.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
Summary = dict[str, np.ndarray]
"""Statistics by name; `count` is int64 of shape `1`."""

_BINS = 5_000
_MOST_COUNTED = 4_096
"""Features with more elements get averaged quantiles: counting would take too much memory."""
_LARGE, _THIN = 300, 150


def sampled_steps(length: int) -> list[int]:
    """The steps whose pictures count, evenly spread: all up to 100, then about T to the 0.75."""
    count = max(min(length, 100), min(int(length**0.75), 10_000))
    return np.round(np.linspace(0, length - 1, count)).astype(int).tolist()


def of_table(values: np.ndarray, is_pooled: bool = False) -> Summary:
    """Statistics of one feature in one episode, `T ...`.

    Args:
        values: the numbers.
        is_pooled: whether all axes but the last are taken together, as LeRobot does since v3.
    """
    shape = values.shape[1:] or (1,)
    steps = values.reshape(-1, *(shape[-1:] if is_pooled else shape)).astype(np.float64)
    quantiles = np.quantile(steps, list(QUANTILES.values()), axis=0)
    return {
        "min": steps.min(0),
        "max": steps.max(0),
        "mean": steps.mean(0),
        "std": steps.std(0),
        "count": np.array([len(values)], np.int64),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


class PictureCounts:
    """How often each brightness occurs in each channel of some pictures; exact, and additive."""

    def __init__(self, channels: int, dtype: str) -> None:
        self.levels = np.zeros((channels, np.iinfo(dtype).max + 1), np.int64)
        self.pictures = 0

    def add(self, picture: np.ndarray) -> None:
        """Count one picture `H W C`, thinned to about 150 pixels when it is large."""
        height, width, channels = picture.shape
        step = max(height, width) // _THIN if max(height, width) >= _LARGE else 1
        thin = picture[::step, ::step]
        for channel in range(channels):
            self.levels[channel] += np.bincount(
                thin[..., channel].ravel(), minlength=self.levels.shape[1]
            )
        self.pictures += 1

    def merge(self, other: "PictureCounts") -> None:
        self.levels += other.levels
        self.pictures += other.pictures

    def summary(self) -> Summary:
        """At least one picture must have been counted."""
        values = np.arange(self.levels.shape[1], dtype=np.float64)
        total = self.levels.sum(1)
        mean = (self.levels * values).sum(1) / total
        square = (self.levels * values**2).sum(1) / total
        running = np.cumsum(self.levels, axis=1)
        found = {
            "min": np.argmax(self.levels > 0, axis=1),
            "max": self.levels.shape[1] - 1 - np.argmax(self.levels[:, ::-1] > 0, axis=1),
            "mean": mean,
            "std": np.sqrt(np.maximum(square - mean**2, 0)),
        }
        for name, share in QUANTILES.items():
            found[name] = np.argmax(running >= share * total[:, None], axis=1)
        scale = 255.0 if self.levels.shape[1] == 256 else 1.0
        # LeRobot wants three channels of everything whose key names an image.
        shaped = {
            name: np.broadcast_to((values / scale).reshape(-1, 1, 1), (3, 1, 1)).astype(np.float64)
            for name, values in found.items()
        }
        return {**shaped, "count": np.array([self.pictures], np.int64)}


class Merged:
    """Statistics of a data set, from those of its episodes and, for quantiles, from its steps.

    Every episode is first taken in by `include`; then every episode's steps by `add`.
    """

    def __init__(self) -> None:
        self.summary: Summary = {}
        self._bins = np.zeros((0, _BINS), np.int64)

    def include(self, summary: Summary) -> None:
        """Take in the statistics of one episode; quantiles are averaged."""
        if not self.summary:
            self.summary = {name: value.copy() for name, value in summary.items()}
            return
        mine, count = self.summary, float(summary["count"][0])
        total = mine["count"][0] + count
        share = count / total
        change = summary["mean"] - mine["mean"]
        variance = mine["std"] ** 2 * (1 - share) + summary["std"] ** 2 * share
        mine["std"] = np.sqrt(variance + change**2 * share * (1 - share))
        mine["min"] = np.minimum(mine["min"], summary["min"])
        mine["max"] = np.maximum(mine["max"], summary["max"])
        for name in ("mean", *QUANTILES):
            mine[name] = mine[name] + (summary[name] - mine[name]) * share
        mine["count"] = mine["count"] + summary["count"]

    def add(self, values: np.ndarray) -> None:
        """Count the steps `T ...` of one episode; every episode once."""
        if self.summary["mean"].size > _MOST_COUNTED:
            return
        low, span = self._range()
        place = (values.reshape(-1, len(low)) - low) / span * _BINS
        bins = np.clip(place.astype(np.int64), 0, _BINS - 1)  # T D
        bins += np.arange(len(low)) * _BINS
        counts = np.bincount(bins.ravel(), minlength=len(low) * _BINS).reshape(-1, _BINS)
        self._bins = counts if not len(self._bins) else self._bins + counts

    def finish(self) -> Summary:
        """The statistics, after every episode was counted."""
        if not len(self._bins):
            return self.summary
        low, span = self._range()
        running = np.cumsum(self._bins, axis=1)
        for name, share in QUANTILES.items():
            wanted = share * running[:, -1:]
            at = np.argmax(running >= wanted, axis=1)  # D
            rows = np.arange(len(at))
            before = np.where(at > 0, running[rows, at - 1], 0)
            inside = (wanted[:, 0] - before) / np.maximum(self._bins[rows, at], 1)
            values = low + (at + inside) * span / _BINS
            values = np.minimum(values, self.summary["max"].ravel())
            self.summary[name] = values.reshape(self.summary["mean"].shape)
        return self.summary

    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        low = self.summary["min"].ravel()
        span = self.summary["max"].ravel() - low
        return low, np.where(span > 0, span, 1.0)


def to_json(summary: Summary, names: Sequence[str]) -> dict[str, Any]:
    """Plain lists of some of the statistics, as LeRobot keeps them."""
    return {name: summary[name].tolist() for name in names}


def from_json(data: Mapping[str, Any]) -> Summary:
    """The inverse of `to_json`."""
    return {
        name: np.array(value, np.int64 if name == "count" else np.float64)
        for name, value in data.items()
    }
