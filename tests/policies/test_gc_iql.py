"""Goal-conditioned implicit Q-learning."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from deft.errors import ConfigError, ShapeError
from deft.nn import ActionHeadConfig, ObsEncoderConfig, OptimConfig
from deft.policies import GCIQL, GCIQLConfig
from suites.golden_losses import iql_losses
from suites.policies import PolicyChecks, arm_batch, draws


class TestGCIQL(PolicyChecks):
    longest = 1
    steps = 400
    config = GCIQLConfig(
        encoder=ObsEncoderConfig(cnn_channels=8, keypoints=4, image_features=8),
        head=ActionHeadConfig(hidden=(64, 64, 64), dropout=0.0),
    )

    def test_the_losses_are_those_of_the_formulae(self) -> None:
        policy = self.build(replace(self.config, optimisers=True, negatives=0.5, temperature=2.0))
        assert isinstance(policy, GCIQL)
        with torch.no_grad():
            for buffer in policy.target_value.buffers():
                buffer.mul_(0.5)  # a target that differs from what it follows
        batch = arm_batch(policy.spec, 8)
        losses, _ = policy.losses(batch, draws(8))
        wanted = iql_losses(policy, batch, draws(8))
        assert set(losses) == set(wanted)
        for name, value in wanted.items():
            np.testing.assert_allclose(losses[name].item(), value, rtol=1e-5, err_msg=name)

    def test_one_optimiser_descends_the_sum(self) -> None:
        apart = self.build(replace(self.config, optimisers=True))
        together = self.build()
        batch = arm_batch(together.spec, 8)
        each, _ = apart.losses(batch, draws(8))
        (whole,) = together.losses(batch, draws(8))[0].values()
        torch.testing.assert_close(whole, sum(each.values(), torch.zeros(())))
        assert set(apart.objectives(OptimConfig())) == set(each)

    def test_the_target_follows(self) -> None:
        policy = self.build(replace(self.config, tau=0.25))
        with torch.no_grad():
            policy.value.last.bias.add_(1.0)
        policy.after_step()
        torch.testing.assert_close(policy.target_value.last.bias, policy.value.last.bias - 0.75)

    def test_a_critic_judges_single_actions(self) -> None:
        with pytest.raises(ConfigError, match="single actions"):
            GCIQLConfig(pred_horizon=2)

    def test_rewards_are_needed(self) -> None:
        policy = self.build()
        batch = arm_batch(policy.spec, 4)
        batch.reward = None
        with pytest.raises(ShapeError, match="reward"):
            policy.losses(batch, draws(4))
