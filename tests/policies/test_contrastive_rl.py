"""Contrastive reinforcement learning."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from deft.nn import ActionHeadConfig, ObsEncoderConfig
from deft.policies import ContrastiveRL, ContrastiveRLConfig
from suites.golden_losses import contrastive_losses
from suites.policies import PolicyChecks, arm_batch, draws


class TestContrastiveRL(PolicyChecks):
    longest = 1
    steps = 400
    config = ContrastiveRLConfig(
        encoder=ObsEncoderConfig(cnn_channels=8, keypoints=4, image_features=8),
        head=ActionHeadConfig(hidden=(64, 64, 64), dropout=0.0),
    )

    @pytest.mark.parametrize("critic", ["td", "monte_carlo"])
    def test_the_losses_are_those_of_the_formulae(self, critic: str) -> None:
        policy = self.build(replace(self.config, optimisers=True, critic=critic))
        assert isinstance(policy, ContrastiveRL)
        with torch.no_grad():
            for tower in (*policy.critic.acts, *policy.critic.aims):
                torch.nn.init.normal_(tower[1].weight, std=0.3)
            for name, weight in policy.critic.named_parameters():
                dict(policy.target.named_buffers())[name].copy_(1.1 * weight)
        batch = arm_batch(policy.spec, 8)
        losses, _ = policy.losses(batch, draws(8))
        wanted = contrastive_losses(policy, batch, draws(8))
        assert set(losses) == set(wanted)
        for name, value in wanted.items():
            np.testing.assert_allclose(losses[name].item(), value, rtol=1e-5, err_msg=name)

    def test_the_actor_leaves_the_critic_alone(self) -> None:
        policy = self.build(replace(self.config, optimisers=True))
        losses, _ = policy.losses(arm_batch(policy.spec, 8), draws(8))
        losses["actor"].backward()
        assert all(weight.grad is None for weight in policy.critic.parameters())
