"""What augmentation does to each sample: one description and one set of draws for both executors.

Pictures count in levels, 0 to 255; `x` is one pixel. With the defaults (`compat="deft"`):

| item | formula | draw |
| --- | --- | --- |
| `random_resized_crop` | a box of whole pixels, height `sqrt(s / r)` and width `sqrt(s r)` of the picture's own (at most all of it), bilinear back to the picture's size, half-pixel centres, the box's edge repeated | `s` uniform in `scale`, `r` log-uniform in `ratio`, place uniform |
| `random_brightness` | additive: `x + 255 b` | `b` uniform in ± `brightness` |
| `random_contrast` | `c x + (1 - c) m`, `m` the mean of each channel of that picture | `c` uniform in `contrast` |
| `random_saturation` | `s x + (1 - s) y`, `y` its luma, 0.299 R + 0.587 G + 0.114 B | `s` uniform in `saturation` |
| `random_hue` | turns the colour about the grey axis in YIQ by `h` full turns | `h` uniform in ± `hue` |

All colour items are linear, so together they are one 3x4 matrix; values are clipped to 0..255 and
rounded once, at the end. `compat` takes the formulae of other tool sets instead, each clipped
after every item:

- `tensorflow` (BridgeData V2 in JAX): the box is not rounded to pixels and its corners, not its
  edges, become the picture's corners; saturation scales S and hue shifts H of HSV (`hue` is again a
  share of the full turn); brightness and contrast as above; the end is truncated, not rounded.
- `torchvision` (PyTorch ports): box, saturation as above; brightness is multiplicative, `f x` with
  `f` uniform in 1 ± `brightness`; contrast's mean is that of the luma, one number per picture; hue
  shifts H of HSV.

Source: bridge_data_v2 @830fc9e with dlimp @ad72ce3 for `tensorflow`; the adjustments of the
torchvision manual for `torchvision`.
"""  # noqa: E501 - a table row is one line

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from deft.errors import ConfigError, nearest
from deft.nn.draws import Draws
from deft.spec import Feature

ITEMS = (
    "random_resized_crop",
    "random_brightness",
    "random_contrast",
    "random_saturation",
    "random_hue",
)
"""Everything that can be in `AugmentConfig.order`, in the order of BridgeData V2."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness that people see; ITU-R BT.601."""


def _hue_parts() -> list[list[list[float]]]:
    """RGB to RGB through YIQ (FCC 1953): what a turn of the I-Q plane keeps, what goes with its
    cosine and what with its sine, `3 3 3`."""
    to_yiq = np.array((LUMA, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135)))
    planes = np.zeros((3, 3, 3))
    planes[0, 0, 0] = 1
    planes[1, 1, 1] = planes[1, 2, 2] = 1
    planes[2, 1, 2], planes[2, 2, 1] = 1, -1
    return (np.linalg.inv(to_yiq) @ planes @ to_yiq).tolist()


