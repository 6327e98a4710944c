"""The losses of BridgeData V2's algorithms in plain NumPy, row by row and slowly.

Networks are asked for their outputs; everything that is done with those is written out here.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from deft import nn


def log_density(mean: np.ndarray, log_std: np.ndarray, value: np.ndarray) -> float:
    """Of one vector under independent normals."""
    total = 0.0
    for m, s, v in zip(mean.ravel(), log_std.ravel(), value.ravel(), strict=True):
        deviation = math.exp(s)
        total += -0.5 * ((v - m) / deviation) ** 2 - math.log(deviation)
        total -= 0.5 * math.log(2.0 * math.pi)
    return total


def gaussian_loss(
    mean: np.ndarray, log_std: np.ndarray, wanted: np.ndarray, valid: np.ndarray
) -> tuple[float, float]:
    """Mean over valid rows of the negative log density, and of the squared error."""
    rows = [(b, t) for b, t in np.ndindex(*valid.shape) if valid[b, t]]
    density = [log_density(mean[at], log_std[at], wanted[at]) for at in rows]
    error = [float(((mean[at] - wanted[at]) ** 2).sum()) for at in rows]
    return -float(np.mean(density)), float(np.mean(error))


def cosine_kept(steps: int) -> list[float]:
    """Share of the clean chunk left after each step of the cosine schedule."""

    def wave(at: float) -> float:
        return math.cos((at + 0.008) / 1.008 * math.pi / 2) ** 2

    kept, product = [], 1.0
    for k in range(steps):
        product *= 1.0 - min(1.0 - wave((k + 1) / steps) / wave(k / steps), 0.999)
        kept.append(product)
    return kept


def noise_loss(
    data: np.ndarray,
    noise: np.ndarray,
    step: np.ndarray,
    network: Callable[[np.ndarray], np.ndarray],
    valid: np.ndarray,
    steps: int,
) -> float:
    """Mean over valid rows of the squared error of the predicted noise, summed over a row."""
    kept = cosine_kept(steps)
    noisy = np.stack(
        [
            math.sqrt(kept[k]) * clean + math.sqrt(1.0 - kept[k]) * dirt
            for k, clean, dirt in zip(step, data, noise, strict=True)
        ]
    )
    guess = network(noisy)
    errors = [
        float(((guess[at] - noise[at]) ** 2).sum()) for at in np.ndindex(*valid.shape) if valid[at]
    ]
    return float(np.mean(errors))


def iql_losses(policy: Any, batch: nn.Batch, draws: nn.Draws) -> dict[str, float]:
    """Critic, value and actor loss; see bridge's gc_iql."""
    config = policy.config
    count = len(batch)

    def swapped(name: str) -> tuple[dict[str, Any], list[float], list[bool]]:
        swap = [float(u) < config.negatives for u in draws.uniform(name, 1)[:, 0]]
        source = [(i + 1) % count if each else i for i, each in enumerate(swap)]
        reward = [-1.0 if each else float(batch.reward[i]) for i, each in enumerate(swap)]
        return {key: held[source] for key, held in batch.goal.items()}, reward, swap

    def target_value(goal: dict[str, Any]) -> np.ndarray:
        return policy.target_value(policy.target_encoder(batch.next_obs, goal=goal)).numpy()

    def critic(goal: dict[str, Any]) -> np.ndarray:
        import torch

        done = policy.normalizer("action", batch.action)[:, 0]
        features = policy.encoder(batch.obs, goal=goal)
        return policy.critic(torch.cat((features, done), -1)).detach().numpy()

    def value(goal: dict[str, Any]) -> np.ndarray:
        return policy.value(policy.encoder(batch.obs, goal=goal)).detach().numpy()

    goal, reward, _ = swapped("critic_negatives")
    q, later = critic(goal), target_value(goal)
    td = [(q[i] - (reward[i] + config.discount * later[i])) ** 2 for i in range(count)]

    goal, _, _ = swapped("value_negatives")
    q, v = critic(goal), value(goal)
    expectile = []
    for i in range(count):
        weight = config.expectile if q[i] - v[i] > 0 else 1.0 - config.expectile
        expectile.append(weight * (q[i] - v[i]) ** 2)

    later, v = target_value(batch.goal), value(batch.goal)
    mean, log_std = policy.head(policy.encoder(batch.obs, goal=batch.goal))
    mean, log_std = mean.detach().numpy(), log_std.detach().numpy()
    wanted = policy.normalizer("action", batch.action).numpy()
    actor = []
    for i in range(count):
        advantage = float(batch.reward[i]) + config.discount * later[i] - v[i]
        weight = min(math.exp(advantage / config.temperature), 100.0)
        actor.append(-weight * log_density(mean[i], log_std[i], wanted[i]))
    valid = batch.action_valid[:, 0].numpy()
    losses = {"critic": td, "value": expectile, "actor": actor}
    return {name: float(np.mean(np.asarray(each)[valid])) for name, each in losses.items()}


