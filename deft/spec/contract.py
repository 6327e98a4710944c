"""The contract: every feature of a data set, a policy or a robot, and how two contracts differ."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from deft.errors import SpecError, nearest
from deft.spec.feature import Feature


@dataclass(frozen=True, kw_only=True)
class Horizons:
    """How many ticks a policy sees, predicts and runs."""

    obs_horizon: int = 1
    """To: observed ticks given to the policy, the last one is now."""
    pred_horizon: int = 1
    """Tp: actions predicted per call; row 0 is the action for now."""
    action_horizon: int = 1
    """Ta: rows of a chunk that run before the policy is asked again."""

    def __post_init__(self) -> None:
        for name in ("obs_horizon", "pred_horizon", "action_horizon"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise SpecError(f"{name} is {value!r}.\nFix: set it to a whole number from 1 on.")
        if self.action_horizon > self.pred_horizon:
            raise SpecError(
                f"action_horizon {self.action_horizon} is more than pred_horizon "
                f"{self.pred_horizon}.\n"
                f"Fix: set action_horizon to {self.pred_horizon} or less."
            )


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Every feature by name, with the tick rate and, for a policy, its horizons.

    Plain data with a digest; feature order does not matter. A data set's spec has no horizons.
    """

    features: tuple[Feature, ...]
    fps: float
    """Ticks per second; 0 when the source does not say."""
    embodiment: str = ""
    """The body, as in `widowx`; empty when unknown."""
    horizons: Horizons | None = None

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise SpecError(
                f"Features are named twice: {', '.join(twice)}.\nFix: rename one of each pair."
            )
        if not (self.fps >= 0 and self.fps < 1e6):
            raise SpecError(
                f"fps is {self.fps!r}.\nFix: give ticks per second, or 0 when it is not known."
            )

    def __contains__(self, name: object) -> bool:
        return any(feature.name == name for feature in self.features)

    def __getitem__(self, name: str) -> Feature:
        for feature in self.features:
            if feature.name == name:
                return feature
        raise SpecError(
            f"There is no feature '{name}'. {nearest(name, self.names)}\n"
            "Fix: name a feature that the spec has."
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    def role(self, *roles: str) -> tuple[Feature, ...]:
        """Features with one of these roles, in the spec's order."""
        return tuple(feature for feature in self.features if feature.role in roles)

    def action(self) -> Feature:
        """The one action feature. Raises `SpecError` when there is none, or more than one."""
        actions = self.role("action")
        if len(actions) == 1:
            return actions[0]
        found = ", ".join(feature.name for feature in actions) or "none"
        fix = "name the feature with the commands, as in `--map actions=action`."
        if actions:
            fix = (
                "read both arms as one with `fuse_arms=true`, or one arm with "
                "`use_left_arm=false` or `use_right_arm=false`."
            )
        raise SpecError(f"One action feature is needed, found {len(actions)}: {found}.\nFix: {fix}")

    def select(self, names: Iterable[str]) -> "Spec":
        """The same spec with only these features, in this order."""
        return replace(self, features=tuple(self[name] for name in names))

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "features": [feature.to_json() for feature in self.features],
            "fps": float(self.fps),
        }
        if self.embodiment:
            data["embodiment"] = self.embodiment
        if self.horizons is not None:
            data["horizons"] = {
                "obs_horizon": self.horizons.obs_horizon,
                "pred_horizon": self.horizons.pred_horizon,
                "action_horizon": self.horizons.action_horizon,
            }
        return data

    @staticmethod
    def from_json(data: Any) -> "Spec":
        """The inverse of `to_json`. Raises `SpecError` on anything else."""
        if not isinstance(data, Mapping) or not isinstance(data.get("features"), list):
            raise SpecError("A spec must be an object with a list called `features`.")
        allowed = ("features", "fps", "embodiment", "horizons")
        for key in data:
            if key not in allowed:
                raise SpecError(f"A spec has the unknown key '{key}'. {nearest(key, allowed)}")
        fps, embodiment, horizons = (
            data.get("fps", 0.0),
            data.get("embodiment", ""),
            data.get("horizons"),
        )
        if not isinstance(fps, int | float) or isinstance(fps, bool):
            raise SpecError(f"fps must be a number, found {fps!r}.")
        if not isinstance(embodiment, str):
            raise SpecError(f"embodiment must be text, found {embodiment!r}.")
        if horizons is not None:
            try:
                horizons = Horizons(**horizons)
            except TypeError as error:
                raise SpecError(f"horizons cannot be read: {error}.") from error
        return Spec(
            features=tuple(Feature.from_json(each) for each in data["features"]),
            fps=float(fps),
            embodiment=embodiment,
            horizons=horizons,
        )

    def digest(self) -> str:
        """sha256 of the canonical JSON, features sorted by name, as 64 hex digits."""
        data = self.to_json()
        data["features"] = sorted(data["features"], key=lambda feature: feature["name"])
        text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Difference:
    """One thing in which what is there departs from what is wanted, with its repair."""

    feature: str
    """Feature name, or `fps`, `embodiment`."""
    what: str
    have: str
    want: str
    fix: str

    def __str__(self) -> str:
        return f"{self.feature}: {self.what} is {self.have}, wanted {self.want}. Fix: {self.fix}"


