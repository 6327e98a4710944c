"""What the training loop costs beside the networks: against bare torch loops, and LeRobot's loop.

    python bench/train_loop.py                     all tables, about ten minutes on two cores
    python bench/train_loop.py --rounds 1 --only loop
    bench/peers/lerobot.sh .peers/lerobot          makes the environment that LeRobot's rows need

Three tables. `loop`: `deft train`'s loop, with logging, on state data and a `bc` of ten million
weights, against a bare loop (forward, backward, clipping, AdamW, weight average) on one batch in
memory. `gc_bc`: the same for `gc_bc` with resnetv1-34-bridge on pictures of 128x128, batch 64,
whose bare loop has random tensors and no average. `lerobot`: steps a second from two cameras of
240x320 through both loops with networks of the same layers, tiny and large; LeRobot reads its own
videos, Deft a store of the same pictures. What is compared runs in turn, `--rounds` times, and a
ratio is the median of those of neighbours.
"""

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from loader import LAYOUTS, TO, TP, LeRobot, Made

from deft import nn, policies, spec, store, train
from deft.train.ema import Average
from deft.train.stepping import Piece, Stepper

Spent = tuple[float, float]
"""Wall time and CPU time of this process, seconds; the second NaN where it is another's."""

WARM = 3
"""Steps before the clock starts."""


def now() -> Spent:
    return time.perf_counter(), time.process_time()


def per_step(begun: Spent, ended: Spent, steps: int) -> Spent:
    return (ended[0] - begun[0]) / steps, (ended[1] - begun[1]) / steps


class Clock:
    """A tracker that only looks at the clock."""

    shows_videos = False

    def __init__(self) -> None:
        self.seen: dict[int, Spent] = {}

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self.seen.setdefault(step, now())

    def image(self, step: int, name: str, picture: np.ndarray) -> None: ...

    def video(self, step: int, name: str, film: Path) -> None: ...


outside: list[float] = []
"""Of every run of `whole`, the share of the time between its two lines that was no step."""


def whole(job: train.Job, data: store.Store, steps: int) -> Spent:
    """Seconds per step of `train.train` between two of its lines of measurements."""
    plan = replace(job.train, steps=2 * steps, log_freq=steps, save_freq=10**9)
    clock = Clock()
    step_with = Stepper.__call__
    inside: list[float] = []

    def timed(stepper: Stepper, parts: Sequence[Piece]) -> dict[str, torch.Tensor]:
        begun = time.perf_counter()
        values = step_with(stepper, parts)
        inside.append(time.perf_counter() - begun)
        return values

    with tempfile.TemporaryDirectory() as run, patch.object(Stepper, "__call__", timed):
        train.train(replace(job, train=plan), data, Path(run), tracker=clock)
    gc.collect()
    spent = clock.seen[2 * steps][0] - clock.seen[steps][0]
    outside.append(1 - sum(inside[steps:]) / spent)
    # The last step also saves, but its measurements are written before.
    return per_step(clock.seen[steps], clock.seen[2 * steps], steps)


def bare(
    policy: policies.Policy, batch: nn.Batch, draws: nn.Draws, *, average: bool
) -> Callable[[int], Spent]:
    """A loop without anything around it; gives seconds per step."""
    weights = [weight for weight in policy.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, fused=True)
    mean = Average(policy, 0.9999, 0.75) if average else None
    policy.train()

    def loop(steps: int) -> Spent:
        for step in range(WARM + steps):
            if step == WARM:
                begun = now()
            losses, _ = policy.losses(batch, draws)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            if mean is not None:
                mean.update(step + 1)
        return per_step(begun, now(), steps)

    return loop


def compared(
    name: str, rounds: int, steps: int, deft: Callable[[int], Spent], other: Callable[[int], Spent]
) -> None:
    """Run both in turn and print a row: the share of the other's speed that Deft reaches."""
    pairs: list[tuple[Spent, Spent]] = []
    for number in range(rounds):
        # Whoever is first changes, or a slow drift of the machine would favour one.
        if number % 2:
            theirs, ours = other(steps), deft(steps)
        else:
            ours, theirs = deft(steps), other(steps)
        pairs.append((ours, theirs))
    speeds = [theirs[0] / ours[0] for ours, theirs in pairs]
    cells = (
        name,
        f"{1000 * statistics.median(ours[0] for ours, _ in pairs):.1f}",
        f"{1000 * statistics.median(theirs[0] for _, theirs in pairs):.1f}",
        f"{statistics.median(speeds):.3f} ({min(speeds):.3f} to {max(speeds):.3f})",
        f"{statistics.median(theirs[1] / ours[1] for ours, theirs in pairs):.3f}",
    )
    shares = outside[-rounds:]
    cells = (*cells, f"{statistics.median(shares):.2%} (at most {max(shares):.2%})")
    print(f"| {' | '.join(cells)} |", flush=True)


def head(title: str) -> None:
    print(
        f"\n| {title} | Deft, ms per step | other | speed, Deft to other | by CPU time "
        "| of Deft's time outside its steps |"
    )
    print("| --- | --- | --- | --- | --- | --- |", flush=True)


class Numbers:
    """A `spec.Source` of states and actions."""

    def __init__(self, episodes: int = 20, length: int = 100) -> None:
        features = [
            spec.Feature(name=name, role=name, shape=(14,), dtype="float32")
            for name in ("state", "action")
        ]
        self.spec = spec.Spec(features=tuple(features), fps=10)
        self.name = "made-up numbers"
        self.problems = ()
        self.episodes = [spec.EpisodeInfo(id=f"{n}", length=length) for n in range(episodes)]

    def read(self, index: int) -> spec.Episode:
        rng = np.random.default_rng(index)
        size = (self.episodes[index].length, 14)
        arrays = {name: rng.normal(size=size).astype(np.float32) for name in ("state", "action")}
        return spec.Episode(spec=self.spec, id=f"{index}", arrays=arrays)


