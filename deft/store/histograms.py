"""Statistics of pictures: histograms of some of them, added up over train episodes.

The sample is every 8th valid step of an episode, the first valid one included, as a reader decodes
it. It depends on nothing but the episode, so it stays what it was when a store grows.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from deft.spec import Feature, Stats

EVERY = 8
SAMPLE = f"every {EVERY}th valid step of each train episode"


@dataclass(frozen=True)
class Bins:
    """How values are counted."""

    count: int
    limit: float
    """What the last bin ends at; the first begins at 0."""
    exact: bool
    """Every bin holds one value only."""

    @property
    def width(self) -> float:
        return self.limit / self.count

    @property
    def values(self) -> np.ndarray:
        """What stands for each bin, float64: its value, or its middle."""
        numbers = np.arange(self.count, dtype=np.float64)
        return numbers if self.exact else (numbers + 0.5) * self.width


def bins_of(feature: Feature) -> Bins | None:
    """256 bins of one value for 8 bits; 4096 of equal width for 16 bits and for saliency from 0
    to 1; None for pictures whose range is not known."""
    if feature.dtype == "uint8":
        return Bins(256, 256.0, True)
    if feature.dtype == "uint16":
        return Bins(4096, 65536.0, False)
    if feature.dtype == "float32" and feature.role == "saliency":
        return Bins(4096, 1.0, False)
    return None


def is_sampled(valid: np.ndarray) -> np.ndarray:
    """Which steps of an episode are counted: bool `T` from bool `T`."""
    chosen = np.zeros(len(valid), np.bool_)
    chosen[np.flatnonzero(valid)[::EVERY]] = True
    return chosen


def count(picture: np.ndarray, bins: Bins) -> np.ndarray:
    """How many pixels of `H W C` are in each bin: int64 `C bins`."""
    if picture.dtype.kind == "f":
        # The last bin holds its upper end too; cv2 would leave out what lies there.
        picture = np.clip(picture, 0.0, np.nextafter(np.float32(bins.limit), np.float32(0)))
    ranges = [0.0, bins.limit]
    found = [
        cv2.calcHist([picture], [channel], None, [bins.count], ranges).ravel()
        for channel in range(picture.shape[2])
    ]
    return np.asarray(found).astype(np.int64)


def summary(counts: np.ndarray, feature: Feature) -> Stats | None:
    """Statistics per channel, in the values of the pictures; None when nothing was counted.

    For 8 bits all are exact over the sample. Otherwise mean and quantiles are within half a bin,
    and smallest and largest are the outer edges of the outermost bins.

    Args:
        counts: int64 `C bins`.
        feature: whose they are.
    """
    bins = bins_of(feature)
    pixels = int(counts[0].sum())
    if bins is None or pixels == 0:
        return None
    share = counts / pixels
    mean = share @ bins.values
    spread = ((bins.values - mean[:, None]) ** 2 * share).sum(1)  # C
    held = counts > 0
    first, last = held.argmax(1), bins.count - 1 - held[:, ::-1].argmax(1)
    running = np.cumsum(counts, 1)
    # The least value that so many pixels do not exceed; whole numbers, so nothing is rounded.
    low, high = (bins.values[(running * 100 >= percent * pixels).argmax(1)] for percent in (1, 99))
    edge = 0 if bins.exact else 1
    return Stats(
        mean=mean,
        std=np.where(first == last, 0.0, np.sqrt(spread)) if bins.exact else np.sqrt(spread),
        min=first * bins.width,
        max=(last + edge) * bins.width,
        q01=low,
        q99=high,
        count=pixels // (feature.height * feature.width),
    )
