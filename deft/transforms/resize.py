"""Pictures at another size: how it is planned, done, recorded, and done again when serving."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from deft.errors import ConfigError, nearest
from deft.spec import FILTERS, MODES, Feature, Frames, Observation, Resized, Spec

_DTYPES = ("uint8", "uint16", "float32")
_BITS = 22
"""Binary places of Pillow's weights for 8-bit pictures."""
_BLOCK = 16
"""Rows of output computed at a time: their windows into the input overlap almost wholly."""


def resized_feature(
    feature: Feature, height: int, width: int, mode: str = "squash", filter_: str = "auto"
) -> Feature:
    """A picture feature at another size, with the way to it recorded.

    Depth takes the nearest pixel whatever is asked, since a mean of two distances is the distance
    of nothing; saliency takes what `auto` means, since other filters leave its range.

    Args:
        feature: image, depth or saliency.
        height: pixels to come.
        width: pixels to come.
        mode: one of `spec.MODES`.
        filter_: one of `spec.FILTERS`, or `auto`: a mean of the area when both axes shrink, else
            linear.

    Raises:
        ConfigError: a word is unknown, or pictures of this dtype cannot be resized so.
    """
    for name, value, known in (("mode", mode, MODES), ("filter", filter_, ("auto", *FILTERS))):
        if value not in known:
            raise ConfigError(f"resize {name} '{value}': {nearest(value, known)}\nFix: correct it.")
    if (height, width) == (feature.height, feature.width):
        return feature
    if feature.role == "depth":
        filter_ = "nearest"
    elif filter_ == "auto" or feature.role == "saliency":
        _, _, rows, columns = _cut(feature.height, feature.width, height, width, mode)
        down, across = _content(rows, columns, height, width, mode)
        filter_ = "area" if down <= rows and across <= columns else "linear"
    if filter_ != "nearest" and feature.dtype not in _DTYPES:
        raise ConfigError(
            f"'{feature.name}' is {feature.describe()}, which cannot be resized.\n"
            f"Fix: keep its size, or give it as {', '.join(_DTYPES)}."
        )
    step = Resized(height=feature.height, width=feature.width, mode=mode, filter=filter_)
    shape = (height, width, feature.channels)
    return replace(feature, shape=shape, resized=(*feature.resized, step))


def resize(picture: np.ndarray, height: int, width: int, mode: str, filter_: str) -> np.ndarray:
    """One picture at another size.

    `lanczos` and `cubic` widen with the shrinking, as Pillow's do, and give Pillow's very pixels
    for uint8. `linear` reads four pixels however much it shrinks.

    Args:
        picture: `H W C`, uint8, uint16 or float32; any dtype for `nearest`.
        height: pixels to come.
        width: pixels to come.
        mode: one of `spec.MODES`; bars are 0.
        filter_: one of `spec.FILTERS`.

    Returns:
        A new array `height width C` of the same dtype.
    """
    top, left, rows, columns = _cut(picture.shape[0], picture.shape[1], height, width, mode)
    picture = picture[top : top + rows, left : left + columns]
    down, across = _content(rows, columns, height, width, mode)
    content = _FILTERS[filter_](picture, down, across)
    if (down, across) == (height, width):
        return content
    result = np.zeros((height, width, picture.shape[2]), picture.dtype)
    top, left = (height - down) // 2, (width - across) // 2
    result[top : top + down, left : left + across] = content
    return result


def resize_as(feature: Feature, picture: np.ndarray) -> np.ndarray:
    """A picture brought to the feature's size by the steps that it records.

    Args:
        feature: what is wanted.
        picture: `H W C` or `To H W C`, of the feature's size or of one before in `resized`.

    Returns:
        The picture at the feature's size; as it came when its size is no recorded one.
    """
    shape = picture.shape[-3:]
    if shape == feature.shape or shape not in feature.shapes:
        return picture
    if picture.ndim > 3:
        return np.stack([resize_as(feature, each) for each in picture])
    # Two steps may begin at one size; the earliest has all that comes after it.
    first = feature.shapes.index(shape, 1) - 1
    ends = [*((each.height, each.width) for each in feature.resized[1:])]
    ends.append((feature.height, feature.width))
    for step, (height, width) in zip(feature.resized[first:], ends[first:], strict=True):
        picture = resize(picture, height, width, step.mode, step.filter)
    return picture


def fit_pictures(observation: Mapping[str, Any], spec: Spec) -> Observation:
    """An observation whose pictures have the sizes that a policy takes.

    Pictures of a size that the contract records as the source's are resized as the training data
    was; everything else passes as it is, right or wrong.

    Args:
        observation: arrays with or without the axis To, and text.
        spec: the policy's contract.
    """
    fitted = dict(observation)
    for feature in spec.features:
        value = fitted.get(feature.name)
        if not feature.resized or not isinstance(value, np.ndarray) or value.ndim not in (3, 4):
            continue
        if value.dtype.name == feature.dtype:
            fitted[feature.name] = resize_as(feature, value)
    return fitted


