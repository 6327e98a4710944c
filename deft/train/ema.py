"""A running average of the weights: what is validated, exported and served."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from deft.train.sharding import part


class Average:
    """Exponential average of a module's floating weights; everything else is copied.

    The decay of update n (from 1) is `1 - n^-power` within [0, max_decay], so the first update
    copies the weights. Source: the schedule of Diffusion Policy (Chi et al. 2023), `inv_gamma` 1.
    """

    def __init__(self, module: nn.Module, max_decay: float, power: float) -> None:
        self.module = module
        self.max_decay = max_decay
        self.power = power
        live = module.state_dict()  # shares memory with the module
        self.tensors = {name: tensor.clone() for name, tensor in live.items()}
        # Of a policy in shards, this rank's: an average needs nothing of the others'.
        self._live = {name: part(tensor) for name, tensor in live.items()}
        self._mine = {name: part(tensor) for name, tensor in self.tensors.items()}

    def decay(self, updates: int) -> float:
        """Share of the old average that update number `updates` (from 1) keeps."""
        return min(max(1.0 - float(updates) ** -self.power, 0.0), self.max_decay)

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Take in the module's weights after optimiser step number `updates` (from 1)."""
        floats = [name for name, tensor in self._live.items() if tensor.is_floating_point()]
        mine = [self._mine[name] for name in floats]
        new = [self._live[name] for name in floats]
        torch._foreach_lerp_(mine, new, 1.0 - self.decay(updates))  # pyright: ignore[reportPrivateImportUsage]
        for name in self._live.keys() - set(floats):
            self._mine[name].copy_(self._live[name])

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from a saved average, split as the module is."""
        for name, tensor in self._mine.items():
            tensor.copy_(part(tensors[name]))

    @contextmanager
    def applied(self) -> Generator[None]:
        """The module holds the averaged weights inside the block, and is in eval mode."""
        training = self.module.training
        self._swap()
        self.module.eval()
        try:
            yield
        finally:
            self.module.train(training)
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, tensor in self._live.items():
            held = self._mine[name].clone()
            self._mine[name].copy_(tensor)
            tensor.copy_(held)
