"""Goal-conditioned diffusion."""

from dataclasses import replace

import numpy as np
import torch

from deft.nn import ObsEncoderConfig
from deft.policies import GCDDPMBCConfig
from suites.golden_losses import noise_loss
from suites.policies import PolicyChecks, arm_batch, draws


class TestGCDDPMBC(PolicyChecks):
    steps = 400
    config = GCDDPMBCConfig(
        pred_horizon=4,
        action_horizon=2,
        encoder=ObsEncoderConfig(cnn_channels=8, keypoints=4, image_features=8),
        width=64,
        blocks=2,
        dropout=0.0,
        temperature=0.0,
        diffusion_steps=10,
    )

    def test_the_loss_is_the_error_of_the_noise(self) -> None:
        policy = self.build().eval()
        batch = arm_batch(policy.spec, 6)
        losses, _ = policy.losses(batch, draws(6))
        data = policy.normalizer("action", batch.action)
        features = policy.encoder(batch.obs, goal=batch.goal)
        step = policy.diffusion.sample_steps(draws(6))
        noise = draws(6).normal("noise", 4, 2)

        def network(noisy: np.ndarray) -> np.ndarray:
            chunk = torch.from_numpy(noisy).float()
            return policy.network(chunk, step, features).detach().numpy()

        wanted = noise_loss(
            data.numpy(), noise.numpy(), step.numpy(), network, batch.action_valid.numpy(), 10
        )
        np.testing.assert_allclose(losses["loss"].item(), wanted, rtol=1e-5)

    @torch.no_grad()
    def test_answers_stay_within_the_demonstrated(self) -> None:
        policy = self.build(replace(self.config, temperature=1.0)).eval()
        chunk = policy.predict(arm_batch(policy.spec, 64), draws(64))
        inside = policy.normalizer("action", chunk)
        assert (inside >= policy.low - 1e-4).all()
        assert (inside <= policy.high + 1e-4).all()
        cut = self.build(replace(self.config, clip=0.5)).eval()
        inside = cut.normalizer("action", cut.predict(arm_batch(cut.spec, 64), draws(64)))
        assert inside.abs().max() <= 0.5 + 1e-4
