"""What is optimised, by which parameter groups and at which rate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from deft.errors import ConfigError

Schedule = Literal["cosine", "linear", "constant"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Settings of AdamW and of its learning rate over time."""

    lr: float = 1e-4
    """Peak learning rate."""
    encoder_lr_scale: float = 1.0
    """Learning rate of image encoders as a share of `lr`; 0 keeps them as they start."""
    weight_decay: float = 1e-6
    """Decoupled decay of matrices and kernels; biases, norms and embeddings have none."""
    betas: tuple[float, float] = (0.95, 0.999)
    """Decay of the running mean and of the running square of gradients."""
    eps: float = 1e-8
    """Added to the root of the running square."""
    warmup_steps: int = 500
    """Optimiser steps over which the rate rises from 0 to `lr`."""
    schedule: Schedule = "cosine"
    """How the rate falls to 0 after the warm-up; `constant` does not."""
    decay_steps: int | None = None
    """Step at which the rate reaches 0; null takes the length of the training."""

    def __post_init__(self) -> None:
        checks = (
            ("lr", self.lr > 0, "above 0"),
            ("encoder_lr_scale", self.encoder_lr_scale >= 0, "0 or more"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("betas", all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 to below 1"),
            ("eps", self.eps > 0, "above 0"),
            ("warmup_steps", self.warmup_steps >= 0, "0 or more"),
            (
                "decay_steps",
                self.decay_steps is None or self.decay_steps > self.warmup_steps,
                f"more than warmup_steps ({self.warmup_steps}), or null",
            ),
        )
        for name, fits, wanted in checks:
            if not fits:
                raise ConfigError(
                    f"optim.{name} is {getattr(self, name)}.\nFix: set it to {wanted}."
                )


class Objective:
    """One loss and the parameters it moves.

    Args:
        name: key of the loss in what `Policy.losses` returns.
        groups: for a torch optimiser: `params`, `lr` (the peak) and `weight_decay` each.
        schedule: how its rate changes, where that is not as `OptimConfig` says.
    """

    def __init__(
        self,
        name: str,
        groups: Sequence[Mapping[str, Any]],
        schedule: Schedule | None = None,
    ) -> None:
        self.name = name
        self.schedule: Schedule | None = schedule
        self._groups = tuple(dict(group) for group in groups)

    @property
    def groups(self) -> list[dict[str, Any]]:
        """The groups as planned, in new dicts: an optimiser keeps and changes those it is given,
        and the schedule needs the peak rate at every step."""
        return [dict(group) for group in self._groups]


def lr_factor(
    config: OptimConfig, step: int, total_steps: int, schedule: Schedule | None = None
) -> float:
    """Learning rate at optimiser step `step` (from 0), as a share of its peak.

    Args:
        config: shape of the schedule.
        step: steps done so far.
        total_steps: steps of the whole training; the rate ends there unless `decay_steps` is set.
        schedule: instead of the one in `config`.

    Returns:
        From 0 to 1; 0 from the end of the decay on.
    """
    if step < config.warmup_steps:
        return step / config.warmup_steps
    shape = schedule or config.schedule
    if shape == "constant":
        return 1.0
    end = total_steps if config.decay_steps is None else config.decay_steps
    done = min((step - config.warmup_steps) / max(end - config.warmup_steps, 1), 1.0)
    return 1.0 - done if shape == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def parameter_groups(
    module: nn.Module, config: OptimConfig, encoders: tuple[nn.Module, ...] = ()
) -> list[dict[str, Any]]:
    """Every trainable parameter of `module` once, grouped by rate and decay.

    Args:
        module: what is trained.
        config: rates and decay.
        encoders: parts of `module` that learn at `encoder_lr_scale` times the rate; at 0 they are
            frozen: no gradient is computed for them.

    Returns:
        Non-empty groups with `params`, `lr` and `weight_decay`. Parameters with fewer than two
        axes (biases, norms) do not decay.
    """
    slow = {id(weight) for encoder in encoders for weight in encoder.parameters()}
    if config.encoder_lr_scale == 0:
        for encoder in encoders:
            encoder.requires_grad_(False)
    grouped: dict[tuple[float, float], list[nn.Parameter]] = {}
    for weight in module.parameters():
        if weight.requires_grad:
            lr = config.lr * (config.encoder_lr_scale if id(weight) in slow else 1.0)
            decay = config.weight_decay if weight.ndim > 1 else 0.0
            grouped.setdefault((lr, decay), []).append(weight)
    return [
        {"params": weights, "lr": lr, "weight_decay": decay}
        for (lr, decay), weights in grouped.items()
    ]
