"""Language-conditioned behaviour cloning, as in BridgeData V2.

A Gaussian over the next actions, given what is seen and a sentence that says what to do. The
sentence comes as a vector of a frozen text encoder and modulates every block of the image network
(FiLM). Source: Walke et al. 2023, arXiv:2308.12952; Perez et al. 2018, arXiv:1709.07871.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from deft.errors import ConfigError
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
from deft.policies.contract import bridge_film_encoder, check_squashed, normalizer_modes
from deft.policies.interface import Policy, Prefix, keep_committed, regularised
from deft.spec import Horizons, Spec, Stats


@dataclass(frozen=True, kw_only=True)
class LCBCConfig:
    """Settings of language-conditioned behaviour cloning."""

    takes: ClassVar[frozenset[str]] = frozenset({"language"})

    obs_horizon: int = 1
    """Observed ticks, the last one is now."""
    pred_horizon: int = 1
    """Actions predicted per call, in ticks."""
    action_horizon: int = 1
    """Rows of a chunk that run before the policy is asked again."""
    encoder: ObsEncoderConfig = field(default_factory=bridge_film_encoder)
    """How observation and sentence become features."""
    language_size: int = 512
    """Numbers of a sentence's vector; follows from the text encoder."""
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
        if self.language_size < 1:
            raise ConfigError(f"language_size is {self.language_size}.\nFix: set it to 1 or more.")


class LCBC(Policy):
    """Language-conditioned behaviour cloning; see the module. Built by `build`."""

    def __init__(self, config: LCBCConfig, spec: Spec, stats: Mapping[str, Stats] | None) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        self.action = spec.action()
        modes = normalizer_modes(
            config.normalize, (*number_features(spec), self.action), "mean_std"
        )
        check_squashed(config.head, modes[self.action.name])
        self.encoder = ObsEncoder(
            config.encoder, spec, stats, modes, config.periodic, config.language_size
        )
        self.normalizer = Normalizer((self.action,), stats, modes)
        self.head = ActionHead(
            config.head, self.encoder.outputs, config.pred_horizon, self.action.size
        )

    def losses(
        self, batch: Batch, draws: Draws
    ) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Float[Tensor, ""]]]:
        batch.need("language")
        wanted = self.normalizer(self.action.name, batch.demonstrated())  # B Tp A
        encoded = self.encoder.encode(batch.obs, draws, language=batch.language)
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
        features = self.encoder(batch.obs, language=batch.language)  # B D
        actions = self.normalizer.inverse(self.action.name, self.head.act(features, draws))
        return keep_committed(actions, prefix)  # B Tp A

    def objectives(self, optim: OptimConfig) -> dict[str, Objective]:
        groups = parameter_groups(self, optim, self.encoder.image_networks)
        return {"loss": Objective("loss", groups)}

    def after_step(self) -> None:
        """Nothing to do."""
