"""Flow matching over chunks of actions.

A network learns where the straight paths from noise to demonstrated chunks lead, given what is
observed; a few Euler steps then turn noise into a chunk. Source: Lipman et al. 2023,
arXiv:2210.02747; for robot actions Black et al. 2024, arXiv:2410.24164. By default the network
predicts the end of the path instead of the velocity, as Salimans and Ho 2022, arXiv:2202.00512,
section 4, do for diffusion: chunks are smooth, the noise in a velocity is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from deft.errors import ConfigError
from deft.nn import (
    MLP,
    Batch,
    Draws,
    NormalizeConfig,
    Normalizer,
    Objective,
    ObsEncoder,
    ObsEncoderConfig,
    OptimConfig,
    SaliencyConfig,
    euler,
    guide,
    interpolate,
    masked_mean,
    number_features,
    parameter_groups,
    prefix_weights,
    sample_times,
    time_features,
    towards,
)
from deft.policies.contract import normalizer_modes
from deft.policies.interface import Policy, Prefix, regularised
from deft.spec import Horizons, Spec, Stats


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Settings of the flow policy."""

    obs_horizon: int = 2
    """Observed ticks, the last one is now."""
    pred_horizon: int = 16
    """Actions predicted per call, in ticks."""
    action_horizon: int = 8
    """Rows of a chunk that run before the policy is asked again."""
    encoder: ObsEncoderConfig = field(default_factory=ObsEncoderConfig)
    """How observations become features."""
    periodic: tuple[str, ...] = ()
    """Elements of the state that wrap around, by name; seen as sine and cosine."""
    normalize: dict[str, str | NormalizeConfig] = field(default_factory=dict)
    """How features are normalised, by name: a mode, or also statistics; `bounds` for the rest."""
    width: int = 512
    """Hidden size of the network."""
    depth: int = 4
    """Residual blocks of the network, two layers each."""
    dropout: float = 0.0
    """Probability of zeroing a hidden value while training."""
    time_size: int = 64
    """Features of the flow time, even."""
    times: Literal["uniform", "logit_normal", "beta"] = "uniform"
    """Which flow times are trained on; see `nn.TIMES`."""
    predicts: Literal["data", "velocity"] = "data"
    """What the network gives: the chunk at the end of the path, or the velocity towards it. The
    loss is the squared error of that; on the chunk it weighs times near the end less."""
    solver_steps: int = 10
    """Euler steps from noise to actions."""
    guidance: float = 5.0
    """Upper limit of the pull towards a running chunk, when there is one."""
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    """Whether the image networks learn to look where maps in the data say."""

    def __post_init__(self) -> None:
        Horizons(
            obs_horizon=self.obs_horizon,
            pred_horizon=self.pred_horizon,
            action_horizon=self.action_horizon,
        )
        checks = (
            ("width", self.width >= 1, "1 or more"),
            ("depth", self.depth >= 1, "1 or more"),
            ("dropout", 0 <= self.dropout < 1, "0 or more, below 1"),
            ("time_size", self.time_size >= 2 and self.time_size % 2 == 0, "an even number"),
            ("solver_steps", self.solver_steps >= 1, "1 or more"),
            ("guidance", self.guidance >= 0, "0 or more"),
        )
        for name, fits, wanted in checks:
            if not fits:
                raise ConfigError(f"{name} is {getattr(self, name)}.\nFix: set it to {wanted}.")


class Flow(Policy):
    """The flow policy; see the module. Built by `build`.

    Predictions are not clipped to the range of the demonstrations: limits are the business of
    whatever drives the robot, which knows the true ones.
    """

    def __init__(self, config: FlowConfig, spec: Spec, stats: Mapping[str, Stats] | None) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        self.action = spec.action()
        numbers = number_features(spec)
        modes = normalizer_modes(config.normalize, (*numbers, self.action), "bounds")
        self.encoder = ObsEncoder(config.encoder, spec, stats, modes, config.periodic)
        self.normalizer = Normalizer((self.action,), stats, modes)
        chunk = config.pred_horizon * self.action.size
        self.network = MLP(
            chunk + self.encoder.outputs + config.time_size,
            chunk,
            width=config.width,
            depth=config.depth,
            residual=True,
            dropout=config.dropout,
        )

    def losses(
        self, batch: Batch, draws: Draws
    ) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Float[Tensor, ""]]]:
        data = self.normalizer(self.action.name, batch.demonstrated())  # B Tp A
        noise = draws.normal("noise", *data.shape[1:])  # B Tp A
        t = sample_times(draws, self.config.times)  # B
        x, speed = interpolate(noise, data, t)  # B Tp A
        wanted = data if self.config.predicts == "data" else speed  # B Tp A
        encoded = self.encoder.encode(batch.obs, draws)
        error = (self._output(x, encoded.vector, t) - wanted) ** 2  # B Tp A
        parts: dict[str, Tensor] = {}
        loss = masked_mean(error, batch.action_valid)
        loss = regularised(self.config.saliency, loss, parts, batch, encoded.maps)
        return {"loss": loss}, {name: part.detach() for name, part in parts.items()}

    def predict(
        self, batch: Batch, draws: Draws, prefix: Prefix | None = None
    ) -> Float[Tensor, "B Tp A"]:
        features = self.encoder(batch.obs)  # B D
        start = draws.normal("noise", self.config.pred_horizon, self.action.size)  # B Tp A

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            output = self._output(x, features, t)  # B Tp A
            return towards(output, x, t) if self.config.predicts == "data" else output

        if prefix is not None:
            target = self.normalizer(self.action.name, prefix.held())  # B Tp A
            weights = prefix_weights(prefix.delay, prefix.known, target.shape[1])  # B Tp
            guided = guide(velocity, target, weights, self.config.guidance)
            chunk = euler(guided, start, self.config.solver_steps)  # B Tp A
        else:
            chunk = euler(velocity, start, self.config.solver_steps)  # B Tp A
        return self.normalizer.inverse(self.action.name, chunk)

    def objectives(self, optim: OptimConfig) -> dict[str, Objective]:
        groups = parameter_groups(self, optim, self.encoder.image_networks)
        return {"loss": Objective("loss", groups)}

    def after_step(self) -> None:
        """Nothing to do."""

    def _output(
        self,
        x: Float[Tensor, "B Tp A"],
        features: Float[Tensor, "B D"],
        t: Float[Tensor, " B"],
    ) -> Float[Tensor, "B Tp A"]:
        time = time_features(t, self.config.time_size)  # B T
        parts = (rearrange(x, "B Tp A -> B (Tp A)"), features, time)
        output = self.network(torch.cat(parts, -1))  # B Tp*A
        return rearrange(output, "B (Tp A) -> B Tp A", A=self.action.size)
