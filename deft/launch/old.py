"""Reads the older launcher's YAML and says what each key became."""

import re
from collections.abc import Mapping
from typing import Any

from deft.errors import ConfigError

_SETTINGS = {
    "data_root": "data.path",
    "data_path": "data.path",
    "batch_size": "train.batch_size",
    "train_batch_size": "train.batch_size",
    "val_batch_size": "val.batch_size",
    "num_steps": "train.steps",
    "eval_interval": "val.offline_freq",
    "save_interval": "train.save_freq",
    "log_interval": "train.log_freq",
    "warmup_steps": "optim.warmup_steps",
    "decay_steps": "optim.decay_steps",
    "eval_batches": "val.max_batches",
    "seed": "seed",
    "learning_rate": "optim.lr",
    "lr": "optim.lr",
    "weight_decay": "optim.weight_decay",
    "obs_horizon": "policy.obs_horizon",
    "act_pred_horizon": "policy.pred_horizon",
    "act_exec_horizon": "policy.action_horizon",
    "resume_path": "init_from",
}
"""Their word to ours."""
_POLICIES = {"contrastive_rl_td": "contrastive_rl", "stable_contrastive_rl": "contrastive_rl"}
_DROPPED = {
    "xla_flags": "there is no XLA here",
    "name": "a sweep names its runs itself; see name_format",
    "jax_platform_name": "there is no JAX here; `gpus: []` chooses the CPU",
    "shuffle_buffer_size": "the loader draws from all steps and needs no buffer",
    "prefetch_num_batches": "data.prefetch says how many batches are made ahead",
}

Note = tuple[str, str]
"""An old key and what it became, or why it is dropped."""


def convert(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[Note]]:
    """The older launcher's file as a sweep.

    Returns:
        The tree of an experiments.yaml, and one note per key of the old file.

    Raises:
        ConfigError: it is no such file.
    """
    given = tree.get("global", {})
    if not isinstance(given, Mapping) or not ("matrix" in tree or "runs" in tree):
        raise ConfigError(
            "This is no file of the older launcher.\n"
            f"Found: {', '.join(map(str, tree)) or 'nothing'}.\n"
            "Fix: give a YAML file with `global:` and `matrix:` or `runs:`."
        )
    made: dict[str, Any] = {"defaults": {"task": "bridge"}}
    notes: list[Note] = []
    decays: dict[str, Any] = {}
    for key, value in given.items():
        match = re.fullmatch(r"(\w+)_decay_steps", key)
        if match:
            decays[_policy(match[1])] = value
        else:
            _global(made, key, value, notes)
    if made.get("gpus"):
        made["gpus_per_run"] = len(made["gpus"])
        notes.append(("(gpus_per_run)", "all GPUs for each run, one run at a time, as before"))
    runs = "runs" in tree
    if runs:
        made["runs"] = [_one(each, i, notes) for i, each in enumerate(tree["runs"])]
    else:
        made["matrix"] = _matrix(tree["matrix"], notes)
    for policy, value in decays.items():
        _decay(made, policy, value, notes)
    for key in tree.keys() - {"global", "runs", "matrix"}:
        notes.append((str(key), "dropped: not a key of the older launcher"))
    return made, notes


def _global(made: dict[str, Any], key: str, value: Any, notes: list[Note]) -> None:
    where = f"global.{key}"
    if key == "save_dir":
        made["runs_dir"] = value
        notes.append((where, "runs_dir"))
    elif key == "cuda_visible_devices":
        text = str(value).strip()
        made["gpus"] = [int(each) for each in text.split(",") if each.strip().isdigit()]
        notes.append((where, f"gpus: {made['gpus']}"))
    elif key == "use_pip_cuda_libs":
        made["cuda_libs"] = "pip" if value else "system"
        notes.append((where, f"cuda_libs: {made['cuda_libs']}"))
    elif key == "name_format":
        shown = str(value).replace("{algo}", "{policy}").replace("{task}", "{include}")
        made["name_format"] = shown
        notes.append((where, f'name_format: "{shown}"'))
    elif key == "jax_platform_name" and value == "cpu":
        made["gpus"] = []
        notes.append((where, "gpus: []"))
    elif key == "env" and isinstance(value, Mapping):
        made["env"] = dict(value)
        notes.append((where, "env"))
    elif key == "extra_args":
        made["defaults"] |= _words(value, where, notes)
    else:
        _setting(made["defaults"], key, value, where, notes)


