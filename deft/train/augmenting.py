"""Where a run's pictures are varied: in the loader's threads, or on the training device."""

import time
from dataclasses import dataclass

import torch

from deft import nn, store
from deft.spec import Spec
from deft.train.augment_cpu import ThreadAugment
from deft.train.config import Job


@dataclass(frozen=True)
class Augmentation:
    """The executor of a run's augmentation; at most one of the two."""

    threads: store.Vary | None = None
    """For the loader's `vary`."""
    device: "DeviceAugment | None" = None
    """For every training batch once it is on the device."""

    @staticmethod
    def of(job: Job, observed: Spec, data: Spec, device: torch.device) -> "Augmentation":
        """As `job.augment` says; `executor="auto"` takes the device when it is a GPU.

        Args:
            job: every setting.
            observed: the policy's contract.
            data: what the data holds; its saliency maps follow, unless the policy's
                `saliency.augment` is off.
            device: where it is trained.

        Raises `ConfigError` when a camera's colours cannot be varied.
        """
        config = job.augment
        features = [*observed.features]
        if job.policy.saliency.augment:
            features += data.role("saliency")
        if config.is_off or not any(feature.is_frame for feature in observed.features):
            return Augmentation()
        there = "threads" if device.type == "cpu" else "device"
        if (there if config.executor == "auto" else config.executor) == "threads":
            return Augmentation(threads=ThreadAugment(config, features, job.seed))
        return Augmentation(device=DeviceAugment(nn.Augment(config, features), device))

    def __call__(self, batch: nn.Batch, draws: nn.Draws) -> nn.Batch:
        """The batch as it is trained on."""
        return batch if self.device is None else self.device(batch, draws)

    def timings(self) -> dict[str, float]:
        """`augment_device`: share of the time since the last call that the device spent on it."""
        return {} if self.device is None else {"augment_device": self.device.share()}


class DeviceAugment:
    """`nn.Augment` with a clock, which makes nothing wait until it is read."""

    def __init__(self, augment: nn.Augment, device: torch.device) -> None:
        self.augment = augment
        self._device = device
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds = 0.0
        self._since = time.perf_counter()

    def __call__(self, batch: nn.Batch, draws: nn.Draws) -> nn.Batch:
        if self._device.type != "cuda":
            begun = time.perf_counter()
            varied = self.augment(batch, draws)
            self._seconds += time.perf_counter() - begun
            return varied
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        varied = self.augment(batch, draws)
        end.record()
        self._events.append((begin, end))
        return varied

    def share(self) -> float:
        """Share of the time since the last call; waits for the device."""
        for begin, end in self._events:
            end.synchronize()
            self._seconds += begin.elapsed_time(end) / 1000  # milliseconds
        now = time.perf_counter()
        found = self._seconds / max(now - self._since, 1e-9)
        self._events.clear()
        self._seconds, self._since = 0.0, now
        return found
