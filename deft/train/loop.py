"""The training loop: one screen, the same for every policy."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deft import __version__, bundle, nn, policies, spec, store
from deft.errors import TrainError
from deft.train import checkpoint
from deft.train.augmenting import Augmentation
from deft.train.config import Job
from deft.train.ema import Average
from deft.train.journal import Journal
from deft.train.language import fitted, sentences
from deft.train.loader import (
    Transfer,
    chosen,
    draws_of,
    golden_pairs,
    held_out,
    training_batches,
    val_batches,
)
from deft.train.validate import validate

BEST_BY = "val/action_error"
"""The held-out measurement whose lowest value makes a checkpoint `best`."""


@dataclass
class State:
    """Everything that changes while training."""

    policy: policies.Policy
    average: Average
    objectives: dict[str, nn.Objective]
    optimizers: dict[str, torch.optim.Optimizer]
    step: int = 0


def train(job: Job, data: store.Store, run: Path, *, resume: bool = False) -> dict[str, float]:
    """Train one policy and leave checkpoints and measurements in `run`.

    Args:
        job: every setting.
        data: the store to learn from.
        run: folder of the run; created when missing.
        resume: go on from the newest checkpoint in `run`; from the start when there is none.

    Returns:
        The last value of every measurement.

    Raises:
        SpecError: policy and data do not fit.
        TrainError: nothing to train on, a loss that is not finite, or a full disk.
    """
    device = nn.pick_device(job.device)
    data = chosen(job, data)
    contract = policies.contract(job.policy, data.spec, job.data.observations)
    job = fitted(job, data, contract)
    state = _start(job, contract, data, device)
    if resume:
        _resume(state, run, data, device)
        # A kill between a checkpoint and its links leaves the links one checkpoint behind.
        checkpoint.tidy(run, job.train.keep_freq, BEST_BY)
    windows = held_out(job, data, contract)
    vary = Augmentation.of(job, contract, data.spec, device)
    plan, meter, last = job.train, Meter(), dict[str, float]()
    with (
        Journal(run, start_step=state.step, total_steps=plan.steps) as journal,
        training_batches(
            job, data, contract, state.step, vary.threads, device=device, say=journal.say
        ) as loader,
    ):
        send = Transfer(data, contract, device)
        journal.say(_opening(state, data, device, windows is not None))
        for batch in loader:
            draws = draws_of(batch, job.seed, device)
            varied = vary(send(batch), draws)
            meter.add(update(state, job, varied, draws))
            step = state.step
            is_saved = step % plan.save_freq == 0 or step == plan.steps
            is_measured = windows is not None and step % job.val.offline_freq == 0
            if step % plan.log_freq == 0 or is_saved:
                last |= journal.write(step, meter.take(step, run) | _shares(loader, send, vary))
            if is_saved or is_measured:
                scores = _measure(state, job, data, windows, device)
                last |= journal.write(step, scores) if scores else {}
                if is_saved:
                    _save(state, job, data, run, scores)
    return last


def update(state: State, job: Job, batch: nn.Batch, draws: nn.Draws) -> dict[str, Tensor]:
    """One optimiser step; returns what there is to log, still on the device."""
    state.policy.train()
    losses, parts = state.policy.losses(batch, draws)
    names = list(state.objectives)
    # All gradients first: an early step would move weights that another loss still needs.
    gradients = {
        name: torch.autograd.grad(
            losses[name], _weights(state.objectives[name]), retain_graph=name != names[-1]
        )
        for name in names
    }
    factor = 1.0
    for name, objective in state.objectives.items():
        for weight, gradient in zip(_weights(objective), gradients[name], strict=True):
            weight.grad = gradient
        if job.train.grad_clip_norm > 0:
            norm = torch.nn.utils.clip_grad_norm_(_weights(objective), job.train.grad_clip_norm)
            parts = {**parts, f"{name}_grad_norm": norm}
        optimizer = state.optimizers[name]
        factor = nn.lr_factor(job.optim, state.step, job.train.steps, objective.schedule)
        for group, planned in zip(optimizer.param_groups, objective.groups, strict=True):
            group["lr"] = planned["lr"] * factor
        optimizer.step()
    state.policy.after_step()
    state.step += 1
    state.average.update(state.step)
    return {f"train/{name}": value.detach() for name, value in {**losses, **parts}.items()} | {
        "lr": torch.tensor(job.optim.lr * factor)
    }


class Meter:
    """Means since the last look, summed on the device so that no step waits for it."""

    def __init__(self) -> None:
        self._forget()

    def add(self, values: dict[str, Tensor]) -> None:
        self._count += 1
        for name, value in values.items():
            held = self._sums.get(name)
            self._sums[name] = value.clone() if held is None else held + value

    def take(self, step: int, run: Path) -> dict[str, float]:
        """The means, starting afresh. Raises `TrainError` when one is not finite."""
        means = {name: float(total) / self._count for name, total in self._sums.items()}
        broken = [name for name, mean in means.items() if not abs(mean) < float("inf")]
        if broken:
            raise TrainError(
                f"{run}, by step {step}: {', '.join(broken)} is not finite.\n"
                f"Found: {means}.\n"
                "Fix: lower `optim.lr`, raise `optim.warmup_steps`, or look at the data with "
                "`deft inspect --check`; checkpoints so far are untouched."
            )
        self._forget()
        return means

    def _forget(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0


def _shares(loader: store.Loader, send: Transfer, vary: Augmentation) -> dict[str, float]:
    """Where time went since the last look: the loop's `wait` for data and `transfer` of it, the
    loader's stages and augmentation on the device, each as a share of the time; see
    `store.Loader.timings`."""
    shares = loader.timings() | {"transfer": send.share()} | vary.timings()
    return {f"time/{name}": share for name, share in shares.items()}


def _weights(objective: nn.Objective) -> list[Tensor]:
    return [weight for group in objective.groups for weight in group["params"]]


def _start(job: Job, contract: spec.Spec, data: store.Store, device: torch.device) -> State:
    # The one place where torch's global generator is set: initial weights and dropout follow it.
    torch.manual_seed(job.seed)
    policy = policies.build(job.policy, contract, data.stats).to(device)
    objectives = policy.objectives(job.optim)
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.AdamW(
            objective.groups, betas=job.optim.betas, eps=job.optim.eps, fused=True
        )
        for name, objective in objectives.items()
    }
    average = Average(policy, job.train.ema_max_decay, job.train.ema_power)
    return State(policy, average, objectives, optimizers)


def _measure(
    state: State,
    job: Job,
    data: store.Store,
    windows: store.Windows | None,
    device: torch.device,
) -> dict[str, float]:
    if windows is None:
        return {}
    contract = state.policy.spec
    with state.average.applied():
        batches = val_batches(job, windows, contract, device)
        return validate(state.policy, batches, data.stats[contract.action().name])


def _save(state: State, job: Job, data: store.Store, run: Path, scores: dict[str, float]) -> None:
    resumable: dict[str, Any] = {
        "step": state.step,
        "weights": state.policy.state_dict(),
        "optimizers": {name: each.state_dict() for name, each in state.optimizers.items()},
        "random": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        resumable["random_cuda"] = torch.cuda.get_rng_state_all()
    provenance = {
        "step": state.step,
        "job": spec.to_plain(job) | {"policy": spec.to_plain(job.policy)},
        "data": {"name": data.path.name, "path": str(data.path), "digest": data.digest},
        "deft": __version__,
    }
    pairs = golden_pairs(job, data, state.policy.spec, count=2)

    def write_bundle(folder: Path) -> None:
        bundle.write(
            folder,
            state.policy,
            state_dict=state.average.tensors,
            provenance=provenance,
            golden=pairs,
            sentences=sentences(data),
        )

    checkpoint.save(run, state.step, resumable, scores, write_bundle)
    checkpoint.tidy(run, job.train.keep_freq, BEST_BY)


def _resume(state: State, run: Path, data: store.Store, device: torch.device) -> None:
    done = checkpoint.steps(run)
    if not done:
        return
    saved = checkpoint.load(run, done[-1], device)
    averaged = bundle.load(checkpoint.folder_of(run, done[-1]), device=str(device), golden=False)
    digest = averaged.info["provenance"]["data"]["digest"]
    if digest != data.digest:
        raise TrainError(
            f"{run}: the run began with other data than {data.path}.\n"
            f"Found: digest {data.digest[:12]}…, wanted {digest[:12]}….\n"
            "Fix: give the store it began with in `data.path`, or start another session."
        )
    state.policy.load_state_dict(saved["weights"])
    state.average.load(averaged.policy.state_dict())
    for name, optimizer in state.optimizers.items():
        optimizer.load_state_dict(saved["optimizers"][name])
    torch.set_rng_state(saved["random"].cpu())
    if "random_cuda" in saved and device.type == "cuda":
        torch.cuda.set_rng_state_all([each.cpu() for each in saved["random_cuda"]])
    state.step = saved["step"]


def _opening(state: State, data: store.Store, device: torch.device, measures: bool) -> str:
    count = sum(weight.numel() for weight in state.policy.parameters())
    begun = f"goes on from step {state.step}" if state.step else "starts"
    family = policies.family(state.policy.config)
    threads = f" with {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    held = "" if measures else "; nothing is held out, so there is no validation"
    return (
        f"{family} with {count:,} weights {begun} on {device}{threads}; "
        f"data {data.path.name}, {len(data.episodes)} episodes, Python {sys.version.split()[0]}, "
        f"torch {torch.__version__}{held}"
    )
