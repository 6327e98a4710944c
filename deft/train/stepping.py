"""One optimiser step: the losses of a batch, in pieces or at once, and what follows from them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deft import nn
from deft.errors import TrainError
from deft.train import sharding
from deft.train.config import Job, TrainConfig
from deft.train.distributed import Ranks
from deft.train.state import State

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""What networks compute in, by the name of the precision."""

Losses = Callable[[nn.Batch, nn.Draws], tuple[dict[str, Tensor], dict[str, Tensor]]]


@dataclass(frozen=True)
class Piece:
    """Rows of a batch that are computed together."""

    batch: nn.Batch
    draws: nn.Draws
    share: float = 1.0
    """Its part of what is learned from, over all pieces of all ranks."""


def pieces(
    batch: nn.Batch, draws: nn.Draws, count: int, shares: Sequence[float] | None = None
) -> list[Piece]:
    """A batch cut into so many pieces of equal length.

    Args:
        batch, draws: the rows of this rank.
        count: divides the number of rows.
        shares: of each piece; None is for one piece on one rank.
    """
    if shares is None:
        return [Piece(batch, draws)]
    size = len(draws.rows) // count
    cut = [slice(i * size, (i + 1) * size) for i in range(count)]
    return [
        Piece(rows_of(batch, some), nn.Draws(draws.seed, draws.rows[some]), share)
        for some, share in zip(cut, shares, strict=True)
    ]


def learned(valid: np.ndarray, count: int) -> list[float]:
    """How many valid rows of actions each of `count` pieces of a batch holds; bool `B Tp`.

    Losses are means over them, so these are the weights by which the means of pieces make up the
    mean of the batch.
    """
    return [float(part.sum()) for part in np.split(valid, count)]


def rows_of(batch: nn.Batch, some: slice) -> nn.Batch:
    """Some rows of a batch; the tensors are views."""

    def cut(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: tensor[some] for name, tensor in value.items()}
        return None if value is None else value[some]

    fields = dataclasses.fields(batch)
    return nn.Batch(**{field.name: cut(getattr(batch, field.name)) for field in fields})


class Stepper:
    """Takes optimiser steps as `job.train` says.

    Args:
        state: what is trained; its scaler is set for fp16.
        job: every setting.
        device: where.
        ranks: who else trains.
    """

    def __init__(self, state: State, job: Job, device: torch.device, ranks: Ranks) -> None:
        self._state = state
        self._job = job
        self._device = device
        self._ranks = ranks
        self._losses: Losses = state.policy.losses
        self._sharded = sharding.wanted(job, ranks)
        if job.train.compile:
            if len(state.objectives) > 1:
                # The graph is walked once per objective, so its buffers must outlive the first.
                torch._functorch.config.donated_buffer = False  # pyright: ignore[reportAttributeAccessIssue]
            self._losses = torch.compile(self._losses)

    def __call__(self, parts: Sequence[Piece]) -> dict[str, Tensor]:
        """One step; returns what there is to log, on the device, as shares that add up to the
        whole over all ranks."""
        state = self._state
        state.policy.train()
        gradients: dict[str, list[Tensor]] = {}
        values: dict[str, Tensor] = {}
        for piece in parts:
            for name, value in self._take(piece, gradients).items():
                values[name] = values[name] + value if name in values else value
        for each in gradients.values():
            if not self._sharded:
                self._ranks.add_up(each)
        values |= self._move(gradients)
        gradients.clear()
        state.policy.after_step()
        state.step += 1
        state.average.update(state.step)
        return values

    def _take(self, piece: Piece, gradients: dict[str, list[Tensor]]) -> dict[str, Tensor]:
        """Add one piece's gradients, of every objective before anything moves: an early step would
        change weights that another loss still needs."""
        state = self._state
        with autocast(self._job.train, self._device):
            losses, parts = self._losses(piece.batch, piece.draws)
        names = list(state.objectives)
        for name in names:
            loss = losses[name] if piece.share == 1.0 else losses[name] * piece.share
            if self._sharded:
                # Parts of gradients are added up over ranks and pieces on the way back.
                loss.backward()
                weights = weights_of(state.objectives[name])
                gradients[name] = self._used(name, [weight.grad for weight in weights])
                continue
            found = torch.autograd.grad(
                state.scaler.scale(loss),
                weights_of(state.objectives[name]),
                retain_graph=name != names[-1],
                allow_unused=True,
            )
            mine = self._used(name, found)
            if name in gradients:
                torch._foreach_add_(gradients[name], mine)  # pyright: ignore[reportPrivateImportUsage]
            else:
                gradients[name] = mine
        return {
            f"train/{name}": value.detach() * piece.share
            for name, value in {**losses, **parts}.items()
        }

    def _move(self, gradients: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
        state, job = self._state, self._job
        values: dict[str, Tensor] = {}
        factor = 1.0
        for name, objective in state.objectives.items():
            weights = weights_of(objective)
            optimizer = state.optimizers[name]
            for weight, gradient in zip(weights, gradients[name], strict=True):
                weight.grad = gradient
            state.scaler.unscale_(optimizer)
            if job.train.grad_clip_norm > 0:
                norm = torch.nn.utils.clip_grad_norm_(weights, job.train.grad_clip_norm)
                norm = sharding.whole_here(norm)
                if job.train.precision == "fp16":
                    # The scaler leaves out steps that overflow, and tries a smaller scale.
                    norm = norm.nan_to_num(0.0, 0.0, 0.0)
                values[f"train/{name}_grad_norm"] = norm / self._ranks.count
            factor = nn.lr_factor(job.optim, state.step, job.train.steps, objective.schedule)
            for group, planned in zip(optimizer.param_groups, objective.groups, strict=True):
                group["lr"] = planned["lr"] * factor
            state.scaler.step(optimizer)
        for objective in state.objectives.values():
            for weight in weights_of(objective):
                # Else the next step's gradients would be made beside these.
                weight.grad = None
        state.scaler.update()
        return values | {"lr": torch.tensor(job.optim.lr * factor / self._ranks.count)}

    def _used(self, objective: str, found: Sequence[Tensor | None]) -> list[Tensor]:
        weights = weights_of(self._state.objectives[objective])
        if all(each is not None for each in found):
            return [
                _laid_out_as(weight, each)
                for weight, each in zip(weights, found, strict=True)
                if each is not None
            ]
        names = {id(w): name for name, w in self._state.policy.named_parameters()}
        unused = [
            names.get(id(weight), "unnamed")
            for weight, each in zip(weights, found, strict=True)
            if each is None
        ]
        more = f" and {len(unused) - 8} more" if len(unused) > 8 else ""
        where = f"Rank {self._ranks.rank}: w" if self._ranks.count > 1 else "W"
        raise TrainError(
            f"{where}eights that '{objective}' should train have no part in it.\n"
            f"Found: {', '.join(unused[:8])}{more}.\n"
            "Fix: leave them out in the policy's `objectives`, or use them in its `losses`."
        )


def weights_of(objective: nn.Objective) -> list[Tensor]:
    """Every weight that an objective trains."""
    return [weight for group in objective.groups for weight in group["params"]]


def _laid_out_as(weight: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with its numbers in memory as those of the weight.

    A convolution of pictures with channels last has a gradient with channels last, whatever its
    kernel has, and the fused AdamW of CPUs pairs numbers by their place in memory (torch 2.13).
    """
    if gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight).copy_(gradient)


def autocast(plan: TrainConfig, device: torch.device) -> AbstractContextManager[Any]:
    """What losses are computed in; nothing special for fp32."""
    if plan.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, DTYPES[plan.precision])
