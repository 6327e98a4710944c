"""Goal-conditioned implicit Q-learning, as in BridgeData V2.

A value and a critic of reaching a goal are learned from demonstrations, good and bad; the actor
copies actions in proportion to how much better they turned out than expected. Source: Kostrikov
et al. 2022, arXiv:2110.06169; Walke et al. 2023, arXiv:2308.12952.

Rewards are 0 where a step reaches the goal and -1 elsewhere. As in BridgeData V2 the advantage is
that of the observed step, `r + discount V'(s') - V(s)`, and there is one critic.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

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
    Trunk,
    follow,
    frozen_copy,
    next_rows,
    number_features,
    parameter_groups,
    row_mean,
)
from deft.policies.contract import bridge_encoder, check_squashed, normalizer_modes, one_action
from deft.policies.interface import Policy, Prefix, keep_committed, regularised
from deft.spec import Horizons, Spec, Stats


@dataclass(frozen=True, kw_only=True)
class GCIQLConfig:
    """Settings of goal-conditioned implicit Q-learning."""

    takes: ClassVar[frozenset[str]] = frozenset({"goal", "next"})

    obs_horizon: int = 1
    """Observed ticks, the last one is now."""
    pred_horizon: int = 1
    """Actions predicted per call; 1, since the critic judges single actions."""
    action_horizon: int = 1
    """Rows of a chunk that run before the policy is asked again; 1."""
    encoder: ObsEncoderConfig = field(default_factory=bridge_encoder)
    """How observation and goal become features; actor, value and critic share it."""
    goals: tuple[str, ...] | None = None
    """Observed features of which the goal is seen; null takes every image, or every state when
    there is no image."""
    periodic: tuple[str, ...] = ()
    """Elements of the state that wrap around, by name; seen as sine and cosine."""
    normalize: dict[str, str | NormalizeConfig] = field(default_factory=dict)
    """How features are normalised, by name: a mode, or also statistics; `mean_std` for the rest."""
    head: ActionHeadConfig = field(default_factory=ActionHeadConfig)
    """The actor; value and critic have as many layers of the same sizes."""
    discount: float = 0.98
    """Worth of a tick later."""
    expectile: float = 0.7
    """How optimistic the value is; 0.5 is the mean."""
    temperature: float = 1.0
    """How little the actor minds the advantage; infinite would be behaviour cloning."""
    negatives: float = 0.1
    """Share of goals in the losses of value and critic that come from another demonstration."""
    tau: float = 0.002
    """Share of the way that the target value moves per step."""
    target_dropout: bool = False
    """Whether values that are only looked up are disturbed by dropout too, as in BridgeData V2."""
    optimisers: bool = False
    """Whether each loss has an optimiser of its own, as in BridgeData V2, or their sum has one."""
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    """Whether the actor learns to look where maps in the data say."""

    def __post_init__(self) -> None:
        Horizons(
            obs_horizon=self.obs_horizon,
            pred_horizon=self.pred_horizon,
            action_horizon=self.action_horizon,
        )
        one_action(self.pred_horizon)
        checks = (
            ("discount", 0 <= self.discount < 1, "0 or more, below 1"),
            ("expectile", 0 < self.expectile < 1, "between 0 and 1"),
            ("temperature", self.temperature > 0, "above 0"),
            ("negatives", 0 <= self.negatives <= 1, "0 to 1"),
            ("tau", 0 < self.tau <= 1, "above 0, at most 1"),
        )
        for name, fits, wanted in checks:
            if not fits:
                raise ConfigError(f"{name} is {getattr(self, name)}.\nFix: set it to {wanted}.")


class Value(nn.Module):
    """How good it is to see this when that is the goal, and, as a critic, to do something then."""

    def __init__(self, config: ActionHeadConfig, inputs: int) -> None:
        super().__init__()
        self.trunk = Trunk(inputs, config.hidden, config.dropout)
        self.last = nn.Linear(self.trunk.outputs, 1)
        nn.init.xavier_uniform_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Float[Tensor, "B D"], drop: bool = True) -> Float[Tensor, " B"]:
        return self.last(self.trunk(x, drop))[:, 0]  # B


class GCIQL(Policy):
    """Goal-conditioned implicit Q-learning; see the module. Built by `build`."""

    gathered: ClassVar[tuple[str, ...]] = ("encoder", "value")

    def __init__(self, config: GCIQLConfig, spec: Spec, stats: Mapping[str, Stats] | None) -> None:
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
        size = self.encoder.outputs
        self.head = ActionHead(config.head, size, 1, self.action.size)
        self.value = Value(config.head, size)
        self.critic = Value(config.head, size + self.action.size)
        self.target_encoder = frozen_copy(self.encoder)
        self.target_value = frozen_copy(self.value)

    def losses(
        self, batch: Batch, draws: Draws
    ) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Float[Tensor, ""]]]:
        batch.need("goal", "next_obs", "reward", "mask")
        valid = batch.action_valid  # B 1
        parts: dict[str, Tensor] = {}
        critic = self._critic_loss(batch, draws, parts)
        value = self._value_loss(batch, draws, parts)
        actor = self._actor_loss(batch, draws, parts)
        losses = {
            "critic": row_mean(critic[:, None], valid),
            "value": row_mean(value[:, None], valid),
            "actor": actor,
        }
        parts = {name: part.detach() for name, part in parts.items()}
        if self.config.optimisers:
            return losses, parts
        total = losses["critic"] + losses["value"] + losses["actor"]
        return {"loss": total}, {**{name: each.detach() for name, each in losses.items()}, **parts}

    def predict(
        self, batch: Batch, draws: Draws, prefix: Prefix | None = None
    ) -> Float[Tensor, "B Tp A"]:
        features = self.encoder(batch.obs, goal=batch.goal)  # B D
        actions = self.normalizer.inverse(self.action.name, self.head.act(features, draws))
        return keep_committed(actions, prefix)  # B 1 A

    def objectives(self, optim: OptimConfig) -> dict[str, Objective]:
        def of(*parts: nn.Module) -> list[dict[str, object]]:
            return parameter_groups(nn.ModuleList(parts), optim, self.encoder.image_networks)

        if not self.config.optimisers:
            everything = of(self.encoder, self.head, self.value, self.critic)
            return {"loss": Objective("loss", everything)}
        return {
            name: Objective(name, of(self.encoder, part))
            for name, part in (
                ("critic", self.critic),
                ("value", self.value),
                ("actor", self.head),
            )
        }

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the target value."""
        follow(self.target_encoder, self.encoder, self.config.tau)
        follow(self.target_value, self.value, self.config.tau)

    def _critic_loss(
        self, batch: Batch, draws: Draws, parts: dict[str, Tensor]
    ) -> Float[Tensor, " B"]:
        goal, reward = self._negatives(batch, draws, "critic_negatives")
        features = self.encoder(batch.obs, draws, goal=goal)  # B D
        q = self.critic(torch.cat((features, self._done(batch)), -1))  # B
        aim = self._aim(batch, goal, reward)  # B
        parts["q"] = q.mean()
        return (q - aim).square()

    def _value_loss(
        self, batch: Batch, draws: Draws, parts: dict[str, Tensor]
    ) -> Float[Tensor, " B"]:
        goal, _ = self._negatives(batch, draws, "value_negatives")
        features = self.encoder(batch.obs, draws, goal=goal)  # B D
        v = self.value(features)  # B
        with torch.no_grad():
            q = self.critic(
                torch.cat((features, self._done(batch)), -1), self.config.target_dropout
            )  # B
        error = q - v  # B
        weight = torch.where(error > 0, self.config.expectile, 1.0 - self.config.expectile)  # B
        parts |= {"v": v.mean(), "uncentered_loss": error.square().mean()}
        return weight * error.square()

    def _actor_loss(
        self, batch: Batch, draws: Draws, parts: dict[str, Tensor]
    ) -> Float[Tensor, ""]:
        assert batch.reward is not None
        encoded = self.encoder.encode(batch.obs, draws, goal=batch.goal)
        features = encoded.vector  # B D
        with torch.no_grad():
            now = self.value(features, self.config.target_dropout)  # B
            advantage = self._aim(batch, batch.goal, batch.reward) - now  # B
            weight = (advantage / self.config.temperature).exp().clamp(max=100.0)  # B
        mean, log_std = self.head(features)  # B 1 A
        wanted = self.normalizer(self.action.name, batch.demonstrated())  # B 1 A
        nll = self.head.nll(mean, log_std, wanted)[:, 0]  # B
        parts |= {
            "behavior_logprob": -nll.mean(),
            "behavior_mse": (self.head.mode(mean) - wanted).square().sum(-1).mean(),
            "adv_mean": advantage.mean(),
            "adv_max": advantage.amax(),
            "adv_min": advantage.amin(),
        }
        loss = row_mean((weight * nll)[:, None], batch.action_valid)
        return regularised(self.config.saliency, loss, parts, batch, encoded.maps)

    def _done(self, batch: Batch) -> Float[Tensor, "B A"]:
        return self.normalizer(self.action.name, batch.demonstrated())[:, 0]

    @torch.no_grad()
    def _aim(
        self, batch: Batch, goal: Mapping[str, Tensor], reward: Float[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """What the step turned out to be worth."""
        assert batch.mask is not None
        features = self.target_encoder(batch.next_obs, goal=goal)  # B D
        later = self.target_value(features, self.config.target_dropout)  # B
        return reward + self.config.discount * batch.mask * later

    def _negatives(
        self, batch: Batch, draws: Draws, name: str
    ) -> tuple[dict[str, Tensor], Float[Tensor, " B"]]:
        """Goals of which some come from the next row of the batch, which no step here reaches."""
        assert batch.reward is not None
        swap = draws.uniform(name, 1)[:, 0] < self.config.negatives  # B
        goal = {
            key: torch.where(swap.view(-1, *[1] * (held.ndim - 1)), next_rows(held), held)
            for key, held in batch.goal.items()
        }
        return goal, torch.where(swap, -1.0, batch.reward)