def compare(have: Spec, want: Spec) -> list[Difference]:
    """Every way in which `have` fails to provide what `want` asks for.

    Features that only `have` has are no difference; nor are units, names, frames, fps and
    embodiment that either side leaves empty.

    Args:
        have: the contract of the side that provides data, a store or a robot, say.
        want: the contract of the side that consumes it, a policy, say.

    Returns:
        All differences, in the order of `want`'s features; empty when they fit.
    """
    found: list[Difference] = []
    for feature in want.features:
        if feature.name not in have:
            same_role = [f.name for f in have.role(feature.role)]
            hint = nearest(feature.name, same_role or have.names)
            found.append(
                Difference(
                    feature.name,
                    f"{feature.role} feature",
                    "missing",
                    feature.describe(),
                    f"provide it or rename one. {hint}",
                )
            )
            continue
        found += _compare_feature(have[feature.name], feature)
    if have.fps and want.fps and abs(have.fps - want.fps) > 1e-6 * want.fps:
        found.append(
            Difference(
                "fps",
                "tick rate",
                f"{have.fps:g} Hz",
                f"{want.fps:g} Hz",
                f"run or resample at {want.fps:g} Hz",
            )
        )
    if have.embodiment and want.embodiment and have.embodiment != want.embodiment:
        found.append(
            Difference(
                "embodiment",
                "body",
                have.embodiment,
                want.embodiment,
                f"use a policy trained for '{have.embodiment}'",
            )
        )
    return found


def check(have: Spec, want: Spec, where: str) -> None:
    """Raise `SpecError` listing every difference between the two contracts.

    Args:
        have: see `compare`.
        want: see `compare`.
        where: what is being matched, for the first line, as in `runs/a against store b`.
    """
    found = compare(have, want)
    if found:
        lines = "\n".join(f"  - {each}" for each in found)
        raise SpecError(f"{where}: {len(found)} difference(s) in the contract:\n{lines}")


def _compare_feature(have: Feature, want: Feature) -> list[Difference]:
    found: list[Difference] = []

    def differ(what: str, mine: str, theirs: str, fix: str) -> None:
        found.append(Difference(want.name, what, mine, theirs, fix))

    if have.role != want.role:
        differ("role", have.role, want.role, f"declare it as '{want.role}'")
    if have.shape in want.shapes[1:]:
        pass  # whoever wants it resizes it as is recorded
    elif have.shape != want.shape:
        if have.is_frame and want.is_frame:
            differ(
                "image size",
                f"height {have.height}, width {have.width}, {have.channels} channels",
                f"height {want.height}, width {want.width}, {want.channels} channels",
                _size_fix(have, want),
            )
        else:
            fix = f"give {want.size} values"
            if want.names:
                fix += f": {', '.join(want.names)}"
            differ("shape", str(list(have.shape)), str(list(want.shape)), fix)
    elif have.names and want.names and have.names != want.names:
        fix = (
            f"reorder by name to {', '.join(want.names)}"
            if set(have.names) == set(want.names)
            else "rename the elements, or use data with these names"
        )
        differ("element order or names", ", ".join(have.names), ", ".join(want.names), fix)
    modes = [[each.mode for each in side.resized] for side in (have, want)]
    if have.shape == want.shape and all(modes) and modes[0] != modes[1]:
        mine, theirs = (", ".join(each) for each in modes)
        differ("way of resizing", mine, theirs, f"convert the recording with `--resize {theirs}`")
    if have.dtype != want.dtype:
        differ("dtype", have.dtype, want.dtype, f"convert it to {want.dtype}")
    for key in ("unit", "frame"):
        mine, theirs = getattr(have, key), getattr(want, key)
        if mine and theirs and mine != theirs:
            differ(key, mine, theirs, f"convert it to '{theirs}'")
    return found


def _size_fix(have: Feature, want: Feature) -> str:
    if have.shape[2] != want.shape[2]:
        return f"give {want.channels} channels"
    if (have.height, have.width) == (want.width, want.height):
        return "height and width are swapped; swap them back"
    return f"resize to height {want.height}, width {want.width}"
