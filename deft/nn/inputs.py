"""From what sensors give to what networks take: the only way down."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from deft.errors import ConfigError, ShapeError, SpecError, nearest
from deft.nn.normalizer import Normalizer
from deft.spec import GOAL, Feature, Spec, Stats


@dataclass(kw_only=True)
class Batch:
    """Tensors of one device, physical units; `B` rows with history stacked."""

    obs: dict[str, Tensor]
    """By feature name: pictures uint8 `B To H W C`, numbers `B To ...`."""
    action: Float[Tensor, "B Tp A"] | None = None
    """Demonstrated actions, row 0 is the one for now; None when they are to be predicted."""
    action_valid: Bool[Tensor, "B Tp"] | None = None
    """False where the demonstration had ended or must not be learned from."""
    goal: dict[str, Tensor] = field(default_factory=dict)
    """By name of the observed feature, as `obs` without the To axis."""
    language: Float[Tensor, "B L"] | None = None
    """What to do, as the vector of a sentence."""
    saliency: dict[str, Float[Tensor, "B To H W"]] = field(default_factory=dict)
    """Where to look, 0 to 1, by camera; a map of zeros says that nobody knows."""
    next_obs: dict[str, Tensor] = field(default_factory=dict)
    """As `obs`, one tick later; for policies that learn values."""
    reward: Float[Tensor, " B"] | None = None
    """Of the step from `obs` to `next_obs`: 0 where that reaches the goal, -1 otherwise."""
    mask: Float[Tensor, " B"] | None = None
    """1 where the value of `next_obs` counts, 0 where the episode ended for good."""
    task: tuple[str, ...] = ()
    """What to do, one text per row; empty when the policy takes no language."""

    def __len__(self) -> int:
        """B, the number of rows."""
        return len(next(iter(self.obs.values())))

    def demonstrated(self) -> Float[Tensor, "B Tp A"]:
        """The actions to learn from. Raises `ShapeError` when the batch has none."""
        if self.action is None:
            raise ShapeError(
                "A batch without actions cannot be learned from.\n"
                f"Found: {', '.join(self.obs)}.\nFix: set `action` and `action_valid`."
            )
        return self.action

    def need(self, *names: str) -> None:
        """Raises `ShapeError` when the actions, or a field named here, are not set."""
        self.demonstrated()
        for name in names:
            if getattr(self, name) is None or getattr(self, name) == {}:
                raise ShapeError(
                    f"A batch without `{name}` cannot teach this policy.\n"
                    f"Found: {', '.join(self.obs)}.\nFix: load it with what the policy takes."
                )


class Inputs(nn.Module):
    """Makes network inputs of a batch's observations and goals.

    Numbers are normalised, those of a goal like the feature that it is a goal for; elements named
    in `periodic` become sine and cosine instead, taken in radians unless their feature's unit is
    `deg`. Pictures become 0 to 1.

    Features go in order of their names, since the order within a contract means nothing.

    Args:
        spec: the policy's contract.
        stats: by feature name; None leaves values to be loaded with the weights.
        modes: normaliser mode by feature name, for every feature of numbers.
        periodic: element names that wrap around, as in `block.angle`, or the names of whole
            features.

    Raises:
        ConfigError: `periodic` names nothing that the policy observes.
        SpecError: statistics are missing or of another size, or a goal is for nothing observed.
    """

    def __init__(
        self,
        spec: Spec,
        stats: Mapping[str, Stats] | None,
        modes: Mapping[str, str],
        periodic: Sequence[str] = (),
    ) -> None:
        super().__init__()
        numbers = number_features(spec)
        known = {name for feature in numbers for name in (feature.name, *feature.names)}
        for name in periodic:
            if name not in known:
                raise ConfigError(
                    f"`periodic` names '{name}', which the policy does not observe. "
                    f"{nearest(name, sorted(known))}\nFix: correct the name, or leave it out."
                )
        self.cameras = sorted(spec.role("image"), key=lambda camera: camera.name)
        goals = {feature.name.removeprefix(GOAL) for feature in spec.role("goal")}
        seen = {feature.name for feature in (*numbers, *self.cameras)}
        if goals - seen:
            raise SpecError(
                f"Goals for features that are not observed: {', '.join(sorted(goals - seen))}.\n"
                f"Fix: observe them too, or name goals among {', '.join(sorted(seen))}."
            )
        self.goal_cameras = frozenset(c.name for c in self.cameras if c.name in goals)
        """Names of the cameras whose picture of the goal is seen."""
        self.normalizer = Normalizer(numbers, stats, modes)
        self._reads = [_Read.of(feature, periodic) for feature in numbers]
        self._goal_reads = [read for read in self._reads if read.name in goals]
        self.state_size = sum(read.size for read in self._reads)
        """P: numbers per tick that enter the network; 0 when there are only pictures."""
        self.goal_size = sum(read.size for read in self._goal_reads)
        """G: numbers of the goal that enter the network."""

    def states(self, obs: Mapping[str, Tensor]) -> Float[Tensor, "B To P"]:
        """All numbers of each tick, features in order of their names; needs at least one."""
        return self._numbers(self._reads, obs)

    def goals(self, goal: Mapping[str, Tensor]) -> Float[Tensor, "B G"]:
        """All numbers of the goal, features in order of their names; needs at least one."""
        ticks = {read.name: goal[read.name][:, None] for read in self._goal_reads}
        return self._numbers(self._goal_reads, ticks)[:, 0]

    def _numbers(
        self, reads: Sequence["_Read"], obs: Mapping[str, Tensor]
    ) -> Float[Tensor, "B To P"]:
        parts: list[Tensor] = []
        for read in reads:
            physical = obs[read.name].float()  # B To ...
            values = self.normalizer(read.name, physical).flatten(2)  # B To D
            if read.wrapping:
                angles = physical.flatten(2)[..., read.wrapping] * read.radians  # B To K
                values = torch.cat((values[..., read.plain], angles.sin(), angles.cos()), -1)
            parts.append(values)
        return torch.cat(parts, -1)  # B To P

    def pictures(self, obs: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "B To C H W"]]:
        """Pictures by camera, 0 to 1."""
        return {camera.name: to_unit(obs[camera.name]) for camera in self.cameras}

    def goal_pictures(self, goal: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "B C H W"]]:
        """Pictures of the goal by camera, 0 to 1."""
        return {
            camera.name: to_unit(goal[camera.name][:, None])[:, 0]
            for camera in self.cameras
            if camera.name in self.goal_cameras
        }


def to_unit(picture: UInt8[Tensor, "B To H W C"]) -> Float[Tensor, "B To C H W"]:
    """A picture's bytes as floats from 0 to 1."""
    return rearrange(picture, "B To H W C -> B To C H W").float() / 255.0


def number_features(spec: Spec) -> tuple[Feature, ...]:
    """Features of numbers that a policy observes, in order of their names."""
    return tuple(sorted(spec.role("state", "other"), key=lambda feature: feature.name))


@dataclass(frozen=True)
class _Read:
    """How one feature enters: which of its flattened elements wrap around and which do not."""

    name: str
    plain: list[int]
    wrapping: list[int]
    radians: float
    """Size of the feature's unit of angle."""

    @property
    def size(self) -> int:
        return len(self.plain) + 2 * len(self.wrapping)

    @staticmethod
    def of(feature: Feature, periodic: Sequence[str]) -> "_Read":
        whole = feature.name in periodic
        names = feature.names or ("",) * feature.size
        wraps = [whole or name in periodic for name in names]
        return _Read(
            feature.name,
            [i for i, each in enumerate(wraps) if not each],
            [i for i, each in enumerate(wraps) if each],
            math.pi / 180.0 if feature.unit == "deg" else 1.0,
        )
