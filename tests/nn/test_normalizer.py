"""Physical units to normalised numbers and back."""

import numpy as np
import pytest
import torch

from deft.errors import ConfigError, SpecError
from deft.nn import MODES, NormalizeConfig, Normalizer
from deft.spec import Feature, Stats

STATE = Feature(name="arm.state", role="state", shape=(4,), dtype="float32")


def values() -> np.ndarray:
    """A wide, a tiny, a constant element, and a gripper that hardly ever moves."""
    rng = np.random.default_rng(0)
    x = np.stack(
        (
            rng.normal(300.0, 40.0, 1000),
            rng.normal(0.0, 1e-6, 1000),
            np.full(1000, 7.0),
            np.zeros(1000),
        ),
        -1,
    )
    x[:5, 3] = 1.0
    return x


def normalizer(mode: str) -> Normalizer:
    return Normalizer((STATE,), {"arm.state": Stats.of(values())}, {"arm.state": mode})


@pytest.mark.parametrize("mode", MODES)
def test_there_and_back(mode: str) -> None:
    x = torch.as_tensor(values(), dtype=torch.float32)[None]  # 1 T D
    module = normalizer(mode)
    y = module("arm.state", x)
    assert torch.isfinite(y).all()
    torch.testing.assert_close(module.inverse("arm.state", y), x, rtol=1e-5, atol=1e-5)


def test_each_mode_does_what_it_says() -> None:
    x = torch.as_tensor(values(), dtype=torch.float32)
    y = normalizer("mean_std")("arm.state", x)
    torch.testing.assert_close(y.mean(0), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(y.std(0)[:2], torch.ones(2), atol=1e-2, rtol=0)
    y = normalizer("bounds")("arm.state", x)
    torch.testing.assert_close(y.amax(0), torch.tensor([1.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(y.amin(0), torch.tensor([-1.0, -1.0, 0.0, -1.0]))
    y = normalizer("quantile")("arm.state", x)
    torch.testing.assert_close(
        y.quantile(0.99, 0), torch.tensor([1.0, 1.0, 0.0, -1.0]), atol=1e-3, rtol=0
    )
    assert y[:5, 3].tolist() == [1.0] * 5  # scaled by its bounds, since the percentiles agree
    assert torch.equal(normalizer("identity")("arm.state", x), x)


def test_the_golden_of_push_t_actions() -> None:
    """Scale and offset that Diffusion Policy fits to the same bounds."""
    stats = Stats(
        mean=np.array([228.0, 294.0]),
        std=np.array([101.0, 96.0]),
        min=np.array([12.0, 25.0]),
        max=np.array([511.0, 511.0]),
        q01=np.array([20.0, 30.0]),
        q99=np.array([500.0, 500.0]),
        count=25650,
    )
    action = Feature(name="action", role="action", shape=(2,), dtype="float32")
    module = Normalizer((action,), {"action": stats}, {"action": "bounds"})
    x = torch.tensor([[100.0, 200.0]])
    wanted = x * torch.tensor([0.00400802, 0.00411523]) - torch.tensor([1.0480962, 1.1028807])
    torch.testing.assert_close(module("action", x), wanted)


def test_values_travel_with_the_weights() -> None:
    empty = Normalizer((STATE,), None, {"arm.state": "mean_std"})
    full = normalizer("mean_std")
    empty.load_state_dict(full.state_dict())
    x = torch.as_tensor(values(), dtype=torch.float32)
    assert torch.equal(empty("arm.state", x), full("arm.state", x))


def test_what_is_missing_is_named() -> None:
    stats = {"arm.stat": Stats.of(values())}
    with pytest.raises(SpecError, match=r"Did you mean 'arm\.stat'"):
        Normalizer((STATE,), stats, {"arm.state": "bounds"})
    with pytest.raises(SpecError, match="have 3 values, the feature has 4"):
        Normalizer((STATE,), {"arm.state": Stats.of(values()[:, :3])}, {"arm.state": "bounds"})
    with pytest.raises(ConfigError, match="Did you mean 'bounds'"):
        Normalizer((STATE,), None, {"arm.state": "bound"})


def test_given_statistics_replace_those_of_the_data() -> None:
    feature = Feature(name="action", role="action", shape=(2,), dtype="float32")
    data = Stats.of(np.random.default_rng(0).normal(size=(50, 2)))
    given = NormalizeConfig(stats={"mean": (1.0, 2.0), "std": (3.0, 4.0)}, source="a file")
    used = given.over(data, feature)
    assert used is not None
    assert (used.mean.tolist(), used.std.tolist()) == ([1.0, 2.0], [3.0, 4.0])
    assert np.array_equal(used.min, data.min)
    with pytest.raises(SpecError, match=r"stats\.mean has 3 numbers"):
        NormalizeConfig(stats={"mean": (1.0, 2.0, 3.0)}).over(data, feature)
    with pytest.raises(ConfigError, match="Did you mean 'mean'"):
        NormalizeConfig(stats={"men": (1.0,)})
