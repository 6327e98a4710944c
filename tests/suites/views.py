"""A store with every kind of picture: colour, depth, a saliency map, feature maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deft import store
from deft.spec import Feature, Spec
from suites.memory_source import DrawnFrames, MemorySource, picture

HEIGHT, WIDTH = 40, 56


def rich_spec() -> Spec:
    def frames(name: str, role: str, channels: int, dtype: str, unit: str = "") -> Feature:
        shape = (HEIGHT, WIDTH, channels)
        return Feature(name=name, role=role, shape=shape, dtype=dtype, unit=unit)

    return Spec(
        features=(
            frames("image", "image", 3, "uint8"),
            frames("wrist/depth", "depth", 1, "uint16", "mm"),
            frames("saliency", "saliency", 1, "uint8"),
            Feature(name="dinov3", role="feature_map", shape=(3, 4, 8), dtype="float16"),
            Feature(name="state", role="state", shape=(2,), dtype="float32", names=("x", "y")),
            Feature(name="action", role="action", shape=(2,), dtype="float32", names=("x", "y")),
        ),
        fps=10.0,
    )


class _Source(MemorySource):
    def _frames(self, index: int, length: int, feature: Feature) -> DrawnFrames:
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]

        def draw(step: int) -> np.ndarray:
            if feature.role == "saliency":
                spot = np.exp(-((y - 12) ** 2 + (x - 14 - step) ** 2) / 40)
                return (255 * spot).astype(np.uint8)[..., None]
            if feature.role == "depth":
                return (400 + 3 * y + x + step).astype(np.uint16)[..., None]
            return picture(index, step, HEIGHT, WIDTH)

        return DrawnFrames(length, draw)


def rich_store(path: Path, lengths: Sequence[int]) -> Path:
    store.write(path, _Source(lengths=lengths, spec=rich_spec()), store.WriteConfig())
    return path
