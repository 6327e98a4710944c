"""What is no plain picture, as colours: depth, saliency over its camera, feature maps by norm."""

from collections.abc import Sequence

import cv2
import numpy as np

_HEIGHT = 96
"""Least height at which small feature maps are shown."""
_OPACITY = 0.65


def colour_depth(pictures: Sequence[np.ndarray]) -> tuple[list[np.ndarray], float, float]:
    """Depth as colours on one scale, near red, far blue, black where nothing was measured.

    Args:
        pictures: uint16 `H W 1`, of one camera.

    Returns:
        uint8 `H W 3` each, and the depths at both ends of the scale: 1 % and 99 % of what was
        measured, in the unit of the data.
    """
    measured = np.concatenate([each[each > 0][::7] for each in pictures] or [np.zeros(0)])
    low, high = np.quantile(measured, (0.01, 0.99)) if measured.size else (0.0, 1.0)
    shown: list[np.ndarray] = []
    for each in pictures:
        scaled = 1 - np.clip((each[..., 0] - low) / max(high - low, 1e-9), 0, 1)
        colours = _colours(scaled, cv2.COLORMAP_TURBO)
        colours[each[..., 0] == 0] = 0
        shown.append(colours)
    return shown, float(low), float(high)


def lay_over(picture: np.ndarray, saliency: np.ndarray) -> np.ndarray:
    """A picture in grey with its saliency map over it, in colour where it is strong.

    Args:
        picture: uint8 `H W C`.
        saliency: uint8 `h w 1`, or float 0 to 1; stretched to the picture's height and width.
    """
    height, width = picture.shape[:2]
    strength = saliency[..., 0].astype(np.float32)
    if saliency.dtype == np.uint8:
        strength /= 255
    strength = np.clip(cv2.resize(strength, (width, height)), 0, 1)[..., None]  # H W 1
    grey = picture.mean(2, keepdims=True).repeat(3, 2)  # H W 3
    colours = _colours(strength[..., 0], cv2.COLORMAP_JET)
    share = _OPACITY * np.sqrt(strength)
    return (grey * (1 - share) + colours * share).astype(np.uint8)


def colour_norms(maps: np.ndarray) -> list[np.ndarray]:
    """The norm of every cell of feature maps, on one scale, dark is small.

    Args:
        maps: `T Hf Wf C`.

    Returns:
        uint8 `H W 3` each, cells enlarged to whole pixels.
    """
    norms = np.linalg.norm(maps.astype(np.float32), axis=-1)  # T Hf Wf
    norms = np.nan_to_num(norms, posinf=0.0)
    low, high = float(norms.min()), float(norms.max())
    scaled = (norms - low) / max(high - low, 1e-9)
    times = max(1, -(-_HEIGHT // norms.shape[1]))
    return [
        _colours(each, cv2.COLORMAP_VIRIDIS).repeat(times, 0).repeat(times, 1) for each in scaled
    ]


def _colours(values: np.ndarray, scale: int) -> np.ndarray:
    """Numbers from 0 to 1, `H W`, as uint8 `H W 3`, RGB."""
    mapped = cv2.applyColorMap((values * 255).astype(np.uint8), scale)
    return np.ascontiguousarray(mapped[..., ::-1])
