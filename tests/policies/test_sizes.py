"""Whole agents of the Bridge family, to the weight."""

from typing import Any

import pytest
import torch

from deft import policies
from deft.policies import (
    ContrastiveRLConfig,
    GCBCConfig,
    GCDDPMBCConfig,
    GCIQLConfig,
    LCBCConfig,
)
from deft.spec import Feature, Spec

BRIDGE = Spec(
    features=(
        Feature(name="image_0", role="image", shape=(128, 128, 3), dtype="uint8"),
        Feature(name="instruction", role="language", shape=(), dtype="str"),
        Feature(name="action", role="action", shape=(7,), dtype="float32"),
    ),
    fps=5.0,
)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (GCBCConfig(), 21_565_063),
        (LCBCConfig(), 25_429_831),
        (GCDDPMBCConfig(pred_horizon=1), 23_025_911),
        (GCIQLConfig(), 22_093_193),
        (ContrastiveRLConfig(), 43_921_287),
    ],
    ids=lambda value: type(value).__name__.removesuffix("Config"),
)
def test_as_many_weights_as_published(config: Any, count: int) -> None:
    with torch.device("meta"):
        policy = policies.build(config, policies.contract(config, BRIDGE), None)
    assert sum(weight.numel() for weight in policy.parameters()) == count
