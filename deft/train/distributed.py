"""Several processes that train one policy, as torchrun starts them.

Every process (rank) holds the weights, takes its rows of each batch and adds its gradients to the
others'. Numbers about the run travel over gloo on the CPU, so that no GPU is waited for; gradients
travel over the device's own backend.
"""

import datetime
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from deft.errors import ConfigError, TrainError

T = TypeVar("T")

BUCKET_BYTES = 32 * 2**20
"""Gradients are joined up to this size before they travel: many small messages are slow."""

TIMEOUT = datetime.timedelta(minutes=30)
"""The longest that ranks wait for one that measures, saves or died."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of one training; alone unless torchrun started it."""

    rank: int = 0
    count: int = 1
    local: int = 0
    """Number of this process on its machine, which is that of its GPU."""

    @staticmethod
    def here() -> "Ranks":
        """As torchrun's environment says. Raises `ConfigError` when that is incomplete."""
        if "WORLD_SIZE" not in os.environ:
            return Ranks()
        try:
            rank, count, local = (
                int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")
            )
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f"WORLD_SIZE is set, but RANK or LOCAL_RANK is not usable: {error}.\n"
                "Fix: start with torchrun --nproc-per-node=N -m deft train …, or unset WORLD_SIZE."
            ) from error
        return Ranks(rank, count, local)

    @property
    def is_first(self) -> bool:
        """Whether this process writes what the run leaves."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device of this process: on a machine with several, each rank has its own GPU."""
        if self.count == 1 or name not in ("auto", "cuda") or not torch.cuda.is_available():
            return name
        return f"cuda:{self.local}"

    @contextmanager
    def joined(self, device: torch.device) -> Generator[None]:
        """The ranks can talk to each other inside the block."""
        if self.count == 1 or dist.is_initialized():
            yield
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=self.rank, world_size=self.count, timeout=TIMEOUT)
        try:
            yield
        finally:
            dist.destroy_process_group()

    def total(self, values: Sequence[float]) -> list[float]:
        """The sums of these numbers over all ranks."""
        if self.count == 1:
            return list(values)
        held = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(held)
        return held.tolist()

    def gather(self, value: T) -> list[T]:
        """What every rank gave, in order of ranks; plain data only."""
        if self.count == 1:
            return [value]
        found: list[T | None] = [None] * self.count
        dist.all_gather_object(found, value)
        return [each for each in found if each is not None]

    def wait(self) -> None:
        """Go on when all ranks are here."""
        self.gather(0)

    def add_up(self, gradients: Sequence[Tensor]) -> None:
        """Replace gradients by their sums over all ranks, in place."""
        if self.count == 1:
            return
        for bucket in _buckets(gradients):
            flat = torch.cat([each.reshape(-1) for each in bucket])
            dist.all_reduce(flat)
            parts = flat.split([each.numel() for each in bucket])
            for each, part in zip(bucket, parts, strict=True):
                each.copy_(part.view(each.shape))

    @torch.no_grad()
    def share(self, tensors: Sequence[Tensor]) -> None:
        """Give every rank the first one's values, in place."""
        if self.count > 1:
            for each in tensors:
                dist.broadcast(each, 0)

    def agree(self, facts: Mapping[str, str]) -> None:
        """Check that a training is the same on all ranks.

        Args:
            facts: by what it is about, as in "weight encoder.0.weight" or "feature state".

        Raises:
            TrainError: naming the first rank that differs, and in what.
        """
        first, *others = self.gather(dict(facts))
        for rank, theirs in enumerate(others, start=1):
            differ = [key for key in first | theirs if first.get(key) != theirs.get(key)]
            if differ:
                shown = "\n".join(
                    f"  {key}: rank 0 has {first.get(key, 'none')}, "
                    f"rank {rank} has {theirs.get(key, 'none')}"
                    for key in differ[:8]
                )
                raise TrainError(
                    f"Rank {rank} would train something else than rank 0.\nFound:\n{shown}\n"
                    "Fix: give every machine the same command, data and version of deft."
                )


def _buckets(gradients: Sequence[Tensor]) -> list[list[Tensor]]:
    """Gradients in order, cut into groups of one dtype and of `BUCKET_BYTES` at most."""
    found: list[list[Tensor]] = []
    size = 0
    for each in gradients:
        bytes_ = each.numel() * each.element_size()
        if not found or size + bytes_ > BUCKET_BYTES or found[-1][0].dtype != each.dtype:
            found.append([])
            size = 0
        found[-1].append(each)
        size += bytes_
    return found
