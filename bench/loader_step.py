"""What loading costs a training step: the same steps on loaded batches and on one in memory.

    python bench/loader_step.py                 one table, one to four minutes
    python bench/loader_step.py --cores 0,1     on these cores only

`bc` with a small CNN learns from 96x96 pictures on the CPU, batch 64, with torch's threads and
the loader's on the same cores. The first row is what training does unless told otherwise: pictures
are decoded once and kept in memory when they fit. A round is four short blocks of steps, in memory,
loaded, loaded, in memory, the next one the other way round, so that a drift of the machine meets
both alike; the ratio of a round is that of its two kinds, and the median of all rounds is shown
with its quartiles. While the batch in memory is used the loader's ring is full, and its threads
sleep; a loaded block pays for filling the ring again. Wall clock tells what one waits for and hangs
on who else computes; CPU time counts all threads, those of torch that spin included. What making
a batch takes by itself, without training, is measured apart and hardly moves.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from deft import nn, policies, spec, store, train
from deft.train import loader as loading

SIZE, BATCH = 96, 64


class Made:
    """A `spec.Source` of pictures of 96x96 with a moving square, and what a policy needs."""

    def __init__(self, episodes: int, length: int) -> None:
        numbers = [
            spec.Feature(name=name, role=name, shape=(7,), dtype="float32")
            for name in ("state", "action")
        ]
        picture = spec.Feature(name="image", role="image", shape=(SIZE, SIZE, 3), dtype="uint8")
        self.spec = spec.Spec(features=(picture, *numbers), fps=10)
        self.name = "made-up pictures"
        self.problems = ()
        self.length = length
        self.episodes = [
            spec.EpisodeInfo(id=f"{n}", length=length, task="look") for n in range(episodes)
        ]

    def read(self, index: int) -> spec.Episode:
        rng = np.random.default_rng(index)
        scene = rng.normal(size=(12, 12, 3)).repeat(8, 0).repeat(8, 1) * 40 + 120
        pictures = np.empty((self.length, SIZE, SIZE, 3), np.uint8)
        for step in range(self.length):
            shown = scene + rng.normal(0, 6, scene.shape)
            shown[step % 80 : step % 80 + 16, 20:36] = (250, 60, 40)
            pictures[step] = np.clip(shown, 0, 255)
        arrays = {
            name: rng.normal(size=(self.length, 7)).astype(np.float32)
            for name in ("state", "action")
        }
        return spec.Episode(
            spec=self.spec,
            id=f"{index}",
            arrays=arrays,
            frames={"image": spec.ArrayFrames(pictures)},
            task="look",
        )


class Steps:
    """Training steps of `bc` on batches out of the loader, or on one in memory."""

    def __init__(self, data: store.Store, config: train.Job) -> None:
        self.job = config
        device = torch.device("cpu")
        contract = policies.contract(config.policy, data.spec)
        torch.manual_seed(0)
        self.policy = policies.build(config.policy, contract, data.stats)
        self.weights = list(self.policy.parameters())
        self.optimizer = torch.optim.AdamW(self.weights, lr=1e-4, fused=True)
        self.loader = loading.training_batches(config, data, contract, 0)
        self.send = loading.Transfer(data, contract, device)
        first = next(self.loader).copy()
        self.held = self.send(first)
        self.draws = loading.draws_of(first, 0, device)

    def update(self, batch: nn.Batch, draws: nn.Draws) -> None:
        """One optimiser step; without the average that training adds, so it is no longer."""
        losses, _ = self.policy.losses(batch, draws)
        gradients = torch.autograd.grad(torch.stack(list(losses.values())).sum(), self.weights)
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()

    def loaded(self, count: int) -> None:
        """Steps on loaded batches, the wait for them included."""
        for _ in range(count):
            batch = next(self.loader)
            draws = loading.draws_of(batch, 0, torch.device("cpu"))
            self.update(self.send(batch), draws)

    def in_memory(self, count: int) -> None:
        """Steps on the batch in memory."""
        for _ in range(count):
            self.update(self.held, self.draws)

    def settle(self) -> None:
        """Wait until the ring is full, so that no thread works on."""
        while self.loader.ready < self.job.data.prefetch:
            time.sleep(0.002)


@dataclass(frozen=True)
class Block:
    """Some steps; seconds per step."""

    wall: float
    cpu: float

    def __add__(self, other: "Block") -> "Block":
        return Block(self.wall + other.wall, self.cpu + other.cpu)


def measured(steps: Steps, rounds: int, count: int) -> list[tuple[Block, Block]]:
    """Of every round what its blocks took together: in memory, and loaded."""
    found: list[tuple[Block, Block]] = []
    for number in range(rounds):
        sums = {"held": Block(0, 0), "loaded": Block(0, 0)}
        first, second = ("held", "loaded") if number % 2 else ("loaded", "held")
        for kind in (first, second, second, first):
            sums[kind] += block(steps.in_memory if kind == "held" else steps.loaded, steps, count)
        found.append((sums["held"], sums["loaded"]))
    return found


def block(work: Callable[[int], None], steps: Steps, count: int) -> Block:
    """Half of what a round does of one kind."""
    steps.settle()
    begun, busy = time.perf_counter(), time.process_time()
    work(count)
    # A loaded block begins with a full ring, and pays for filling it again.
    steps.settle()
    wall, cpu = time.perf_counter() - begun, time.process_time() - busy
    return Block(wall / count / 2, cpu / count / 2)


def batch_cpu(steps: Steps, batches: int = 20, rounds: int = 6) -> float:
    """CPU seconds that a batch takes all threads, the least of some rounds, without training."""
    found: list[float] = []
    for _ in range(rounds):
        begun = time.process_time()
        for _ in range(batches):
            next(steps.loader)
        found.append((time.process_time() - begun) / batches)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="of four blocks each (20)")
    parser.add_argument("--steps", type=int, default=3, help="steps per block (3)")
    parser.add_argument("--threads", type=int, default=2, help="of the loader (2)")
    parser.add_argument("--torch-threads", type=int, default=2, help="of torch (2)")
    parser.add_argument("--obs-horizon", type=int, default=2, help="ticks per sample (2)")
    parser.add_argument("--cores", help="run on these only, as 0,1")
    args = parser.parse_args()
    if args.cores:
        os.sched_setaffinity(0, {int(core) for core in args.cores.split(",")})
    torch.set_num_threads(args.torch_threads)
    print(
        f"| pictures, To {args.obs_horizon}, batch {BATCH} | ms per step, in memory | loaded | "
        "ratio of wall clock (quartiles) | of CPU time (quartiles) | CPU ms of making a batch |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as folder:
        row(Path(folder) / "jpeg", "jpeg", "auto", "kept in memory (the default)", args)
        row(Path(folder) / "jpeg", "jpeg", "off", "jpeg, decoded each time", args)
        row(Path(folder) / "raw", "raw", "off", "raw, read each time", args)


def row(
    path: Path,
    codec: Literal["jpeg", "raw"],
    cache: Literal["auto", "off"],
    title: str,
    args: argparse.Namespace,
) -> None:
    """Measure one way of keeping pictures, and print its line."""
    if not path.exists():
        store.write(path, Made(20, 50), store.WriteConfig(codec=codec, val_fraction=0.0), workers=2)
    policy = policies.BCConfig(obs_horizon=args.obs_horizon, pred_horizon=4, action_horizon=1)
    job = train.Job(
        policy=policy,
        data=train.DataConfig(path=str(path), threads=args.threads, cache=cache),
        train=train.TrainConfig(steps=10**6, batch_size=BATCH),
        device="cpu",
    )
    steps = Steps(store.open(path), job)
    with steps.loader:
        measured(steps, 1, args.steps)
        making = batch_cpu(steps)
        rounds = measured(steps, args.rounds, args.steps)
    cells = (
        title,
        f"{1000 * statistics.median(held.wall for held, _ in rounds):.1f}",
        f"{1000 * statistics.median(loaded.wall for _, loaded in rounds):.1f}",
        spread([loaded.wall / held.wall for held, loaded in rounds]),
        spread([loaded.cpu / held.cpu for held, loaded in rounds]),
        f"{1000 * making:.2f}",
    )
    print(f"| {' | '.join(cells)} |", flush=True)


def spread(ratios: list[float]) -> str:
    """The median and the quartiles."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
