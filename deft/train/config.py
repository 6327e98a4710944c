"""Settings of one training run, except the policy's own."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from deft import nn, store
from deft.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data is trained on."""

    path: str | tuple[str, ...]
    """A store, its address (`s3://…`, `https://…`), or any recording `deft inspect` knows, which is
    converted once; a list is trained on as one."""
    weights: tuple[float, ...] | None = None
    """How often each of a list of stores is drawn from, as shares; null draws every step alike."""
    sampling: Literal["uniform", "by_episode", "by_task"] = "uniform"
    """What is drawn as often as its like: steps, episodes or tasks; with weights, in each store."""
    include: tuple[str, ...] = ()
    """Tasks to use, as names or patterns; empty takes all."""
    exclude: tuple[str, ...] = ()
    """Tasks to leave out, as names or patterns, even if they are included."""
    episodes: str | tuple[int | str, ...] | None = None
    """Episodes to use: a list of numbers or ids, or a range of numbers as 0:100; null takes all."""
    language_encoder: str | None = None
    """Folder of a text encoder of `transformers`, for policies that follow instructions; null takes
    the vectors that came with the data."""
    skip_unlabeled: bool = True
    """Whether such policies are kept from episodes that do not say what is done in them."""
    goals: store.GoalConfig = field(default_factory=store.GoalConfig)
    """Which later step is the goal, for policies that have goals."""
    observations: tuple[str, ...] | None = None
    """Features the policy sees; null takes every image and state."""
    image_size: str | None = None
    """HEIGHTxWIDTH of pictures when a recording is converted; null keeps them."""
    val_fraction: float = 0.1
    """Share of episodes held out when a recording without splits is converted."""
    fps: float | None = None
    """Ticks per second of a recording that does not say."""
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    """Settings of a recording's format, as `--option` of `deft convert` takes them."""
    threads: int = 2
    """Threads that read and decode."""
    prefetch: int = 3
    """Batches made ahead."""
    cache: Literal["auto", "memory", "off"] = "auto"
    """Decoded pictures kept in memory, shared by all processes: when they fit, always, or never."""
    cache_gb: float | None = None
    """Limit of that memory, in billions of bytes; null takes half of what is free."""
    remote_cache_gb: float = 20.0
    """Disk for the shards of remote stores, in billions of bytes, under $DEFT_CACHE_DIR."""

    def __post_init__(self) -> None:
        _at_least("data.threads", self.threads, 1)
        _at_least("data.prefetch", self.prefetch, 1)
        count = len(self.paths)
        if count == 0 or (self.weights is not None and len(self.weights) != count):
            raise ConfigError(
                f"data.weights has {len(self.weights or ())} numbers for {count} stores.\n"
                "Fix: give one path or more, and one weight for each of them, or none."
            )
        if self.weights is not None and not all(0 < each < math.inf for each in self.weights):
            raise ConfigError(f"data.weights is {list(self.weights)}.\nFix: give numbers above 0.")

    @property
    def paths(self) -> tuple[str, ...]:
        """Every store or recording."""
        return (self.path,) if isinstance(self.path, str) else self.path


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how large, how often."""

    steps: int = 20_000
    """Optimiser steps in all."""
    batch_size: int = 64
    """Windows per step."""
    log_freq: int = 100
    """Steps between lines in metrics.jsonl."""
    save_freq: int = 5_000
    """Steps between checkpoints; the last step is always saved."""
    keep_freq: int = 0
    """Checkpoints at multiples of this are kept for ever; 0 keeps only the last and the best."""
    grad_clip_norm: float = 1.0
    """Largest gradient norm; 0 does not clip."""
    ema_max_decay: float = 0.9999
    """Upper limit of the weight average's decay; 0 switches the average off."""
    ema_power: float = 0.75
    """The decay at update n is 1 - n^-power, up to the limit."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_freq", "save_freq"):
            _at_least(f"train.{name}", getattr(self, name), 1)
        _at_least("train.keep_freq", self.keep_freq, 0)
        _at_least("train.grad_clip_norm", self.grad_clip_norm, 0)
        if not 0 <= self.ema_max_decay < 1:
            raise ConfigError(
                f"train.ema_max_decay is {self.ema_max_decay}.\nFix: choose from 0 up to below 1."
            )


@dataclass(frozen=True, kw_only=True)
class ValConfig:
    """Measuring on held-out episodes while training."""

    offline_freq: int = 2_000
    """Steps between measurements; 0 switches them off. A checkpoint is always measured."""
    batch_size: int = 256
    """Windows per batch."""
    max_batches: int = 8
    """Batches per measurement; the same windows every time."""
    split: int | float | str | tuple[int | str, ...] = "stored"
    """Who is held out: `stored`, as the store says; 0, nobody, which switches measuring off; a
    share below 1; from 1 on a number of episodes; or a list of episode numbers or ids."""
    split_seed: int = 0
    """Decides who that is, for a share or a number."""

    def __post_init__(self) -> None:
        _at_least("val.offline_freq", self.offline_freq, 0)
        _at_least("val.batch_size", self.batch_size, 1)
        _at_least("val.max_batches", self.max_batches, 1)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that decides what a run computes."""

    policy: Any
    """A policy's config dataclass, one of `policies.POLICIES`."""
    data: DataConfig
    optim: nn.OptimConfig = field(default_factory=nn.OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    val: ValConfig = field(default_factory=ValConfig)
    augment: nn.AugmentConfig = field(default_factory=nn.AugmentConfig)
    """How training pictures are varied; held-out ones never are."""
    seed: int = 0
    """Decides initial weights, order, noise and augmentation."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


def _at_least(name: str, value: float, low: float) -> None:
    if value < low:
        raise ConfigError(f"{name} is {value}.\nFix: set it to {low} or more.")
