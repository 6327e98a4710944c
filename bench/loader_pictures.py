"""The pictures that `bench/loader.py` and its like are run on: out of a recording, or made up."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deft import formats, spec

RECORDING = "g1_pick_bottle_lerobot_v21"
"""The recording looked for in the folder that DEFT_TEST_DATA names."""


@dataclass(frozen=True)
class Layout:
    """What the pictures of a sample are."""

    name: str
    height: int
    width: int
    cameras: tuple[str, ...]
    episodes: int = 8
    length: int = 50
    kind: str = "textures"


class Made:
    """A `spec.Source` of made-up pictures: `textures` with moving discs and fresh noise, sharp
    enough for JPEGs larger than a robot's, or `waves` of colour that drift smoothly behind a
    moving blob, with noise that stays, as kind to video codecs as a tidy table top."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.spec = _spec(layout, 14, 14, 10)
        self.name = "made-up pictures"
        self.problems = ()
        self.episodes = [
            spec.EpisodeInfo(id=f"{n}", length=layout.length, task="look")
            for n in range(layout.episodes)
        ]

    def read(self, index: int) -> spec.Episode:
        rng = np.random.default_rng(index)
        length = self.layout.length
        return spec.Episode(
            spec=self.spec,
            id=f"{index}",
            arrays={
                name: rng.normal(size=(length, 14)).astype(np.float32)
                for name in ("state", "action")
            },
            frames={
                name: spec.ArrayFrames(self.pictures(index, camera))
                for camera, name in enumerate(self.layout.cameras)
            },
            task="look",
        )

    def pictures(self, episode: int, camera: int) -> np.ndarray:
        """All of one camera in one episode, uint8 `T H W C`."""
        rng = np.random.default_rng((episode, camera))
        draw = waves if self.layout.kind == "waves" else textures
        return draw(self.layout, rng)


class Recorded:
    """A `spec.Source` of a recording's first camera at the size of a layout, held in memory.

    The layout's first camera is the whole picture, resized; its second one, if it has any, is cut
    out of the middle of the same picture at full resolution. State and action are the recording's.

    Args:
        layout: what the pictures are to be.
        recording: of which every episode is read that has `steps` steps.
        steps: the first so many of each.
    """

    def __init__(self, layout: Layout, recording: Path, steps: int) -> None:
        source = formats.open(recording)
        camera = source.spec.role("image")[0].name
        state, action = source.spec.role("state")[0], source.spec.action()
        fps = source.spec.fps
        assert fps is not None
        self.spec = _spec(layout, state.shape[0], action.shape[0], fps)
        self.name = recording.name
        self.problems = ()
        wanted = [n for n, info in enumerate(source.episodes) if info.length >= steps]
        if not wanted:
            raise SystemExit(f"{recording}: no episode has {steps} steps. Fix: lower --steps.")
        self.episodes = [
            spec.EpisodeInfo(id=f"{n}", length=steps, task="look") for n in range(len(wanted))
        ]
        self._held: list[list[np.ndarray]] = []
        self._arrays: list[dict[str, np.ndarray]] = []
        for number in wanted:
            episode = source.read(number)
            first = itertools.islice(episode.frames[camera], steps)
            shown = [fitted(picture, layout) for picture in first]
            self._held.append([np.stack(each) for each in zip(*shown, strict=True)])
            arrays = {"state": episode.arrays[state.name], "action": episode.arrays[action.name]}
            self._arrays.append(
                {name: values[:steps].astype(np.float32) for name, values in arrays.items()}
            )

    def read(self, index: int) -> spec.Episode:
        return spec.Episode(
            spec=self.spec,
            id=f"{index}",
            arrays=self._arrays[index],
            frames={
                name: spec.ArrayFrames(self.pictures(index, camera))
                for camera, name in enumerate(feature.name for feature in self.spec.role("image"))
            },
            task="look",
        )

    def pictures(self, episode: int, camera: int) -> np.ndarray:
        """All of one camera in one episode, uint8 `T H W C`."""
        return self._held[episode][camera]


