"""Slowly following copies of networks, for losses that need a steady aim."""

import copy
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def frozen_copy(module: M) -> M:
    """The same network with the same values, of which none is a parameter.

    They become buffers: saved and moved with the module that holds the copy, and not trained.
    """
    twin = copy.deepcopy(module)
    for part in twin.modules():
        for name, weight in list(part._parameters.items()):
            del part._parameters[name]
            part.register_buffer(name, None if weight is None else weight.detach().clone())
    return twin


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Move each weight of the copy by `tau` of the way to the network it follows."""
    values = dict(target.named_buffers())
    for name, weight in online.named_parameters():
        values[name].lerp_(weight, tau)
