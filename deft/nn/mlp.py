"""Networks of fully connected layers."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class MLP(nn.Module):
    """Fully connected layers with SiLU, plain or residual.

    Plain: `depth` layers of `width`, each followed by SiLU, then a linear layer. Residual: a linear
    layer to `width`, `depth` blocks `x + W2 SiLU(W1 LayerNorm(x))`, LayerNorm, a linear layer.

    Args:
        inputs: size of the last axis that comes in.
        outputs: size of the last axis that goes out.
        width: size of the hidden layers.
        depth: number of hidden layers, or of residual blocks of two layers each.
        residual: which of the two.
        dropout: probability of zeroing a hidden value while training.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int,
        depth: int,
        residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if residual:
            blocks = [ResidualBlock(width, dropout) for _ in range(depth)]
            layers = [nn.Linear(inputs, width), *blocks, nn.LayerNorm(width)]
        else:
            layers = []
            for i in range(depth):
                layers += [nn.Linear(width if i else inputs, width), nn.SiLU()]
                layers += [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(*layers, nn.Linear(width if layers else inputs, outputs))

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch out"]:
        return self.layers(x)


class ResidualBlock(nn.Module):
    """`x + W2 SiLU(W1 LayerNorm(x))`; W2 starts at zero, so a new block passes x on unchanged."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        last = nn.Linear(width, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        drop = [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), *drop, last
        )

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        return x + self.layers(x)


class Trunk(nn.Module):
    """Fully connected layers, each followed by dropout, LayerNorm on request, and SiLU.

    Xavier-uniform weights and no bias to begin with, as in BridgeData V2's networks; the last
    layer is activated too.

    Args:
        inputs: size of the last axis that comes in.
        hidden: sizes of the layers.
        dropout: probability of zeroing a value of a layer, before its activation.
        layer_norm: LayerNorm between dropout and activation.
    """

    def __init__(
        self, inputs: int, hidden: Sequence[int], dropout: float = 0.0, layer_norm: bool = False
    ) -> None:
        super().__init__()
        self._dropout = dropout
        sizes = (inputs, *hidden)
        layers = [nn.Linear(come, go) for come, go in pairwise(sizes)]
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(nn.LayerNorm(go, eps=1e-6) for go in hidden if layer_norm)
        self.outputs = sizes[-1]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, x: Float[Tensor, "*batch D"], drop: bool = True
    ) -> Float[Tensor, "*batch out"]:
        """`drop=False` leaves dropout out, in training too."""
        for i, layer in enumerate(self.layers):
            x = F.dropout(layer(x), self._dropout, self.training and drop)
            if self.norms:
                x = self.norms[i](x)
            x = F.silu(x)
        return x
