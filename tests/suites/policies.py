"""What every policy must do, whatever it learns by."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from deft import nn, policies
from deft.errors import ShapeError
from deft.spec import GOAL, Feature, Spec, Stats, from_plain, to_plain

LANGUAGE = 6
"""Numbers of a sentence's vector."""


def arm_spec(*cameras: str, state: bool = True) -> Spec:
    """A small arm with an angle that wraps around, two commands, and tiny pictures."""
    features = [
        Feature(name=name, role="image", shape=(16, 24, 3), dtype="uint8") for name in cameras
    ]
    if state:
        features.append(
            Feature(
                name="state",
                role="state",
                shape=(3,),
                dtype="float32",
                names=("reach", "height", "wrist"),
            )
        )
    features += [
        Feature(name=f"saliency.{name}", role="saliency", shape=(16, 24, 1), dtype="float32")
        for name in cameras
    ]
    features.append(Feature(name="task", role="language", shape=(), dtype="str"))
    features.append(Feature(name="action", role="action", shape=(2,), dtype="float32", unit="mm"))
    return Spec(features=tuple(features), fps=10.0)


def arm_stats() -> dict[str, Stats]:
    """Statistics in units that are far from -1 to 1."""
    rng = np.random.default_rng(0)
    return {
        "state": Stats.of(rng.uniform((0.0, -0.01, -3.0), (1.0, 0.01, 3.0), (500, 3))),
        "action": Stats.of(rng.uniform((100.0, -5.0), (300.0, 5.0), (500, 2))),
    }


def arm_batch(spec: Spec, rows: int, seed: int = 0) -> nn.Batch:
    """Random observations with the actions that `solution` gives for them."""
    assert spec.horizons is not None
    make = torch.Generator().manual_seed(seed)
    ticks, chunk = spec.horizons.obs_horizon, spec.horizons.pred_horizon
    obs = _observe(spec, rows, ticks, make)
    valid = torch.arange(chunk)[None, :] < torch.randint(1, chunk + 1, (rows, 1), generator=make)
    goals = [feature.name.removeprefix(GOAL) for feature in spec.role("goal")]
    reached = torch.rand(rows, generator=make) < 0.2
    return nn.Batch(
        obs=obs,
        action=solution(obs, rows, chunk),
        action_valid=valid,
        goal={name: _observe(spec, rows, 1, make)[name][:, 0] for name in goals},
        language=torch.randn(rows, LANGUAGE, generator=make),
        next_obs=_observe(spec, rows, ticks, make),
        reward=torch.where(reached, 0.0, -1.0),
        mask=torch.ones(rows),
        saliency={
            camera.name: torch.rand(rows, ticks, camera.height, camera.width, generator=make)
            for camera in spec.role("image")
        },
    )


def _observe(spec: Spec, rows: int, ticks: int, make: torch.Generator) -> dict[str, torch.Tensor]:
    obs: dict[str, torch.Tensor] = {}
    for camera in spec.role("image"):
        shape = (rows, ticks, *camera.shape)
        obs[camera.name] = torch.randint(0, 256, shape, dtype=torch.uint8, generator=make)
    if "state" in spec:
        unit = torch.rand(rows, ticks, 3, generator=make)
        low, high = torch.tensor((0.0, -0.01, -3.0)), torch.tensor((1.0, 0.01, 3.0))
        obs["state"] = low + (high - low) * unit
    return obs


def solution(obs: dict[str, torch.Tensor], rows: int, chunk: int) -> torch.Tensor:
    """What the demonstrator does, mm: a smooth function of the last state, of time otherwise."""
    ahead = torch.linspace(0.0, 1.0, chunk)  # Tp
    if "state" not in obs:
        still = torch.stack((200.0 + 50.0 * ahead, 5.0 * ahead), -1)  # Tp A
        return still[None].repeat(rows, 1, 1)
    now = obs["state"][:, -1, None, :]  # B 1 3
    first = 100.0 + 200.0 * now[..., 0] * (1.0 - 0.5 * ahead)  # B Tp
    second = 5.0 * torch.sin(now[..., 2] + ahead)  # B Tp
    return torch.stack((first, second), -1)  # B Tp A


def draws(rows: int, seed: int = 0, first: int = 0) -> nn.Draws:
    return nn.Draws(seed, torch.arange(first, first + rows))


