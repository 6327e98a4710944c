"""One named array of a data set, a policy or a robot."""

import math
from dataclasses import dataclass
from typing import Any

from deft.errors import SpecError, nearest
from deft.spec.resized import Resized

ROLES = (
    "image",
    "depth",
    "state",
    "action",
    "language",
    "goal",
    "saliency",
    "feature_map",
    "point_cloud",
    "reward",
    "other",
)
"""What a feature is for. `other` is carried along and never given to a policy unasked."""

DTYPES = (
    "uint8",
    "uint16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
    "bool",
    "str",
)

_MOST = 1 << 31
"""Elements per step; what claims more comes from a damaged file."""

GOAL = "goal."
"""What the name of a goal in a policy's contract begins with; the rest is the observed feature."""

_FRAME_ROLES = ("image", "depth", "saliency")


@dataclass(frozen=True, kw_only=True)
class Feature:
    """The name, meaning and layout of one array, per step (no time axis).

    Images, depth and saliency have shape `H W C`; everything else is as its reader gives it.
    Raises `SpecError` when role, dtype, shape or element names do not fit together.
    """

    name: str
    """Unique within a spec, as in `state`, `cam_high`, `action`."""
    role: str
    """One of `ROLES`."""
    shape: tuple[int, ...]
    """Per step, no time axis; images are `H W C`; text is `()`."""
    dtype: str
    """One of `DTYPES`."""
    unit: str = ""
    """Physical unit, as in `m`, `rad`, `px`; empty when unknown or mixed."""
    names: tuple[str, ...] = ()
    """One name per element of a 1-D feature, in order; empty when unknown."""
    frame: str = ""
    """Coordinate frame, as in `base`; empty when unknown."""
    resized: tuple[Resized, ...] = ()
    """Pictures: how they came from the recorded ones, first step first; empty when they are as
    recorded. Whoever gives pictures of a size named here has them resized in the same way."""

    def __post_init__(self) -> None:
        where = f"Feature '{self.name}'"
        if not self.name:
            raise SpecError("A feature has no name.\nFix: give every feature a non-empty `name`.")
        if self.role not in ROLES:
            raise SpecError(
                f"{where}: unknown role '{self.role}'. {nearest(self.role, ROLES)}\n"
                "Fix: set `role` to one of these."
            )
        if self.dtype not in DTYPES:
            raise SpecError(
                f"{where}: unknown dtype '{self.dtype}'. {nearest(self.dtype, DTYPES)}\n"
                "Fix: set `dtype` to one of these."
            )
        if any(n < 1 for n in self.shape):
            raise SpecError(
                f"{where}: shape {self.shape} has an axis below 1.\n"
                "Fix: give the size of every axis of one step."
            )
        if self.size > _MOST:
            raise SpecError(
                f"{where}: shape {self.shape} has {self.size} elements per step.\n"
                f"Fix: correct the shape; no step has more than {_MOST}."
            )
        if self.role in _FRAME_ROLES and len(self.shape) != 3:
            raise SpecError(
                f"{where}: role '{self.role}' needs shape H W C, found {self.shape}.\n"
                "Fix: give height, width and channels, in this order."
            )
        if self.names and (len(self.shape) != 1 or len(self.names) != self.shape[0]):
            raise SpecError(
                f"{where}: {len(self.names)} element names for shape {self.shape}.\n"
                "Fix: give one name per element of a one-dimensional feature, or none."
            )
        if len(set(self.names)) != len(self.names):
            raise SpecError(
                f"{where}: element names repeat: {', '.join(self.names)}.\n"
                "Fix: make them unique; order and selection go by name."
            )
        if self.resized and (self.role not in (*_FRAME_ROLES, "goal") or len(self.shape) != 3):
            raise SpecError(
                f"{where}: only pictures can be resized, not {self.role} of shape {self.shape}.\n"
                "Fix: leave `resized` out."
            )

    @property
    def is_frame(self) -> bool:
        """True for what is stored and decoded as pictures."""
        return self.role in _FRAME_ROLES

    @property
    def height(self) -> int:
        return self._frame_axis(0)

    @property
    def width(self) -> int:
        return self._frame_axis(1)

    @property
    def channels(self) -> int:
        return self._frame_axis(2)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Its shape, then for pictures those from which it can be had by resizing again."""
        channels = self.shape[-1:]
        return self.shape, *((each.height, each.width, *channels) for each in self.resized)

    @property
    def size(self) -> int:
        """Number of elements per step."""
        return math.prod(self.shape)

    def describe(self) -> str:
        """One line for people: role, shape with height and width by name, dtype, unit."""
        if self.is_frame:
            shape = f"height {self.height}, width {self.width}, {self.channels} channels"
        else:
            shape = "x".join(map(str, self.shape)) or "scalar"
        unit = f" [{self.unit}]" if self.unit else ""
        return f"{self.role} {shape} {self.dtype}{unit}"

    def to_json(self) -> dict[str, Any]:
        """Plain data; pictures carry `height`, `width`, `channels` instead of a bare shape."""
        data: dict[str, Any] = {"name": self.name, "role": self.role, "dtype": self.dtype}
        if self.is_frame:
            data |= {"height": self.height, "width": self.width, "channels": self.channels}
        else:
            data["shape"] = list(self.shape)
        for key in ("unit", "frame"):
            if getattr(self, key):
                data[key] = getattr(self, key)
        if self.names:
            data["names"] = list(self.names)
        if self.resized:
            data["resized"] = [each.to_json() for each in self.resized]
        return data

    @staticmethod
    def from_json(data: Any) -> "Feature":
        """The inverse of `to_json`. Raises `SpecError` on anything else."""
        if not isinstance(data, dict):
            raise SpecError(f"A feature must be an object, found {type(data).__name__}.")
        allowed = {"name", "role", "dtype", "shape", "unit", "frame", "names"}
        allowed |= {"height", "width", "channels", "resized"}
        for key in data:
            if key not in allowed:
                raise SpecError(f"A feature has the unknown key '{key}'. {nearest(key, allowed)}")
        try:
            if "height" in data:
                shape = (data["height"], data["width"], data["channels"])
            else:
                shape = tuple(data["shape"])
            if not all(type(n) is int for n in shape):
                raise TypeError(f"sizes must be whole numbers, found {shape}")
            texts = {key: data.get(key, "") for key in ("name", "role", "dtype", "unit", "frame")}
            names = tuple(data.get("names", ()))
            if not all(isinstance(text, str) for text in (*texts.values(), *names)):
                raise TypeError("name, role, dtype, unit, frame and names must be text")
            resized = tuple(Resized.from_json(each) for each in data.get("resized", ()))
        except (KeyError, TypeError) as error:
            raise SpecError(
                f"A feature cannot be read: {error}.\nFound: {data!r}.\n"
                "Fix: write `name`, `role`, `dtype` and `shape`, or `height`, `width`, `channels`."
            ) from error
        return Feature(shape=shape, names=names, resized=resized, **texts)

    def _frame_axis(self, axis: int) -> int:
        if not self.is_frame:
            raise SpecError(
                f"Feature '{self.name}' has role '{self.role}', which has no height and width.\n"
                "Fix: ask only image, depth and saliency features."
            )
        return self.shape[axis]