def job_of(policy: Any, path: Path, batch: int, **data: Any) -> train.Job:
    return train.Job(
        policy=policy,
        data=train.DataConfig(path=str(path), **data),
        train=train.TrainConfig(batch_size=batch),
        val=train.ValConfig(offline_freq=0),
        device="cpu",
    )


def loop(args: argparse.Namespace, folder: Path) -> None:
    """Ten million weights on numbers."""
    data = written(folder / "numbers", Numbers())
    policy = policies.BCConfig(pred_horizon=16, action_horizon=8, width=2200, depth=3)
    job = job_of(policy, data.path, 64, threads=1)
    made = policies.build(policy, policies.contract(policy, data.spec), data.stats)
    count = sum(weight.numel() for weight in made.parameters())
    batch = nn.Batch(
        obs={"state": torch.randn(64, 1, 14)},
        action=torch.randn(64, 16, 14),
        action_valid=torch.ones(64, 16, dtype=torch.bool),
    )
    head(f"bc, {count / 1e6:.1f} M weights, numbers, batch 64")
    other = bare(made, batch, nn.Draws(0, torch.arange(64)), average=True)
    compared("bare loop", args.rounds, args.steps, lambda n: whole(job, data, n), other)


def gc_bc(args: argparse.Namespace, folder: Path) -> None:
    """ResNet-34 on pictures of 128x128."""
    layout = replace(LAYOUTS[0], height=128, width=128, episodes=6)
    data = written(folder / "pictures", Made(layout))
    size = args.picture_batch
    policy = policies.GCBCConfig()
    job = job_of(policy, data.path, size, observations=("image",))
    made = policies.build(policy, policies.contract(policy, data.spec, ("image",)), data.stats)
    ticks, ahead = policy.obs_horizon, policy.pred_horizon
    picture = (128, 128, 3)
    batch = nn.Batch(
        obs={"image": torch.randint(0, 256, (size, ticks, *picture), dtype=torch.uint8)},
        goal={"image": torch.randint(0, 256, (size, *picture), dtype=torch.uint8)},
        action=torch.randn(size, ahead, 14),
        action_valid=torch.ones(size, ahead, dtype=torch.bool),
    )
    head(f"gc_bc, {policy.encoder.image}, 128x128, batch {size}")
    other = bare(made, batch, nn.Draws(0, torch.arange(size)), average=False)
    steps = max(2, args.steps // 10)
    compared("bare loop", args.rounds, steps, lambda n: whole(job, data, n), other)


NETWORKS = {
    "tiny": {"channels": 8, "features": 16, "width": 64, "depth": 2},
    "large": {"channels": 32, "features": 256, "width": 1024, "depth": 4},
}


def lerobot(args: argparse.Namespace, folder: Path) -> None:
    """Both loops on the same pictures with the same layers."""
    if not (args.lerobot / "bin" / "lrpy").exists():
        print(f"\nno LeRobot: run bench/peers/lerobot.sh {args.lerobot}")
        return
    layout = LAYOUTS[1]
    data = written(folder / "two", Made(layout))
    peer = LeRobot(args.lerobot, layout, folder / "peer", "train_lerobot.py")
    head("two cameras of 240x320, To 2, Tp 16, batch 64")
    for name, sizes in NETWORKS.items():
        encoder = nn.ObsEncoderConfig(
            image="cnn",
            pool="average",
            cnn_channels=sizes["channels"],
            image_features=sizes["features"],
        )
        policy = policies.BCConfig(
            obs_horizon=TO,
            pred_horizon=TP,
            encoder=encoder,
            width=sizes["width"],
            depth=sizes["depth"],
        )
        job = job_of(policy, data.path, 64)
        asked = {"storage": "video", "backend": "torchcodec", "workers": 2, "batch": 64}
        asked |= {"threads": args.threads, **sizes}
        made = policies.build(policy, policies.contract(policy, data.spec), data.stats)
        count = sum(weight.numel() for weight in made.parameters())

        def other(steps: int, asked: dict[str, Any] = asked, count: int = count) -> Spent:
            said = peer.ask({**asked, "steps": steps})
            assert said["weights"] == count, (said["weights"], count)
            return said["wall_s"] / steps, float("nan")

        steps = args.steps // 2 if name == "tiny" else args.steps // 10
        compared(
            f"LeRobot, {name} network, {count / 1e6:.2f} M weights",
            args.rounds,
            max(2, steps),
            lambda n, job=job: whole(job, data, n),
            other,
        )
    peer.close()


def written(path: Path, source: Any) -> store.Store:
    store.write(path, source, store.WriteConfig(val_fraction=0.0), workers=2)
    return store.open(path)


TABLES = {"loop": loop, "gc_bc": gc_bc, "lerobot": lerobot}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="times everything is run (5)")
    parser.add_argument("--steps", type=int, default=40, help="steps of a run; fewer of slow ones")
    parser.add_argument("--threads", type=int, default=2, help="of torch (2)")
    parser.add_argument("--picture-batch", type=int, default=64, help="batch of gc_bc (64)")
    parser.add_argument("--only", choices=TABLES, help="one table")
    parser.add_argument("--lerobot", type=Path, default=Path(".peers/lerobot"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train.keep_freed_memory()  # as `deft train` does; it serves the bare loops just as well
    print(f"torch {torch.__version__}, {args.threads} threads, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        for name, table in TABLES.items():
            if args.only in (None, name):
                table(args, Path(folder))


if __name__ == "__main__":
    main()