@dataclass(frozen=True)
class ResizedFrames:
    """The pictures of a camera, resized when asked for; satisfies `spec.Frames`."""

    frames: Frames
    feature: Feature
    """What they become."""

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int, /) -> np.ndarray:
        return resize_as(self.feature, self.frames[index])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (resize_as(self.feature, picture) for picture in self.frames)


def _cut(rows: int, columns: int, height: int, width: int, mode: str) -> tuple[int, int, int, int]:
    """Top, left, rows and columns of what is kept of the picture."""
    if mode != "crop":
        return 0, 0, rows, columns
    if rows * width > columns * height:  # too tall
        kept = max(1, (2 * columns * height + width) // (2 * width))
        return (rows - kept) // 2, 0, kept, columns
    kept = max(1, (2 * rows * width + height) // (2 * height))
    return 0, (columns - kept) // 2, rows, kept


def _content(rows: int, columns: int, height: int, width: int, mode: str) -> tuple[int, int]:
    """Height and width of the picture within its bars."""
    if mode != "pad":
        return height, width
    if rows * width > columns * height:  # bars at the sides
        return height, max(1, (2 * columns * height + rows) // (2 * rows))
    return max(1, (2 * rows * width + columns) // (2 * columns)), width


def _by_cv2(interpolation: int) -> Callable[[np.ndarray, int, int], np.ndarray]:
    def run(picture: np.ndarray, height: int, width: int) -> np.ndarray:
        result = cv2.resize(picture, (width, height), interpolation=interpolation)
        return result.reshape(height, width, picture.shape[2])  # cv2 drops a single channel

    return run


def _nearest(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    rows = (np.arange(height) * 2 + 1) * picture.shape[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * picture.shape[1] // (2 * width)
    return picture[rows[:, None], columns]


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)  # Keys 1981 with a = -0.5
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


_KERNELS = {"lanczos": (_lanczos, 3.0), "cubic": (_cubic, 2.0)}


@lru_cache(64)
def _weights(before: int, after: int, kernel: str, whole: bool) -> np.ndarray:
    """How much each old pixel counts in each new one, float64 `after before`; Pillow's rule.

    Whole weights are in units of 2 ** -22, which float64 sums without loss.
    """
    curve, reach = _KERNELS[kernel]
    scale = before / after
    stretch = max(scale, 1.0)
    centre = (np.arange(after)[:, None] + 0.5) * scale
    low = np.maximum((centre - reach * stretch + 0.5).astype(np.int64), 0)
    high = np.minimum((centre + reach * stretch + 0.5).astype(np.int64), before)
    pixel = np.arange(before)[None]
    weights = curve((pixel - centre + 0.5) / stretch)
    weights = np.where((pixel >= low) & (pixel < high), weights, 0)
    weights /= weights.sum(1, keepdims=True)
    if whole:
        weights = np.trunc(weights * (1 << _BITS) + np.copysign(0.5, weights))
    weights.setflags(write=False)
    return weights


def _by_kernel(kernel: str) -> Callable[[np.ndarray, int, int], np.ndarray]:
    def run(picture: np.ndarray, height: int, width: int) -> np.ndarray:
        whole = picture.dtype == np.uint8
        planes = picture.transpose(2, 0, 1).astype(np.float64)  # C H W
        if width != picture.shape[1]:
            planes = _weighed(planes, _weights(picture.shape[1], width, kernel, whole), whole, 2)
        if height != picture.shape[0]:
            planes = _weighed(planes, _weights(picture.shape[0], height, kernel, whole), whole, 1)
        if picture.dtype.kind == "u":
            planes = np.clip(np.floor(planes + 0.5), 0, np.iinfo(picture.dtype).max)
        return np.ascontiguousarray(planes.transpose(1, 2, 0).astype(picture.dtype))

    return run


def _weighed(planes: np.ndarray, weights: np.ndarray, whole: bool, axis: int) -> np.ndarray:
    """New rows (axis 1) or columns (axis 2) of `C H W`, a block at a time."""
    blocks: list[np.ndarray] = []
    for begin in range(0, len(weights), _BLOCK):
        part = weights[begin : begin + _BLOCK]
        used = np.flatnonzero(part.any(0))
        low, high = used[0], used[-1] + 1
        if axis == 1:
            blocks.append(part[:, low:high] @ planes[:, low:high])
        else:
            blocks.append(planes[:, :, low:high] @ part[:, low:high].T)
    result = np.concatenate(blocks, axis)
    if whole:  # Pillow keeps 8 bits between the two passes
        result = np.clip(np.floor(result / (1 << _BITS) + 0.5), 0, 255)
    return result


_FILTERS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "area": _by_cv2(cv2.INTER_AREA),
    "linear": _by_cv2(cv2.INTER_LINEAR),
    "nearest": _nearest,
    "lanczos": _by_kernel("lanczos"),
    "cubic": _by_kernel("cubic"),
}
