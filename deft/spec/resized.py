"""How a picture was brought to another size, so that it can be done again in the same way."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deft.errors import SpecError, nearest

MODES = ("squash", "pad", "crop")
"""`squash` lets the aspect ratio change, `pad` adds black bars, `crop` cuts what is too long."""

FILTERS = ("area", "linear", "nearest", "lanczos", "cubic")
"""How new pixels come from old ones; see `transforms.resize`."""


@dataclass(frozen=True, kw_only=True)
class Resized:
    """One resizing: from which size, and how. The size that it led to is the feature's own.

    Raises `SpecError` when a value makes no sense.
    """

    height: int
    """Of the picture before, in pixels."""
    width: int
    mode: str = "squash"
    """One of `MODES`."""
    filter: str = "area"
    """One of `FILTERS`."""

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise SpecError(f"Resized: {name} is {value!r}.\nFix: give pixels, from 1 on.")
        for name, known in (("mode", MODES), ("filter", FILTERS)):
            value = getattr(self, name)
            if value not in known:
                raise SpecError(
                    f"Resized: unknown {name} {value!r}. {nearest(str(value), known)}\n"
                    f"Fix: set `{name}` to one of these."
                )

    def describe(self) -> str:
        """For people, as in `height 480, width 640 (squash, area)`."""
        return f"height {self.height}, width {self.width} ({self.mode}, {self.filter})"

    def to_json(self) -> dict[str, Any]:
        return {
            "height": self.height,
            "width": self.width,
            "mode": self.mode,
            "filter": self.filter,
        }

    @staticmethod
    def from_json(data: Any) -> "Resized":
        """The inverse of `to_json`. Raises `SpecError` on anything else."""
        keys = {"height", "width", "mode", "filter"}
        if not isinstance(data, Mapping) or set(data) != keys:
            raise SpecError(
                f"A resizing cannot be read.\nFound: {data!r}.\n"
                f"Fix: write {', '.join(sorted(keys))}."
            )
        return Resized(**data)