def _setting(target: dict[str, Any], key: str, value: Any, where: str, notes: list[Note]) -> None:
    plain = key.rsplit(".", 1)[-1]
    if plain in _SETTINGS:
        target[_SETTINGS[plain]] = value
        notes.append((where, f"{_SETTINGS[plain]}={value}"))
    else:
        why = _DROPPED.get(plain, "nothing here has this name; look at `deft train --cfg job`")
        notes.append((where, f"dropped: {why}"))


def _words(value: Any, where: str, notes: list[Note]) -> dict[str, Any]:
    """Settings of command-line words such as `--config.batch_size=64`."""
    words = value.split() if isinstance(value, str) else [str(each) for each in value or ()]
    joined: list[str] = []
    for each in words:
        if joined and joined[-1].startswith("--") and "=" not in joined[-1] and each[:2] != "--":
            joined[-1] += f"={each}"
        else:
            joined.append(each)
    found: dict[str, Any] = {}
    for each in joined:
        key, _, text = each.lstrip("-").partition("=")
        _setting(found, key, _number(text), f"{where} {each}", notes)
    return found


def _one(run: Any, index: int, notes: list[Note]) -> dict[str, Any]:
    if not isinstance(run, Mapping):
        raise ConfigError(f"runs[{index}] is {run!r}.\nFix: give it `algo:` and `task:`.")
    made: dict[str, Any] = {}
    for key, value in run.items():
        where = f"runs[{index}].{key}"
        if key == "algo":
            made["policy"] = _policy(str(value))
            notes.append((where, f"policy={made['policy']}"))
        elif key == "task":
            made["data.include"] = [value]
            notes.append((where, f"data.include=[{value}]"))
        elif key == "name":
            made["name"] = value
            notes.append((where, "name"))
        elif key == "overrides" and isinstance(value, Mapping):
            for inner, each in value.items():
                _setting(made, str(inner), each, f"{where}.{inner}", notes)
        elif key in ("extra_args", "overrides"):
            made |= _words(value, where, notes)
        else:
            _setting(made, str(key), value, where, notes)
    return made


def _matrix(matrix: Any, notes: list[Note]) -> dict[str, Any]:
    if not isinstance(matrix, Mapping):
        raise ConfigError("`matrix` is no group.\nFix: give it `algos:` and `tasks:`.")
    made: dict[str, Any] = {}
    for key, values in matrix.items():
        if key == "algos":
            made["policy"] = [_policy(str(each)) for each in values]
            notes.append(("matrix.algos", "matrix.policy"))
        elif key == "tasks":
            made["data.include"] = [[each] for each in values]
            notes.append(("matrix.tasks", "matrix.data.include, one task each"))
        elif key in ("seeds", "seed"):
            made["seed"] = list(values)
            notes.append((f"matrix.{key}", "matrix.seed"))
        else:
            _setting(made, str(key), list(values), f"matrix.{key}", notes)
    return made


def _decay(made: dict[str, Any], policy: str, value: Any, notes: list[Note]) -> None:
    """A policy's own decay steps: in a list of runs they can be said, in a matrix for all only."""
    where = f"global.{policy}_decay_steps"
    if "runs" in made:
        for run in made["runs"]:
            if run.get("policy") == policy:
                run.setdefault("optim.decay_steps", value)
        notes.append((where, f"optim.decay_steps={value} in its runs"))
    elif made["matrix"].get("policy") == [policy]:
        made["defaults"]["optim.decay_steps"] = value
        notes.append((where, f"optim.decay_steps={value}"))
    else:
        notes.append((where, "dropped: one policy's own in a matrix of several; the default, the "
                             "length of the training, is what it nearly always was"))  # fmt: skip


def _policy(name: str) -> str:
    return _POLICIES.get(name, name)


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)