_HUE_PARTS = _hue_parts()


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training pictures are varied; without items in `order` they are left alone.

    Raises `ConfigError` for an unknown or repeated item and for ranges out of bounds.
    """

    order: tuple[str, ...] = ()
    """Items of `ITEMS` that are applied, in this order; what is left out does not happen."""
    scale: tuple[float, float] = (0.8, 1.0)
    """`random_resized_crop`: share of the picture's area, lowest and highest."""
    ratio: tuple[float, float] = (0.9, 1.1)
    """`random_resized_crop`: width over height, relative to the picture's own."""
    brightness: float = 0.2
    """`random_brightness`: largest change, as a share of the full range (of 1 in torchvision)."""
    contrast: tuple[float, float] = (0.8, 1.2)
    """`random_contrast`: lowest and highest factor."""
    saturation: tuple[float, float] = (0.8, 1.2)
    """`random_saturation`: lowest and highest factor."""
    hue: float = 0.1
    """`random_hue`: largest turn, as a share of the full circle, up to 0.5."""
    compat: Literal["deft", "tensorflow", "torchvision"] = "deft"
    """Whose formulae; see the module."""
    one_draw: bool = False
    """One random number decides everything about a sample, as in BridgeData V2 by mistake."""
    augment_next_obs_goal_differently: bool = False
    """Goals and next observations get draws of their own instead of the observation's."""
    executor: Literal["auto", "threads", "device"] = "auto"
    """The loader's threads, or one pass on the training device; auto takes the device when it is
    a GPU."""

    def __post_init__(self) -> None:
        for item in self.order:
            if item not in ITEMS:
                raise ConfigError(
                    f"augment.order names '{item}'. {nearest(item, ITEMS)}\n"
                    f"Fix: choose from {', '.join(ITEMS)}."
                )
        if len(set(self.order)) < len(self.order):
            raise ConfigError(
                f"augment.order repeats an item.\nFound: {', '.join(self.order)}.\n"
                "Fix: name each item once."
            )
        for name, highest in (("scale", 1.0), ("ratio", 10.0), ("contrast", 10.0)):
            _check_range(name, getattr(self, name), highest)
        _check_range("saturation", self.saturation, 10.0)
        for name, highest in (("brightness", 1.0), ("hue", 0.5)):
            value = getattr(self, name)
            if not 0 <= value <= highest:
                raise ConfigError(f"augment.{name} is {value}.\nFix: choose from 0 to {highest}.")
        if min(self.scale[0], self.ratio[0]) <= 0:
            raise ConfigError(
                f"augment.scale is {self.scale}, augment.ratio {self.ratio}.\n"
                "Fix: both must be above 0."
            )

    @property
    def is_off(self) -> bool:
        """True when pictures are left alone."""
        return not self.order

    @property
    def crops(self) -> bool:
        """True when pictures are moved."""
        return "random_resized_crop" in self.order

    @property
    def colours(self) -> tuple[str, ...]:
        """The colour items, in order."""
        return tuple(item for item in self.order if item != "random_resized_crop")

    @property
    def measures_first(self) -> bool:
        """True when contrast's mean is that of the picture before it is cropped."""
        if not self.crops or "random_contrast" not in self.order:
            return False
        return self.order.index("random_contrast") < self.order.index("random_resized_crop")


@dataclass(frozen=True)
class Changes:
    """What happens to the pictures of each row, float64 `B` each; see the module's table."""

    height: Float[Tensor, " B"]
    """Share of the picture's height that the box has, above 0, up to 1."""
    width: Float[Tensor, " B"]
    top: Float[Tensor, " B"]
    """Where the box stands between the upper end (0) and the lower end (1) of its room."""
    left: Float[Tensor, " B"]
    brightness: Float[Tensor, " B"]
    """Change of level as a share of the full range; torchvision: the factor."""
    contrast: Float[Tensor, " B"]
    saturation: Float[Tensor, " B"]
    hue: Float[Tensor, " B"]
    """Full turns."""


@dataclass(frozen=True)
class Boxes:
    """The crop of each row along one axis: output pixel i shows place `start + i * step`."""

    first: Int64[Tensor, " B"]
    """First pixel inside the box."""
    count: Int64[Tensor, " B"]
    """Pixels inside the box."""
    places: Float[Tensor, "B S"]
    """float64, where each output pixel looks, in pixels of the input, never outside the box."""


@dataclass(frozen=True)
class Colour:
    """Colour items as one linear map: `x -> matrix x + shift + by_mean mean`, in levels.

    `mean` is the picture's mean of each channel: of the cropped picture, or before the crop when
    `AugmentConfig.measures_first`.
    """

    matrix: Float[Tensor, "B 3 3"]
    shift: Float[Tensor, "B 3"]
    by_mean: Float[Tensor, "B 3 3"]


def draw_changes(config: AugmentConfig, draws: Draws, group: str = "obs") -> Changes:
    """Draws the changes of each row; a function of (seed, row, group) alone.

    Args:
        config: ranges.
        draws: of the batch.
        group: `obs`, `goal` or `next_obs`. All have the observation's draws unless
            `augment_next_obs_goal_differently`.
    """
    own = config.augment_next_obs_goal_differently and group != "obs"
    shares = draws.uniform(f"augment.{group}" if own else "augment", 8).double()  # B 8
    if config.one_draw:
        shares = shares[:, :1].expand(-1, 8)  # B 8
    area, ratio, top, left, *colours = shares.unbind(1)
    area = _between(area, *config.scale)
    ratio = torch.exp(_between(ratio, math.log(config.ratio[0]), math.log(config.ratio[1])))
    middle = 1.0 if config.compat == "torchvision" else 0.0
    low, high = max(0.0, middle - config.brightness), middle + config.brightness
    return Changes(
        height=torch.sqrt(area / ratio).clamp(max=1.0),
        width=torch.sqrt(area * ratio).clamp(max=1.0),
        top=top,
        left=left,
        brightness=_between(colours[0], low if middle else -config.brightness, high),
        contrast=_between(colours[1], *config.contrast),
        saturation=_between(colours[2], *config.saturation),
        hue=_between(colours[3], -config.hue, config.hue),
    )


