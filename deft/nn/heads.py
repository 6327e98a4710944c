"""What stands at the end of a network: distributions over actions."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from deft.nn.draws import Draws

Std = Literal["fixed", "learned", "state"]
"""Standard deviation: always 1, one learned number per output, or a function of the input."""

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0

_EDGE = 1.0 - 1e-6
"""How near to -1 and 1 a demonstrated value of a squashed distribution may be."""


class GaussianHead(nn.Module):
    """Features to independent normal distributions.

    Args:
        inputs: size of the features.
        outputs: number of distributions.
        std: where the standard deviation comes from; learned ones stay within e^-5 and e^2.
    """

    def __init__(self, inputs: int, outputs: int, std: Std) -> None:
        super().__init__()
        self.mean = nn.Linear(inputs, outputs)
        self.log_std = nn.Linear(inputs, outputs) if std == "state" else None
        self.bias = nn.Parameter(torch.zeros(outputs)) if std == "learned" else None

    def forward(
        self, x: Float[Tensor, "B D"]
    ) -> tuple[Float[Tensor, "B out"], Float[Tensor, "B out"]]:
        """Mean and logarithm of the standard deviation."""
        mean = self.mean(x)  # B out
        if self.log_std is not None:
            raw = self.log_std(x)  # B out
        elif self.bias is not None:
            raw = self.bias.expand_as(mean)  # B out
        else:
            return mean, torch.zeros_like(mean)
        # A smooth limit: clamping would stop the gradient of whatever is beyond it.
        middle, half = (LOG_STD_MAX + LOG_STD_MIN) / 2, (LOG_STD_MAX - LOG_STD_MIN) / 2
        return mean, middle + half * torch.tanh((raw - middle) / half)


def gaussian_nll(
    mean: Float[Tensor, "*any"], log_std: Float[Tensor, "*any"], value: Float[Tensor, "*any"]
) -> Float[Tensor, "*any"]:
    """Negative log density of `value`, element by element."""
    scaled = (value - mean) * torch.exp(-log_std)
    return 0.5 * scaled**2 + log_std + 0.5 * math.log(2.0 * math.pi)


def squashed_nll(
    mean: Float[Tensor, "*any"], log_std: Float[Tensor, "*any"], value: Float[Tensor, "*any"]
) -> Float[Tensor, "*any"]:
    """Negative log density of `value` under the tanh of a normal, element by element.

    Values are taken to lie between -1 and 1; what does not is moved to the edge, where the
    density is finite. Source: Haarnoja et al. 2018, arXiv:1801.01290, appendix C.
    """
    before = torch.atanh(value.clamp(-_EDGE, _EDGE))
    # log(1 - tanh(u)^2), without cancellation for large u.
    slope = 2.0 * (math.log(2.0) - before - F.softplus(-2.0 * before))
    return gaussian_nll(mean, log_std, before) + slope


def sample(
    mean: Float[Tensor, "B ..."], log_std: Float[Tensor, "B ..."], draws: Draws, name: str
) -> Float[Tensor, "B ..."]:
    """A value of each normal distribution; differentiable in mean and deviation."""
    return mean + log_std.exp() * draws.normal(name, *mean.shape[1:])
