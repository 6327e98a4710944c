"""What is wrong with recorded episodes: findings about a listing, about numbers, about pictures.

Everything here takes any `spec.Source`, `Episode` or `EpisodeInfo`, of whatever format, and only
looks; what becomes of a finding is said in its `effect` and done by whoever reads or converts.
"""

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

from deft.errors import DeftError
from deft.spec.episode import Episode, expect
from deft.spec.feature import Feature
from deft.spec.source import EpisodeInfo, Problem, Source
from deft.spec.watch import CameraWatch

_T = TypeVar("_T")

Limits = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Smallest and largest value by feature."""

_STAMPS = frozenset({"time_stamp", "timestamp", "timestamps", "stamp", "stamp_s", "stamp_ns"})
_KEPT = "kept as it is"
_OFF = 0.1
"""Largest relative difference between time stamps and the declared rate that passes."""
_GAP = 2.5
"""A step that took this many periods is a gap."""


def of_listing(infos: Sequence[EpisodeInfo], holds_language: bool = True) -> list[Problem]:
    """What the list of episodes alone shows: no steps, ids that repeat, no instructions.

    Args:
        infos: every episode of a source.
        holds_language: False where the format has no place for instructions; then it is no
            finding that all are empty.
    """
    found: list[Problem] = []
    for id_, count in Counter(info.id for info in infos).items():
        if count > 1:
            what = f"{count} episodes have this id"
            effect = "`deft convert` refuses them; ids must be unique"
            found.append(Problem(episode=id_, what=what, effect=effect, severity="error"))
    found += [_empty(info.id) for info in infos if info.length < 1]
    silent = [info.id for info in infos if not info.task.strip()]
    if silent and (holds_language or len(silent) < len(infos)):
        named = ", ".join(silent[:5]) + (", …" if len(silent) > 5 else "")
        what = f"{len(silent)} of {len(infos)} episodes have no instruction ({named})"
        found.append(Problem(episode="", what=what, effect="kept as they are"))
    return found


def of_arrays(episode: Episode, limits: Limits | None = None) -> list[Problem]:
    """What an episode's numbers show; no picture is decoded.

    Args:
        episode: one episode.
        limits: per feature the smallest and largest value that its source declares, each of a
            shape that fits the feature's.

    Returns:
        No steps, NaN and infinity, values outside the limits, time stamps that stand still, have
        gaps, or belie the declared rate.
    """
    if len(episode) == 0:
        return [_empty(episode.id)]
    found: list[Problem] = []
    for feature in episode.spec.features:
        if feature.name not in episode.arrays:
            continue
        values = episode.arrays[feature.name]
        if where := first_not_finite(values):
            what = f"'{feature.name}': {where}"
            if feature.role == "other":
                found.append(Problem(episode=episode.id, what=what, effect=_KEPT, severity="note"))
            else:
                found.append(_error(episode.id, what))
        elif limits and feature.name in limits:
            found += _outside(episode.id, feature.name, values, *limits[feature.name])
        if feature.size == 1 and feature.name.rsplit(".", 1)[-1] in _STAMPS:
            found += _of_stamps(episode, feature, values)
    return found


def of_episode(episode: Episode) -> list[Problem]:
    """`of_arrays`, and every picture decoded once, one at a time.

    Returns:
        Also cameras that are black, show one colour, or stand still while the robot moves, and
        pictures that cannot be decoded or are not there (severity `error`).
    """
    return _look(episode)[0]


def check(
    source: Source,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    limits: Limits | None = None,
) -> list[Problem]:
    """Read and decode everything in a source, once, in constant memory.

    Args:
        source: any recording or store.
        workers: episodes looked at at a time, in threads; 0 takes one per core.
        progress: told how many episodes are done, and of how many.
        limits: as `of_arrays` takes them.

    Returns:
        `of_episode` of all, and episodes that are the same as an earlier one: actions, states
        and the first picture of each camera. What `of_listing` finds is told at opening.
    """
    infos = source.episodes
    found: list[Problem] = []
    digests: list[tuple[EpisodeInfo, bytes]] = []

    def one(number: int) -> tuple[list[Problem], bytes]:
        try:
            return _look(source.read(number), limits)
        except DeftError as error:
            return [_error(infos[number].id, str(error))], b""

    results = _in_order(one, len(infos), workers or os.cpu_count() or 1)
    for number, (problems, digest) in enumerate(results):
        found += problems
        if digest:
            digests.append((infos[number], digest))
        if progress is not None:
            progress(number + 1, len(infos))
    return found + twins(digests, "is the same as", "are the same as", "actions, states, pictures")


def twins(
    digests: Iterable[tuple[EpisodeInfo, bytes]],
    one: str = "has the same actions as",
    many: str = "hold the same actions as",
    detail: str = "",
) -> list[Problem]:
    """Episodes with the same digest as an earlier one.

    Twins within a split are named one by one; twins across splits are one finding, because then
    the second split holds nothing new.

    Args:
        digests: every episode with a digest of what is compared.
        one: what is said of one episode.
        many: what is said of several.
        detail: what is equal, added in brackets.
    """
    first: dict[bytes, EpisodeInfo] = {}
    across: dict[tuple[str, str], list[str]] = {}
    found: list[Problem] = []
    tail = f" ({detail})" if detail else ""
    for info, digest in digests:
        twin = first.setdefault(digest, info)
        if twin is info:
            continue
        if twin.split == info.split:
            what = f"{one} {twin.id}{tail}"
            effect = "kept as it is; it counts twice"
            found.append(Problem(episode=info.id, what=what, effect=effect))
        else:
            across.setdefault((twin.split, info.split), []).append(info.id)
    for (before, after), ids in across.items():
        found.append(
            Problem(
                episode="",
                what=f"{len(ids)} episodes of split '{after}' {many} episodes of '{before}' "
                f"({ids[0]}, for one)",
                effect=f"kept as they are; '{after}' is not held-out data",
            )
        )
    return found


def first_not_finite(array: np.ndarray) -> str:
    """Where a table holds NaN or infinity first, as words; empty when it does not."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return ""
    step, *element = (int(i) for i in np.argwhere(~np.isfinite(array))[0])
    place = f", element {', '.join(map(str, element))}" if element else ""
    return f"step {step}{place} is {array[(step, *element)]}"


