"""Teaching an image network to look where a person looked, or where the object is.

The strength of a network's last map over the picture is pulled towards a given map. Idea: gaze
regularisation of imitation (GABRIL, Banayeeanzade et al. 2025); formula as in the BridgeData port
that had it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from deft.errors import ConfigError, ShapeError


@dataclass(frozen=True, kw_only=True)
class SaliencyConfig:
    """Settings of saliency regularisation."""

    enabled: bool = False
    """Whether maps in the data are used; without, or with weight 0, nothing changes at all."""
    weight: float = 1.0
    """Share of the regularisation in the loss; 0.2 to 5 in practice."""
    beta: float = 1.0
    """How flat the network's attention is taken to be."""
    alpha: float = 1.0
    """Worth of a tick before, where all observed ticks enter the network at once."""
    temporal: Literal["sum", "last"] = "sum"
    """Whether such a network is held against the maps of all ticks, or of the last one."""
    augment: bool = True
    """Whether maps are cropped as augmentation crops the pictures; false leaves them where they
    were, as the BridgeData port did."""

    def __post_init__(self) -> None:
        checks = (
            ("weight", self.weight >= 0, "0 or more"),
            ("beta", self.beta > 0, "above 0"),
            ("alpha", 0 <= self.alpha <= 1, "0 to 1"),
        )
        for name, fits, wanted in checks:
            if not fits:
                raise ConfigError(
                    f"saliency.{name} is {getattr(self, name)}.\nFix: set it to {wanted}."
                )

    @property
    def acts(self) -> bool:
        return self.enabled and self.weight > 0


def predicted_saliency(
    maps: Float[Tensor, "N C Hf Wf"], beta: float, height: int, width: int
) -> Float[Tensor, "N H W"]:
    """Where a network looks, 0 to 1 over the picture.

    The sum over channels of the map's magnitude, a softmax over its cells of that by `beta`,
    bicubic enlargement, and the range of each picture stretched to 0 to 1.
    """
    strength = maps.abs().sum(1)  # N Hf Wf
    share = (strength / beta).flatten(1).softmax(-1).view_as(strength)  # N Hf Wf
    large = F.interpolate(share[:, None], (height, width), mode="bicubic", align_corners=False)[
        :, 0
    ]  # N H W
    low, high = large.amin((1, 2), True), large.amax((1, 2), True)  # N 1 1
    return (large - low) / (high - low).clamp(min=1e-8)  # N H W


def saliency_loss(
    config: SaliencyConfig, maps: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> Float[Tensor, ""]:
    """Mean squared error of where the networks look, over all cameras that have maps.

    A map that is zero everywhere says that nobody knows, and is left out.

    Args:
        config: flatness and worth of earlier ticks.
        maps: from `ObsEncoder.encode`: `B T C Hf Wf`, T ticks, or 1 where they enter at once.
        wanted: by camera, `B To H W`, 0 to 1.

    Raises:
        ShapeError: no camera has both.
    """
    errors: list[Tensor] = []
    known: list[Tensor] = []
    for camera, target in wanted.items():
        if camera not in maps:
            continue
        z, height, width = maps[camera], target.shape[2], target.shape[3]
        if z.shape[1] != target.shape[1]:
            target = _gathered(config, target)[:, None]  # B 1 H W
        guess = predicted_saliency(z.flatten(0, 1), config.beta, height, width)  # B*T H W
        target = target.flatten(0, 1)  # B*T H W
        known.append((target > 0).flatten(1).any(1))  # B*T
        errors.append((guess - target).square().mean((1, 2)))  # B*T
    if not errors:
        raise ShapeError(
            "Saliency regularisation is on, and the batch has no map of a camera that is seen.\n"
            f"Found: maps of {', '.join(wanted) or 'nothing'}, cameras {', '.join(maps)}.\n"
            "Fix: set policy.saliency.enabled=false, or train on data with saliency."
        )
    error, is_known = torch.cat(errors), torch.cat(known)
    return torch.where(is_known, error, 0.0).sum() / is_known.sum().clamp(min=1)


def _gathered(config: SaliencyConfig, target: Float[Tensor, "B To H W"]) -> Tensor:
    """One map of all ticks, `B H W`: the sum of alpha^k times the map k ticks ago, up to 1."""
    if config.temporal == "last":
        return target[:, -1]
    ticks = target.shape[1]
    ages = torch.arange(ticks - 1, -1, -1, device=target.device)  # To
    weights = config.alpha**ages  # To
    return (target * weights[None, :, None, None]).sum(1).clamp(0.0, 1.0)
