"""What a job leaves to the data and the machine: its length in steps and its batch size."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from deft import bundle, nn, policies, spec, store
from deft.errors import ConfigError
from deft.train import memory, sharding
from deft.train.config import Job
from deft.train.distributed import Ranks
from deft.train.loader import draws_of, to_device, training_batches
from deft.train.state import State, assemble
from deft.train.stepping import Stepper, pieces


def settle(
    job: Job,
    data: store.Store,
    contract: spec.Spec,
    windows: int,
    device: torch.device,
    ranks: Ranks,
    make: Callable[[], State],
    begun: Path | None,
    say: Callable[[str], None],
) -> Job:
    """The job with its length in steps and its batch size as numbers.

    Args:
        job: every setting.
        data: what is trained on.
        contract: what the policy sees.
        windows: how many there are to train on.
        device: where.
        ranks: who trains.
        make: a fresh state, for trying batch sizes on.
        begun: folder of the checkpoint to go on from, whose batch size stays.
        say: told what was found.

    Raises `ConfigError` when a batch cannot be split evenly, or nothing fits into memory.
    """
    if sharding.wanted(job, ranks):
        sharding.check(job)
    multiple = ranks.count * job.train.grad_accum_steps
    if job.train.batch_size == "auto":
        if begun is not None:
            provenance = bundle.describe(begun)["provenance"]
            size = int(provenance["job"]["train"]["batch_size"])
        else:
            mine = _largest(job, data, contract, windows, device, ranks, make, multiple)
            size = min(ranks.gather(mine))
        say(f"train.batch_size=auto: {size}")
        job = replace(job, train=replace(job.train, batch_size=size))
    check_even(job.train.rows, ranks.count, job.train.grad_accum_steps)
    policies.check_rows(job.policy, job.train.rows // multiple)
    if job.train.epochs is not None:
        steps = max(1, math.ceil(job.train.epochs * windows / job.train.rows))
        say(
            f"train.epochs={job.train.epochs:g}: {steps} steps of {job.train.rows}, "
            f"{windows} windows"
        )
        job = replace(job, train=replace(job.train, steps=steps))
    return job


def check_even(size: int, ranks: int, accum: int) -> None:
    """Raises `ConfigError` naming the nearest batch sizes when one cannot be split evenly."""
    multiple = ranks * accum
    if size % multiple:
        below, above = size - size % multiple, size - size % multiple + multiple
        nearest = f"{below} or {above}" if below else f"{above}"
        raise ConfigError(
            f"train.batch_size is {size}, to be split over {ranks} processes and "
            f"{accum} pieces each.\n"
            f"Fix: set train.batch_size={nearest}, or change train.grad_accum_steps."
        )


def _largest(
    job: Job,
    data: store.Store,
    contract: spec.Spec,
    windows: int,
    device: torch.device,
    ranks: Ranks,
    make: Callable[[], State],
    multiple: int,
) -> int:
    def measure(size: int) -> float | None:
        tried = replace(job, train=replace(job.train, batch_size=size, compile=False))
        with torch.random.fork_rng():
            return step_bytes(tried, data, contract, device, ranks, make())

    return memory.largest_batch(measure, memory.limit_bytes(job, device), multiple, windows)


def step_bytes(
    job: Job,
    data: store.Store,
    contract: spec.Spec,
    device: torch.device,
    ranks: Ranks,
    state: State,
) -> float | None:
    """Memory that one step of a rank needs, in bytes; None when it did not fit.

    On a GPU it is the allocator's peak. On the host, the sum of weights, gradients, moments and
    average, of the batch, and of what the forward pass keeps for the way back.
    """
    one = replace(job, train=replace(job.train, steps=1))
    with training_batches(
        one, data, contract, 0, rank=ranks.rank, world_size=ranks.count
    ) as loader:
        loaded = next(iter(loader))
        batch = to_device(loaded, data, contract, device)
        draws = draws_of(loaded, job.seed, device)
        count = job.train.grad_accum_steps
        parts = pieces(batch, draws, count, [1.0 / count] * count if count > 1 else None)
        if device.type != "cuda":
            saved = memory.Saved()
            with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
                state.policy.losses(parts[0].batch, parts[0].draws)
            weights = sum(w.numel() * w.element_size() for w in state.policy.parameters())
            return 5.0 * weights + _bytes(batch) + saved.bytes
        try:
            torch.cuda.reset_peak_memory_stats(device)
            # Alone: the other ranks may try other sizes.
            Stepper(state, job, device, Ranks())(parts)
            torch.cuda.synchronize(device)
            return float(torch.cuda.max_memory_allocated(device))
        except RuntimeError as error:
            if not memory.is_out_of_memory(error):
                raise
            return None
        finally:
            torch.cuda.empty_cache()


def fresh_copy(state: State, job: Job, device: torch.device) -> State:
    """Another state that begins where this one does, to be thrown away."""
    return assemble(job, copy.deepcopy(state.policy), device)


def _bytes(batch: nn.Batch) -> int:
    held = [*batch.obs.values(), *batch.goal.values(), *batch.next_obs.values()]
    return sum(each.numel() * each.element_size() for each in held)
