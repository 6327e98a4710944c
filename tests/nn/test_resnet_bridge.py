"""BridgeData V2's networks: sizes to the weight, padding as in TensorFlow."""

import numpy as np
import pytest
import torch

from deft.nn import BridgeResNet, FiLM
from deft.nn.resnet_bridge import SameConv2d


@pytest.mark.parametrize(
    ("inputs", "depth", "coordinates", "language", "count"),
    [
        (6, 34, True, 0, 21_300_352),
        (6, 34, False, 0, 21_294_080),
        (3, 34, False, 0, 21_284_672),
        (3, 34, True, 512, 25_165_120),
        (6, 18, True, 0, 11_192_192),
        (6, 50, True, 0, 23_523_712),
    ],
)
def test_as_many_weights_as_published(
    inputs: int, depth: int, coordinates: bool, language: int, count: int
) -> None:
    with torch.device("meta"):
        net = BridgeResNet(inputs, depth, coordinates=coordinates, language=language)  # type: ignore[arg-type]
    assert sum(weight.numel() for weight in net.parameters()) == count


@pytest.mark.parametrize(("pixels", "cells"), [(64, 2), (128, 4), (100, 4), (33, 2)])
@torch.no_grad()
def test_sizes_are_rounded_up(pixels: int, cells: int) -> None:
    net = BridgeResNet(3, 18)
    assert net(torch.rand(1, 3, pixels, 64)).shape == (1, 512, cells, 2)


@pytest.mark.parametrize("size", [(8, 8), (7, 8), (7, 7)])
def test_a_strided_convolution_pads_below_and_right_first(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = SameConv2d(1, 1, 3, 2)
    x = torch.randn(1, 1, *size)
    height, width = size
    kernel = layer.weight[0, 0].detach().numpy()
    above, left = height % 2, width % 2  # even sizes pad none above and left, odd ones one each
    padded = np.pad(x[0, 0].numpy(), ((above, 1), (left, 1)))
    rows, columns = -(-height // 2), -(-width // 2)
    wanted = [
        [(padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * kernel).sum() for j in range(columns)]
        for i in range(rows)
    ]
    np.testing.assert_allclose(layer(x)[0, 0].detach().numpy(), wanted, atol=1e-5)


def test_modulation_starts_as_the_identity() -> None:
    film = FiLM(4, 3)
    x, language = torch.randn(2, 3, 5, 5), torch.randn(2, 4)
    assert torch.equal(film(x, language), x)
    torch.nn.init.ones_(film.shift.bias)
    torch.nn.init.ones_(film.scale.bias)
    torch.testing.assert_close(film(x, language), 2 * x + 1)
