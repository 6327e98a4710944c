"""Trainings in shards, as rank processes run them: `python -m suites.shards HOME SPOKEN RUNS`."""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from deft import nn, policies, store, train
from deft.policies import Policy
from deft.train import sharding
from deft.train.loader import chosen
from deft.train.state import assemble, fresh

CPU = torch.device("cpu")

MEETING = ("gc_iql", "contrastive_rl")
"""Policies in whose loss rows of a batch meet, so that ranks matter."""

HEAD = nn.ActionHeadConfig(hidden=(256, 256), dropout=0.0)
SEES = nn.ObsEncoderConfig(cnn_channels=8, image_features=16, pool="average")
CONFIGS: dict[str, Any] = {
    "bc": policies.BCConfig(width=256, depth=3, pred_horizon=4, action_horizon=2, encoder=SEES),
    "flow": policies.FlowConfig(width=256, depth=2, pred_horizon=4, action_horizon=2),
    "gc_bc": policies.GCBCConfig(head=HEAD, encoder=SEES),
    "lc_bc": policies.LCBCConfig(head=HEAD, encoder=nn.ObsEncoderConfig()),
    "gc_ddpm_bc": policies.GCDDPMBCConfig(dropout=0.0, encoder=SEES),
    "gc_iql": policies.GCIQLConfig(head=HEAD, encoder=SEES),
    "contrastive_rl": policies.ContrastiveRLConfig(head=HEAD, encoder=SEES),
}
"""Every policy with layers large enough to be gathered one by one."""


def job(family: str, data: Path, sharded: bool, steps: int = 4, **plan: Any) -> train.Job:
    """Four steps with two checkpoints; held-out batches are odd in number."""
    observed = ("state", "image") if family == "bc" else ("state",)
    return train.Job(
        policy=CONFIGS[family],
        data=train.DataConfig(path=str(data), observations=observed, threads=1),
        optim=nn.OptimConfig(lr=1e-3, warmup_steps=1, decay_steps=1000),
        train=train.TrainConfig(
            steps=steps, batch_size=8, log_freq=1, save_freq=2, keep_freq=2, sharded=sharded, **plan
        ),
        val=train.ValConfig(
            offline_freq=2, batch_size=8, online_freq=2 if family == "bc" else 0, env="made_up"
        ),
        device="cpu",
    )


def evaluate(policy: Policy, step: int) -> Mapping[str, float]:
    """Instead of a simulator: what a whole policy says about a picture of nothing."""
    seen = {
        "state": torch.full((1, 1, 2), 0.5),
        "image": torch.full((1, 1, 32, 32, 3), 90, dtype=torch.uint8),
    }
    chunk = policy.predict(nn.Batch(obs=seen), nn.Draws(0, torch.tensor([0])))
    return {"answer": float(chunk.sum())}


def run(asked: train.Job, folder: Path, resume: bool = False) -> None:
    hook = evaluate if asked.val.online_freq else None
    train.train(asked, store.open(asked.data.paths[0]), folder, resume=resume, evaluate=hook)


def held(asked: train.Job) -> dict[str, float]:
    """Share of everything that this rank holds after a step."""
    data = chosen(asked, store.open(asked.data.paths[0]))
    contract = policies.contract(asked.policy, data.spec, asked.data.observations)
    policy = fresh(asked, contract, data, CPU)
    sharding.split(policy, asked, CPU, train.Ranks.here())
    state = assemble(asked, policy, CPU)
    weights = list(policy.parameters())
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer = state.optimizers["loss"]
    optimizer.step()
    total = sum(weight.numel() for weight in weights)
    groups = {
        "weights": weights,
        "gradients": [weight.grad for weight in weights],
        "moments": [optimizer.state[weight]["exp_avg"] for weight in weights],
        "average": [state.average.tensors[name] for name, _ in policy.named_parameters()],
    }
    return {
        name: sum(sharding.part(each).numel() for each in tensors if each is not None) / total
        for name, tensors in groups.items()
    }


def main(home: Path, spoken: Path, runs: Path) -> None:
    dist.init_process_group("gloo")
    for family in CONFIGS:
        data = spoken if family == "lc_bc" else home
        run(job(family, data, True), runs / family / "shards")
        if family in MEETING:
            run(job(family, data, False), runs / family / "whole")
    run(job("flow", home, True, grad_accum_steps=2), runs / "flow" / "pieces")
    run(job("flow", home, True, precision="bf16"), runs / "flow" / "bf16")
    lone = job("flow", home, True)
    run(replace(lone, val=replace(lone.val, batch_size=64)), runs / "flow" / "lone")
    # With dropout, whose random state each rank has for itself.
    for session, some in (("through", (4,)), ("stopped", (2, 4))):
        for steps in some:
            asked = job("bc", home, True, steps)
            asked = replace(asked, policy=replace(asked.policy, dropout=0.1))
            run(asked, runs / "bc" / session, resume=steps > some[0])
    run(job("flow", home, True, 2), runs / "flow" / "to_one")
    run(job("flow", home, True), runs / "flow" / "from_one", resume=True)
    (runs / f"held_{dist.get_rank()}.json").write_text(json.dumps(held(job("flow", home, True))))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:]))