def _look(episode: Episode, limits: Limits | None = None) -> tuple[list[Problem], bytes]:
    """Findings of one episode, and the digest that its twins would share."""
    found = of_arrays(episode, limits)
    if len(episode) == 0:
        return found, b""
    digest, compared = hashlib.blake2b(digest_size=16), bool(episode.frames)
    for feature in episode.spec.role("action", "state"):
        if feature.name in episode.arrays:
            digest.update(np.ascontiguousarray(episode.arrays[feature.name]).tobytes())
            compared = True
    for name, frames in episode.frames.items():
        feature = episode.spec[name]
        watch, done = CameraWatch(feature), 0
        try:
            for picture in frames:
                expect(picture, feature.shape, feature.dtype, f"'{name}', step {done}")
                if done == 0:
                    digest.update(np.ascontiguousarray(picture).tobytes())
                watch.see(picture)
                done += 1
        except DeftError as error:
            found.append(_error(episode.id, str(error)))
            continue
        if done != len(frames):
            what = f"'{name}' has {done} pictures, {len(frames)} were promised"
            found.append(_error(episode.id, what))
            continue
        found += watch.findings(episode)
    return found, digest.digest() if compared else b""


def _in_order(one: Callable[[int], _T], count: int, workers: int) -> Iterator[_T]:
    """Results for 0, 1, ... in order; only a few wait at a time."""
    numbers = iter(range(count))
    with ThreadPoolExecutor(workers, "deft-check") as pool:
        running: deque[Future[_T]] = deque(
            pool.submit(one, number) for number in islice(numbers, 2 * workers)
        )
        try:
            while running:
                result = running.popleft().result()
                for number in islice(numbers, 1):
                    running.append(pool.submit(one, number))
                yield result
        finally:
            for future in running:
                future.cancel()


def _outside(
    id_: str, name: str, values: np.ndarray, low: np.ndarray, high: np.ndarray
) -> Iterator[Problem]:
    wrong = ((values < low) | (values > high)).reshape(len(values), -1)
    steps = wrong.any(1)
    if steps.any():
        step = int(steps.argmax())
        element = int(wrong[step].argmax())
        value = values.reshape(len(values), -1)[step, element]
        yield Problem(
            episode=id_,
            what=f"'{name}' leaves its declared range in {int(steps.sum())} of {len(values)} "
            f"steps (step {step}, element {element} is {value:.6g})",
            effect=_KEPT,
        )


def _of_stamps(episode: Episode, feature: Feature, values: np.ndarray) -> Iterator[Problem]:
    """Whether time stamps grow, have gaps, and go with the declared rate."""
    if values.dtype.kind not in "fiu" or len(values) < 3:
        return
    unit = 1e-9 if feature.unit == "ns" or feature.name.endswith("_ns") else 1.0
    periods = np.diff(values.reshape(-1).astype(np.float64)) * unit
    if not np.isfinite(periods).all():
        return
    backwards = int((periods <= 0).sum())
    if backwards:
        step = int((periods <= 0).argmax()) + 1
        what = f"'{feature.name}' does not grow in {backwards} steps (step {step}, for one)"
        yield Problem(episode=episode.id, what=what, effect=_KEPT)
    period = float(np.median(periods))
    if period <= 0:
        return
    gaps = int((periods > _GAP * period).sum())
    if gaps:
        step = int(periods.argmax()) + 1
        what = (
            f"'{feature.name}' has {gaps} gaps, the longest {periods.max():.3g} s before step "
            f"{step}, where a step takes {period:.3g} s"
        )
        yield Problem(episode=episode.id, what=what, effect=_KEPT)
    declared = episode.spec.fps
    if declared and abs(1 / period - declared) > _OFF * declared:
        yield Problem(
            episode=episode.id,
            what=f"'{feature.name}' says {1 / period:.4g} steps per second, the recording "
            f"declares {declared:g}",
            effect="kept; the declared rate is used",
        )


def _empty(id_: str) -> Problem:
    return _error(id_, "has no steps")


def _error(id_: str, what: str) -> Problem:
    return Problem(episode=id_, what=what, effect="`deft convert` leaves it out", severity="error")
