"""A step whose loss is not finite: its batch is kept to be looked at."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from deft import nn
from deft.errors import TrainError
from deft.train.distributed import Ranks


def check_finite(
    held: Mapping[str, Tensor],
    step: int,
    run: Path,
    ranks: Ranks,
    batch_of: Callable[[int], tuple[nn.Batch, nn.Draws]],
) -> dict[str, float]:
    """Means of what the meter holds.

    Args:
        held: every value by name, one per step up to `step`, of all ranks together.
        step: steps done.
        run: folder of the run.
        ranks: who trains.
        batch_of: this rank's rows of the step with that number (from 0) once more.

    Raises:
        TrainError: a value is not finite. The batch of the first such step is in
            `logs/nan_batch.safetensors`.
    """
    means = {name: float(values.mean()) for name, values in held.items()}
    bad = {name: ~values.isfinite() for name, values in held.items()}
    broken = [name for name, where in bad.items() if bool(where.any())]
    if not broken:
        return means
    firsts = {name: int(bad[name].int().argmax()) for name in broken}
    first = min(firsts.values())
    names = [name for name in broken if firsts[name] == first]
    number = step - len(held[names[0]]) + first
    path = run / "logs" / f"nan_batch{f'_rank{ranks.rank}' if ranks.rank else ''}.safetensors"
    batch, draws = batch_of(number)
    odd = write_batch(path, batch, draws, number + 1)
    ranks.wait()
    inside = (
        f"{', '.join(odd)} in it hold values that are not finite"
        if odd
        else ("everything in it is finite")
    )
    raise TrainError(
        f"{run}, step {number + 1}: {', '.join(names)} is not finite.\n"
        f"Found: the batch of that step is in {path}; {inside}.\n"
        'Fix: look at it with `python -c "from safetensors.numpy import load_file; '
        f"print(load_file('{path}'))\"`; lower `optim.lr`, raise `optim.warmup_steps`, or look at "
        "the data with `deft inspect --check`. Checkpoints so far are untouched."
    )


def write_batch(path: Path, batch: nn.Batch, draws: nn.Draws, step: int) -> list[str]:
    """Write a batch as safetensors; returns the names of what is not finite in it.

    Names are those of `nn.Batch`, as in `obs.state`; `draws` has the key of each row's noise.
    """
    tensors: dict[str, Tensor] = {"draws": draws.rows}
    for field in ("obs", "goal", "saliency", "next_obs"):
        tensors |= {f"{field}.{name}": each for name, each in getattr(batch, field).items()}
    for field in ("action", "action_valid", "language", "reward", "mask"):
        value = getattr(batch, field)
        if value is not None:
            tensors[field] = value
    kept = {name: each.detach().cpu().contiguous().clone() for name, each in tensors.items()}
    about = {"step": str(step), "seed": str(draws.seed), "task": "\n".join(batch.task)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(kept, path, about)
    return [
        name
        for name, each in kept.items()
        if each.is_floating_point() and not bool(torch.isfinite(each).all())
    ]
