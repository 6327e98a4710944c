"""Contrastive reinforcement learning, as in BridgeData V2.

A critic learns to tell what follows an action from what does not: the product of a vector of
(observation, action) and one of a goal. The actor maximises it, held back by behaviour cloning.
Sources: Eysenbach et al. 2022, arXiv:2206.07568 (`critic=monte_carlo`); Zheng et al. 2023,
arXiv:2306.03346 (`critic=td`); Walke et al. 2023, arXiv:2308.12952.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

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
from deft.spec import GOAL, Horizons, Spec, Stats


def _encoder() -> ObsEncoderConfig:
    return replace(bridge_encoder(), coordinates=False)


@dataclass(frozen=True, kw_only=True)
class ContrastiveRLConfig:
    """Settings of contrastive reinforcement learning."""

    takes: ClassVar[frozenset[str]] = frozenset({"goal", "next"})

    obs_horizon: int = 1
    """Observed ticks, the last one is now."""
    pred_horizon: int = 1
    """Actions predicted per call; 1, since the critic judges single actions."""
    action_horizon: int = 1
    """Rows of a chunk that run before the policy is asked again; 1."""
    encoder: ObsEncoderConfig = field(default_factory=_encoder)
    """How observations become features; actor and critic have one each, and the critic looks at
    goals with its own."""
    goals: tuple[str, ...] | None = None
    """Observed features of which the goal is seen; null takes every image, or every state when
    there is no image."""
    periodic: tuple[str, ...] = ()
    """Elements of the state that wrap around, by name; seen as sine and cosine."""
    normalize: dict[str, str | NormalizeConfig] = field(default_factory=dict)
    """How features are normalised, by name: a mode, or also statistics; `mean_std` for the rest."""
    head: ActionHeadConfig = field(default_factory=ActionHeadConfig)
    """The actor; each tower of the critic has layers of the same sizes, without dropout."""
    critic: Literal["td", "monte_carlo"] = "td"
    """What the critic learns from: the next observation and its own opinion of what comes then, or
    later observations of the demonstration."""
    towers: int = 2
    """Critics, of which the lowest counts."""
    latent: int = 16
    """Size of the two vectors."""
    discount: float = 0.98
    """Chance that the episode goes on."""
    cloning: float = 0.2
    """Share of behaviour cloning in the actor's loss."""
    tau: float = 0.002
    """Share of the way that the target critic moves per step."""
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
            ("towers", self.towers >= 1, "1 or more"),
            ("latent", self.latent >= 1, "1 or more"),
            ("discount", 0 <= self.discount < 1, "0 or more, below 1"),
            ("cloning", 0 <= self.cloning <= 1, "0 to 1"),
            ("tau", 0 < self.tau <= 1, "above 0, at most 1"),
        )
        for name, fits, wanted in checks:
            if not fits:
                raise ConfigError(f"{name} is {getattr(self, name)}.\nFix: set it to {wanted}.")


class Critic(nn.Module):
    """How likely each goal follows each observation and action: a matrix of logits per tower."""

    def __init__(self, config: ContrastiveRLConfig, encoder: ObsEncoder, actions: int) -> None:
        super().__init__()
        self.encoder = encoder

        def tower(inputs: int) -> nn.Sequential:
            trunk = Trunk(inputs, config.head.hidden, layer_norm=True)
            last = nn.Linear(trunk.outputs, config.latent)
            # Nearly nothing at first, so that all goals look alike.
            nn.init.uniform_(last.weight, -1e-12, 1e-12)
            nn.init.zeros_(last.bias)
            return nn.Sequential(trunk, last)

        size = encoder.outputs
        self.acts = nn.ModuleList(tower(size + actions) for _ in range(config.towers))
        self.aims = nn.ModuleList(tower(size) for _ in range(config.towers))

    def forward(
        self,
        features: Float[Tensor, "B D"],
        action: Float[Tensor, "B A"],
        goal: Float[Tensor, "G D"],
    ) -> Float[Tensor, "N B G"]:
        """Logits of each tower for every pair of (observation, action) and goal."""
        done = torch.cat((features, action), -1)  # B D+A
        acts = torch.stack([tower(done) for tower in self.acts])  # N B L
        aims = torch.stack([tower(goal) for tower in self.aims])  # N G L
        return acts @ aims.transpose(1, 2)  # N B G


