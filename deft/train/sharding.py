"""A policy in shards over the ranks, for those that do not fit into one GPU.

Every rank holds a part of each weight, of its gradient, its moments and its average. Whole weights
are there only while their block computes: gathered before, let go after, in the way back once more.
What is saved is gathered, so a checkpoint does not tell how it was trained.

Source: Zhao et al. 2023, arXiv:2304.11277, in the form of torch's `fully_shard`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deft import policies
from deft.errors import ConfigError
from deft.train.config import Job
from deft.train.distributed import Ranks

BLOCK = 2**16
"""Weights from which a layer is gathered by itself; smaller ones are gathered all at once."""


def wanted(job: Job, ranks: Ranks) -> bool:
    """Whether this training is in shards: one process alone has nobody to share with."""
    return job.train.sharded and ranks.count > 1


def check(job: Job) -> None:
    """Raises `ConfigError` when such settings cannot be trained in shards."""
    plan = job.train
    checks = (
        (
            plan.batch_size == "auto",
            "train.batch_size is auto, which is tried out on one rank alone",
            "give the number of rows",
        ),
        (
            plan.compile,
            "train.compile is true, and a compiled loss gathers no weights",
            "set train.compile=false",
        ),
        (
            plan.precision == "fp16",
            "train.precision is fp16, whose scale each rank would choose for itself",
            "set train.precision=bf16",
        ),
        (
            plan.channels_last,
            "train.channels_last is true, and parts of weights have no such order",
            "set train.channels_last=false",
        ),
    )
    for found, what, fix in checks:
        if found:
            raise _refused(what, fix)


def _check_policy(policy: policies.Policy, job: Job) -> None:
    names = list(policy.objectives(job.optim))
    if len(names) > 1:
        raise _refused(
            f"the policy has {len(names)} optimisers ({', '.join(names)}), and each would need the "
            "gradients of weights that they share apart",
            "set policy.optimisers=false",
        )
    for name, weight in policy.named_parameters():
        if weight.ndim == 0:
            raise _refused(
                f"weight {name} is a single number, which cannot be split",
                "set policy.encoder.learn_temperature=false",
            )


def _refused(what: str, fix: str) -> ConfigError:
    return ConfigError(f"train.sharded=true: {what}.\nFix: {fix}, or set train.sharded=false.")


def split(policy: policies.Policy, job: Job, device: torch.device, ranks: Ranks) -> None:
    """Leave this rank its part of every weight on `device`, in place.

    All ranks hold the same policy by now, on the CPU; its large layers go to the device one by one.

    `losses` and `predict` gather what they need, so from here on all ranks call them alike.
    Buffers stay whole, and so do the copies that target networks are.

    Raises `ConfigError` when such a policy cannot be trained in shards.
    """
    _check_policy(policy, job)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (ranks.count,))
    together = [policy.get_submodule(name) for name in policy.gathered]
    for block in [*_blocks(policy, together), policy]:
        # Also the outermost: what stays whole after a validation would be out of date in the next.
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    for name in ("losses", "predict", *(["after_step"] if together else [])):
        register_fsdp_forward_method(policy, name)
    for module in policy.modules():
        if isinstance(module, FSDPModule):
            # Losses carry their shares, so gradients are added up, not averaged.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def _blocks(module: nn.Module, together: list[nn.Module]) -> Iterator[nn.Module]:
    """The outermost modules that hold weights themselves: their weights are read nowhere but in
    their own call."""
    for child in module.children():
        if child in together:
            continue
        if any(True for _ in child.parameters(recurse=False)):
            if sum(weight.numel() for weight in child.parameters()) >= BLOCK:
                yield child
        else:
            yield from _blocks(child, together)


def part(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, sharing its memory; all of it when it is not split."""
    return tensor.to_local() if _is_split(tensor) else tensor  # pyright: ignore[reportAttributeAccessIssue]


def whole(held: Any, keep: bool = True) -> Any:
    """The same tensors, in any nest of dicts and lists, with parts gathered on the CPU.

    Every rank calls it alike. With `keep` false, a rank only gives and gets None for them.
    """
    if isinstance(held, Mapping):
        return {name: whole(each, keep) for name, each in held.items()}
    if isinstance(held, list | tuple):
        return type(held)(whole(each, keep) for each in held)
    if not _is_split(held):
        return held
    full = whole_here(held)
    return full.cpu() if keep else None


def whole_here(tensor: Tensor) -> Tensor:
    """The whole of one tensor, where it is; every rank calls it alike."""
    return tensor.full_tensor() if _is_split(tensor) else tensor  # pyright: ignore[reportAttributeAccessIssue]


def parts_of(full: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of whole tensors, split as those of the same name in `like` are."""
    return {name: _split_as(tensor, like[name]) for name, tensor in full.items()}


def moments_of(full: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The whole state of an optimiser, split as the weights it moves are."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state = {
        number: {
            # A count of steps belongs to a weight too, but is no tensor of its shape.
            name: _split_as(value, weights[number]) if value.ndim else value
            for name, value in each.items()
        }
        for number, each in full["state"].items()
    }
    return {**full, "state": state}


def _split_as(full: Tensor, like: Tensor) -> Tensor:
    if not _is_split(like):
        return full
    from torch.distributed.tensor import distribute_tensor

    # Every rank read the same file, so nothing needs to be sent.
    return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)  # pyright: ignore[reportAttributeAccessIssue]


def _is_split(value: Any) -> bool:
    return hasattr(value, "to_local")
