"""Everything that changes while training: made, saved and brought back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deft import __version__, bundle, nn, policies, spec, store
from deft.errors import TrainError
from deft.spec import Observation
from deft.train import checkpoint, sharding
from deft.train.config import Job
from deft.train.distributed import Ranks
from deft.train.ema import Average
from deft.train.language import sentences


@dataclass
class State:
    """Everything that changes while training."""

    policy: policies.Policy
    average: Average
    objectives: dict[str, nn.Objective]
    optimizers: dict[str, torch.optim.Optimizer]
    scaler: torch.amp.GradScaler
    """Keeps small gradients of fp16 above zero; does nothing for other precisions."""
    step: int = 0


def fresh(
    job: Job,
    contract: spec.Spec,
    data: store.Store,
    device: torch.device,
    weights: Callable[[policies.Policy], None] | None = None,
) -> policies.Policy:
    """A policy with fresh weights.

    Args:
        job: every setting.
        contract: what the policy sees and does.
        data: for its statistics.
        device: where.
        weights: called with the policy while it is on the CPU, to load weights.
    """
    # The one place where torch's global generator is set: initial weights and dropout follow it.
    torch.manual_seed(job.seed)
    policy = policies.build(job.policy, contract, data.stats)
    if weights is not None:
        weights(policy)
    policy = policy.to(device)
    if job.train.channels_last:
        policy = policy.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return policy


def assemble(job: Job, policy: policies.Policy, device: torch.device) -> State:
    """Optimisers, average and scaler for a policy as it is."""
    objectives = policy.objectives(job.optim)
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.AdamW(
            objective.groups, betas=job.optim.betas, eps=job.optim.eps, fused=True
        )
        for name, objective in objectives.items()
    }
    average = Average(policy, job.train.ema_max_decay, job.train.ema_power)
    scaler = torch.amp.GradScaler(device.type, enabled=job.train.precision == "fp16")
    return State(policy, average, objectives, optimizers, scaler)


def spread_dropout(job: Job, ranks: Ranks, step: int) -> None:
    """Give every rank but the first a dropout of its own; the weights are alike by now."""
    if ranks.rank:
        torch.manual_seed(hash((job.seed, ranks.rank, step)) % 2**63)


def save(
    state: State,
    job: Job,
    data: store.Store,
    run: Path,
    scores: Mapping[str, float],
    held: Mapping[str, Tensor],
    pairs: Sequence[tuple[Observation, int]],
    ranks: Ranks,
) -> None:
    """Write a checkpoint and delete what need not be kept; every rank calls it, the first writes.

    Args:
        state, job, data, run: of the training.
        scores: measurements at this step.
        held: what the meter holds.
        pairs: golden observations for the bundle.
        ranks: who trains.

    Raises `TrainError` when the disk refuses.
    """
    random: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        random["cuda"] = torch.cuda.get_rng_state()
    resumable: dict[str, Any] = {
        "step": state.step,
        "weights": state.policy.state_dict(),
        "optimizers": {name: each.state_dict() for name, each in state.optimizers.items()},
        "scaler": state.scaler.state_dict(),
        "random": ranks.gather(random),
        "meter": dict(held),
    }
    resumable, average = sharding.whole((resumable, state.average.tensors), keep=ranks.is_first)
    if not ranks.is_first:
        return
    provenance = {
        "step": state.step,
        "job": spec.to_plain(job) | {"policy": spec.to_plain(job.policy)},
        "data": {"name": data.path.name, "path": str(data.path), "digest": data.digest},
        "deft": __version__,
    }

    def write_bundle(folder: Path) -> None:
        bundle.write(
            folder,
            state.policy,
            state_dict=average,
            provenance=provenance,
            golden=pairs,
            sentences=sentences(data),
        )

    checkpoint.save(run, state.step, resumable, scores, write_bundle)
    tidy(job, run)


def tidy(job: Job, run: Path) -> None:
    """Set the links and delete what need not be kept, as `job` says."""
    best = checkpoint.best_step(run, job.val.best, highest=job.val.best_is == "highest")
    checkpoint.tidy(run, job.train.keep_freq, best)


def resume_from(
    state: State,
    job: Job,
    run: Path,
    step: int,
    data: store.Store,
    device: torch.device,
    ranks: Ranks,
) -> dict[str, Tensor]:
    """Bring back the checkpoint of one step.

    Returns what the meter held.

    Raises `TrainError` when the checkpoint is damaged or began with other data.
    """
    # As at the start: what is split must not be whole on a GPU.
    where = torch.device("cpu") if sharding.wanted(job, ranks) else device
    saved = checkpoint.load(run, step, where)
    averaged = bundle.load(checkpoint.folder_of(run, step), device=str(where), golden=False)
    digest = averaged.info["provenance"]["data"]["digest"]
    if digest != data.digest:
        raise TrainError(
            f"{run}: the run began with other data than {data.path}.\n"
            f"Found: digest {data.digest[:12]}…, wanted {digest[:12]}….\n"
            "Fix: give the store it began with in `data.path`, or start another session."
        )
    parts = state.policy.state_dict()
    state.policy.load_state_dict(sharding.parts_of(saved["weights"], parts))
    state.average.load(sharding.parts_of(averaged.policy.state_dict(), parts))
    for name, optimizer in state.optimizers.items():
        optimizer.load_state_dict(sharding.moments_of(saved["optimizers"][name], optimizer))
    state.scaler.load_state_dict(saved["scaler"])
    # More ranks than before: the new ones keep the generator they began with.
    if ranks.rank < len(saved["random"]):
        random = saved["random"][ranks.rank]
        torch.set_rng_state(random["cpu"].cpu())
        if "cuda" in random and device.type == "cuda":
            torch.cuda.set_rng_state(random["cuda"].cpu())
    state.step = saved["step"]
    return saved["meter"]
