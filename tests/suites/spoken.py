"""A made-up task that only its instruction decides: go left, or go right."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deft import spec, store

SIZE = 4
WORDINGS = {
    -1.0: ("go left", "move to the left side"),
    1.0: ("go right", "head for the right"),
}
EVERY = tuple(text for texts in WORDINGS.values() for text in texts)


def vector(text: str, size: int = SIZE) -> np.ndarray:
    """One that a sentence has for good, of length 1."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
    drawn = np.random.default_rng(seed).normal(size=size)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


class FakeEncoder:
    """Stands for `nn.TextEncoder`; counts what it is asked."""

    style = "sentence"
    asked: list[str]
    """Every sentence that any of them has encoded."""

    def __init__(self, folder: str | Path, device: object = "cpu") -> None:
        self.name, self.digest = identify(folder)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        FakeEncoder.asked += texts
        return np.stack([vector(text) for text in texts])


def identify(folder: str | Path) -> tuple[str, str]:
    """Stands for `nn.identify`: a folder's name is all there is to it."""
    return Path(folder).name, hashlib.sha256(Path(folder).name.encode()).hexdigest()


def spec_of(*, vectors: bool) -> spec.Spec:
    language = spec.Feature(
        name="language_embedding", role="language", shape=(SIZE,), dtype="float32"
    )
    return spec.Spec(
        features=(
            spec.Feature(name="state", role="state", shape=(2,), dtype="float32"),
            *((language,) if vectors else ()),
            spec.Feature(name="action", role="action", shape=(1,), dtype="float32", names=("x",)),
        ),
        fps=10.0,
    )


def episode(number: int, task: str, side: float, *, vectors: bool, length: int = 5) -> spec.Episode:
    rng = np.random.default_rng(number)
    arrays = {
        "state": rng.normal(size=(length, 2)).astype(np.float32),
        "action": (side + rng.normal(0, 0.05, (length, 1))).astype(np.float32),
    }
    if vectors:
        arrays["language_embedding"] = np.repeat(vector(task)[None], length, 0)
    return spec.Episode(
        spec=spec_of(vectors=vectors), id=f"episode-{number:03d}", arrays=arrays, task=task
    )


def write_store(
    path: Path, episodes: int = 12, *, vectors: bool, unlabeled: int = 0, wordings: bool = False
) -> Path:
    """Half of the episodes go left, half right; the last `unlabeled` say nothing and stand still.

    Args:
        vectors: whether each step comes with the vector of its episode's sentence.
        wordings: whether each episode has both wordings of its task.
    """
    config = store.WriteConfig(val_fraction=0.2)
    with store.Writer(path, spec_of(vectors=vectors), config, {"made by": "tests"}) as writer:
        ids: list[str] = []
        for number in range(episodes + unlabeled):
            side = (-1.0, 1.0)[number % 2]
            said = WORDINGS[side] if number < episodes else ("",)
            made = episode(number, said[0], side * (number < episodes), vectors=vectors)
            writer.add(made, said if wordings and number < episodes else ())
            ids.append(made.id)
        writer.finish(ids)
    return path
