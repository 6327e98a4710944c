"""Train a policy on a store or any recording.

examples:
  deft train policy=flow task=pusht data.path=pusht.zarr.zip session=a
  deft train policy=bc task=custom data.path=my_store data.observations=[state,cam_high]
  deft train policy=bc task=bridge data.path=my_store augment=bridge augment.brightness=0.1
  deft train policy=flow task=pusht session=a resume=true      go on after a stop
  deft train policy=bc,flow seed=1,2,3 data.path=my_store -m   every combination, in turn
  deft train --config runs/pusht/flow/a/config.yaml session=b  start again from a run's settings

groups:    policy=bc|contrastive_rl|flow|gc_bc|gc_ddpm_bc|gc_iql|lc_bc
           task=bridge|bridge_local|custom|metaworld|metaworld_image|pusht|pusht_image
           augment=none|bridge|bridge_upstream|bridge_torch|crop|colour
           compat=upstream       the numbers of BridgeData V2's JAX code, defects included
settings:  data.{path,weights,sampling,include,exclude,episodes,observations,image_size,
                 val_fraction,fps,goals,language_encoder,skip_unlabeled,threads,prefetch,cache,
                 cache_gb,remote_cache_gb}
           train.{steps,batch_size,log_freq,save_freq,keep_freq,grad_clip_norm}
           val.{offline_freq,batch_size,max_batches,split,split_seed}
           optim.{lr,warmup_steps,schedule,...}
           policy.{obs_horizon,pred_horizon,action_horizon,...}  seed  device=auto|cpu|cuda|cuda:N
           augment.{order,scale,ratio,brightness,contrast,saturation,hue,compat,executor,...}
           session  resume=true  debug=true  runs_dir
`--cfg job` prints every setting with its value. Runs are written to
$DEFT_RUNS_DIR (or runs)/<task>/<policy>/<session>.
"""

import argparse
import datetime
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft.errors import ConfigError, DeftError

if TYPE_CHECKING:
    from deft import train

COMMAND = "train"
FREE_TO_CHANGE = (
    "device",
    "data.path",
    "data.threads",
    "data.prefetch",
    "data.cache",
    "data.remote_cache_gb",
    "train.steps",
    "train.log_freq",
    "train.save_freq",
    "train.keep_freq",
    "val.",
)
"""Settings that a resumed run may have otherwise than the run it continues."""

DEBUG = {
    "train": {"steps": 6, "batch_size": 4, "log_freq": 2, "save_freq": 3},
    "val": {"offline_freq": 2, "batch_size": 4, "max_batches": 2},
}
"""What `debug=true` sets: every part of a run is passed through once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, see below")
    parser.add_argument("-m", "--multirun", action="store_true", help="run every combination")
    parser.add_argument("--cfg", choices=["job"], help="print the settings and stop")
    parser.add_argument("--config", metavar="FILE", help="start from a run's config.yaml")


def run(args: argparse.Namespace) -> int:
    """Run one training, or with `-m` all combinations one after another."""
    from deft.cli import settings

    if not args.multirun:
        _one(args.overrides, args.config, only_print=bool(args.cfg))
        return 0
    combinations = settings.expand(args.overrides, COMMAND)
    swept = _swept_keys(combinations)
    stem = _value(args.overrides, "session") or ""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    failed = 0
    for number, words in enumerate(combinations, start=1):
        print(f"[{number}/{len(combinations)}] {' '.join(words)}", file=sys.stderr)
        try:
            _one(
                _with_session(words, swept, stem or f"{_value(words, 'policy') or 'flow'}-{stamp}"),
                args.config,
                only_print=bool(args.cfg),
            )
        except DeftError as error:
            # One bad combination must not cost the others; the exit code tells.
            print(f"deft train: {error}", file=sys.stderr)
            failed += 1
    if failed:
        print(f"deft train: {failed} of {len(combinations)} runs failed", file=sys.stderr)
    return 1 if failed else 0


def _one(words: Sequence[str], config: str | None, *, only_print: bool) -> None:
    from omegaconf import OmegaConf

    from deft import train
    from deft.cli import ingest

    tree, run_folder, previous = _tree(words, config)
    if only_print:
        print(OmegaConf.to_yaml(tree), end="")
        return
    job = _job(tree)
    resume = bool(tree["resume"])
    if previous is not None:
        _check_resume(previous, tree, run_folder, resume)
    paths = ingest.as_stores(job.data)
    tree["data"]["path"] = paths[0] if isinstance(job.data.path, str) else paths
    _record(tree, run_folder)
    print(f"run {run_folder}", file=sys.stderr)
    last = train.train(job, train.open_data(job.data, paths), run_folder, resume=resume)
    shown = "  ".join(f"{k} {v:.4g}" for k, v in last.items() if k.startswith("val/"))
    print(f"done: {run_folder}/checkpoints/last" + (f"  {shown}" if shown else ""))


def _tree(
    words: Sequence[str], config: str | None
) -> tuple[dict[str, Any], Path, dict[str, Any] | None]:
    """The composed settings, the run's folder, and the settings the folder already holds."""
    from deft import recipes
    from deft.cli import places, settings

    given = _load(Path(config)) if config else {}
    policy = _value(words, "policy") or given.get("policy", {}).get("family", "flow")
    task = _value(words, "task") or given.get("task", "custom")
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    session = _value(words, "session") or f"{policy}-{stamp}"
    runs = _value(words, "runs_dir") or str(places.runs_dir())
    folder = Path(runs).expanduser().resolve() / task / policy / session
    chosen = ("policy", "task", "augment", "compat", "session", "runs_dir")
    rest = [word for word in words if settings.key_of(word) not in chosen]
    previous = _load(folder / "config.yaml") if (folder / "config.yaml").exists() else None
    resume = (_value(words, "resume") or "false").lower() == "true"
    augment = _value(words, "augment")
    base = recipes.tree(policy, task, augment, _value(words, "compat"))
    if resume and previous is not None:
        base = {key: previous[key] for key in base}
    elif given:
        base = {key: given[key] for key in base}
    if augment is not None:
        base["augment"] = recipes.augment(augment)
    # Whole numbers and lists stay what they are: the tree goes through Hydra as plain data.
    base |= {"task": task, "session": session, "runs_dir": runs, "resume": False, "debug": False}
    tree = settings.compose(base, rest, COMMAND)
    if tree["debug"]:
        for group, values in DEBUG.items():
            tree[group] |= values
    return tree, folder, previous


