"""Time: observations that came late, and another tick rate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deft.errors import ConfigError, ShapeError, SpecError
from deft.spec import Episode, Feature, Frames, Spec
from deft.transforms.bound import positions
from deft.transforms.rotations import wrap


@dataclass(frozen=True)
class PickedFrames:
    """Some pictures of a camera, in order, perhaps repeated; satisfies `spec.Frames`."""

    frames: Frames
    steps: Sequence[int]

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int, /) -> np.ndarray:
        return self.frames[self.steps[index]]

    def __iter__(self) -> Iterator[np.ndarray]:
        pictures, at, picture = iter(self.frames), -1, None
        for step in self.steps:
            while at < step:
                picture, at = next(pictures), at + 1
            assert picture is not None
            yield picture.copy()

    def encoded(self, index: int) -> bytes | None:
        """The JPEG file of one step, where the camera offers it."""
        offered = getattr(self.frames, "encoded", None)
        return offered(self.steps[index]) if offered else None

    def reduced(self, height: int, width: int) -> "tuple[int, PickedFrames] | None":
        """Smaller pictures, and by how much, where the camera offers them; see `EncodedFrames`."""
        offered = getattr(self.frames, "reduced", None)
        found = offered(height, width) if offered else None
        return None if found is None else (found[0], PickedFrames(found[1], self.steps))


@dataclass(frozen=True, kw_only=True)
class LatencyShift:
    """Moves observations ahead of the actions: what was seen at step t + `steps` goes with the
    action of step t.

    For recorders that stored what they saw too late. An episode loses that many steps. Where its
    last step is a frame behind the last action, it stays so.

    Source: BridgeData V2, which does so for recordings before 2021-07-23; the reader of its raw
    tree does it by itself.
    """

    steps: int = 1

    def __post_init__(self) -> None:
        if type(self.steps) is not int or self.steps < 1:
            raise ConfigError(f"LatencyShift: steps is {self.steps!r}.\nFix: give 1 or more.")

    def contract(self, spec: Spec) -> Spec:
        spec.action()
        return spec

    def apply(self, episode: Episode) -> Episode:
        count = len(episode) - self.steps
        if count < 1:
            raise ShapeError(
                f"Episode '{episode.id}' has {len(episode)} steps, and would lose {self.steps}.\n"
                "Fix: leave it out."
            )
        name = episode.spec.action().name
        arrays = {
            key: array[:count] if key == name else array[self.steps :]
            for key, array in episode.arrays.items()
        }
        steps = range(self.steps, len(episode))
        valid = episode.valid
        return replace(
            episode,
            arrays=arrays,
            frames={key: PickedFrames(each, steps) for key, each in episode.frames.items()},
            valid=None if valid is None else valid[:count] & valid[self.steps :],
        )


@dataclass(frozen=True, kw_only=True)
class Resample:
    """Another tick rate: the same time, in more or fewer steps.

    States are interpolated. Pictures, commands and everything else are those in force: the latest
    that is not later. Elements of the action that are changes per step are added up, so that they
    lead to the same place.
    """

    fps: float
    """Ticks per second to come."""
    angles: tuple[str, ...] = ("roll", "pitch", "yaw")
    """Elements of states that are angles, in radians: interpolated the short way round."""
    changes: tuple[str, ...] = ()
    """Elements of the action that are changes per step, as in dx."""

    def __post_init__(self) -> None:
        if not 0 < self.fps < 1e6:
            raise ConfigError(f"Resample: fps is {self.fps}.\nFix: give ticks per second.")

    def contract(self, spec: Spec) -> Spec:
        if not spec.fps:
            raise SpecError(
                "Resample: the recording does not say its tick rate.\n"
                "Fix: give it when the recording is opened, as in `fps=5`."
            )
        if self.changes:
            positions(spec.action(), self.changes)
        return replace(spec, fps=self.fps)

    def count(self, length: int, fps: float) -> int:
        """Steps that an episode of so many steps at `fps` becomes."""
        # A hair's breadth ahead, so that rounding cannot make a step fall behind its own time.
        return int((length - 1) * self.fps / fps + 1e-6) + 1 if length else 0

    def apply(self, episode: Episode) -> Episode:
        spec = self.contract(episode.spec)
        ratio = episode.spec.fps / self.fps
        count = self.count(len(episode), episode.spec.fps)
        times = np.arange(count) * ratio  # in old steps
        steps = np.minimum((times + 1e-6).astype(np.int64), max(len(episode) - 1, 0))
        arrays: dict[str, np.ndarray] = {}
        for key, array in episode.arrays.items():
            feature = spec[key]
            if feature.role == "state" and feature.dtype.startswith("float"):
                arrays[key] = self._between(feature, array, steps, times)
            elif feature.role == "action" and self.changes:
                arrays[key] = self._summed(feature, array, steps, ratio)
            else:
                arrays[key] = array[steps]
        picked = steps.tolist()
        return replace(
            episode,
            spec=spec,
            arrays=arrays,
            frames={key: PickedFrames(each, picked) for key, each in episode.frames.items()},
            valid=self._valid(episode.valid, steps),
        )

    def _valid(self, valid: np.ndarray | None, steps: np.ndarray) -> np.ndarray | None:
        """A step is valid when all that it stands for are."""
        if valid is None or len(steps) == 0:
            return valid
        return np.logical_and.reduceat(valid, steps)

    def _between(
        self, feature: Feature, array: np.ndarray, steps: np.ndarray, times: np.ndarray
    ) -> np.ndarray:
        after = np.minimum(steps + 1, len(array) - 1)
        share = np.clip(times - steps, 0, 1).reshape(-1, *[1] * (array.ndim - 1))
        start = array[steps].astype(np.float64)
        change = array[after].astype(np.float64) - start
        turning = [place for place, name in enumerate(feature.names) if name in self.angles]
        if turning:
            change[..., turning] = wrap(change[..., turning])
        return (start + share * change).astype(array.dtype)

    def _summed(
        self, feature: Feature, array: np.ndarray, steps: np.ndarray, ratio: float
    ) -> np.ndarray:
        result = array[steps]
        places = positions(feature, self.changes)
        # Where the changes have led to at the beginning of every old step, and behind the last.
        reached = np.concatenate(
            [np.zeros((1, len(places))), array[:, places].astype(np.float64).cumsum(0)]
        )
        edges = np.arange(len(steps) + 1) * ratio
        for column, place in enumerate(places):
            at = np.interp(edges, np.arange(len(reached)), reached[:, column])
            result[:, place] = np.diff(at)
        return result
