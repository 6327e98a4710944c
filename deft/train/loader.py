"""Batches of the store as tensors on the training device."""

from collections.abc import Iterator

import numpy as np
import torch

from deft import nn, store
from deft.spec import Observation, Spec
from deft.train.config import Job


def training_batches(
    job: Job,
    data: store.Store,
    spec: Spec,
    start_step: int,
    vary: store.Vary | None = None,
) -> store.Loader:
    """The loader of the training windows, from optimiser step `start_step` to the end; `vary`
    augments in its threads.

    Raises `StoreError` when there is no training window.
    """
    windows = _windows(job, data, spec, "train")
    return store.Loader(
        data,
        windows,
        store.Sampler(len(windows), job.train.batch_size, job.seed),
        observations=_names(spec),
        vary=vary,
        threads=job.data.threads,
        prefetch=job.data.prefetch,
        start_step=start_step,
        steps=job.train.steps - start_step,
    )


def held_out(job: Job, data: store.Store, spec: Spec) -> store.Windows | None:
    """Windows of the held-out episodes; None when validation is off or nothing is held out.

    Raises `StoreError` when episodes are held out, but none of the tasks trained on.
    """
    if job.val.offline_freq == 0 or not (data.episodes.split == "val").any():
        return None
    return _windows(job, data, spec, "val")


def val_batches(
    job: Job, windows: store.Windows, spec: Spec, device: torch.device
) -> Iterator[tuple[nn.Batch, nn.Draws]]:
    """Held-out batches with fixed draws; the same windows every time."""
    size = job.val.batch_size
    fits = len(windows) <= size * job.val.max_batches
    # A part of the windows must be a fair part: a fixed permutation, not the first episodes.
    sampler = store.Sampler(len(windows), size, seed=0, shuffle=not fits)
    steps = -(-len(windows) // size) if fits else job.val.max_batches
    with store.Loader(
        windows.store,
        windows,
        sampler,
        observations=_names(spec),
        threads=job.data.threads,
        prefetch=job.data.prefetch,
        steps=steps,
    ) as loader:
        for batch in loader:
            yield to_device(batch, windows.store, spec, device), draws_of(batch, 0, device)


def golden_pairs(
    job: Job, data: store.Store, spec: Spec, count: int
) -> list[tuple[Observation, int]]:
    """Real observations with a draw key each, for a bundle to prove itself with."""
    windows = _windows(job, data, spec, "train")
    sampler = store.Sampler(len(windows), count, seed=0)
    with store.Loader(
        data, windows, sampler, observations=_names(spec), threads=1, prefetch=1, steps=1
    ) as loader:
        batch = next(iter(loader))
        return [
            ({name: values[row].copy() for name, values in batch.obs.items()}, row)
            for row in range(count)
        ]


def to_device(batch: store.Batch, data: store.Store, spec: Spec, device: torch.device) -> nn.Batch:
    """The same batch as tensors; on the CPU they share the ring's memory."""
    speaks = any(feature.dtype == "str" for feature in spec.features)
    return nn.Batch(
        obs={name: _tensor(values, device) for name, values in batch.obs.items()},
        action=_tensor(batch.action, device),
        action_valid=_tensor(batch.action_valid, device),
        goal={name: _tensor(values, device) for name, values in batch.goal.items()},
        task=tuple(data.tasks[i] for i in batch.task) if speaks else (),
    )


def draws_of(batch: store.Batch, seed: int, device: torch.device) -> nn.Draws:
    """Noise keyed by sample, so that it is the same on any device and after any resume."""
    return nn.Draws(seed, torch.from_numpy(batch.draws.copy()).to(device))


def _windows(job: Job, data: store.Store, spec: Spec, split: str) -> store.Windows:
    assert spec.horizons is not None  # policies.contract puts them in
    return store.Windows(data, spec.horizons, split=split, include=job.data.include)


def _names(spec: Spec) -> list[str]:
    return [f.name for f in spec.features if f.role != "action" and f.dtype != "str"]


def _tensor(values: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(values).to(device, non_blocking=True)