def _job(tree: Mapping[str, Any]) -> "train.Job":
    from dataclasses import replace

    from deft import policies, spec, train
    from deft.cli import places

    fields = ("policy", "data", "optim", "train", "val", "augment", "seed", "device")
    job = spec.from_plain(train.Job, {name: tree[name] for name in fields})
    settings = dict(tree["policy"])
    policy = spec.from_plain(policies.POLICIES[settings.pop("family")], settings, "policy")
    paths = tuple(
        path if places.is_address(path) else str(places.find_data(path)) for path in job.data.paths
    )
    data = replace(job.data, path=paths[0] if isinstance(job.data.path, str) else paths)
    return replace(job, policy=policy, data=data)


def _check_resume(
    previous: Mapping[str, Any], tree: Mapping[str, Any], folder: Path, resume: bool
) -> None:
    from deft.cli import settings

    if not resume:
        raise ConfigError(
            f"{folder}: this session exists already.\n"
            "Fix: add resume=true to go on with it, or choose another `session=`."
        )
    old, new = settings.flatten(previous), settings.flatten(tree)
    changed = [
        f"  {key}: {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
        and key not in ("resume", "debug", "runs_dir")
        and not key.startswith(FREE_TO_CHANGE)
    ]
    if changed:
        raise ConfigError(
            f"{folder}: a resumed run must keep its settings; these differ:\n"
            + "\n".join(changed)
            + "\nFix: leave them out, or start another `session=`."
        )


def _record(tree: Mapping[str, Any], folder: Path) -> None:
    from omegaconf import OmegaConf

    text = OmegaConf.to_yaml(OmegaConf.create(dict(tree)))
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    (folder / "logs" / f"config_{stamp}.yaml").write_text(text)
    beside = folder / ".config.yaml.new"
    beside.write_text(text)
    beside.replace(folder / "config.yaml")


def _load(path: Path) -> dict[str, Any]:
    import yaml

    from deft import recipes

    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path}: these settings cannot be read: {error}.\nFix: give the config.yaml of a run."
        ) from error
    needed = {"policy", "data", "optim", "train", "val", "seed", "device", "task"}
    if not isinstance(tree, dict) or not needed <= tree.keys():
        raise ConfigError(
            f"{path}: this is not the config.yaml of a run.\n"
            f"Found: {sorted(tree) if isinstance(tree, dict) else type(tree).__name__}.\n"
            "Fix: give the config.yaml that a run's folder holds."
        )
    # Runs from before there was augmentation had none.
    return {"augment": recipes.augment("none")} | tree


def _value(words: Sequence[str], key: str) -> str | None:
    from deft.cli import settings

    found = settings.choices(words, key, COMMAND)
    return found[-1] if found else None


def _swept_keys(combinations: Sequence[Sequence[str]]) -> list[int]:
    """Positions of the words that differ between combinations, but for policy and task."""
    from deft.cli import settings

    first = combinations[0]
    return [
        i
        for i, word in enumerate(first)
        if any(other[i] != word for other in combinations)
        and settings.key_of(word) not in ("policy", "task")
    ]


def _with_session(words: Sequence[str], swept: Sequence[int], stem: str) -> list[str]:
    """The words with a session name that tells the combinations apart."""
    from deft.cli import settings

    parts = [stem]
    for i in swept:
        key, value = words[i].split("=", 1)
        clean = "".join(c if c.isalnum() or c in "._+" else "-" for c in value).strip("-")
        parts.append(f"{key.rsplit('.', 1)[-1]}_{clean}")
    kept = [word for word in words if settings.key_of(word) != "session"]
    return [*kept, f"session={'-'.join(parts)}"]
