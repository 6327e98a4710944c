"""Saliency regularisation."""

import numpy as np
import pytest
import torch

from deft.errors import ConfigError, ShapeError
from deft.nn import SaliencyConfig, predicted_saliency, saliency_loss


def test_where_a_network_looks() -> None:
    maps = torch.zeros(2, 3, 4, 4)
    maps[0, 1, 1, 2] = -5.0  # magnitude counts, not sign
    maps[1, :, 3, 0] = 2.0
    seen = predicted_saliency(maps, 1.0, 32, 32)
    assert seen.shape == (2, 32, 32)
    assert (float(seen.min()), float(seen.max())) == (0.0, 1.0)
    at = [np.unravel_index(int(each.argmax()), (32, 32)) for each in seen]
    assert [(row // 8, column // 8) for row, column in at] == [(1, 2), (3, 0)]


def test_the_loss_is_the_squared_error_of_known_maps() -> None:
    config = SaliencyConfig(enabled=True)
    maps = torch.randn(3, 1, 5, 4, 4)
    wanted = torch.rand(3, 1, 16, 16)
    wanted[1] = 0.0
    guess = predicted_saliency(maps[:, 0], 1.0, 16, 16)
    error = [float((guess[i] - wanted[i, 0]).square().mean()) for i in (0, 2)]
    loss = saliency_loss(config, {"front": maps}, {"front": wanted})
    assert float(loss) == pytest.approx(np.mean(error), rel=1e-5)
    nothing = saliency_loss(config, {"front": maps}, {"front": torch.zeros(3, 1, 16, 16)})
    assert float(nothing) == 0.0


def test_ticks_that_enter_at_once_are_held_against_the_sum() -> None:
    maps = torch.randn(2, 1, 5, 4, 4)
    wanted = torch.rand(2, 3, 16, 16)
    for config, gathered in (
        (SaliencyConfig(alpha=0.5), wanted[:, 2] + 0.5 * wanted[:, 1] + 0.25 * wanted[:, 0]),
        (SaliencyConfig(temporal="last"), wanted[:, 2]),
    ):
        loss = saliency_loss(config, {"a": maps}, {"a": wanted})
        one = saliency_loss(config, {"a": maps}, {"a": gathered.clamp(0, 1)[:, None]})
        torch.testing.assert_close(loss, one)


def test_ticks_that_enter_apart_are_held_against_their_own() -> None:
    maps, wanted = torch.randn(2, 3, 5, 4, 4), torch.rand(2, 3, 16, 16)
    whole = saliency_loss(SaliencyConfig(), {"a": maps}, {"a": wanted})
    each = [
        saliency_loss(SaliencyConfig(), {"a": maps[:, t : t + 1]}, {"a": wanted[:, t : t + 1]})
        for t in range(3)
    ]
    torch.testing.assert_close(whole, torch.stack(each).mean())


def test_bad_settings_and_missing_maps_are_named() -> None:
    with pytest.raises(ConfigError, match=r"saliency\.beta is 0"):
        SaliencyConfig(beta=0.0)
    with pytest.raises(ShapeError, match="saliency"):
        saliency_loss(SaliencyConfig(), {"a": torch.randn(1, 1, 2, 3, 3)}, {})
