"""Language-conditioned behaviour cloning."""

from dataclasses import replace

import pytest
import torch

from deft import policies
from deft.errors import SpecError
from deft.nn import ActionHeadConfig, ObsEncoderConfig
from deft.policies import LCBCConfig
from suites.policies import LANGUAGE, PolicyChecks, arm_batch, arm_spec, draws


class TestLCBC(PolicyChecks):
    steps = 400
    config = LCBCConfig(
        pred_horizon=4,
        action_horizon=2,
        language_size=LANGUAGE,
        encoder=ObsEncoderConfig(cnn_channels=8, keypoints=4, image_features=8),
        head=ActionHeadConfig(hidden=(64, 64, 64), dropout=0.0),
    )

    @pytest.mark.parametrize("image", ["cnn", "resnetv1-18-bridge-film"])
    def test_the_sentence_decides(self, image: str) -> None:
        encoder = replace(self.config.encoder, image=image, pool="average")
        policy = self.build(replace(self.config, encoder=encoder), "front", state=False)
        self.train(policy, 3)
        policy.eval()
        batch = arm_batch(policy.spec, 3)
        before = policy.predict(batch, draws(3))
        assert batch.language is not None
        batch.language = batch.language.flip(0)
        assert not torch.equal(policy.predict(batch, draws(3)), before)

    def test_data_without_instructions_is_refused(self) -> None:
        spec = arm_spec()
        silent = replace(spec, features=tuple(f for f in spec.features if f.role != "language"))
        with pytest.raises(SpecError, match="gc_bc"):
            policies.contract(self.config, silent)
