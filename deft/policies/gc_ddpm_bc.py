"""Goal-conditioned behaviour cloning with diffusion, as in BridgeData V2.

A network learns the noise in a disturbed chunk, given what is seen and a picture of the goal;
taking the noise away step by step turns noise into a chunk. Source: Walke et al. 2023,
arXiv:2308.12952; Chi et al. 2023, arXiv:2303.04137.

Two departures: the prediction of the clean chunk is kept within the range of the demonstrations,
where BridgeData V2 cuts every intermediate chunk at two deviations (`clip=2` does that); and the
averaged weights are those of the training loop, not a second copy in the policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from deft.errors import ConfigError
from deft.nn import (
    Batch,
    Diffusion,
    Draws,
    MLPResNet,
    NoiseSchedule,
    NormalizeConfig,
    Normalizer,
    Objective,
    ObsEncoder,
    ObsEncoderConfig,
    OptimConfig,
    SaliencyConfig,
    number_features,
    parameter_groups,
    row_mean,
)
from deft.policies.contract import bridge_encoder, normalizer_modes
from deft.policies.interface import Policy, Prefix, keep_committed, regularised
from deft.spec import Horizons, Spec, Stats


@dataclass(frozen=True, kw_only=True)
class GCDDPMBCConfig:
    """Settings of goal-conditioned diffusion."""

    takes: ClassVar[frozenset[str]] = frozenset({"goal"})

    obs_horizon: int = 1
    """Observed ticks, the last one is now."""
    pred_horizon: int = 4
    """Actions predicted per call, in ticks."""
    action_horizon: int = 1
    """Rows of a chunk that run before the policy is asked again."""
    encoder: ObsEncoderConfig = field(default_factory=bridge_encoder)
    """How observation and goal become features."""
    goals: tuple[str, ...] | None = None
    """Observed features of which the goal is seen; null takes every image, or every state when
    there is no image."""
    periodic: tuple[str, ...] = ()
    """Elements of the state that wrap around, by name; seen as sine and cosine."""
    normalize: dict[str, str | NormalizeConfig] = field(default_factory=dict)
    """How features are normalised, by name: a mode, or also statistics; `mean_std` for the rest."""
    diffusion_steps: int = 20
    """Steps from noise to actions."""
    schedule: NoiseSchedule = "cosine"
    """How much noise at which step; see `nn.betas`."""
    width: int = 256
    """Residual stream of the network; its hidden layers are 4 times as wide."""
    blocks: int = 3
    """Residual blocks."""
    time_size: int = 32
    """Fourier features of the diffusion step, even."""
    dropout: float = 0.1
    """Probability of zeroing a number while training."""
    temperature: float = 1.0
    """Scales the noise between the steps; 0 leaves it out."""
    clip: float | None = None
    """Cut intermediate chunks at this many normalised units; null keeps the prediction of the
    clean chunk within the range of the demonstrations instead."""
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    """Whether the image networks learn to look where maps in the data say."""

    def __post_init__(self) -> None:
        Horizons(
            obs_horizon=self.obs_horizon,
            pred_horizon=self.pred_horizon,
            action_horizon=self.action_horizon,
        )
        checks = (
            ("diffusion_steps", self.diffusion_steps >= 1, "1 or more"),
            ("width", self.width >= 1, "1 or more"),
            ("blocks", self.blocks >= 1, "1 or more"),
            ("time_size", self.time_size >= 2 and self.time_size % 2 == 0, "an even number"),
            ("dropout", 0 <= self.dropout < 1, "0 or more, below 1"),
            ("temperature", self.temperature >= 0, "0 or more"),
            ("clip", self.clip is None or self.clip > 0, "above 0, or null"),
        )
        for name, fits, wanted in checks:
            if not fits:
                raise ConfigError(f"{name} is {getattr(self, name)}.\nFix: set it to {wanted}.")


class GCDDPMBC(Policy):
    """Goal-conditioned diffusion; see the module. Built by `build`."""

    low: Tensor
    high: Tensor

    def __init__(
        self, config: GCDDPMBCConfig, spec: Spec, stats: Mapping[str, Stats] | None
    ) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        self.action = spec.action()
        modes = normalizer_modes(
            config.normalize, (*number_features(spec), self.action), "mean_std"
        )
        self.encoder = ObsEncoder(config.encoder, spec, stats, modes, config.periodic)
        self.normalizer = Normalizer((self.action,), stats, modes)
        self.network = MLPResNet(
            self.encoder.outputs,
            config.pred_horizon,
            self.action.size,
            width=config.width,
            blocks=config.blocks,
            time_size=config.time_size,
            dropout=config.dropout,
        )
        self.diffusion = Diffusion(config.schedule, config.diffusion_steps)
        for name, edge in (("low", "min"), ("high", "max")):
            values = torch.zeros(self.action.size)
            if stats is not None:
                physical = torch.as_tensor(getattr(stats[self.action.name], edge))
                values = self.normalizer(self.action.name, physical.float())
            self.register_buffer(name, values)

    def losses(
        self, batch: Batch, draws: Draws
    ) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Float[Tensor, ""]]]:
        batch.need("goal")
        data = self.normalizer(self.action.name, batch.demonstrated())  # B Tp A
        encoded = self.encoder.encode(batch.obs, draws, goal=batch.goal)
        step = self.diffusion.sample_steps(draws)  # B
        noise = draws.normal("noise", *data.shape[1:])  # B Tp A
        noisy = self.diffusion.noisy(data, noise, step)  # B Tp A
        guess = self.network(noisy, step, encoded.vector)  # B Tp A
        error = (guess - noise).square()  # B Tp A
        loss = row_mean(error.sum(-1), batch.action_valid)
        parts = {"noise_mse": row_mean(error.mean(-1), batch.action_valid)}
        loss = regularised(self.config.saliency, loss, parts, batch, encoded.maps)
        return {"loss": loss}, {name: part.detach() for name, part in parts.items()}

    def predict(
        self, batch: Batch, draws: Draws, prefix: Prefix | None = None
    ) -> Float[Tensor, "B Tp A"]:
        features = self.encoder(batch.obs, goal=batch.goal)  # B D
        start = draws.normal("start", self.config.pred_horizon, self.action.size)  # B Tp A
        chunk = self.diffusion.denoise(
            lambda x, step: self.network(x, step, features),
            start,
            draws,
            temperature=self.config.temperature,
            clip=self.config.clip,
            within=(self.low, self.high) if self.config.clip is None else None,
        )  # B Tp A
        return keep_committed(self.normalizer.inverse(self.action.name, chunk), prefix)

    def objectives(self, optim: OptimConfig) -> dict[str, Objective]:
        groups = parameter_groups(self, optim, self.encoder.image_networks)
        return {"loss": Objective("loss", groups)}

    def after_step(self) -> None:
        """Nothing to do."""
