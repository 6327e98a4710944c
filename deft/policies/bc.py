"""Behaviour cloning with a Gaussian over a chunk of actions.

The likelihood of demonstrated chunks is raised; the mean is what is done. Independent normals have
one mode, so where people act in several ways, `flow` does better.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from deft.errors import ConfigError
from deft.nn import (
    MLP,
    Batch,
    Draws,
    GaussianHead,
    NormalizeConfig,
    Normalizer,
    Objective,
    ObsEncoder,
    ObsEncoderConfig,
    OptimConfig,
    SaliencyConfig,
    Std,
    gaussian_nll,
    masked_mean,
    number_features,
    parameter_groups,
)
from deft.policies.contract import normalizer_modes
from deft.policies.interface import Policy, Prefix, keep_committed, regularised
from deft.spec import Horizons, Spec, Stats


@dataclass(frozen=True, kw_only=True)
class BCConfig:
    """Settings of behaviour cloning."""

    obs_horizon: int = 1
    """Observed ticks, the last one is now."""
    pred_horizon: int = 8
    """Actions predicted per call, in ticks."""
    action_horizon: int = 4
    """Rows of a chunk that run before the policy is asked again."""
    encoder: ObsEncoderConfig = field(default_factory=ObsEncoderConfig)
    """How observations become features."""
    periodic: tuple[str, ...] = ()
    """Elements of the state that wrap around, by name; seen as sine and cosine."""
    normalize: dict[str, str | NormalizeConfig] = field(default_factory=dict)
    """How features are normalised, by name: a mode, or also statistics; `mean_std` for the rest."""
    width: int = 256
    """Hidden size."""
    depth: int = 3
    """Hidden layers."""
    dropout: float = 0.0
    """Probability of zeroing a hidden value while training."""
    std: Std = "fixed"
    """Standard deviation: `fixed` at 1 (mean squared error), `learned`, or of the `state`."""
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
        )
        for name, fits, wanted in checks:
            if not fits:
                raise ConfigError(f"{name} is {getattr(self, name)}.\nFix: set it to {wanted}.")


class BC(Policy):
    """Behaviour cloning; see the module. Built by `build`."""

    def __init__(self, config: BCConfig, spec: Spec, stats: Mapping[str, Stats] | None) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        self.action = spec.action()
        numbers = number_features(spec)
        modes = normalizer_modes(config.normalize, (*numbers, self.action), "mean_std")
        self.encoder = ObsEncoder(config.encoder, spec, stats, modes, config.periodic)
        self.normalizer = Normalizer((self.action,), stats, modes)
        self.trunk = nn.Sequential(
            MLP(
                self.encoder.outputs,
                config.width,
                width=config.width,
                depth=config.depth - 1,
                dropout=config.dropout,
            ),
            nn.SiLU(),
        )
        chunk = config.pred_horizon * self.action.size
        self.head = GaussianHead(config.width, chunk, config.std)

    def losses(
        self, batch: Batch, draws: Draws
    ) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Float[Tensor, ""]]]:
        wanted = self.normalizer(self.action.name, batch.demonstrated())  # B Tp A
        encoded = self.encoder.encode(batch.obs, draws)
        mean, log_std = self._distribution(encoded.vector)  # B Tp A
        loss = masked_mean(gaussian_nll(mean, log_std, wanted), batch.action_valid)
        parts = {
            "mse": masked_mean((mean - wanted) ** 2, batch.action_valid),
            "std": log_std.exp().mean(),
        }
        loss = regularised(self.config.saliency, loss, parts, batch, encoded.maps)
        return {"loss": loss}, {name: part.detach() for name, part in parts.items()}

    def predict(
        self, batch: Batch, draws: Draws, prefix: Prefix | None = None
    ) -> Float[Tensor, "B Tp A"]:
        mean, _ = self._distribution(self.encoder(batch.obs))  # B Tp A
        chunk = self.normalizer.inverse(self.action.name, mean)  # B Tp A
        return keep_committed(chunk, prefix)

    def objectives(self, optim: OptimConfig) -> dict[str, Objective]:
        groups = parameter_groups(self, optim, self.encoder.image_networks)
        return {"loss": Objective("loss", groups)}

    def after_step(self) -> None:
        """Nothing to do."""

    def _distribution(
        self, features: Float[Tensor, "B D"]
    ) -> tuple[Float[Tensor, "B Tp A"], Float[Tensor, "B Tp A"]]:
        mean, log_std = self.head(self.trunk(features))  # B Tp*A
        size = self.action.size
        return (
            rearrange(mean, "B (Tp A) -> B Tp A", A=size),
            rearrange(log_std, "B (Tp A) -> B Tp A", A=size),
        )
