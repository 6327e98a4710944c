"""How well a policy does on held-out episodes."""

from collections.abc import Iterable

import torch
from torch import Tensor

from deft import nn, policies
from deft.spec import Feature, Stats
from deft.train.distributed import Ranks


@torch.no_grad()
def validate(
    policy: policies.Policy,
    batches: Iterable[tuple[nn.Batch, nn.Draws]],
    actions: Stats,
    ranks: Ranks | None = None,
    mine: int | None = None,
) -> dict[str, float]:
    """Loss and action error over held-out batches; empty when there is no batch.

    Args:
        policy: in eval mode, with the weights to measure.
        batches: batches on the policy's device, with their draws; of several ranks, each its own.
        actions: statistics of the training actions; their mean is the baseline, their variance
            the unit of the error.
        ranks: who measures; the result is the same on all of them.
        mine: how many batches count, where more keep the other ranks company; None for all.

    Returns:
        `val/loss` and its parts; `val/action_mae` in physical units, over all dimensions;
        `val/action_error`, squared error in units of each dimension's variance;
        `val/baseline_error`, the same for always answering the mean action;
        `val/action_mae/<dimension>` in that dimension's unit, and `val/action_error/+<ticks>` for
        each step ahead, where +0 is the action for now.
    """
    sums: dict[str, tuple[Tensor, float]] = {}

    def add(name: str, total: Tensor, count: Tensor | float) -> None:
        before, counted = sums.get(name, (torch.zeros_like(total), 0.0))
        sums[name] = (before + total, counted + float(count))

    action = policy.spec.action()
    for number, (batch, draws) in enumerate(batches):
        assert batch.action is not None
        assert batch.action_valid is not None
        losses, parts = policy.losses(batch, draws)
        guess = policy.predict(batch, draws)  # B Tp A
        if mine is not None and number >= mine:
            continue
        size = len(batch.action)
        for name, value in {**parts, "loss": torch.stack(list(losses.values())).sum()}.items():
            add(name, value * size, size)
        mean = torch.as_tensor(actions.mean, dtype=guess.dtype, device=guess.device)  # A
        variance = torch.as_tensor(actions.std, dtype=guess.dtype, device=guess.device) ** 2  # A
        # A dimension that never moves in training has no scale to measure an error in.
        moves = variance > 1e-12  # A
        mask = batch.action_valid[..., None] & moves  # B Tp A
        scale = torch.where(moves, variance, torch.ones_like(variance))  # A
        cells = mask.sum()
        for name, answer in (("action_error", guess), ("baseline_error", mean)):
            error = torch.where(mask, (answer - batch.action) ** 2 / scale, 0)  # B Tp A
            add(name, error.sum(), cells)
            if name == "action_error":
                for ahead, (total, count) in enumerate(
                    zip(error.sum((0, 2)), mask.sum((0, 2)), strict=True)
                ):
                    add(f"action_error/+{ahead}", total, count)
        off = torch.where(batch.action_valid[..., None], (guess - batch.action).abs(), 0)  # B Tp A
        add("action_mae", torch.where(mask, off, 0).sum(), cells)
        for label, total in zip(_labels(action), off.sum((0, 1)), strict=True):
            add(f"action_mae/{label}", total, batch.action_valid.sum())
    return _means({name: (float(total), count) for name, (total, count) in sums.items()}, ranks)


def _means(sums: dict[str, tuple[float, float]], ranks: Ranks | None) -> dict[str, float]:
    whole: dict[str, tuple[float, float]] = {}
    # A rank may have had no batch, so names are joined, not lists of numbers.
    for each in ranks.gather(sums) if ranks is not None else [sums]:
        for name, (total, count) in each.items():
            before, counted = whole.get(name, (0.0, 0.0))
            whole[name] = (before + total, counted + count)
    return {f"val/{name}": total / max(count, 1.0) for name, (total, count) in whole.items()}


def _labels(action: Feature) -> tuple[str, ...]:
    """A name for each dimension."""
    return action.names or tuple(str(i) for i in range(action.size))
