"""BridgeData: the settings of its algorithms, ours and those of the two older code bases.

The presets follow the PyTorch port (AdamW, gradients clipped at 1). `compat=upstream` gives what
the JAX code of BridgeData V2 does, defects included: Adam without clipping, augmentation by one
number, diffusion cut at two deviations, an optimiser for each loss, dropout in looked-up values,
and the published statistics of the actions instead of those of the data. docs/bridge.md lists
both side by side.
"""

from typing import Any

from deft.recipes.augments import augment
from deft.recipes.jaxrl import BRIDGE_ACTION

Tree = dict[str, Any]

GOAL_POLICIES = ("gc_bc", "gc_ddpm_bc", "gc_iql", "contrastive_rl")


def bridge(policy: str) -> Tree:
    """One camera of BridgeData, single actions; diffusion predicts four."""
    settings: Tree = {
        "data": {"observations": ["image_0"]},
        "optim": {
            "lr": 3e-4,
            "betas": [0.9, 0.999],
            "weight_decay": 1e-4,
            "warmup_steps": 2_000,
        },
        "train": {"batch_size": 256, "steps": 100_000, "save_freq": 5_000},
        "val": {"offline_freq": 5_000},
        "augment": augment("bridge"),
    }
    if policy == "bc":
        settings["policy"] = {
            "pred_horizon": 1,
            "action_horizon": 1,
            "dropout": 0.1,
            "encoder": {
                "image": "resnetv1-34-bridge",
                "pool": "average",
                "image_features": 0,
                "ticks": "stacked",
            },
        }
    if policy == "flow":
        settings["policy"] = {"obs_horizon": 1, "pred_horizon": 4, "action_horizon": 1}
    if policy in GOAL_POLICIES:
        reached = 0.1 if policy == "gc_iql" else 0.0
        settings["data"]["goals"] = {"strategy": "uniform", "reached_proportion": reached}
    if policy == "gc_iql":
        settings["optim"]["schedule"] = "constant"
    if policy == "gc_ddpm_bc":
        # The weight average is the one that samples: a fixed share of 0.002 per step.
        settings["train"] |= {"ema_max_decay": 0.998, "ema_power": 10.0}
    return settings


def bridge_local(policy: str) -> Tree:
    """The same for a folder of tasks with `train` and `val` below each, as the port's
    `bdv2_local`: who is held out is what the folders say, and 128 pixels square."""
    settings = bridge(policy)
    settings["data"]["image_size"] = "128x128"
    settings["val"]["split"] = "stored"
    return settings


def upstream(policy: str) -> Tree:
    """What `compat=upstream` changes: the published JAX settings, for the six algorithms."""
    published = {
        "mode": "mean_std",
        "stats": {"mean": BRIDGE_ACTION.mean.tolist(), "std": BRIDGE_ACTION.std.tolist()},
        "source": "data_config.py of BridgeData V2",
    }
    settings: Tree = {
        "optim": {"lr": 3e-4, "betas": [0.9, 0.999], "weight_decay": 0.0, "warmup_steps": 2_000},
        "train": {
            "batch_size": 256,
            "steps": 2_000_000,
            "save_freq": 5_000,
            "keep_freq": 5_000,
            "grad_clip_norm": 0.0,
            "ema_max_decay": 0.0,
        },
        "augment": augment("bridge_upstream"),
        "policy": {"normalize": {"action": published}},
    }
    if policy != "flow":
        settings["policy"]["encoder"] = {"ticks": "separate"}
    if policy == "gc_ddpm_bc":
        settings["policy"] |= {"pred_horizon": 1, "clip": 2.0}
        settings["train"] |= {"ema_max_decay": 0.998, "ema_power": 10.0}
    if policy == "gc_iql":
        settings["policy"]["target_dropout"] = True
    if policy in ("gc_iql", "contrastive_rl"):
        settings["policy"]["optimisers"] = True
    return settings
