"""Goal-conditioned behaviour cloning."""

from dataclasses import replace

import numpy as np
import torch

from deft.nn import ActionHeadConfig, ObsEncoderConfig
from deft.policies import GCBCConfig
from suites.golden_losses import gaussian_loss
from suites.policies import PolicyChecks, arm_batch, draws

SMALL = ObsEncoderConfig(cnn_channels=8, keypoints=4, image_features=8)


class TestGCBC(PolicyChecks):
    steps = 400
    config = GCBCConfig(
        pred_horizon=4,
        action_horizon=2,
        encoder=SMALL,
        head=ActionHeadConfig(hidden=(64, 64, 64), dropout=0.0),
    )

    def test_the_loss_is_the_density(self) -> None:
        policy = self.build().eval()
        batch = arm_batch(policy.spec, 6)
        losses, parts = policy.losses(batch, draws(6))
        mean = policy.normalizer("action", policy.predict(batch, draws(6))).detach().numpy()
        wanted = policy.normalizer("action", batch.action).numpy()
        valid = batch.action_valid.numpy()
        loss, mse = gaussian_loss(mean, np.zeros_like(mean), wanted, valid)
        np.testing.assert_allclose(losses["loss"].item(), loss, rtol=1e-5)
        np.testing.assert_allclose(parts["mse"].item(), mse, rtol=1e-5)

    def test_the_goal_decides(self) -> None:
        policy = self.build(None, "front").eval()
        batch = arm_batch(policy.spec, 3)
        assert set(batch.goal) == {"front"}
        before = policy.predict(batch, draws(3))
        batch.goal = {"front": 255 - batch.goal["front"]}
        assert not torch.equal(policy.predict(batch, draws(3)), before)

    def test_an_answer_may_be_drawn(self) -> None:
        head = replace(self.config.head, answer="sample", temperature=0.5)
        policy = self.build(replace(self.config, head=head)).eval()
        still = self.build().eval()
        batch = arm_batch(policy.spec, 4000)
        with torch.no_grad():
            off = policy.predict(batch, draws(4000)) - still.predict(batch, draws(4000))
        spread = policy.normalizer(
            "action", off + policy.normalizer.inverse("action", torch.zeros(2))
        ).std((0, 1))
        torch.testing.assert_close(spread, torch.full((2,), 0.5), rtol=0.05, atol=0.0)

    def test_squashed_actions_stay_within_the_demonstrated(self) -> None:
        head = replace(self.config.head, tanh=True, answer="sample", std="learned")
        policy = self.build(replace(self.config, head=head, normalize={"action": "bounds"})).eval()
        chunk = policy.predict(arm_batch(policy.spec, 50), draws(50))
        inside = policy.normalizer("action", chunk)
        assert inside.abs().max() <= 1.0 + 1e-5
