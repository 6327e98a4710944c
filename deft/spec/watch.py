"""Looks at the pictures of one camera as they pass by: black, of one colour, or frozen."""

import math

import numpy as np

from deft.spec.episode import Episode
from deft.spec.feature import Feature
from deft.spec.source import Problem

_BLACK = 16
"""Largest value of a picture of one colour that counts as black: that of video."""
_FLAT = 4
"""Largest difference within each channel of a picture that counts as one colour."""
_SAME = 8
"""Largest difference between pictures that count as the same: a video codec may change a still
picture that much, while the noise of a camera and whatever moves change some pixel more."""
_STILL_S = 1.0
_STILL_STEPS = 10
"""A camera stands still after this time, or so many steps when the rate is not known."""
_MOVES = 0.25
"""Part of its range in the episode that some element of the state goes through in a movement."""

_GRIDS = ((16, 16), (16, 1), (1, 1))
"""Every how many rows and columns are looked at, until one look is enough."""


class CameraWatch:
    """What one camera shows over one episode; keeps one picture and a few numbers.

    Give it every picture in order, at any size, then ask for `findings`.
    """

    def __init__(self, feature: Feature) -> None:
        self._feature = feature
        self._before: np.ndarray | None = None
        self._count = 0
        self._dark = 0
        self._flat = 0
        self._run_start = 0
        self._longest = (0, 0)
        """First step of the longest run of equal pictures, and the step after its last."""

    def see(self, picture: np.ndarray) -> None:
        """The next picture `H W C`, of any dtype; it is kept until the next one comes."""
        is_exact = picture.dtype != np.uint8  # depth, or a map from 0 to 1
        if _is_flat(picture, 0 if is_exact else _FLAT):
            self._flat += 1
            self._dark += float(picture.max(initial=0)) <= (0 if is_exact else _BLACK)
        before = self._before
        if before is None or not _same(before, picture, 0 if is_exact else _SAME):
            self._run_start = self._count
        self._count += 1
        if self._count - self._run_start > self._longest[1] - self._longest[0]:
            self._longest = (self._run_start, self._count)
        self._before = picture

    def findings(self, episode: Episode) -> list[Problem]:
        """What was seen, once every picture of the episode has been."""
        name, count = self._feature.name, self._count
        if count == 0:
            return []
        empty = "empty" if self._feature.role == "saliency" else "black"
        if self._dark == count:
            return [_found(episode, f"'{name}' is {empty} in all {count} pictures")]
        found: list[Problem] = []
        if self._feature.role != "saliency":
            if self._flat == count:
                return [_found(episode, f"'{name}' shows one colour in all {count} pictures")]
            if self._dark:
                what = f"'{name}' is black in {self._dark} of {count} pictures"
                found.append(_found(episode, what))
        start, stop = self._longest
        still = math.ceil(_STILL_S * episode.spec.fps) if episode.spec.fps else _STILL_STEPS
        if stop - start >= max(3, min(still, count)) and _moves(episode, start, stop):
            what = (
                f"'{name}' stands still from step {start} to {stop - 1} of {count} while the "
                "robot moves"
            )
            found.append(_found(episode, what))
        return found


def _is_flat(picture: np.ndarray, most: int) -> bool:
    # A few pixels tell most pictures from a flat one.
    for down, across in _GRIDS:
        # Down the columns first, which are long: numpy is slow along an axis of three.
        rows = picture[::down, ::across]
        high = rows.max(0).max(0) if rows.size else rows
        if rows.size and float((high - rows.min(0).min(0)).max()) > most:
            return False
    return True


def _same(one: np.ndarray, other: np.ndarray, most: int) -> bool:
    if one.shape != other.shape:
        return False
    for down, across in _GRIDS:
        a, b = one[::down, ::across], other[::down, ::across]
        if float((np.maximum(a, b) - np.minimum(a, b)).max(initial=0)) > most:
            return False
    return True


def _moves(episode: Episode, start: int, stop: int) -> bool:
    """Whether states, or actions where there is none, change between two steps."""
    for role in ("state", "action"):
        features = [f for f in episode.spec.role(role) if f.name in episode.arrays]
        for feature in features:
            values = episode.arrays[feature.name].reshape(len(episode), -1).astype(np.float64)
            if not np.isfinite(values).all():
                continue
            whole = np.ptp(values, axis=0)
            if ((np.ptp(values[start:stop], axis=0) >= _MOVES * whole) & (whole > 1e-6)).any():
                return True
        if features:
            return False
    return False


def _found(episode: Episode, what: str) -> Problem:
    return Problem(episode=episode.id, what=what, effect="kept as it is")
