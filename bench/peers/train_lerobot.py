"""LeRobot's training loop around a network of given sizes; run by `bench/train_loop.py`.

Runs in the environment that `bench/peers/lerobot.sh` makes, knows nothing of Deft:

    FOLDER/bin/lrpy bench/peers/train_lerobot.py FRAMES ROOT

FRAMES and ROOT are those of `loader_lerobot.py`. Every line of standard input is a job,

    {"storage": "video", "backend": "torchcodec", "workers": 2, "batch": 64, "steps": 6,
     "threads": 2, "channels": 8, "features": 16, "width": 64, "depth": 2}

and is answered by `{"wall_s": ..., "weights": ...}`: of `steps` steps of `lerobot-train`'s loop,
its own `update_policy` with accelerate, AdamW and its metrics, once the workers run at a steady
pace.
The network sees every camera through four convolutions and a linear layer, and the state as it is;
fully connected layers make a chunk of it.
"""

import itertools
import json
import logging
import sys
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from lerobot.scripts.lerobot_train import update_policy
from lerobot.utils.logging_utils import AverageMeter, MetricsTracker
from loader_lerobot import WARM, endless, opened, write
from torch import nn


class Network(nn.Module):
    """Behaviour cloning by mean squared error."""

    def __init__(self, layout, job):
        super().__init__()
        self.cameras = [f"observation.images.{name}" for name in layout["cameras"]]
        c, features, width = job["channels"], job["features"], job["width"]
        self.images = nn.ModuleList(self.eye(c, features) for _ in self.cameras)
        ticks, numbers = layout["obs_horizon"], layout["numbers"]
        come = ticks * (numbers + features * len(self.cameras))
        layers = []
        for _ in range(job["depth"]):
            layers += [nn.Linear(come, width), nn.SiLU()]
            come = width
        self.shape = (layout["pred_horizon"], numbers)
        self.trunk = nn.Sequential(*layers, nn.Linear(come, self.shape[0] * self.shape[1]))

    @staticmethod
    def eye(c, features):
        layers = []
        sizes = (3, c, 2 * c, 4 * c, 4 * c)
        for i, (come, go) in enumerate(itertools.pairwise(sizes)):
            kernel, stride = (5 if i == 0 else 3), (2 if i < 3 else 1)
            layers += [
                nn.Conv2d(come, go, kernel, stride, padding=kernel // 2, bias=False),
                nn.GroupNorm(8, go),
                nn.SiLU(),
            ]
        return nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * c, features)
        )

    def forward(self, batch):
        seen = [batch["observation.state"].flatten(1)]
        for name, eye in zip(self.cameras, self.images, strict=True):
            pictures = batch[name]
            features = eye(pictures.flatten(0, 1))
            seen.append(features.unflatten(0, pictures.shape[:2]).flatten(1))
        chunk = self.trunk(torch.cat(seen, -1)).unflatten(-1, self.shape)
        error = (chunk - batch["action"]).square().mean(-1)
        kept = ~batch["action_is_pad"]
        loss = (error * kept).sum() / kept.sum()
        return loss, {"mse": loss.item()}


def measure(dataset, layout, job):
    """Run one job; see the module."""
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    loader = endless(dataset, job)
    policy = Network(layout, job)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-4)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    accelerator = Accelerator(step_scheduler_with_optimizer=False, cpu=True)
    policy, optimizer, loader, scheduler = accelerator.prepare(policy, optimizer, loader, scheduler)
    names = ["loss", "grad_norm", "lr", "update_s", "dataloading_s"]
    tracker = MetricsTracker(
        job["batch"],
        dataset.num_frames,
        dataset.num_episodes,
        {name: AverageMeter(name) for name in names},
        initial_step=0,
        accelerator=accelerator,
    )
    stream = iter(loader)

    def step():
        begun = time.perf_counter()
        batch = next(stream)
        tracker.dataloading_s = time.perf_counter() - begun
        update_policy(tracker, policy, batch, optimizer, 1.0, accelerator, scheduler)
        tracker.step()

    for _ in range(max(WARM, 2)):
        step()
    begun = time.perf_counter()
    for _ in range(job["steps"]):
        step()
    wall = time.perf_counter() - begun
    return {"wall_s": wall, "weights": sum(each.numel() for each in policy.parameters())}


def main():
    logging.disable(logging.INFO)
    frames, root = Path(sys.argv[1]), Path(sys.argv[2])
    layout = json.loads((frames / "layout.json").read_text())
    write(frames, root / "video", layout, "video")
    print(json.dumps({"ready": True}), flush=True)
    datasets = {}
    for line in sys.stdin:
        job = json.loads(line)
        key = (job["storage"], job["backend"])
        if key not in datasets:
            datasets[key] = opened(root / job["storage"], layout, *key)
        print(json.dumps(measure(datasets[key], layout, job)), flush=True)


if __name__ == "__main__":
    main()
