"""A made-up task whose pictures hold the object that matters, others that do not, and a map."""

from pathlib import Path

import numpy as np

from deft import spec, store

SIZE, HALF = 64, 3
SPEC = spec.Spec(
    features=(
        spec.Feature(name="camera", role="image", shape=(SIZE, SIZE, 3), dtype="uint8"),
        spec.Feature(name="saliency", role="saliency", shape=(SIZE, SIZE, 1), dtype="float32"),
        spec.Feature(name="action", role="action", shape=(2,), dtype="float32", names=("x", "y")),
    ),
    fps=10.0,
)
ORANGE = (250, 140, 20)
BLUE = (30, 120, 250)
OTHERS = ((40, 210, 60), (240, 230, 240))


def episode(number: int, length: int, *, is_mirrored: bool = True) -> spec.Episode:
    """Squares drift; the action points from the middle of the picture to the orange one.

    A larger blue square lies opposite to it, which gives the orange one's place away and is easier
    to see; without `is_mirrored` it drifts by itself and says nothing.
    """
    rng = np.random.default_rng(number)
    places = rng.uniform(10, SIZE - 10, (4, 2))  # orange, blue, others
    speeds = rng.normal(0, 1.0, (4, 2))
    ground = rng.integers(40, 110, (SIZE, SIZE, 3))
    pictures, maps, actions = [], [], []
    for _ in range(length):
        picture = (ground + rng.integers(-8, 9, ground.shape)).clip(0, 255).astype(np.uint8)
        if is_mirrored:
            places[1] = SIZE - 1 - places[0]
        for place, colour in zip(places[2:], OTHERS, strict=True):
            picture[_box(place, HALF)] = colour
        picture[_box(places[1], 2 * HALF)] = BLUE
        picture[_box(places[0], HALF)] = ORANGE
        shown = np.zeros((SIZE, SIZE, 1), np.float32)
        shown[_box(places[0], HALF + 3)] = 1.0
        pictures.append(picture)
        maps.append(shown)
        actions.append((places[0] - SIZE / 2) / (SIZE / 2) + rng.normal(0, 0.05, 2))
        places = np.clip(places + speeds, 8, SIZE - 9)
    return spec.Episode(
        spec=SPEC,
        id=f"episode-{number:03d}",
        arrays={"action": np.array(actions, np.float32)},
        frames={
            "camera": spec.ArrayFrames(np.array(pictures)),
            "saliency": spec.ArrayFrames(np.array(maps)),
        },
        task="find the orange square",
    )


def write_store(path: Path, episodes: int, length: int = 10, *, is_mirrored: bool = True) -> Path:
    """A finished store, a fifth of it held out."""
    with store.Writer(path, SPEC, store.WriteConfig(val_fraction=0.2), {"made by": "tests"}) as w:
        made = [episode(number, length, is_mirrored=is_mirrored) for number in range(episodes)]
        for each in made:
            w.add(each)
        w.finish([each.id for each in made])
    return path


def _box(place: np.ndarray, half: int) -> tuple[slice, slice]:
    row, column = place.astype(int)
    return slice(row - half, row + half + 1), slice(column - half, column + half + 1)