def rows_of(batch: nn.Batch, rows: Any) -> nn.Batch:
    """Some rows of a batch, without the actions."""
    return nn.Batch(
        obs={name: values[rows] for name, values in batch.obs.items()},
        goal={name: values[rows] for name, values in batch.goal.items()},
        language=None if batch.language is None else batch.language[rows],
    )


class PolicyChecks:
    """Subclass with a small `config`; the tests are for every policy alike."""

    config: Any
    longest = 8
    """Largest chunk that the policy can predict."""
    steps = 190
    """Steps of training after which it has learned."""

    @pytest.fixture(autouse=True)
    def one_thread(self) -> Iterator[None]:
        """Networks this small are slower with more."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)

    def build(self, config: Any = None, *cameras: str, state: bool = True) -> policies.Policy:
        config = config or self.config
        torch.manual_seed(0)
        contract = policies.contract(config, arm_spec(*cameras, state=state))
        return policies.build(config, contract, arm_stats())

    def train(self, policy: policies.Policy, steps: int, lr: float = 3e-3) -> None:
        optim = nn.OptimConfig(lr=lr, warmup_steps=10)
        (objective,) = policy.objectives(optim).values()
        optimizer = torch.optim.AdamW(objective.groups, betas=optim.betas)
        for step in range(steps):
            batch = arm_batch(policy.spec, 64, seed=step)
            losses, _ = policy.losses(batch, draws(64, first=64 * step))
            optimizer.zero_grad()
            losses[objective.name].backward()
            for group, planned in zip(optimizer.param_groups, objective.groups, strict=True):
                group["lr"] = planned["lr"] * nn.lr_factor(optim, step, steps)
            optimizer.step()
            policy.after_step()

    def test_the_config_survives_json(self) -> None:
        plain = json.loads(json.dumps(to_plain(self.config)))
        assert from_plain(type(self.config), plain) == self.config

    def test_a_config_names_its_family(self) -> None:
        assert policies.POLICIES[policies.family(self.config)] is type(self.config)

    @pytest.mark.parametrize(
        ("cameras", "state", "obs_horizon", "pred_horizon"),
        [((), True, 1, 1), ((), True, 3, 5), (("front",), False, 2, 4), (("b", "a"), True, 2, 3)],
        ids=["state", "history", "one camera", "two cameras and state"],
    )
    def test_any_sensors_and_horizons(
        self, cameras: tuple[str, ...], state: bool, obs_horizon: int, pred_horizon: int
    ) -> None:
        config = replace(
            self.config,
            obs_horizon=obs_horizon,
            pred_horizon=min(pred_horizon, self.longest),
            action_horizon=1,
            periodic=("wrist",) if state else (),
        )
        policy = self.build(config, *cameras, state=state)
        self.train(policy, 3)  # layers that start at zero pass no gradient on at first
        objectives = policy.objectives(nn.OptimConfig())
        moved = [w for each in objectives.values() for g in each.groups for w in g["params"]]
        assert {id(weight) for weight in moved} == {id(weight) for weight in policy.parameters()}
        assert len(moved) == len(list(policy.parameters()))
        losses, parts = policy.losses(arm_batch(policy.spec, 4), draws(4))
        assert set(losses) == set(objectives)
        for name, value in {**losses, **parts}.items():
            assert value.ndim == 0, name
            assert torch.isfinite(value), name
        assert not any(part.requires_grad for part in parts.values())
        sum(losses.values(), torch.zeros(())).backward()
        unreached = [n for n, w in policy.named_parameters() if w.grad is None or not w.grad.any()]
        assert unreached == []
        with torch.no_grad():
            chunk = policy.predict(rows_of(arm_batch(policy.spec, 4), slice(None)), draws(4))
        assert chunk.shape == (4, config.pred_horizon, 2)
        assert torch.isfinite(chunk).all()

    def test_saliency_moves_the_image_networks_and_off_is_off(self) -> None:
        none = replace(self.config, periodic=())
        on = replace(none, saliency=nn.SaliencyConfig(enabled=True, weight=2.0))
        off = replace(none, saliency=nn.SaliencyConfig(enabled=True, weight=0.0))
        plain, weighted, nothing = (
            self.build(config, "front", state=False) for config in (none, on, off)
        )
        batch = arm_batch(plain.spec, 4)
        torch.manual_seed(0)
        base, _ = plain.losses(batch, draws(4))
        torch.manual_seed(0)
        loss, parts = weighted.losses(batch, draws(4))
        torch.manual_seed(0)
        same, _ = nothing.losses(batch, draws(4))
        assert all(torch.equal(same[name], base[name]) for name in base)
        more = sum(loss.values(), torch.zeros(())) - sum(base.values(), torch.zeros(()))
        torch.testing.assert_close(more, 2.0 * parts["saliency_reg"])
        batch.saliency = {}
        with pytest.raises(ShapeError, match="saliency"):
            weighted.losses(batch, draws(4))

    @torch.no_grad()
    def test_a_row_does_not_depend_on_its_batch_mates(self) -> None:
        policy = self.build().eval()
        batch = rows_of(arm_batch(policy.spec, 6), slice(None))
        whole = policy.predict(batch, draws(6))
        again = policy.predict(batch, draws(6))
        assert torch.equal(whole, again)
        order = torch.tensor([4, 1])
        part = policy.predict(rows_of(batch, order), nn.Draws(0, order))
        torch.testing.assert_close(part, whole[order], rtol=1e-5, atol=1e-3)

    @torch.no_grad()
    def test_predictions_are_in_physical_units(self) -> None:
        policy = self.build().eval()
        scaled = arm_stats()
        metres = {
            key: getattr(scaled["action"], key) * 1e-3
            for key in ("mean", "std", "min", "max", "q01", "q99")
        }
        scaled["action"] = Stats(**metres, count=500)
        torch.manual_seed(0)
        other = policies.build(self.config, policy.spec, scaled).eval()
        batch = rows_of(arm_batch(policy.spec, 4), slice(None))
        torch.testing.assert_close(
            other.predict(batch, draws(4)) * 1e3, policy.predict(batch, draws(4))
        )

    @torch.no_grad()
    def test_the_state_dict_is_the_whole_policy(self) -> None:
        policy = self.build().eval()
        torch.manual_seed(1)
        copy = policies.build(self.config, policy.spec, None).eval()
        batch = rows_of(arm_batch(policy.spec, 4), slice(None))
        assert not torch.equal(copy.predict(batch, draws(4)), policy.predict(batch, draws(4)))
        copy.load_state_dict(policy.state_dict())
        assert torch.equal(copy.predict(batch, draws(4)), policy.predict(batch, draws(4)))

    def test_steps_after_the_end_are_not_learned(self) -> None:
        policy = self.build()
        batch = arm_batch(policy.spec, 4)
        batch.action_valid = torch.zeros(4, policy.config.pred_horizon, dtype=torch.bool)
        losses, _ = policy.losses(batch, draws(4))
        assert [float(loss.detach()) for loss in losses.values()] == [0.0] * len(losses)

    def test_a_batch_without_actions_teaches_nothing(self) -> None:
        policy = self.build()
        with pytest.raises(ShapeError, match="without actions"):
            policy.losses(rows_of(arm_batch(policy.spec, 4), slice(None)), draws(4))

    def test_it_learns(self) -> None:
        policy = self.build()
        self.train(policy, self.steps)
        policy.eval()
        batch = arm_batch(policy.spec, 200, seed=10_000)
        assert batch.action is not None
        with torch.no_grad():
            chunk = policy.predict(rows_of(batch, slice(None)), draws(200))
        error = ((chunk - batch.action) ** 2).mean((0, 1))  # A
        spread = ((batch.action - batch.action.mean((0, 1))) ** 2).mean((0, 1))  # A
        assert (error < 0.2 * spread).all(), error / spread

    @torch.no_grad()
    def test_a_running_chunk_with_nothing_left_changes_nothing(self) -> None:
        policy = self.build().eval()
        batch = rows_of(arm_batch(policy.spec, 3), slice(None))
        free = policy.predict(batch, draws(3))
        prefix = policies.Prefix(
            actions=free + 10.0,
            delay=torch.tensor([0, 1, min(2, self.longest)]),
            known=torch.tensor([0, min(2, self.longest), min(4, self.longest)]),
        )
        held = policy.predict(batch, draws(3), prefix)
        assert held.shape == free.shape
        torch.testing.assert_close(held[0], free[0], rtol=1e-5, atol=1e-3)
        assert not torch.equal(held[1:], free[1:])
