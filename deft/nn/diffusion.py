"""Diffusion over chunks of actions: how much noise at which step, and the way back.

Steps run from 0, nearly clean, to `steps - 1`, nearly noise. Source: Ho et al. 2020,
arXiv:2006.11239; cosine schedule Nichol and Dhariwal 2021, arXiv:2102.09672; `vp` as in
BridgeData V2, after Song et al. 2021, arXiv:2011.13456.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from deft.nn.draws import Draws

NoiseSchedule = Literal["cosine", "linear", "vp"]

NoiseNet = Callable[[Tensor, Tensor], Tensor]
"""(noisy chunk `B Tp A`, step int64 `B`) to the noise in it, `B Tp A`."""


def betas(schedule: NoiseSchedule, steps: int) -> Float[Tensor, " K"]:
    """Variance of the noise that each step adds, float64.

    `cosine`: from the squared cosine with offset 0.008, at most 0.999. `linear`: 1e-4 to 2e-2.
    `vp`: the variance-preserving equation with rates 0.1 to 10, cut into `steps`.
    """
    if schedule == "linear":
        return torch.linspace(1e-4, 2e-2, steps, dtype=torch.float64)
    if schedule == "cosine":
        at = torch.linspace(0.0, 1.0, steps + 1, dtype=torch.float64)
        kept = torch.cos((at + 0.008) / 1.008 * math.pi / 2) ** 2
        return (1.0 - kept[1:] / kept[:-1]).clamp(max=0.999)
    at = torch.arange(1, steps + 1, dtype=torch.float64)
    exponent = 0.1 / steps + 0.5 * (10.0 - 0.1) * (2.0 * at - 1.0) / steps**2
    return 1.0 - torch.exp(-exponent)


class Diffusion(nn.Module):
    """Adds noise to chunks, and takes it away step by step.

    Args:
        schedule: see `betas`.
        steps: K, number of steps.
    """

    alphas: Tensor
    kept: Tensor

    def __init__(self, schedule: NoiseSchedule, steps: int) -> None:
        super().__init__()
        self.steps = steps
        alphas = 1.0 - betas(schedule, steps)  # K
        # Not saved: they follow from the config.
        self.register_buffer("alphas", alphas.float(), persistent=False)
        self.register_buffer("kept", alphas.cumprod(0).float(), persistent=False)

    def sample_steps(self, draws: Draws) -> Int64[Tensor, " B"]:
        """A step per row, each as likely."""
        share = draws.uniform("diffusion_step", 1)[:, 0]  # B
        return (share * self.steps).long().clamp(max=self.steps - 1)  # B

    def noisy(
        self,
        data: Float[Tensor, "B Tp A"],
        noise: Float[Tensor, "B Tp A"],
        step: Int64[Tensor, " B"],
    ) -> Float[Tensor, "B Tp A"]:
        """Data with the noise of all steps up to and with `step`."""
        kept = self.kept[step][:, None, None]  # B 1 1
        return kept.sqrt() * data + (1.0 - kept).sqrt() * noise  # B Tp A

    def denoise(
        self,
        network: NoiseNet,
        start: Float[Tensor, "B Tp A"],
        draws: Draws,
        *,
        temperature: float = 1.0,
        clip: float | None = None,
        within: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "B Tp A"]:
        """From noise to a chunk in `steps` ancestral steps.

        Args:
            network: predicts the noise.
            start: standard normal.
            draws: the noise between the steps.
            temperature: scales that noise; 0 makes the way back deterministic.
            clip: after each step values are kept within minus this and this; None does not.
            within: smallest and largest value, `A` each, that the prediction of the clean chunk
                may have; None leaves it as it is.
        """
        x = start
        for k in range(self.steps - 1, -1, -1):
            step = torch.full((len(x),), k, dtype=torch.int64, device=x.device)  # B
            noise = network(x, step)  # B Tp A
            alpha, kept = self.alphas[k], self.kept[k]
            if within is None:
                x = (x - (1.0 - alpha) / (1.0 - kept).sqrt() * noise) / alpha.sqrt()  # B Tp A
            else:
                clean = (x - (1.0 - kept).sqrt() * noise) / kept.sqrt()  # B Tp A
                x = self._towards(x, torch.clamp(clean, *within), k)  # B Tp A
            if k and temperature:
                between = draws.normal(f"denoise_{k}", *x.shape[1:])  # B Tp A
                x = x + temperature * (1.0 - alpha).sqrt() * between
            if clip is not None:
                x = x.clamp(-clip, clip)
        return x

    def _towards(
        self, x: Float[Tensor, "B Tp A"], clean: Float[Tensor, "B Tp A"], k: int
    ) -> Float[Tensor, "B Tp A"]:
        """Mean of the chunk one step before, when the clean one is known; Ho et al., equation 7."""
        if k == 0:
            return clean
        alpha, kept, before = self.alphas[k], self.kept[k], self.kept[k - 1]
        to_clean = before.sqrt() * (1.0 - alpha) / (1.0 - kept)
        to_x = alpha.sqrt() * (1.0 - before) / (1.0 - kept)
        return to_clean * clean + to_x * x  # B Tp A


class FourierFeatures(nn.Module):
    """Cosines and sines of `2 pi w k` with learned frequencies w, drawn from N(0, 0.2)."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(outputs // 2) * 0.2)

    def forward(self, step: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        phase = 2.0 * math.pi * step[:, None] * self.kernel  # B D/2
        return torch.cat((phase.cos(), phase.sin()), -1)  # B D