Pictures = Made | Recorded


def fitted(picture: np.ndarray, layout: Layout) -> list[np.ndarray]:
    """One recorded picture `H W C` for every camera of a layout; see `Recorded`."""
    height, width = layout.height, layout.width
    found = [cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)]
    if len(layout.cameras) > 1:
        top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
        if top < 0 or left < 0:
            raise SystemExit(
                f"A recorded picture of {picture.shape[0]}x{picture.shape[1]} is too small to cut "
                f"{height}x{width} out of it. Fix: choose another --recording."
            )
        found.append(picture[top : top + height, left : left + width].copy())
    return found


def recording(told: Path | None) -> Path | None:
    """Where real pictures are: as told, or among the real data sets; None without either."""
    folder = Path(os.environ.get("DEFT_TEST_DATA", "../shared/data"))
    if told is None and (folder / RECORDING).is_dir():
        return folder / RECORDING
    return told


def source_of(layout: Layout, real: Path | None, steps: int) -> Pictures:
    """The pictures that a layout asks for."""
    if layout.kind != "real":
        return Made(layout)
    if real is None:
        raise SystemExit(
            "There is no recording to take pictures from. Fix: name one with --recording, or the "
            "folder with the real data sets in DEFT_TEST_DATA; or give --pictures textures."
        )
    return Recorded(layout, real, steps)


def _spec(layout: Layout, state: int, action: int, fps: float) -> spec.Spec:
    shape = (layout.height, layout.width, 3)
    pictures = [
        spec.Feature(name=name, role="image", shape=shape, dtype="uint8") for name in layout.cameras
    ]
    widths: Sequence[tuple[str, int]] = (("state", state), ("action", action))
    numbers = [
        spec.Feature(name=name, role=name, shape=(width,), dtype="float32")
        for name, width in widths
    ]
    return spec.Spec(features=(*pictures, *numbers), fps=fps)


def textures(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Fixed textures, moving discs and fresh noise, uint8 `T H W C`."""
    height, width, length = layout.height, layout.width, layout.length
    scene = np.zeros((height, width, 3), np.float32)
    for octave in range(2, 9):  # amplitude falls with frequency, as in photographs
        cells = rng.normal(size=(2**octave, 2**octave, 3)).astype(np.float32)
        scene += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC) / octave**1.5
    scene = 120 + 38 * scene / scene.std()
    found = np.empty((length, height, width, 3), np.uint8)
    for step in range(length):
        shown = scene.copy()
        for disc in range(4):
            centre = (
                int(width * (0.5 + 0.4 * np.sin(step / 9 + disc))),
                int(height * (0.5 + 0.4 * np.cos(step / 7 + 2 * disc))),
            )
            colour = tuple(float(c) for c in rng.integers(0, 255, 3))
            cv2.circle(shown, centre, 10 + 4 * disc, colour, -1)
        found[step] = np.clip(shown + rng.normal(0, 2, shown.shape), 0, 255)
    return found


def waves(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """Drifting colours, a moving blob and noise that stays, uint8 `T H W C`."""
    y, x = np.mgrid[0 : layout.height, 0 : layout.width].astype(np.float32)
    y, x = y[..., None] / layout.height, x[..., None] / layout.width  # H W 1
    grain = rng.normal(0, 3, (layout.height, layout.width, 1))
    across, down = rng.uniform(1, 3, (2, 3))
    drift = rng.uniform(0.002, 0.01, 3)  # waves per step
    phase = rng.uniform(0, 2 * np.pi, 2)
    found = np.empty((layout.length, layout.height, layout.width, 3), np.uint8)
    for step in range(layout.length):
        shown = 128 + 70 * np.sin(2 * np.pi * (across * x + down * y + drift * step))
        place = 0.5 + 0.35 * np.sin(step / 15 + phase)
        blob = np.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / 0.01)
        shown = shown * (1 - blob) + blob * np.asarray([240, 60, 40])
        found[step] = np.clip(shown + grain, 0, 255)
    return found
