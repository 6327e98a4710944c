"""stats.json: statistics over the valid steps of all train episodes of a store, and by task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deft.spec import Feature, Spec, Stats
from deft.store.files import file_name
from deft.store.histograms import SAMPLE, bins_of, summary
from deft.store.layout import table_features
from deft.store.mapped import mapped
from deft.store.statistics import MOST_TASKS, measure, why_none


@dataclass(frozen=True, slots=True)
class Row:
    """What the index says of one episode; the order of fields is that of episodes.parquet."""

    id: str
    start: int
    length: int
    task: str
    split: str
    source: str
    valid: int


@dataclass(frozen=True)
class Piece:
    """One part: where its files are, and its episodes."""

    folder: Path
    rows: Sequence[Row]

    @property
    def steps(self) -> int:
        return sum(row.length for row in self.rows)


def counted_tasks(rows: Sequence[Row]) -> list[str]:
    """The tasks of a part's histograms, one after the other; one entry, empty, for all together
    when there are too many."""
    found = list(dict.fromkeys(row.task for row in rows if row.split == "train"))
    return found if len(found) <= MOST_TASKS else [""]


def overall(spec: Spec, pieces: Sequence[Piece]) -> dict[str, Any]:
    """All that stats.json says.

    Args:
        spec: the store's contract.
        pieces: all parts, in order, with the rows of each counted through.
    """
    train = [row for piece in pieces for row in piece.rows if row.split == "train"]
    spans = [(row.start, row.start + row.length) for row in train]
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(train):
        groups.setdefault(row.task, []).append(number)
    skipped: dict[str, str] = {}
    if len(groups) > MOST_TASKS:
        skipped["tasks"] = f"{len(groups)} tasks, more than {MOST_TASKS}"
        groups = {}
    features: dict[str, Any] = {}
    tasks: dict[str, dict[str, Any]] = {task: {} for task in groups}
    valid = _joined(pieces, "valid.npy", (), "bool")
    for feature in table_features(spec):
        why = why_none(feature)
        if not why:
            name = f"tables/{file_name(feature.name)}.npy"
            table = _joined(pieces, name, feature.shape, feature.dtype)
            found = measure(table, valid, spans, groups)
            why = found.why
            if found.whole is not None:
                features[feature.name] = found.whole.to_json()
                for task, each in found.groups.items():
                    tasks[task][feature.name] = each.to_json()
        if why:
            skipped[feature.name] = why
    images: dict[str, Any] = {}
    image_tasks: dict[str, dict[str, Any]] = {task: {} for task in groups}
    for feature in spec.features:
        if not feature.is_frame:
            continue
        whole, parts = _pictures(feature, pieces, groups)
        if whole is None:
            skipped[feature.name] = (
                "no valid step in a train episode"
                if bins_of(feature)
                else f"the range of {feature.role} pictures in {feature.dtype} is not known"
            )
            continue
        images[feature.name] = whole.to_json()
        for task, each in parts.items():
            image_tasks[task][feature.name] = each.to_json()
    return {
        "features": features,
        "tasks": tasks,
        "images": images,
        "image_tasks": image_tasks,
        "image_sample": SAMPLE,
        "skipped": skipped,
    }


def _joined(pieces: Sequence[Piece], name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    files = [piece.folder / name for piece in pieces]
    return mapped(files, [piece.steps for piece in pieces], shape, dtype)


def _pictures(
    feature: Feature, pieces: Sequence[Piece], groups: Mapping[str, object]
) -> tuple[Stats | None, dict[str, Stats]]:
    """Statistics of one camera, over all and by task."""
    bins = bins_of(feature)
    if bins is None:
        return None, {}
    whole = np.zeros((feature.channels, bins.count), np.int64)
    parts: dict[str, np.ndarray] = {}
    for piece in pieces:
        held = np.load(piece.folder / f"frames/{file_name(feature.name)}/histogram.npy")
        whole += held.sum(0)
        if groups:  # then no part has too many tasks either
            for task, counts in zip(counted_tasks(piece.rows), held, strict=True):
                parts[task] = parts[task] + counts if task in parts else counts
    found = {task: summary(counts, feature) for task, counts in parts.items()}
    return summary(whole, feature), {task: each for task, each in found.items() if each}
