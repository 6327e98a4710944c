"""One demonstration, what a policy sees, what it answers, and who answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from deft.errors import ShapeError, SpecError
from deft.spec.contract import Spec

Observation = dict[str, Any]
"""Feature name to array (uint8 or float32, leading axis To where history is stacked) or text."""


@runtime_checkable
class Frames(Protocol):
    """The pictures of one camera in one episode, decoded only when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray:
        """The picture of one step, uint8 (depth: uint16) `H W C`."""
        ...

    def __iter__(self) -> Iterator[np.ndarray]:
        """All pictures in order; for video the cheap way to read them."""
        ...


@dataclass(frozen=True)
class ArrayFrames:
    """Pictures that are in memory already: uint8 `T H W C`."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int, /) -> np.ndarray:
        return self.array[index]

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.array)


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One demonstration: T steps of every feature of `spec`.

    Raises `ShapeError` when an array or camera is missing, unknown, or of another length, shape
    or dtype than the spec says.
    """

    spec: Spec
    id: str
    """Stable and unique within its source; the split is drawn from it."""
    arrays: Mapping[str, np.ndarray]
    """Everything but pictures and text, `T ...` in the spec's dtype."""
    frames: Mapping[str, Frames] = field(default_factory=dict)
    """One per image, depth or saliency feature."""
    task: str = ""
    """What the robot is told to do; empty when unknown."""
    split: str = ""
    """`train`, `val` or another name the source gives; empty when it gives none."""
    source: str = ""
    """Where it came from, for people."""
    valid: np.ndarray | None = None
    """bool `T`; False marks steps that must not be learned from. None means all are good."""

    def __post_init__(self) -> None:
        where = f"Episode '{self.id}'"
        for name in (*self.arrays, *self.frames):
            if name not in self.spec:
                raise ShapeError(
                    f"{where}: '{name}' is not in its spec.\n"
                    f"Found: {', '.join(self.spec.names)}.\nFix: declare it as a feature."
                )
        lengths: dict[str, int] = {}
        for feature in self.spec.features:
            if feature.dtype == "str":
                continue
            held = self.frames if feature.is_frame else self.arrays
            if feature.name not in held:
                raise ShapeError(
                    f"{where}: '{feature.name}' ({feature.describe()}) is missing.\n"
                    f"Fix: put it into `{'frames' if feature.is_frame else 'arrays'}`."
                )
            lengths[feature.name] = len(held[feature.name])
            if not feature.is_frame:
                expect(
                    self.arrays[feature.name],
                    (None, *feature.shape),
                    feature.dtype,
                    f"{where}, '{feature.name}'",
                )
        if self.valid is not None:
            lengths["valid"] = len(self.valid)
        if len(set(lengths.values())) > 1:
            raise ShapeError(
                f"{where}: features disagree about the number of steps.\n"
                f"Found: {', '.join(f'{name} {n}' for name, n in lengths.items())}.\n"
                "Fix: cut or repair the recording so that all have the same length."
            )

    def __len__(self) -> int:
        for held in (self.arrays, self.frames):
            for values in held.values():
                return len(values)
        return 0


@dataclass(frozen=True)
class ActionChunk:
    """Commands for the ticks to come, physical units. Raises `ShapeError` when they do not fit."""

    actions: np.ndarray
    """float32 `Tp A`; row 0 is for tick `start_tick`."""
    start_tick: int = 0
    """Absolute tick of row 0, counted from the episode's start."""
    valid: np.ndarray | None = None
    """bool `Tp`; None means that every row may run."""

    def __post_init__(self) -> None:
        expect(self.actions, (None, None), "float32", "Action chunk")
        if self.valid is not None:
            expect(self.valid, (len(self.actions),), "bool", "Action chunk, `valid`")


class Actor(Protocol):
    """Turns what the robot sees now into the commands for the next few ticks."""

    @property
    def spec(self) -> Spec:
        """Features, horizons, fps; the caller stacks history from it."""
        ...

    def reset(self) -> None:
        """Begin a new episode."""
        ...

    def act(self, observation: Observation) -> ActionChunk:
        """One chunk for one observation; draws follow the count of calls since `reset`."""
        ...

    def act_many(
        self, observations: Sequence[Observation], keys: Sequence[int]
    ) -> list[ActionChunk]:
        """One chunk per observation; the draws of a row depend on its key and on nothing else."""
        ...


def expect(
    value: Any, shape: Sequence[int | None], dtype: str, where: str, *, finite: bool = False
) -> np.ndarray:
    """Check an array that comes from outside, and return it.

    Args:
        value: what was given.
        shape: wanted size of each axis; None takes any size.
        dtype: wanted numpy dtype name; no conversion is made.
        where: what it is and where it came from, for the message.
        finite: also refuse NaN and infinity.

    Raises:
        ShapeError: it is no array, or shape, dtype or values are wrong.
    """
    wanted = f"{dtype} of shape ({', '.join('any' if n is None else str(n) for n in shape)})"
    if not isinstance(value, np.ndarray):
        raise ShapeError(
            f"{where}: wanted an array, {wanted}.\nFound: {type(value).__name__}.\n"
            "Fix: pass a numpy array."
        )
    fits = len(value.shape) == len(shape) and all(
        n is None or n == m for n, m in zip(shape, value.shape, strict=True)
    )
    if not fits or value.dtype.name != dtype:
        raise ShapeError(
            f"{where}: wanted {wanted}.\n"
            f"Found: {value.dtype.name} of shape {value.shape}.\n"
            f"Fix: {'convert to ' + dtype if fits else 'give the axes in this order and size'}."
        )
    if finite and value.dtype.kind == "f" and not np.isfinite(value).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
        raise ShapeError(
            f"{where}: value at {at} is not finite.\nFound: {value[at]}.\n"
            "Fix: leave the step out, or repair the sensor that gave it."
        )
    return value


def check_observation(
    observation: Observation, spec: Spec, where: str, *, recorded_sizes: bool = False
) -> None:
    """Check one observation with stacked history against a policy's spec.

    Every feature with role image, depth, state or goal must be there as `To ...` with To the
    spec's `obs_horizon`; language must be text. Unknown names are refused.

    Args:
        observation: what was given.
        spec: of the policy.
        where: what it is, for messages.
        recorded_sizes: also take pictures of a size that the spec names in `resized`.

    Raises:
        ShapeError: an array is wrong, or not finite.
        SpecError: a feature is missing or unknown; all of them are named at once.
    """
    inputs = [f for f in spec.features if f.role != "action"]
    missing = [f.name for f in inputs if f.name not in observation]
    unknown = [name for name in observation if name not in {f.name for f in inputs}]
    if missing or unknown:
        raise SpecError(
            f"{where}: observation does not fit the policy."
            + (f"\nMissing: {', '.join(missing)}." if missing else "")
            + (f"\nUnknown: {', '.join(unknown)}." if unknown else "")
            + f"\nFix: send exactly {', '.join(f.name for f in inputs)}."
        )
    ticks = spec.horizons.obs_horizon if spec.horizons else 1
    for feature in inputs:
        value = observation[feature.name]
        if feature.dtype == "str":
            if not isinstance(value, str):
                raise ShapeError(
                    f"{where}, '{feature.name}': wanted text.\n"
                    f"Found: {type(value).__name__}.\nFix: pass the instruction as text."
                )
            continue
        shape = feature.shape
        if recorded_sizes and isinstance(value, np.ndarray) and value.shape[1:] in feature.shapes:
            shape = value.shape[1:]
        expect(
            value,
            (ticks, *shape),
            feature.dtype,
            f"{where}, '{feature.name}'",
            finite=True,
        )
