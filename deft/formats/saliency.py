"""Saliency maps from the points people looked at, or from the centres of boxes.

The map of a frame is the sum of a round Gaussian at every point of the frame and of its
neighbours; those of neighbours weigh less and are wider. Source: gaze regularisation, GABRIL.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deft.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a point becomes a map: `g_i = Σ_{j=-k..k} α^|j| N(points of frame i+j, (γ β^-|j|)² I)`.

    N is the density of a normal distribution. Then each map is stretched to 0 to 1.
    """

    k: int = 2
    """Neighbouring frames on either side whose points count."""
    alpha: float = 0.7
    """Weight of a neighbour, per frame of distance."""
    beta: float = 0.7
    """A neighbour's Gaussian is wider by 1/beta per frame of distance."""
    gamma: float = 0.06
    """Standard deviation in the frame itself, as a share of the picture: of its width in x, of its
    height in y, so that it is round where the picture is squashed to a square."""

    def __post_init__(self) -> None:
        if not 0 <= self.k <= 100:
            raise ConfigError(f"k is {self.k}.\nFix: give 0 to 100 frames.")
        for name, low, high in (("alpha", 0, 1), ("beta", 0.01, 1), ("gamma", 1e-4, 10)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value}.\nFix: give a number from {low} to {high}.")


@dataclass(frozen=True)
class PointMaps:
    """The maps of one episode, each made when it is asked for; satisfies `spec.Frames`.

    Values are float32 in 0 to 1. A frame without points in its window has a map of zeros.
    """

    points: Sequence[np.ndarray]
    """One array `n 2` per frame: x and y of each point, 0 to 1 from the left and from the top."""
    height: int
    width: int
    spread: Spread
    first: int = 0
    """The frame of the first map; points of those before it still count."""

    def __len__(self) -> int:
        return len(self.points) - self.first

    def __getitem__(self, index: int, /) -> np.ndarray:
        step, spread = range(self.first, len(self.points))[index], self.spread
        centres: list[np.ndarray] = []
        sigmas: list[float] = []
        weights: list[float] = []
        for j in range(-spread.k, spread.k + 1):
            held = self.points[step + j] if 0 <= step + j < len(self.points) else ()
            if len(held):
                sigma = spread.gamma * spread.beta ** -abs(j)
                centres.append(np.asarray(held, np.float64))
                sigmas += [sigma] * len(held)
                weights += [spread.alpha ** abs(j) / (2 * math.pi * sigma**2)] * len(held)
        shape = (self.height, self.width, 1)
        if not centres:
            return np.zeros(shape, np.float32)
        at, sigma = np.concatenate(centres), np.array(sigmas)
        # A round Gaussian is the product of one in x and one in y: n (H + W) exponentials.
        x = _bell(self.width, at[:, 0], sigma)
        y = _bell(self.height, at[:, 1], sigma) * np.array(weights)[:, None]
        found = y.T @ x
        low, high = found.min(), found.max()
        scale = 1 / (high - low) if high > low else 0.0
        return ((found - low) * scale).astype(np.float32).reshape(shape)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[step] for step in range(len(self)))


def _bell(count: int, centres: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """`n count`: a bell for every centre over the middles of `count` pixels."""
    pixels = (np.arange(count) + 0.5) / count
    return np.exp(-0.5 * ((pixels - centres[:, None]) / sigmas[:, None]) ** 2)
