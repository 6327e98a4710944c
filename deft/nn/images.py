"""Networks from a picture to a map of features."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Four convolutions with GroupNorm and SiLU, 1/8 of the resolution; for 64 to 96 pixels.

    Args:
        inputs: channels of the picture.
        channels: of the first layer, a multiple of 8; the map has 4 times as many.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        sizes = (inputs, channels, 2 * channels, 4 * channels, 4 * channels)
        layers: list[nn.Module] = []
        for i, (come, go) in enumerate(pairwise(sizes)):
            kernel, stride = (5 if i == 0 else 3), (2 if i < 3 else 1)
            layers += [
                nn.Conv2d(come, go, kernel, stride, padding=kernel // 2, bias=False),
                nn.GroupNorm(8, go),
                nn.SiLU(),
            ]
        self.layers = nn.Sequential(*layers)
        self.outputs = sizes[-1]

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D Hf Wf"]:
        """Picture from 0 to 1, to a map."""
        return self.layers(2.0 * x - 1.0)


class ResNet18(nn.Module):
    """ResNet-18 up to its last map, 1/32 of the resolution, with GroupNorm of 16 channels a group.

    Parameters are named and shaped as in torchvision, whose `bn` are GroupNorms here, so weights
    trained on ImageNet fit by name (running averages and `fc` excepted). Pictures are scaled by
    ImageNet's mean and deviation. Source: He et al. 2016, arXiv:1512.03385, table 1; GroupNorm as
    in Chi et al. 2023, arXiv:2303.04137, section 3.2.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, 64, 7, 2, padding=3, bias=False)
        self.bn1 = _norm(64)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
        self.outputs = 512
        colour = inputs == 3
        mean = torch.tensor([0.485, 0.456, 0.406] if colour else [0.45] * inputs)
        std = torch.tensor([0.229, 0.224, 0.225] if colour else [0.225] * inputs)
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("std", std[:, None, None], persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 512 Hf Wf"]:
        """Picture from 0 to 1, to a map."""
        x = torch.relu(self.bn1(self.conv1((x - self.mean) / self.std)))  # B 64 H/2 W/2
        x = torch.max_pool2d(x, 3, 2, padding=1)  # B 64 H/4 W/4
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))  # B 512 H/32 W/32


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, come: int, go: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(come, go, 3, stride, padding=1, bias=False)
        self.bn1 = _norm(go)
        self.conv2 = nn.Conv2d(go, go, 3, padding=1, bias=False)
        self.bn2 = _norm(go)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or come != go:
            self.downsample = nn.Sequential(
                nn.Conv2d(come, go, 1, stride, bias=False),
                _norm(go),
            )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D Hf Wf"]:
        y = torch.relu(self.bn1(self.conv1(x)))  # B D Hf Wf
        y = self.bn2(self.conv2(y))  # B D Hf Wf
        return torch.relu(y + self.downsample(x))  # B D Hf Wf


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // 16, channels)
