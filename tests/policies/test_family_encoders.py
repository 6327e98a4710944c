"""How pictures, goals and several cameras enter, and what comes out of the head."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from deft import nn, policies
from deft.errors import ConfigError
from deft.nn import ActionHead, ActionHeadConfig, Draws, ObsEncoder, ObsEncoderConfig
from deft.nn.pooling import AveragePool, MaxPool, SpatialEmbeddings, SpatialSoftmax
from deft.spec import GOAL, Feature, Horizons, Spec
from suites.policies import arm_batch, arm_spec, arm_stats, draws

ROWS, HEIGHT, WIDTH, FEATURES = 3, 16, 24, 7
CHANNELS = 64
"""Of the map of a `cnn` with `cnn_channels=16`."""


# Pooling, against loops.


def test_spatial_embeddings_are_sums_channel_by_channel_and_block_by_block() -> None:
    pool = SpatialEmbeddings(3, 2, 4, blocks=2)
    x = torch.randn(5, 3, 2, 4)
    kernel = pool.kernel.detach()  # D K Hf Wf
    wanted = [
        [(row[d] * kernel[d, k]).sum() for d in range(3) for k in range(2)] for row in x.unbind()
    ]
    torch.testing.assert_close(pool(x), torch.tensor(wanted), rtol=1e-5, atol=1e-5)
    assert pool.outputs == 6


@pytest.mark.parametrize("learn", [False, True])
def test_spatial_softmax_without_keypoints_takes_every_channel(learn: bool) -> None:
    pool = SpatialSoftmax(2, 0, learn)
    if pool.temperature is not None:
        torch.nn.init.constant_(pool.temperature, 0.5)
    x = torch.randn(1, 2, 3, 5)
    heat = x[0].double().numpy() / (0.5 if learn else 1.0)
    weights = np.exp(heat) / np.exp(heat).sum((1, 2), keepdims=True)
    across, down = np.linspace(-1, 1, 5), np.linspace(-1, 1, 3)
    wanted = [(w * across[None]).sum() for w in weights] + [
        (w * down[:, None]).sum() for w in weights
    ]
    np.testing.assert_allclose(pool(x)[0].detach().numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert (pool.outputs, len(list(pool.parameters()))) == (4, int(learn))


def test_a_learned_temperature_learns() -> None:
    pool = SpatialSoftmax(2, 0, learn_temperature=True)
    pool(torch.randn(2, 2, 3, 5)).square().sum().backward()
    assert pool.temperature is not None
    assert pool.temperature.grad is not None
    assert pool.temperature.grad.abs() > 0


def test_largest_and_mean_of_each_channel() -> None:
    x = torch.randn(2, 3, 4, 5)
    for pool, of in ((MaxPool(), np.max), (AveragePool(), np.mean)):
        np.testing.assert_allclose(pool(x).numpy(), of(x.numpy(), (2, 3)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "outputs"),
    [
        ({"pool": "average"}, CHANNELS),
        ({"pool": "max"}, CHANNELS),
        ({"pool": "none"}, CHANNELS * 2 * 3),
        ({"pool": "spatial_embeddings", "spatial_blocks": 5}, CHANNELS * 5),
        ({"pool": "spatial_softmax", "keypoints": 0}, CHANNELS * 2),
        ({"pool": "spatial_softmax", "keypoints": 9}, 9 * 2),
        ({"pool": "spatial_softmax", "keypoints": 0, "image_features": 7}, 7),
    ],
)
def test_every_pooling_gives_as_many_numbers_as_it_says(
    settings: dict[str, Any], outputs: int
) -> None:
    wanted: dict[str, Any] = {"image_features": 0, **settings}
    config = ObsEncoderConfig(cnn_channels=16, **wanted)
    net = ObsEncoder(config, contract(1), None, {})
    assert net(observe(1)).shape == (ROWS, outputs)
    assert net.outputs == outputs


# Goals and cameras.


def contract(ticks: int, cameras: int = 1, goals: tuple[int, ...] = ()) -> Spec:
    seen = [
        Feature(name=f"camera_{i}", role="image", shape=(HEIGHT, WIDTH, 3), dtype="uint8")
        for i in range(cameras)
    ]
    aims = [replace(seen[i], name=GOAL + seen[i].name, role="goal") for i in goals]
    return Spec(features=(*seen, *aims), fps=10.0, horizons=Horizons(obs_horizon=ticks))


def observe(ticks: int, cameras: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    shape = (ROWS, ticks, HEIGHT, WIDTH, 3)
    return {
        f"camera_{i}": torch.randint(0, 256, shape, dtype=torch.uint8, generator=make)
        for i in range(cameras)
    }


def aim(cameras: int = 1, seed: int = 9) -> dict[str, torch.Tensor]:
    return {name: held[:, 0] for name, held in observe(1, cameras, seed).items()}


def small(**settings: Any) -> ObsEncoderConfig:
    return ObsEncoderConfig(cnn_channels=8, pool="average", image_features=FEATURES, **settings)


def unit(picture: torch.Tensor) -> torch.Tensor:
    """`B H W C` bytes to `B C H W`."""
    return picture.permute(0, 3, 1, 2).float() / 255.0


@pytest.mark.parametrize("ticks", [1, 3])
@pytest.mark.parametrize("entering", ["stacked", "separate"])
def test_an_early_goal_enters_beside_every_look(entering: str, ticks: int) -> None:
    config = small(ticks=entering, goal_fusion="early_concat")
    net = ObsEncoder(config, contract(ticks, goals=(0,)), None, {})
    obs, goal = observe(ticks), aim()
    pictures = [unit(obs["camera_0"][:, t]) for t in range(ticks)]
    held = unit(goal["camera_0"])
    looks = (
        [torch.cat((*pictures, held), 1)]
        if entering == "stacked"
        else [torch.cat((picture, held), 1) for picture in pictures]
    )
    wanted = torch.cat([net.images[0](look)[0] for look in looks], 1)
    torch.testing.assert_close(net(obs, goal=goal), wanted)
    assert net.outputs == wanted.shape[1]


@pytest.mark.parametrize("ticks", [1, 3])
@pytest.mark.parametrize("entering", ["stacked", "separate"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("fusion", ["late_concat", "late_add"])
def test_a_late_goal_is_encoded_for_itself(
    fusion: str, shared: bool, entering: str, ticks: int
) -> None:
    config = small(ticks=entering, goal_fusion=fusion, shared_goal_encoder=shared)
    net = ObsEncoder(config, contract(ticks, goals=(0,)), None, {})
    obs, goal = observe(ticks), aim()
    pictures = [unit(obs["camera_0"][:, t]) for t in range(ticks)]
    held = unit(goal["camera_0"])
    looks = [torch.cat(pictures, 1)] if entering == "stacked" else pictures
    features = [net.images[0](look)[0] for look in looks]
    if shared:
        # As many channels as an observation: the goal stands for every tick.
        times = ticks if entering == "stacked" else 1
        apart = net.images[0](torch.cat([held] * times, 1))[0]
    else:
        apart = net.goal_images[0](held)[0]
    wanted = [f + apart for f in features] if fusion == "late_add" else [*features, apart]
    torch.testing.assert_close(net(obs, goal=goal), torch.cat(wanted, 1))
    assert (net.outputs, len(net.goal_images)) == (FEATURES * len(wanted), int(not shared))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("fusion", ["early_concat", "late_concat", "late_add"])
def test_several_cameras_share_networks_or_have_their_own(fusion: str, shared: bool) -> None:
    config = small(goal_fusion=fusion, shared=shared, shared_goal_encoder=False)
    net = ObsEncoder(config, contract(1, cameras=2, goals=(0, 1)), None, {})
    late = fusion != "early_concat"
    assert len(net.images) == (1 if shared else 2)
    assert len(net.goal_images) == (late * len(net.images))
    obs, goal = observe(1, cameras=2), aim(2)
    vector = net(obs, goal=goal)
    assert vector.shape == (ROWS, net.outputs)
    # Each camera sees its own goal: another one for the second leaves the first's part alone.
    part = net.outputs // 2
    other = net(obs, goal={**goal, "camera_1": 255 - goal["camera_1"]})
    assert torch.equal(vector[:, :part], other[:, :part])
    assert not torch.equal(vector[:, part:], other[:, part:])


def test_a_goal_of_some_cameras_only() -> None:
    for fusion, sizes in (("early_concat", 2), ("late_concat", 3), ("late_add", 2)):
        config = small(goal_fusion=fusion, shared_goal_encoder=False)
        net = ObsEncoder(config, contract(1, cameras=2, goals=(1,)), None, {})
        assert net.outputs == sizes * FEATURES
        goal = {"camera_1": aim(2)["camera_1"]}
        assert net(observe(1, cameras=2), goal=goal).shape == (ROWS, net.outputs)
    with pytest.raises(ConfigError, match="camera_0 3, camera_1 6"):
        ObsEncoder(small(shared=True), contract(1, cameras=2, goals=(1,)), None, {})


@pytest.mark.parametrize("entering", ["stacked", "separate"])
@pytest.mark.parametrize("fusion", ["early_concat", "late_concat", "late_add"])
@pytest.mark.parametrize("family", ["gc_bc", "gc_ddpm_bc", "gc_iql", "contrastive_rl"])
def test_every_goal_policy_takes_every_fusion(family: str, fusion: str, entering: str) -> None:
    config = policies.POLICIES[family](
        obs_horizon=2, encoder=small(goal_fusion=fusion, ticks=entering)
    )
    spec = policies.contract(config, arm_spec("front", "wrist"))
    policy = policies.build(config, spec, arm_stats())
    batch = arm_batch(spec, 4)
    losses, _ = policy.losses(batch, draws(4))
    sum(losses.values()).backward()  # type: ignore[union-attr]
    without = [name for name, weight in policy.named_parameters() if weight.grad is None]
    assert without == []
    assert policy.eval().predict(batch, draws(4)).shape[0] == 4


# The head.


def head(**settings: Any) -> ActionHead:
    torch.manual_seed(0)
    return ActionHead(ActionHeadConfig(hidden=(8,), **settings), 5, 2, 3).eval()


@pytest.mark.parametrize(("std", "own"), [("fixed", 0), ("learned", 6), ("state", 8 * 6 + 6)])
def test_where_the_deviation_comes_from(std: Any, own: int) -> None:
    made = head(std=std)
    base = sum(weight.numel() for weight in head().parameters())
    assert sum(weight.numel() for weight in made.parameters()) - base == own
    mean, log_std = made(torch.randn(4, 5))
    assert mean.shape == log_std.shape == (4, 2, 3)
    assert bool((log_std[0] == log_std[1]).all()) == (std != "state")


@pytest.mark.parametrize("tanh", [False, True])
@pytest.mark.parametrize("std", ["fixed", "learned", "state"])
def test_the_density_is_that_of_what_is_drawn(std: Any, tanh: bool) -> None:
    made = head(std=std, tanh=tanh)
    mean, log_std = made(torch.randn(2, 5))
    base: Any = torch.distributions.Normal(mean, log_std.exp())
    if tanh:
        base = torch.distributions.TransformedDistribution(
            base, [torch.distributions.TanhTransform()]
        )
    value = made.draw(mean, log_std, Draws(0, torch.arange(2)))
    wanted = -base.log_prob(value).sum(-1)
    torch.testing.assert_close(made.nll(mean, log_std, value), wanted, rtol=1e-3, atol=1e-3)


def test_the_temperature_scales_what_is_drawn_and_zero_is_the_middle() -> None:
    features = torch.randn(1, 5).expand(4000, 5)
    drawn = Draws(0, torch.arange(4000))
    for std in ("fixed", "learned"):
        middle = head(std=std).act(features, drawn)
        assert torch.equal(
            head(std=std, answer="sample", temperature=0.0).act(features, drawn), middle
        )
        off = head(std=std, answer="sample", temperature=0.25).act(features, drawn) - middle
        # A learned deviation starts near 1, within its smooth limits.
        level = head(std=std)(features[:1])[1].exp().mean().item()
        torch.testing.assert_close(off.std(0), torch.full((2, 3), 0.25 * level), rtol=0.1, atol=0)


def test_answers_are_keyed_by_row() -> None:
    made = head(answer="sample")
    features = torch.randn(6, 5)
    drawn = made.act(features, Draws(0, torch.arange(6)))
    alone = made.act(features[4:5], Draws(0, torch.arange(4, 5)))
    torch.testing.assert_close(drawn[4:5], alone)
    assert not torch.equal(drawn, made.act(features, Draws(1, torch.arange(6))))


def test_squashed_answers_lie_within_one() -> None:
    made = head(tanh=True, answer="sample", std="state", temperature=5.0)
    drawn = made.act(100 * torch.randn(50, 5), Draws(0, torch.arange(50)))
    assert drawn.abs().max() <= 1.0


# What does not go together.


@pytest.mark.parametrize("family", ["gc_bc", "lc_bc", "gc_iql", "contrastive_rl"])
def test_squashing_wants_bounds(family: str) -> None:
    settings: dict[str, Any] = {"language_size": 6} if family == "lc_bc" else {}
    config = policies.POLICIES[family](
        encoder=small(), head=ActionHeadConfig(hidden=(8,), tanh=True), **settings
    )
    spec = policies.contract(config, arm_spec("front"))
    with pytest.raises(ConfigError, match=r"policy\.normalize\.action=bounds"):
        policies.build(config, spec, arm_stats())
    policies.build(replace(config, normalize={"action": "bounds"}), spec, arm_stats())


def test_rows_by_themselves_have_no_negatives() -> None:
    for config in (policies.GCIQLConfig(), policies.ContrastiveRLConfig()):
        policies.check_rows(config, 2)
        with pytest.raises(ConfigError, match="2 rows or more"):
            policies.check_rows(config, 1)
    policies.check_rows(policies.GCIQLConfig(negatives=0.0), 1)
    policies.check_rows(policies.GCBCConfig(), 1)


def test_nothing_is_looked_up_in_the_draws_for_the_middle() -> None:
    """A policy that answers with the middle is the same for every key."""
    config = policies.GCBCConfig(encoder=small(), head=nn.ActionHeadConfig(hidden=(8,)))
    spec = policies.contract(config, arm_spec("front"))
    policy = policies.build(config, spec, arm_stats()).eval()
    batch = arm_batch(spec, 4)
    one, other = (policy.predict(batch, draws(4, seed)) for seed in (0, 1))
    assert torch.equal(one, other)
