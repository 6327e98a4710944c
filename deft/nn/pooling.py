"""From a map of features to a vector."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Pool = Literal["average", "max", "none", "spatial_softmax", "spatial_embeddings"]
"""Mean or largest value per channel; the whole map, flattened; positions of patterns; products
with learned maps."""


class SpatialSoftmax(nn.Module):
    """Where on the picture each pattern is.

    A softmax over the cells of a heat map is a distribution, and its mean a position from -1 to 1
    across the map. Heat maps are the channels themselves, or `keypoints` learned mixtures of them.
    Source: Levine et al. 2016, arXiv:1504.00702, section 5.1.

    Args:
        inputs: channels of the map.
        keypoints: learned mixtures (a 1x1 convolution); 0 takes every channel as it is.
        learn_temperature: divide the heat by a learned number that starts at 1.
    """

    def __init__(self, inputs: int, keypoints: int, learn_temperature: bool = False) -> None:
        super().__init__()
        self.heat: nn.Module = nn.Conv2d(inputs, keypoints, 1) if keypoints else nn.Identity()
        self.temperature = nn.Parameter(torch.ones(())) if learn_temperature else None
        self.outputs = 2 * (keypoints or inputs)

    def forward(self, x: Float[Tensor, "B D Hf Wf"]) -> Float[Tensor, "B out"]:
        """Horizontal positions of all patterns, then vertical ones."""
        heat = self.heat(x)  # B K Hf Wf
        if self.temperature is not None:
            heat = heat / self.temperature  # B K Hf Wf
        weights = heat.flatten(2).softmax(-1).view_as(heat)  # B K Hf Wf
        down = torch.linspace(-1.0, 1.0, heat.shape[2], device=x.device, dtype=x.dtype)  # Hf
        across = torch.linspace(-1.0, 1.0, heat.shape[3], device=x.device, dtype=x.dtype)  # Wf
        horizontal = (weights.sum(2) * across).sum(-1)  # B K
        vertical = (weights.sum(3) * down).sum(-1)  # B K
        return torch.cat((horizontal, vertical), -1)  # B 2K


class SpatialEmbeddings(nn.Module):
    """Sums over the map of its products with `blocks` learned maps per channel.

    Args:
        inputs: channels of the map.
        height, width: cells of the map; fixed.
        blocks: learned maps per channel.

    Source: BridgeData V2's `spatial_learned_embeddings`, same order of outputs.
    """

    def __init__(self, inputs: int, height: int, width: int, blocks: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(inputs, blocks, height, width))
        # LeCun normal over the cells that are summed.
        nn.init.normal_(self.kernel, std=(height * width) ** -0.5)
        self.outputs = inputs * blocks

    def forward(self, x: Float[Tensor, "B D Hf Wf"]) -> Float[Tensor, "B out"]:
        """Channel by channel, block by block."""
        return torch.einsum("bdhw,dkhw->bdk", x, self.kernel).flatten(1)  # B D*K


class MaxPool(nn.Module):
    """The largest value of each channel."""

    def forward(self, x: Float[Tensor, "B D Hf Wf"]) -> Float[Tensor, "B D"]:
        return x.amax((2, 3))  # B D


class AveragePool(nn.Module):
    """The mean of each channel."""

    def forward(self, x: Float[Tensor, "B D Hf Wf"]) -> Float[Tensor, "B D"]:
        return x.mean((2, 3))  # B D
