"""The residual networks of BridgeData V2, to the weight.

Facts from its `resnetv1-*-bridge` encoders: GroupNorm of 4 groups, TensorFlow's SAME padding,
coordinates as two more input channels, no bias in convolutions; with language, FiLM after each
block (Perez et al. 2018, arXiv:1709.07871).
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Depth = Literal[18, 34, 50]
Activation = Literal["swish", "relu"]

STAGES: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
}
"""Blocks per stage by depth; 50 has bottlenecks. He et al. 2016, arXiv:1512.03385, table 1."""

_GROUPS = 4


class BridgeResNet(nn.Module):
    """A picture to a map of 1/32 of its size, rounded up.

    Args:
        inputs: channels of the picture, without coordinates.
        depth: 18, 34 or 50.
        coordinates: append row and column, from -1 to 1, as two channels.
        activation: `swish` as in the published configs, or `relu`.
        language: size of the vector that modulates each block; 0 for none.
    """

    def __init__(
        self,
        inputs: int,
        depth: Depth,
        *,
        coordinates: bool = True,
        activation: Activation = "swish",
        language: int = 0,
    ) -> None:
        super().__init__()
        self._coordinates = coordinates
        self.coordinate_channels = 2 if coordinates else 0
        """How many of the first kernel's last channels hold coordinates."""
        self._act: Callable[[Tensor], Tensor] = F.silu if activation == "swish" else F.relu
        self.stem = nn.Conv2d(inputs + 2 * coordinates, 64, 7, 2, padding=3, bias=False)
        self.stem_norm = _norm(64)
        block = Bottleneck if depth == 50 else Block
        come = 64
        blocks: list[nn.Module] = []
        films: list[nn.Module] = []
        for stage, count in enumerate(STAGES[depth]):
            for i in range(count):
                width = 64 * 2**stage
                blocks.append(block(come, width, 2 if i == 0 and stage else 1, self._act))
                come = width * block.expansion
                if language:
                    films.append(FiLM(language, come))
        self.blocks = nn.ModuleList(blocks)
        self.films = nn.ModuleList(films)
        self.outputs = come
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _he_normal(module.weight)

    def forward(
        self, x: Float[Tensor, "B C H W"], language: Float[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "B D Hf Wf"]:
        """Picture from 0 to 1, and the sentence where the network takes one, to a map."""
        x = 2.0 * x - 1.0  # B C H W
        if self._coordinates:
            x = torch.cat((x, coordinates(x)), 1)  # B C+2 H W
        x = self._act(self.stem_norm(self.stem(x)))  # B 64 H/2 W/2
        x = F.max_pool2d(_pad_same(x, 3, 2, -math.inf), 3, 2)  # B 64 H/4 W/4
        for i, block in enumerate(self.blocks):
            x = block(x)
            if self.films:
                x = self.films[i](x, language)
        return x


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, come: int, go: int, stride: int, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._act = act
        self.conv1, self.norm1 = SameConv2d(come, go, 3, stride), _norm(go)
        self.conv2, self.norm2 = SameConv2d(go, go, 3, 1), _norm(go)
        self.shortcut = _shortcut(come, go, stride)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D Hf Wf"]:
        y = self._act(self.norm1(self.conv1(x)))  # B D Hf Wf
        y = self.norm2(self.conv2(y))  # B D Hf Wf
        return self._act(y + self.shortcut(x))  # B D Hf Wf


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; the 3x3 one strides."""

    expansion = 4

    def __init__(self, come: int, go: int, stride: int, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._act = act
        self.conv1, self.norm1 = SameConv2d(come, go, 1, 1), _norm(go)
        self.conv2, self.norm2 = SameConv2d(go, go, 3, stride), _norm(go)
        self.conv3, self.norm3 = SameConv2d(go, 4 * go, 1, 1), _norm(4 * go)
        self.shortcut = _shortcut(come, 4 * go, stride)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D Hf Wf"]:
        y = self._act(self.norm1(self.conv1(x)))  # B go H W
        y = self._act(self.norm2(self.conv2(y)))  # B go Hf Wf
        y = self.norm3(self.conv3(y))  # B D Hf Wf
        return self._act(y + self.shortcut(x))  # B D Hf Wf


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded so that n pixels become ceil(n / stride).

    On even sizes a stride of 2 pads below and to the right only, where torch would pad all round.
    """

    def __init__(self, come: int, go: int, kernel: int, stride: int) -> None:
        # Padding that is the same on every size is left to the convolution.
        super().__init__(
            come, go, kernel, stride, padding=kernel // 2 if stride == 1 else 0, bias=False
        )

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D Hf Wf"]:  # noqa: A002
        if self.stride[0] > 1:
            input = _pad_same(input, self.kernel_size[0], self.stride[0], 0.0)  # noqa: A001
        return super().forward(input)


class FiLM(nn.Module):
    """`x * (1 + scale) + shift` per channel, linear in the sentence; the identity at first."""

    def __init__(self, language: int, channels: int) -> None:
        super().__init__()
        self.scale = nn.Linear(language, channels)
        self.shift = nn.Linear(language, channels)
        for layer in (self.scale, self.shift):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, x: Float[Tensor, "B C H W"], language: Float[Tensor, "B L"]
    ) -> Float[Tensor, "B C H W"]:
        scale, shift = self.scale(language), self.shift(language)  # B C
        return x * (1.0 + scale[..., None, None]) + shift[..., None, None]  # B C H W


def coordinates(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 2 H W"]:
    """Row, then column, of each pixel from -1 to 1."""
    rows, height, width = len(x), x.shape[2], x.shape[3]
    down = torch.linspace(-1.0, 1.0, height, device=x.device, dtype=x.dtype)  # H
    across = torch.linspace(-1.0, 1.0, width, device=x.device, dtype=x.dtype)  # W
    grid = torch.stack(torch.meshgrid(down, across, indexing="ij"))  # 2 H W
    return grid[None].expand(rows, -1, -1, -1)  # B 2 H W


def _pad_same(x: Tensor, kernel: int, stride: int, value: float) -> Tensor:
    pads: list[int] = []
    for size in (x.shape[3], x.shape[2]):  # F.pad wants the last axis first
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value) if any(pads) else x


def _shortcut(come: int, go: int, stride: int) -> nn.Module:
    if stride == 1 and come == go:
        return nn.Identity()
    return nn.Sequential(SameConv2d(come, go, 1, stride), _norm(go))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(_GROUPS, channels, eps=1e-5)


def _he_normal(weight: Tensor) -> None:
    """Normal, cut at two deviations, with variance 2 / fan-in after the cut."""
    std = math.sqrt(2.0 / nn.init._calculate_correct_fan(weight, "fan_in")) / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
