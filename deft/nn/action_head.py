"""From features to a distribution over a chunk of actions, and from that to what is done."""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from deft.errors import ConfigError
from deft.nn.draws import Draws
from deft.nn.heads import GaussianHead, Std, gaussian_nll, sample, squashed_nll
from deft.nn.mlp import Trunk


@dataclass(frozen=True, kw_only=True)
class ActionHeadConfig:
    """Settings of a Gaussian policy head; defaults as in BridgeData V2."""

    hidden: tuple[int, ...] = (256, 256, 256)
    """Sizes of the hidden layers."""
    dropout: float = 0.1
    """Probability of zeroing a hidden value while training."""
    std: Std = "fixed"
    """Standard deviation: `fixed` at 1 in normalised units, `learned`, or of the `state`."""
    tanh: bool = False
    """Squash actions into -1 to 1; wants the action's normaliser in mode `bounds`."""
    answer: Literal["mode", "sample"] = "mode"
    """What is done: the middle of the distribution, or a draw from it."""
    temperature: float = 1.0
    """Scales the deviation of what is drawn."""

    def __post_init__(self) -> None:
        checks = (
            ("hidden", self.hidden and min(self.hidden) >= 1, "one or more sizes from 1 on"),
            ("dropout", 0 <= self.dropout < 1, "0 or more, below 1"),
            ("temperature", self.temperature >= 0, "0 or more"),
        )
        for name, fits, wanted in checks:
            if not fits:
                raise ConfigError(
                    f"head.{name} is {getattr(self, name)}.\nFix: set it to {wanted}."
                )


class ActionHead(nn.Module):
    """A trunk and independent normals for each number of a chunk; normalised units.

    Args:
        config: layers and distribution.
        inputs: size of the features.
        rows: Tp.
        size: A.
    """

    def __init__(self, config: ActionHeadConfig, inputs: int, rows: int, size: int) -> None:
        super().__init__()
        self.config = config
        self._size = size
        self.trunk = Trunk(inputs, config.hidden, config.dropout)
        self.gaussian = GaussianHead(self.trunk.outputs, rows * size, config.std)
        nn.init.xavier_uniform_(self.gaussian.mean.weight)
        nn.init.zeros_(self.gaussian.mean.bias)

    def forward(
        self, features: Float[Tensor, "B D"]
    ) -> tuple[Float[Tensor, "B Tp A"], Float[Tensor, "B Tp A"]]:
        """Mean and logarithm of the deviation, before any squashing."""
        mean, log_std = self.gaussian(self.trunk(features))  # B Tp*A
        return (
            rearrange(mean, "B (Tp A) -> B Tp A", A=self._size),
            rearrange(log_std, "B (Tp A) -> B Tp A", A=self._size),
        )

    def nll(
        self,
        mean: Float[Tensor, "B Tp A"],
        log_std: Float[Tensor, "B Tp A"],
        wanted: Float[Tensor, "B Tp A"],
    ) -> Float[Tensor, "B Tp"]:
        """Negative log density of each row of a chunk."""
        density = squashed_nll if self.config.tanh else gaussian_nll
        return density(mean, log_std, wanted).sum(-1)  # B Tp

    def mode(self, mean: Float[Tensor, "B Tp A"]) -> Float[Tensor, "B Tp A"]:
        """The middle of the distribution."""
        return torch.tanh(mean) if self.config.tanh else mean

    def draw(
        self, mean: Float[Tensor, "B Tp A"], log_std: Float[Tensor, "B Tp A"], draws: Draws
    ) -> Float[Tensor, "B Tp A"]:
        """A draw from the distribution at temperature 1, differentiable."""
        return self.mode(sample(mean, log_std, draws, "action"))

    def act(self, features: Float[Tensor, "B D"], draws: Draws) -> Float[Tensor, "B Tp A"]:
        """What is done, as `answer` and `temperature` say."""
        mean, log_std = self(features)
        if self.config.answer == "mode" or self.config.temperature == 0:
            return self.mode(mean)
        loud = torch.full_like(log_std, self.config.temperature).log()  # B Tp A
        return self.draw(mean, log_std + loud, draws)
