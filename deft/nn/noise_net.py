"""The noise-predicting network of BridgeData V2's diffusion policy."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from deft.nn.diffusion import FourierFeatures
from deft.nn.mlp import Trunk


class MLPResNet(nn.Module):
    """Noisy chunk, diffusion step and features to the noise in the chunk.

    Learned Fourier features of the step and a small network; beside features and chunk, into
    residual blocks `x + W2 SiLU(W1 LayerNorm(dropout(x)))`.

    Args:
        features: size of the features.
        rows: Tp.
        size: A.
        width: of the residual stream; hidden layers of the blocks are 4 times as wide.
        blocks: number of residual blocks.
        time_size: Fourier features, even.
        dropout: probability of zeroing a number while training.

    Source: Hansen-Estruch et al. 2023, arXiv:2304.10573 (IDQL), appendix.
    """

    def __init__(
        self,
        features: int,
        rows: int,
        size: int,
        *,
        width: int,
        blocks: int,
        time_size: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self._size = size
        self._dropout = dropout
        self.fourier = FourierFeatures(time_size)
        self.time = Trunk(time_size, (2 * time_size,))
        self.time_out = _linear(2 * time_size, time_size)
        self.first = _linear(time_size + features + rows * size, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(blocks))
        self.wide = nn.ModuleList(_linear(width, 4 * width) for _ in range(blocks))
        self.narrow = nn.ModuleList(_linear(4 * width, width) for _ in range(blocks))
        self.last = _linear(width, rows * size)

    def forward(
        self,
        chunk: Float[Tensor, "B Tp A"],
        step: Int64[Tensor, " B"],
        features: Float[Tensor, "B D"],
    ) -> Float[Tensor, "B Tp A"]:
        time = self.time_out(self.time(self.fourier(step.float())))  # B T
        x = self.first(torch.cat((time, features, chunk.flatten(1)), -1))  # B W
        for norm, wide, narrow in zip(self.norms, self.wide, self.narrow, strict=True):
            y = norm(F.dropout(x, self._dropout, self.training))  # B W
            x = x + narrow(F.silu(wide(y)))  # B W
        noise = self.last(F.silu(x))  # B Tp*A
        return rearrange(noise, "B (Tp A) -> B Tp A", A=self._size)


def _linear(come: int, go: int) -> nn.Linear:
    layer = nn.Linear(come, go)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
