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
    """Settings of a recording's format, as `--option` of `deft convert` takes them; `map` is its
    `--map`, as in `data.options.map=["actions=action"]`."""
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
    epochs: float | None = None
    """Length in passes over the training windows, instead of `steps`; null counts steps."""
    max_minutes: float = 0
    """Save and leave after so long, to go on with resume=true; 0 never does."""
    batch_size: int | Literal["auto"] = 64
    """Windows per step, of all processes and pieces together; `auto` takes the most that fit."""
    memory_gb: float | None = None
    """What `auto` may use, in billions of bytes; null takes nine tenths of the GPU's memory, or
    half of the main memory that is free."""
    grad_accum_steps: int = 1
    """Pieces that a batch is computed in, one after another, to need less memory. The result is
    that of the whole batch, up to rounding, except where rows of a batch meet in the loss."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Numbers that networks are trained with; weights and averages stay fp32. Held-out scores are
    always those of fp32, as served."""
    compile: bool = False
    """Whether the losses go through torch.compile; costs a minute, then saves time on GPUs."""
    channels_last: bool = False
    """Whether kernels of convolutions lie in memory with channels last."""
    sharded: bool = False
    """Whether each of several processes holds only its part of weights, gradients, moments and
    average; for policies that do not fit into one GPU. One process alone holds everything."""
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
        for name in ("steps", "log_freq", "save_freq", "grad_accum_steps"):
            _at_least(f"train.{name}", getattr(self, name), 1)
        for name in ("keep_freq", "max_minutes"):
            _at_least(f"train.{name}", getattr(self, name), 0)
        if self.batch_size != "auto":
            _at_least("train.batch_size", self.batch_size, 1)
        for name in ("epochs", "memory_gb"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"train.{name} is {value}.\nFix: set it above 0, or to null.")
        _at_least("train.grad_clip_norm", self.grad_clip_norm, 0)
        if not 0 <= self.ema_max_decay < 1:
            raise ConfigError(
                f"train.ema_max_decay is {self.ema_max_decay}.\nFix: choose from 0 up to below 1."
            )

    @property
    def rows(self) -> int:
        """The batch size as a number. Raises `ConfigError` while it is `auto`."""
        if self.batch_size == "auto":
            raise ConfigError(
                "train.batch_size=auto is only known once training starts.\n"
                "Fix: give a number here."
            )
        return self.batch_size


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
    online_freq: int = 0
    """Steps between evaluations in a simulator; 0 switches them off."""
    env: str = ""
    """That simulator, as in `pusht`."""
    num_episodes: int = 10
    """Episodes of an evaluation, always with the same seeds, which are not those of `deft eval`."""
    best: str = "val/action_error"
    """The measurement that decides which checkpoint is `best`, as metrics.jsonl names it."""
    best_is: Literal["lowest", "highest"] = "lowest"
    """Which value of it is the best; for `eval/success`, highest."""

    def __post_init__(self) -> None:
        _at_least("val.offline_freq", self.offline_freq, 0)
        _at_least("val.batch_size", self.batch_size, 1)
        _at_least("val.max_batches", self.max_batches, 1)
        _at_least("val.online_freq", self.online_freq, 0)
        _at_least("val.num_episodes", self.num_episodes, 1)
        if self.online_freq and not self.env:
            raise ConfigError(
                f"val.online_freq is {self.online_freq}, but no simulator is named.\n"
                "Fix: set val.env, as in val.env=pusht, or val.online_freq=0."
            )
        if self.best.startswith("eval/") and not self.online_freq:
            raise ConfigError(
                f"val.best is '{self.best}', which only evaluations in a simulator give.\n"
                "Fix: set val.online_freq and val.env, or val.best=val/action_error."
            )


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
    init_from: str | None = None
    """A bundle, checkpoint or run whose weights are started from; statistics are this data's."""
    init_encoder: str | None = None
    """A safetensors file with the weights of an image network, for every camera's."""


def _at_least(name: str, value: float, low: float) -> None:
    if value < low:
        raise ConfigError(f"{name} is {value}.\nFix: set it to {low} or more.")
