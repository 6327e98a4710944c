"""Batches of the store as tensors on the training device."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deft import nn, policies, store
from deft.spec import GOAL, Observation, Spec
from deft.train import sharding
from deft.train.config import DataConfig, Job
from deft.train.distributed import Ranks
from deft.train.language import spoken


def open_data(config: DataConfig, paths: Sequence[str | Path]) -> store.Store:
    """The stores at these paths and addresses, as one.

    Raises `StoreError` when one cannot be opened, `SpecError` when they do not fit together.
    """
    cache = store.CacheConfig(max_gb=config.remote_cache_gb)
    return store.join(
        [
            store.open_remote(str(path), cache) if "://" in str(path) else store.open(path)
            for path in paths
        ]
    )


def chosen(job: Job, data: store.Store) -> store.Store:
    """The data with the episodes in use, the split that the job asks for, and vectors of its
    sentences for a policy that follows them.

    Raises `StoreError` when a pattern fits nothing or nothing is left to train on; also as
    `language.spoken`.
    """
    view = store.view(
        data,
        include=job.data.include,
        exclude=job.data.exclude,
        episodes=job.data.episodes,
        split=job.val.split,
        split_seed=job.val.split_seed,
    )
    return spoken(job, view)


def training_batches(
    job: Job,
    data: store.Store,
    spec: Spec,
    start_step: int,
    vary: store.Vary | None = None,
    *,
    device: torch.device | None = None,
    rank: int = 0,
    world_size: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> store.Loader:
    """The loader of the training windows, from optimiser step `start_step` to the end.

    Args:
        job: every setting; its batch size is that of all ranks together.
        data: the store, with the episodes that are `chosen`.
        spec: the policy's contract.
        start_step: optimiser steps done.
        vary: augments in the loader's threads.
        device: where batches go to; for a GPU they are made in page-locked memory.
        rank: this process.
        world_size: number of processes; they draw one order between them.
        say: told where pictures come from.

    Raises:
        StoreError: there is no training window.
        ConfigError: the batch does not divide by the number of processes, or weights and stores
            do not fit.
    """
    windows = training_windows(job, data, spec)
    order, announce = _order(job, windows)
    size = job.train.rows
    names = _loaded(job, data, spec)
    kept = store.keep_pictures(data, names, job.data.cache, max_gb=job.data.cache_gb)
    if any(data.spec[name].is_frame for name in names):
        say(kept.why)
    on_gpu = device is not None and device.type == "cuda"
    return store.Loader(
        data,
        windows,
        store.Sampler(len(windows), size, job.seed, rank=rank, world_size=world_size, order=order),
        observations=names,
        pictures=kept.pictures,
        vary=vary,
        threads=job.data.threads,
        prefetch=job.data.prefetch,
        start_step=start_step,
        steps=job.train.steps - start_step,
        announce=announce,
        **_goals(job, spec),
        keep=Transfer.KEEP if on_gpu else 1,
        allocate=page_locked if on_gpu else np.empty,
    )


def training_windows(job: Job, data: store.Store, spec: Spec) -> store.Windows:
    """Windows of the episodes trained on. Raises `StoreError` when there is none."""
    return _windows(job, data, spec, "train")


def held_out(job: Job, data: store.Store, spec: Spec) -> store.Windows | None:
    """Windows of the held-out episodes; None when validation is off or nothing is held out.

    Raises `StoreError` when episodes are held out, but none of the tasks trained on.
    """
    if job.val.offline_freq == 0 or not (data.episodes.split == "val").any():
        return None
    return _windows(job, data, spec, "val")


class Turns:
    """Every rank takes whole batches of a sampler in turn, so none must divide evenly.

    With `together` all take as many, since none computes without the others; beyond its own a rank
    then takes one that another has had.
    """

    def __init__(self, sampler: store.Sampler, count: int, ranks: Ranks, together: bool) -> None:
        self._sampler = sampler
        self._count = count
        self._ranks = ranks
        self.mine = len(range(ranks.rank, count, ranks.count))
        self.batches = -(-count // ranks.count) if together else self.mine

    @property
    def rows(self) -> int:
        return self._sampler.rows

    @property
    def seed(self) -> int:
        return self._sampler.seed

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        turn = step * self._ranks.count + self._ranks.rank
        return self._sampler.batch(turn % self._count)


def val_turns(job: Job, windows: store.Windows, ranks: Ranks | None = None) -> Turns:
    """Which held-out batches this rank takes."""
    size = job.val.batch_size
    fits = len(windows) <= size * job.val.max_batches
    # A part of the windows must be a fair part: a fixed permutation, not the first episodes.
    sampler = store.Sampler(len(windows), size, seed=0, shuffle=not fits)
    steps = -(-len(windows) // size) if fits else job.val.max_batches
    ranks = ranks or Ranks()
    return Turns(sampler, steps, ranks, sharding.wanted(job, ranks))


def val_batches(
    job: Job,
    windows: store.Windows,
    spec: Spec,
    device: torch.device,
    ranks: Ranks | None = None,
) -> Iterator[tuple[nn.Batch, nn.Draws]]:
    """Held-out batches with fixed draws; the same windows every time, each on one of the ranks.

    Those beyond `val_turns(...).mine` only keep the other ranks company.
    """
    turns = val_turns(job, windows, ranks)
    if not turns.batches:
        return
    with store.Loader(
        windows.store,
        windows,
        turns,
        observations=_loaded(job, windows.store, spec),
        threads=job.data.threads,
        prefetch=job.data.prefetch,
        **_goals(job, spec),
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
        data,
        windows,
        sampler,
        observations=_names(spec),
        threads=1,
        prefetch=1,
        steps=1,
        **_goals(job, spec),
    ) as loader:
        return observations_of(next(iter(loader)), data, spec)


def observations_of(
    batch: store.Batch, data: store.Store, spec: Spec
) -> list[tuple[Observation, int]]:
    """Each row of a batch as an actor of this contract is shown it, with the row as its key.

    A goal holds for all ticks, so it is there once for each.
    """
    assert spec.horizons is not None  # policies.contract puts them in
    ticks = spec.horizons.obs_horizon
    found: list[tuple[Observation, int]] = []
    for row in range(len(batch.draws)):
        seen: Observation = {}
        for feature in spec.features:
            name = feature.name
            if feature.role == "goal":
                seen[name] = np.repeat(batch.goal[name.removeprefix(GOAL)][row], ticks, 0)
            elif feature.dtype == "str":
                seen[name] = data.texts[batch.text[row]]
            elif feature.role != "action":
                seen[name] = batch.obs[name][row].copy()
        found.append((seen, row))
    return found


def to_device(batch: store.Batch, data: store.Store, spec: Spec, device: torch.device) -> nn.Batch:
    """The same batch as tensors; on the CPU they share the ring's memory.

    A GPU may still be reading the ring when this returns, see `Transfer`.
    """
    speaks = any(f.dtype == "str" for f in spec.features)
    vectors = [f.name for f in spec.role("language") if f.dtype != "str"]
    maps = [f.name for f in data.spec.role("saliency") if f.name in batch.obs]
    apart = {*vectors, *maps}
    obs = {name: _tensor(values, device) for name, values in batch.obs.items()}
    language = obs[vectors[0]][:, -1] if vectors else None  # B L
    if speaks and data.text_vectors is not None:
        language = _tensor(data.text_vectors.vectors[batch.text], device)  # B L
    rewarded = bool(batch.goal) and not bool(np.isnan(batch.reward).any())
    return nn.Batch(
        obs={name: values for name, values in obs.items() if name not in apart},
        action=_tensor(batch.action, device),
        action_valid=_tensor(batch.action_valid, device),
        goal={name: _tensor(values[:, 0], device) for name, values in batch.goal.items()},
        language=language,
        saliency=_saliency({name: obs[name] for name in maps}, data.spec, spec),
        next_obs={
            name: _tensor(values, device)
            for name, values in batch.next_obs.items()
            if name not in apart
        },
        reward=_tensor(batch.reward, device) if rewarded else None,
        mask=_tensor(batch.mask, device) if batch.next_obs else None,
        task=tuple(data.texts[i] for i in batch.text) if speaks else (),
    )


class Transfer:
    """`to_device` with a guard for the ring and a clock.

    A GPU reads page-locked memory after the call has returned. So the ring keeps `KEEP` batches,
    and each transfer waits for the one before it, which has long been done: nothing stands still.
    """

    KEEP = 2

    def __init__(self, data: store.Store, spec: Spec, device: torch.device) -> None:
        self._data = data
        self._spec = spec
        self._device = device
        self._before: torch.cuda.Event | None = None
        self._seconds = 0.0
        self._since = time.perf_counter()

    def __call__(self, batch: store.Batch) -> nn.Batch:
        begun = time.perf_counter()
        sent = to_device(batch, self._data, self._spec, self._device)
        if self._device.type == "cuda":
            if self._before is not None:
                self._before.synchronize()
            self._before = torch.cuda.Event()
            self._before.record()
        self._seconds += time.perf_counter() - begun
        return sent

    def share(self) -> float:
        """Share of the time since the last call that the loop spent here."""
        now = time.perf_counter()
        found = self._seconds / max(now - self._since, 1e-9)
        self._seconds, self._since = 0.0, now
        return found


def page_locked(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array that a GPU can read by itself; for `store.Loader(allocate=...)`."""
    return torch.empty(shape, dtype=getattr(torch, dtype), pin_memory=True).numpy()