class ContrastiveRL(Policy):
    """Contrastive reinforcement learning; see the module. Built by `build`."""

    gathered: ClassVar[tuple[str, ...]] = ("critic",)

    def __init__(
        self, config: ContrastiveRLConfig, spec: Spec, stats: Mapping[str, Stats] | None
    ) -> None:
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
        self.head = ActionHead(config.head, self.encoder.outputs, 1, self.action.size)
        # The critic looks at what a goal is given for, at goals and observations alike.
        aimed = {feature.name for feature in spec.role("goal")}
        alike = tuple(f for f in spec.features if f.role == "action" or GOAL + f.name in aimed)
        self._aimed = [feature.name for feature in alike if feature.role != "action"]
        known = {name for feature in alike for name in (feature.name, *feature.names)}
        wrapping = tuple(name for name in config.periodic if name in known)
        alone = ObsEncoder(config.encoder, replace(spec, features=alike), stats, modes, wrapping)
        self.critic = Critic(config, alone, self.action.size)
        self.target = frozen_copy(self.critic)

    def losses(
        self, batch: Batch, draws: Draws
    ) -> tuple[dict[str, Float[Tensor, ""]], dict[str, Float[Tensor, ""]]]:
        batch.need("goal", "next_obs")
        parts: dict[str, Tensor] = {}
        done = self.normalizer(self.action.name, batch.demonstrated())  # B 1 A
        seen = self.critic.encoder(batch.obs)  # B D
        critic = (self._td if self.config.critic == "td" else self._monte_carlo)(
            batch, draws, seen, done[:, 0], parts
        )
        actor = self._actor(batch, draws, done, parts)
        losses = {
            "critic": row_mean(critic[:, None], batch.action_valid),
            "actor": actor,
        }
        parts = {name: part.detach() for name, part in parts.items()}
        if self.config.optimisers:
            return losses, parts
        total = losses["critic"] + losses["actor"]
        return {"loss": total}, {**{name: each.detach() for name, each in losses.items()}, **parts}

    def predict(
        self, batch: Batch, draws: Draws, prefix: Prefix | None = None
    ) -> Float[Tensor, "B Tp A"]:
        features = self.encoder(batch.obs, goal=batch.goal)  # B D
        actions = self.normalizer.inverse(self.action.name, self.head.act(features, draws))
        return keep_committed(actions, prefix)  # B 1 A

    def objectives(self, optim: OptimConfig) -> dict[str, Objective]:
        def of(*parts: nn.Module) -> list[dict[str, object]]:
            slow = (*self.encoder.image_networks, *self.critic.encoder.image_networks)
            return parameter_groups(nn.ModuleList(parts), optim, slow)

        if not self.config.optimisers:
            return {"loss": Objective("loss", of(self.encoder, self.head, self.critic))}
        # The critic never ends learning: its rate stays, while the actor's falls.
        return {
            "critic": Objective("critic", of(self.critic), schedule="constant"),
            "actor": Objective("actor", of(self.encoder, self.head)),
        }

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the target critic."""
        follow(self.target, self.critic, self.config.tau)

    def _td(
        self,
        batch: Batch,
        draws: Draws,
        seen: Float[Tensor, "B D"],
        done: Float[Tensor, "B A"],
        parts: dict[str, Tensor],
    ) -> Float[Tensor, " B"]:
        """What comes next is a positive; the next row's is a negative, worth as much of a positive
        as the target critic thinks it can still be reached. Zheng et al., equation 9."""
        logits = self.critic(seen, done, self.critic.encoder(batch.next_obs))  # N B B
        positive = logits.diagonal(dim1=1, dim2=2)  # N B
        negative = next_rows(logits, 2).diagonal(dim1=1, dim2=2)  # N B
        with torch.no_grad():
            other = {name: next_rows(batch.next_obs[name][:, -1]) for name in self._aimed}
            mean, log_std = self.head(self.encoder(batch.next_obs, goal=other))  # B 1 A
            then = self.head.draw(mean, log_std, draws)[:, 0]  # B A
            later = self.target.encoder(batch.next_obs)  # B D
            chance = self.target(later, then, next_rows(later))  # N B B
            chance = chance.diagonal(dim1=1, dim2=2).sigmoid().amin(0)  # B
            weight = (chance / (1.0 - chance)).clamp(0.0, 20.0)  # B
        discount = self.config.discount
        loss = (
            (1.0 - discount) * F.softplus(-positive)
            + discount * weight * F.softplus(-negative)
            + F.softplus(negative)
        ).mean(0)  # B
        _tell(parts, logits)
        return loss

    def _monte_carlo(
        self,
        batch: Batch,
        draws: Draws,
        seen: Float[Tensor, "B D"],
        done: Float[Tensor, "B A"],
        parts: dict[str, Tensor],
    ) -> Float[Tensor, " B"]:
        """Each row's own goal is a positive, those of all other rows are negatives."""
        logits = self.critic(seen, done, self._goals(batch))  # N B B
        _tell(parts, logits)
        own = torch.eye(len(seen), device=logits.device).expand_as(logits)  # N B B
        return F.binary_cross_entropy_with_logits(logits, own, reduction="none").mean((0, 2))  # B

    def _actor(
        self,
        batch: Batch,
        draws: Draws,
        done: Float[Tensor, "B 1 A"],
        parts: dict[str, Tensor],
    ) -> Float[Tensor, ""]:
        encoded = self.encoder.encode(batch.obs, draws, goal=batch.goal)
        mean, log_std = self.head(encoded.vector)  # B 1 A
        choice = self.head.draw(mean, log_std, draws)[:, 0]  # B A
        with torch.no_grad():
            seen, aim = self.critic.encoder(batch.obs), self._goals(batch)  # B D
        # The actor moves itself, not the critic's opinion.
        fixed = {name: weight.detach() for name, weight in self.critic.named_parameters()}
        logits = functional_call(self.critic, fixed, (seen, choice, aim))  # N B B
        liked = logits.amin(0).diagonal()  # B
        nll = self.head.nll(mean, log_std, done)[:, 0]  # B
        parts |= {
            "q_action_loss": -liked.mean(),
            "gcbc_loss": nll.mean(),
            "mse": (self.head.mode(mean) - done).square().sum(-1).mean(),
            "pi_std": log_std.exp().mean(),
        }
        each = self.config.cloning * nll - (1.0 - self.config.cloning) * liked  # B
        loss = row_mean(each[:, None], batch.action_valid)
        return regularised(self.config.saliency, loss, parts, batch, encoded.maps)

    def _goals(self, batch: Batch) -> Float[Tensor, "B D"]:
        """Goals as the critic sees observations; a goal has one tick, which is repeated."""
        ticks = self.config.obs_horizon
        held = {name: batch.goal[name] for name in self._aimed}
        return self.critic.encoder(
            {name: goal[:, None].expand(-1, ticks, *goal.shape[1:]) for name, goal in held.items()}
        )


def _tell(parts: dict[str, Tensor], logits: Float[Tensor, "N B G"]) -> None:
    """How well the critic tells goals apart."""
    seen = logits.detach().mean(0)  # B G
    own = torch.eye(len(seen), device=seen.device, dtype=torch.bool)  # B G
    parts |= {
        "binary_accuracy": ((seen > 0) == own).float().mean(),
        "categorical_accuracy": (seen.argmax(1) == own.int().argmax(1)).float().mean(),
        "logits_pos": seen[own].mean(),
        "logits_neg": seen.masked_fill(own, 0.0).sum() / max(seen.numel() - len(seen), 1),
    }
