"""Depth that LeRobot keeps as video: 12-bit codes, evenly spaced in depth or in its logarithm.

Source: huggingface/lerobot, `datasets/depth_utils.py` and `configs/video.py`, 2026.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_CODES = 4096


@dataclass(frozen=True)
class DepthCodes:
    """What each code of a depth video means."""

    depth_min: float
    """Metres at code 0."""
    depth_max: float
    """Metres at the largest code."""
    shift: float
    """Metres added before the logarithm is taken."""
    use_log: bool

    @staticmethod
    def read(info: Mapping[str, Any]) -> "DepthCodes | None":
        """From the `info` of a feature; None when it does not say all of it, or something odd."""
        values = {
            name: info.get(name, info.get(f"video.{name}"))
            for name in ("depth_min", "depth_max", "shift", "use_log")
        }
        low, high, shift = (values[name] for name in ("depth_min", "depth_max", "shift"))
        if not isinstance(values["use_log"], bool):
            return None
        if not all(
            type(each) in (int, float) and math.isfinite(each) for each in (low, high, shift)
        ):
            return None
        if not (0 <= low < high <= 65.535 and low + shift > 0):
            return None
        return DepthCodes(float(low), float(high), float(shift), values["use_log"])

    def millimetres(self) -> np.ndarray:
        """Depth by code, uint16 `4096`."""
        share = np.arange(_CODES) / (_CODES - 1)
        if self.use_log:
            low, high = math.log(self.depth_min + self.shift), math.log(self.depth_max + self.shift)
            metres = np.exp(low + share * (high - low)) - self.shift
        else:
            metres = self.depth_min + share * (self.depth_max - self.depth_min)
        return np.rint(1000 * np.clip(metres, self.depth_min, self.depth_max)).astype(np.uint16)


class DepthPicture:
    """Makes the depth picture `H W 1` of a decoded frame; the brightness plane holds the codes."""

    def __init__(self, codes: DepthCodes) -> None:
        self._millimetres = codes.millimetres()

    def __call__(self, frame: Any) -> np.ndarray:
        plane = frame.planes[0]
        rows = np.frombuffer(plane, "<u2").reshape(plane.height, plane.line_size // 2)
        return self._millimetres[np.minimum(rows[:, : plane.width], _CODES - 1)][..., None]


def is_twelve_bits(pixel_format: str) -> bool:
    """Whether frames of this format hold 12-bit numbers in their first plane."""
    return pixel_format.endswith("12le")
