"""Goal-conditioned behaviour cloning, as in BridgeData V2.

A Gaussian over the next actions, given what is seen and a picture of how it should look in the
end. Trained on goals from later in the same demonstration. Source: Walke et al. 2023,
arXiv:2308.12952; Ghosh et al. 2021, arXiv:1912.06088.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from deft.nn import (
    ActionHead,
    ActionHeadConfig,
    Batch,
    Draws,
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
from deft.policies.contract import bridge_encoder, check_squashed, normalizer_modes
from deft.policies.interface import Policy, Prefix, keep_committed, regularised
from deft.spec import Horizons, Spec, Stats


@dataclass(frozen=True, kw_only=True)
class GCBCConfig:
    """Settings of goal-conditioned behaviour cloning."""

    takes: ClassVar[frozenset[str]] = frozenset({"goal"})

    obs_horizon: int = 1
    """Observed ticks, the last one is now."""
    pred_horizon: int = 1
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
    head: ActionHeadConfig = field(default_factory=ActionHeadConfig)
    """From features to actions."""
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    """Whether the image networks learn to look where maps in the data say."""

    def __post_init__(self) -> None:
        Horizons(
            obs_horizon=self.obs_horizon,
            pred_horizon=self.pred_horizon,
            action_horizon=self.action_horizon,
        )


class GCBC(Policy):
    """Goal-conditioned behaviour cloning; see the module. Built by `build`."""

    def __init__(self, config: GCBCConfig, spec: Spec, stats: Mapping[str, Stats] | None) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        self.action = spec.action()
        modes = normalizer_modes(
            config.normalize, (*number_features(spec), self.action), "mean_std"
        )
        check_squashed(config.head, modes[self.action.name])
        self.encoder = ObsEncoder(config.encoder, spec, stats, modes, config.periodic)
        self.normalizer = Normalizer((self.action,), stats, modes)
        self.head = ActionHead(
            config.head, self.encoder.outputs, config.pred_horizon, self.action.size
        )

    def losses(
        self, batch: Batch, draws: Draws
    ) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Float[Tensor, ""]]]:
        batch.need("goal")
        wanted = self.normalizer(self.action.name, batch.demonstrated())  # B Tp A
        encoded = self.encoder.encode(batch.obs, draws, goal=batch.goal)
        mean, log_std = self.head(encoded.vector)  # B Tp A
        loss = row_mean(self.head.nll(mean, log_std, wanted), batch.action_valid)
        error = (self.head.mode(mean) - wanted).square().sum(-1)  # B Tp
        parts = {
            "mse": row_mean(error, batch.action_valid),
            "log_probs": -loss,
            "mean_std": log_std.exp().mean(),
            "max_std": log_std.exp().amax(),
        }
        loss = regularised(self.config.saliency, loss, parts, batch, encoded.maps)
        return {"loss": loss}, {name: part.detach() for name, part in parts.items()}

    def predict(
        self, batch: Batch, draws: Draws, prefix: Prefix | None = None
    ) -> Float[Tensor, "B Tp A"]:
        features = self.encoder(batch.obs, goal=batch.goal)  # B D
        actions = self.normalizer.inverse(self.action.name, self.head.act(features, draws))
        return keep_committed(actions, prefix)  # B Tp A

    def objectives(self, optim: OptimConfig) -> dict[str, Objective]:
        groups = parameter_groups(self, optim, self.encoder.image_networks)
        return {"loss": Objective("loss", groups)}

    def after_step(self) -> None:
        """Nothing to do."""