def contrastive_losses(policy: Any, batch: nn.Batch, draws: nn.Draws) -> dict[str, float]:
    """Critic and actor loss; see bridge's contrastive_rl."""
    config = policy.config
    count = len(batch)
    done = policy.normalizer("action", batch.action)
    seen = policy.critic.encoder(batch.obs)
    sigmoid = lambda x: 1.0 / (1.0 + math.exp(-x))  # noqa: E731

    if config.critic == "td":
        following = policy.critic.encoder(batch.next_obs)
        logits = policy.critic(seen, done[:, 0], following).detach().numpy()
        order = [(i + 1) % count for i in range(count)]
        other = {name: batch.next_obs[name][order][:, -1] for name in batch.goal}
        mean, log_std = policy.head(policy.encoder(batch.next_obs, goal=other))
        then = (mean + log_std.exp() * draws.normal("action", *mean.shape[1:]))[:, 0]
        after = policy.target.encoder(batch.next_obs)
        opinion = policy.target(after, then, after).detach().numpy()
        rows = []
        for i in range(count):
            j = (i + 1) % count
            chance = min(sigmoid(float(tower[i, j])) for tower in opinion)
            weight = min(max(chance / (1.0 - chance), 0.0), 20.0)
            row = []
            for tower in logits:
                positive, negative = sigmoid(float(tower[i, i])), sigmoid(float(tower[i, j]))
                row.append(
                    -(1.0 - config.discount) * math.log(positive)
                    - config.discount * weight * math.log(negative)
                    - math.log(1.0 - negative)
                )
            rows.append(np.mean(row))
    else:
        goal = policy.critic.encoder({name: held[:, None] for name, held in batch.goal.items()})
        logits = policy.critic(seen, done[:, 0], goal).detach().numpy()
        rows = [
            np.mean(
                [
                    -math.log(sigmoid(float(tower[i, j] if i == j else -tower[i, j])))
                    for tower in logits
                    for j in range(count)
                ]
            )
            for i in range(count)
        ]

    mean, log_std = policy.head(policy.encoder(batch.obs, goal=batch.goal))
    choice = (mean + log_std.exp() * draws.normal("action", *mean.shape[1:]))[:, 0]
    goal = policy.critic.encoder({name: held[:, None] for name, held in batch.goal.items()})
    liked = policy.critic(seen, choice, goal).detach().numpy()
    mean, log_std = mean.detach().numpy(), log_std.detach().numpy()
    actor = []
    for i in range(count):
        density = log_density(mean[i], log_std[i], done[i].numpy())
        lowest = min(float(tower[i, i]) for tower in liked)
        actor.append(-(1.0 - config.cloning) * lowest - config.cloning * density)
    valid = batch.action_valid[:, 0].numpy()
    return {
        "critic": float(np.mean(np.asarray(rows)[valid])),
        "actor": float(np.mean(np.asarray(actor)[valid])),
    }
