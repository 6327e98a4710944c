"""What loading costs a training step: the same steps on loaded batches and on one in memory.

    python bench/loader_step.py                 one table, about a minute
    python bench/loader_step.py --cores 0,1     on these cores only

`bc` with a small CNN learns from 96x96 pictures on the CPU, batch 64, with torch's threads and
the loader's on the same cores. Blocks of steps alternate between batches out of the loader and one
batch that is in memory already, so other work on the machine meets both alike; each ratio is that
of two blocks next to each other, and the median of all is shown with its quartiles. Ratios near
1 mean that loading is hidden or cheap; the ratio of CPU time (all threads) is what loading adds to
the work, and hangs less on who else computes. While the batch in memory is used the loader's ring
is full, and its threads sleep.
"""

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

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


def measured(steps: Steps, rounds: int, count: int) -> list[tuple[Block, Block]]:
    """Blocks next to each other: in memory, and loaded."""
    found: list[tuple[Block, Block]] = []
    for number in range(rounds):
        pair: dict[str, Block] = {}
        # Whoever is first changes, or a slow drift of the machine would favour one.
        for kind in ("held", "loaded") if number % 2 else ("loaded", "held"):
            steps.settle()
            begun, busy = time.perf_counter(), time.process_time()
            (steps.in_memory if kind == "held" else steps.loaded)(count)
            # A loaded block begins with a full ring, and pays for filling it again.
            steps.settle()
            wall, cpu = time.perf_counter() - begun, time.process_time() - busy
            pair[kind] = Block(wall / count, cpu / count)
        found.append((pair["held"], pair["loaded"]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12, help="pairs of blocks (12)")
    parser.add_argument("--steps", type=int, default=15, help="steps per block (15)")
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
        "ratio (quartiles) | ratio of CPU time |\n| --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as folder:
        for codec in ("jpeg", "raw"):
            row(Path(folder) / codec, codec, "off", args)
        row(Path(folder) / "jpeg", "jpeg", "memory", args)


def row(path: Path, codec: str, cache: str, args: argparse.Namespace) -> None:
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
        pairs = measured(steps, args.rounds, args.steps)
    low, middle, high = statistics.quantiles([b.wall / a.wall for a, b in pairs], n=4)
    cpu = statistics.median(b.cpu / a.cpu for a, b in pairs)
    cells = (
        codec if cache == "off" else f"{codec}, kept in memory",
        f"{1000 * statistics.median(held.wall for held, _ in pairs):.1f}",
        f"{1000 * statistics.median(loaded.wall for _, loaded in pairs):.1f}",
        f"{middle:.3f} ({low:.3f} to {high:.3f})",
        f"{cpu:.3f}",
    )
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