def boxes(config: AugmentConfig, changes: Changes, height: int, width: int) -> tuple[Boxes, Boxes]:
    """The crop of each row in a picture of this size, down and across."""
    return (
        _axis(config, changes.height, changes.top, height),
        _axis(config, changes.width, changes.left, width),
    )


def colour(config: AugmentConfig, changes: Changes) -> Colour:
    """All colour items of `config.order` as one linear map; for `compat="deft"`."""
    like = changes.hue
    eye = torch.eye(3, dtype=like.dtype, device=like.device)  # 3 3
    matrix = eye.expand(len(like), 3, 3)  # B 3 3
    shift = torch.zeros(len(like), 3, dtype=like.dtype, device=like.device)  # B 3
    by_mean = torch.zeros_like(matrix)  # B 3 3
    for item in config.colours:
        if item == "random_brightness":
            shift = shift + 255.0 * changes.brightness[:, None]  # B 3
        elif item == "random_contrast":
            # The mean of what this item gets is (matrix + by_mean) mean + shift.
            factor = changes.contrast[:, None, None]  # B 1 1
            by_mean = by_mean + (1 - factor) * matrix  # B 3 3
            matrix = factor * matrix  # B 3 3
        else:
            turn = _saturate(changes) if item == "random_saturation" else _turn_hue(changes)
            matrix, by_mean = turn @ matrix, turn @ by_mean  # B 3 3
            shift = (turn @ shift[..., None])[..., 0]  # B 3
    return Colour(matrix, shift, by_mean)


def nearest_places(axis: Boxes) -> Tensor:
    """The pixel that each output pixel shows without mixing, int64 `B S`."""
    last = (axis.first + axis.count - 1)[:, None]  # B 1
    return torch.floor(axis.places + 0.5).long().minimum(last)


def varied_roles(config: AugmentConfig, features: Sequence[Feature]) -> dict[str, str]:
    """Role of each feature that augmentation changes, by name; errors as `Augment`."""
    roles = {feature.name: feature.role for feature in features if feature.is_frame}
    for feature in features:
        if feature.role == "image" and feature.channels != 3 and config.colours:
            raise ConfigError(
                f"The colours of '{feature.name}' cannot be varied: {feature.describe()}.\n"
                "Fix: leave only the crop, `augment.order=[random_resized_crop]`, or do not "
                "observe it."
            )
    return roles


def _axis(config: AugmentConfig, share: Tensor, place: Tensor, size: int) -> Boxes:
    pixels = torch.arange(size, dtype=share.dtype, device=share.device)  # S
    if config.compat == "tensorflow":
        start = place * (1 - share) * (size - 1)  # B
        places = start[:, None] + pixels * share[:, None]  # B S
        whole = torch.full_like(share, size, dtype=torch.int64)
        return Boxes(torch.zeros_like(whole), whole, places.clamp(0, size - 1))
    count = torch.round(share * size).clamp(min=1)  # B
    first = torch.floor(place * (size - count + 1))  # B
    inside = (pixels + 0.5) * (count / size)[:, None] - 0.5  # B S
    inside = inside.clamp(min=0).minimum((count - 1)[:, None])  # B S
    return Boxes(first.long(), count.long(), first[:, None] + inside)


def _saturate(changes: Changes) -> Tensor:
    """Away from the luma, `B 3 3`."""
    like = changes.saturation
    luma = torch.tensor(LUMA, dtype=like.dtype, device=like.device).expand(3, 3)  # 3 3
    eye = torch.eye(3, dtype=like.dtype, device=like.device)  # 3 3
    factor = like[:, None, None]  # B 1 1
    return factor * eye + (1 - factor) * luma  # B 3 3


def _turn_hue(changes: Changes) -> Tensor:
    """A rotation of I and Q, `B 3 3`; luma and greys stay."""
    turns = 2 * math.pi * changes.hue[:, None, None]  # B 1 1
    grey, chroma, across = torch.tensor(
        _HUE_PARTS, dtype=turns.dtype, device=turns.device
    )  # 3 3 each
    return grey + torch.cos(turns) * chroma + torch.sin(turns) * across  # B 3 3


def _between(share: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * share


def _check_range(name: str, pair: tuple[float, float], highest: float) -> None:
    if not 0 <= pair[0] <= pair[1] <= highest:
        raise ConfigError(
            f"augment.{name} is {list(pair)}.\n"
            f"Fix: give the lowest and the highest value, from 0 to {highest:g}, as in [0.8,1.0]."
        )