def draws_of(batch: store.Batch, seed: int, device: torch.device) -> nn.Draws:
    """Noise keyed by sample, so that it is the same on any device and after any resume."""
    return nn.Draws(seed, torch.from_numpy(batch.draws.copy()).to(device))


def _windows(job: Job, data: store.Store, spec: Spec, split: str) -> store.Windows:
    assert spec.horizons is not None  # policies.contract puts them in
    drop = job.data.goals.drop_n_last if spec.role("goal") else 0
    # Without any text there is nothing to tell which episodes are unlabeled.
    labeled = job.data.skip_unlabeled and data.text_vectors is not None
    return store.Windows(data, spec.horizons, split=split, drop_n_last=drop, labeled=labeled)


def _order(job: Job, windows: store.Windows) -> tuple[store.Order | None, int]:
    """The order of the samples, and how many batches ahead a remote store is told of them."""
    order = store.order_of(
        windows,
        job.seed,
        job.data.sampling,
        origin=store.origin_of(windows.store),
        weights=job.data.weights if len(job.data.paths) > 1 else None,
    )
    together = store.shards_together(windows.store)
    if order is not None or together == 0:
        return order, 0
    blocks = store.Blocks(windows, together, job.seed)
    return blocks, max(1, blocks.windows_together // job.train.rows)


def _goals(job: Job, spec: Spec) -> dict[str, Any]:
    """What the loader is told of goals and next observations: what the policy takes."""
    goals = [feature.name.removeprefix(GOAL) for feature in spec.role("goal")]
    return {
        "goals": job.data.goals if goals else None,
        "goal_features": goals,
        "next_observations": "next" in getattr(type(job.policy), "takes", frozenset()),
    }


def _loaded(job: Job, data: store.Store, spec: Spec) -> list[str]:
    """What is read of each observed tick: the contract's features, and maps of where to look."""
    names = _names(spec)
    if job.policy.saliency.acts:
        cameras = [feature.name for feature in spec.role("image")]
        names += policies.saliency_features(data.spec, cameras).values()
    return names


def _saliency(
    maps: dict[str, torch.Tensor], data_spec: Spec, spec: Spec
) -> dict[str, torch.Tensor]:
    """Maps `B To H W 1` by feature, in any dtype, as `B To H W`, 0 to 1, by camera."""
    cameras = [feature.name for feature in spec.role("image")]
    found: dict[str, torch.Tensor] = {}
    for camera, name in policies.saliency_features(data_spec, cameras).items():
        if name in maps:
            levels = {"uint8": 255.0, "uint16": 65535.0}.get(data_spec[name].dtype, 1.0)
            found[camera] = maps[name][..., 0].float() / levels
    return found


def _names(spec: Spec) -> list[str]:
    return [f.name for f in spec.features if f.role not in ("action", "goal") and f.dtype != "str"]


def _tensor(values: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(values).to(device, non_blocking=True)
