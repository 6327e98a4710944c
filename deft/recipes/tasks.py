"""One function per task; each returns only what it changes, as a plain tree."""

from collections.abc import Callable, Mapping
from typing import Any

from deft import nn, policies, spec, train
from deft.errors import ConfigError, nearest
from deft.recipes import augments, bridge

Tree = dict[str, Any]


def _horizons(policy: str, obs: int, pred: int, action: int) -> Tree:
    """Horizons of a task; a critic judges single actions."""
    if policy in ("gc_iql", "contrastive_rl"):
        pred = action = 1
    return {"obs_horizon": obs, "pred_horizon": pred, "action_horizon": action}


def _small(policy: str) -> Tree:
    """The small image network, where a policy's own would be BridgeData's."""
    if policy in ("bc", "flow"):
        return {}
    encoder = {"image": "cnn", "pool": "spatial_softmax", "image_features": 64}
    return {"encoder": encoder | {"ticks": "separate"}}


def pusht(policy: str) -> Tree:
    """Push-T from the human demonstrations, seeing agent and block poses."""
    return {
        # Two per cent held out, as Diffusion Policy does: every demonstration counts here.
        "data": {"observations": ["state"], "fps": 10.0, "val_fraction": 0.02},
        "policy": {
            **_horizons(policy, 2, 16, 8),
            "periodic": ["block.angle"],
            # Against stalling where a person paused, which 25,650 frames learned by heart lead to:
            # mean maximum reward 0.87 without both (50 seeds from 100000), 0.93 with dropout and
            # 0.92 with both (150 seeds, from 100000 and 300000); one training each.
            **({"width": 256, "dropout": 0.1} if policy in ("bc", "flow") else {}),
            "encoder": {"state_noise": 0.02},
        },
        # Small batches: on a CPU, many cheap steps beat few large ones (mean reward 0.86 with 64,
        # 0.81 with 256, in the same 90 s).
        "train": {"batch_size": 64, "steps": 70_000, "save_freq": 10_000, "log_freq": 1_000},
        "val": {"offline_freq": 10_000},
        "optim": {"lr": 1e-3},
    }


def pusht_image(policy: str) -> Tree:
    """Push-T seeing the 96x96 picture only."""
    return {
        "data": {"observations": ["image"], "fps": 10.0},
        "policy": {**_horizons(policy, 2, 16, 8), **_small(policy)},
        "train": {"batch_size": 64, "steps": 20_000},
    }


def metaworld(policy: str) -> Tree:
    """A MetaWorld task from expert demonstrations, seeing the simulator's state."""
    return {
        "data": {"observations": ["state"]},
        "policy": _horizons(policy, 1, 8, 4)
        | ({"width": 256} if policy in ("bc", "flow") else {})
        | ({"depth": 2} if policy == "flow" else {}),
        "train": {"batch_size": 256, "steps": 6_000},
        "optim": {"lr": 1e-3},
    }


def metaworld_image(policy: str) -> Tree:
    """A MetaWorld task seeing one camera and the hand."""
    return {
        "data": {"observations": ["proprio", "image"]},
        "policy": {**_horizons(policy, 1, 8, 4), **_small(policy)},
        "train": {"batch_size": 64, "steps": 1_500},
        "optim": {"lr": 1e-3},
    }


def custom(policy: str) -> Tree:
    """Any data: every camera and state, the policy's own defaults."""
    return {}


TASKS: dict[str, Callable[[str], Tree]] = {
    "bridge": bridge.bridge,
    "bridge_local": bridge.bridge_local,
    "custom": custom,
    "metaworld": metaworld,
    "metaworld_image": metaworld_image,
    "pusht": pusht,
    "pusht_image": pusht_image,
}


COMPAT: dict[str, Callable[[str], Tree]] = {"upstream": bridge.upstream}
"""Whose numbers are to be reproduced, by name."""


def tree(policy: str, task: str, augment: str | None = None, compat: str | None = None) -> Tree:
    """The whole tree of settings for a policy on a task; `data.path` is left to be given.

    Args:
        policy: one of `policies.POLICIES`.
        task: one of `TASKS`.
        augment: one of `AUGMENTS`; None takes the task's, which is none unless it says so.
        compat: one of `COMPAT`, which replaces what the task says; None for ours.

    Raises `ConfigError` for an unknown name.
    """
    if policy not in policies.POLICIES:
        raise ConfigError(
            f"There is no policy '{policy}'. {nearest(policy, policies.POLICIES)}\n"
            "Fix: choose one of these with `policy=`."
        )
    if task not in TASKS:
        raise ConfigError(
            f"There is no task '{task}'. {nearest(task, TASKS)}\n"
            "Fix: choose one of these with `task=`; `task=custom` takes any data."
        )
    whole: Tree = {
        "policy": {"family": policy} | spec.to_plain(policies.POLICIES[policy]()),
        "data": spec.to_plain(train.DataConfig(path="???")),
        "optim": spec.to_plain(nn.OptimConfig()),
        "train": spec.to_plain(train.TrainConfig()),
        "val": spec.to_plain(train.ValConfig()),
        "augment": augments.augment(augment or "none"),
        "seed": 0,
        "device": "auto",
        "init_from": None,
        "init_encoder": None,
    }
    if compat is not None and compat not in COMPAT:
        raise ConfigError(
            f"There is no `compat={compat}`. {nearest(compat, COMPAT)}\n"
            f"Fix: choose one of {', '.join(COMPAT)}, or leave it out."
        )
    for changes in (TASKS[task](policy), COMPAT[compat](policy) if compat else {}):
        if augment is not None:
            changes.pop("augment", None)
        whole = _merged(whole, changes)
    return whole


def _merged(whole: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    merged = dict(whole)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
