"""Train a policy on a store or any recording.

examples:
  deft train policy=flow task=pusht data.path=pusht.zarr.zip session=a
  deft train policy=bc task=custom data.path=my_store data.observations=[state,cam_high]
  deft train policy=bc task=bridge data.path=my_store augment=bridge augment.brightness=0.1
  deft train policy=flow task=pusht session=a resume=true      go on after a stop
  deft train policy=bc,flow seed=1,2,3 data.path=my_store -m   every combination, in turn
  deft train runs/pusht/flow/a/config.yaml session=b           start again from a run's settings
  deft train runs/pusht/flow/a resume=true                     go on with a run, by its folder
  deft train policy=bc data.path=new init_from=runs/pusht/bc/a fine-tune: its weights, new data
  torchrun --nproc-per-node=2 -m deft train policy=bc …        on two GPUs; the batch is split
  deft train policy=bc data.path=my_store data.include=@tasks.txt   the tasks that a file names

groups:    policy=bc|contrastive_rl|flow|gc_bc|gc_ddpm_bc|gc_iql|lc_bc
           task=bridge|bridge_local|custom|metaworld|metaworld_image|pusht|pusht_image
           augment=none|bridge|bridge_upstream|bridge_torch|crop|colour
           compat=upstream       the numbers of BridgeData V2's JAX code, defects included
           tracker=none|tensorboard|wandb
settings:  data.{path,weights,sampling,include,exclude,episodes,observations,image_size,
                 val_fraction,fps,goals,language_encoder,skip_unlabeled,threads,prefetch,cache,
                 cache_gb,remote_cache_gb}
           train.{steps,epochs,max_minutes,batch_size=N|auto,memory_gb,grad_accum_steps,
                  precision=fp32|bf16|fp16,compile,channels_last,sharded,log_freq,save_freq,
                  keep_freq,grad_clip_norm,ema_max_decay}
           val.{offline_freq,batch_size,max_batches,split,split_seed,
                online_freq,env,num_episodes,best,best_is=lowest|highest}
           optim.{lr,warmup_steps,schedule,...}
           policy.{obs_horizon,pred_horizon,action_horizon,...}  seed  device=auto|cpu|cuda|cuda:N
           augment.{order,scale,ratio,brightness,contrast,saturation,hue,compat,executor,...}
           init_from=BUNDLE  init_encoder=FILE.safetensors
           tracker.{project,entity,name,group,tags,notes,mode=online|offline|disabled}
           session  resume=true  debug=true  runs_dir
`--cfg job` prints every setting with its value. Runs are written to
$DEFT_RUNS_DIR (or runs)/<task>/<policy>/<session>. SIGTERM, SIGINT and train.max_minutes save and
leave with exit code 143, 130 and 3; resume=true goes on after that very step.
$DEFT_PROFILE (or ~/.config/deft/profile.yaml) holds defaults of yours: data_dir, runs_dir, device,
tracker, tracker.*, data.{threads,prefetch,cache,cache_gb,remote_cache_gb}.
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
    "train.epochs",
    "train.max_minutes",
    "train.memory_gb",
    "train.log_freq",
    "train.save_freq",
    "train.keep_freq",
    "val.",
    "tracker.",
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

    words, config = _run_named(args.overrides, args.config)
    if not args.multirun:
        return _one(words, config, only_print=bool(args.cfg))
    combinations = settings.expand(words, COMMAND)
    swept = _swept_keys(combinations)
    stem = _value(words, "session") or ""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    failed = 0
    for number, these in enumerate(combinations, start=1):
        print(f"[{number}/{len(combinations)}] {' '.join(these)}", file=sys.stderr)
        try:
            code = _one(
                _with_session(these, swept, stem or f"{_value(these, 'policy') or 'flow'}-{stamp}"),
                config,
                only_print=bool(args.cfg),
            )
            if code > 128:  # a signal is meant for all of them
                return code
        except DeftError as error:
            # One bad combination must not cost the others; the exit code tells.
            print(f"deft train: {error}", file=sys.stderr)
            failed += 1
    if failed:
        print(f"deft train: {failed} of {len(combinations)} runs failed", file=sys.stderr)
    return 1 if failed else 0


def _run_named(words: Sequence[str], config: str | None) -> tuple[list[str], str | None]:
    """The words without the path of a run or of its config.yaml, and that config.

    A run's folder stands for itself: its session goes on.
    """
    paths = [word for word in words if "=" not in word]
    if not paths:
        return list(words), config
    if len(paths) > 1 or config is not None:
        raise ConfigError(
            f"deft train: {' and '.join(paths)} cannot be started from at once.\n"
            "Fix: give one run or config.yaml; settings are written `key=value`."
        )
    rest, path = [word for word in words if "=" in word], Path(paths[0]).expanduser()
    if path.is_file():
        return rest, str(path)
    if not (path / "config.yaml").is_file():
        raise ConfigError(
            f"deft train: '{paths[0]}' is neither a setting nor a run.\n"
            "Fix: write settings as `key=value`, or give a run's folder or its config.yaml."
        )
    folder = path.resolve()
    runs, task, policy = folder.parents[2], folder.parents[1].name, folder.parent.name
    named = [f"runs_dir={runs}", f"task={task}", f"policy={policy}", f"session={folder.name}"]
    return [*named, *rest], None


def _one(words: Sequence[str], config: str | None, *, only_print: bool) -> int:
    """Train once; the exit code."""
    from omegaconf import OmegaConf

    from deft import nn, spec, train
    from deft.cli import playing

    tree, folder, previous = _tree(words, config)
    if only_print:
        print(OmegaConf.to_yaml(tree), end="")
        return 0
    job = _job(tree)
    train.keep_freed_memory()
    ranks = train.Ranks.here()
    resume = bool(tree["resume"])
    with ranks.joined(nn.pick_device(ranks.device(job.device))):
        # The first rank alone looks and writes; the others follow it.
        ranks.wait()
        paths: list[str] = []
        if ranks.is_first:
            paths = _prepared(job, tree, folder, previous, resume)
        paths, folder = ranks.gather((paths, folder))[0]
        done = train.steps(folder) if resume else []
        chosen = spec.from_plain(train.TrackerConfig, tree["tracker"], "tracker")
        chosen = chosen if ranks.is_first else train.TrackerConfig()
        try:
            with train.tracking(
                chosen, folder, tree, start_step=done[-1] if done else 0
            ) as tracker:
                last = train.train(
                    job,
                    train.open_data(job.data, paths),
                    folder,
                    resume=resume,
                    evaluate=playing.player(job.val, tracker),
                    tracker=tracker,
                )
        except train.StoppedError as stopped:
            if ranks.is_first:
                print(f"deft train: {stopped}", file=sys.stderr)
            return stopped.code
    if ranks.is_first:
        best = job.val.best
        shown = [k for k in last if k.startswith(("val/", "eval/")) and k.count("/") == 1]
        told = "  ".join(f"{k} {last[k]:.4g}" for k in dict.fromkeys([*shown, best]) if k in last)
        print(f"done: {folder}/checkpoints/last" + (f"  {told}" if told else ""))
    return 0


def _prepared(
    job: "train.Job",
    tree: dict[str, Any],
    folder: Path,
    previous: Mapping[str, Any] | None,
    resume: bool,
) -> list[str]:
    """Check the run's folder, convert recordings and write the settings; gives the stores."""
    from deft.cli import ingest

    changed = [] if previous is None else _check_resume(previous, tree, folder, resume)
    paths = ingest.as_stores(job.data)
    tree["data"]["path"] = paths[0] if isinstance(job.data.path, str) else paths
    _record(tree, folder)
    print(f"run {folder}", file=sys.stderr)
    if changed:
        print("settings changed since the last launch:", *changed, sep="\n", file=sys.stderr)
    return paths


def _tree(
    words: Sequence[str], config: str | None
) -> tuple[dict[str, Any], Path, dict[str, Any] | None]:
    """The composed settings, the run's folder, and the settings the folder already holds."""
    from deft import recipes, spec, train
    from deft.cli import places, profile, settings

    given = _load(Path(config)) if config else {}
    policy = _value(words, "policy") or given.get("policy", {}).get("family", "flow")
    task = _value(words, "task") or given.get("task", "custom")
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    session = _value(words, "session") or f"{policy}-{stamp}"
    runs = _value(words, "runs_dir") or str(places.runs_dir())
    folder = Path(runs).expanduser().resolve() / task / policy / session
    chosen = ("policy", "task", "augment", "compat", "tracker", "session", "runs_dir")
    rest = [word for word in words if settings.key_of(word) not in chosen]
    previous = _load(folder / "config.yaml") if (folder / "config.yaml").exists() else None
    resume = (_value(words, "resume") or "false").lower() == "true"
    augment = _value(words, "augment")
    base = recipes.tree(policy, task, augment, _value(words, "compat"))
    if previous is not None:
        previous = _filled(base, previous)
    if resume and previous is not None:
        base = {key: previous[key] for key in base}
    elif given:
        base = {key: _filled(base, given)[key] for key in base}
    if augment is not None:
        base["augment"] = recipes.augment(augment)
    is_new = not given and (previous is None or not resume)
    mine = profile.words() if is_new else []
    rest = [*(word for word in mine if settings.key_of(word) != "tracker"), *rest]
    kind = _value([*mine, *words], "tracker")
    kept = given if given else previous if resume and previous is not None else {}
    base["tracker"] = spec.to_plain(train.tracker_defaults(kind or "none"))
    if kind is None:
        base["tracker"] |= kept.get("tracker", {})
    # Whole numbers and lists stay what they are: the tree goes through Hydra as plain data.
    base |= {"task": task, "session": session, "runs_dir": runs, "resume": False, "debug": False}
    tree = settings.compose(base, rest, COMMAND)
    if tree["debug"]:
        for group, values in DEBUG.items():
            tree[group] |= values
    for name in ("include", "exclude"):
        given = tree["data"][name]
        names = [given] if isinstance(given, str) and given.startswith("@") else given
        if isinstance(names, list):
            tree["data"][name] = settings.listed(names, f"data.{name}")
    return tree, folder, previous


def _filled(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings with those that did not exist yet when it was started, at their defaults."""
    found = {**base, **given}
    for key, value in base.items():
        if isinstance(value, Mapping) and isinstance(given.get(key), Mapping) and key != "policy":
            found[key] = {**value, **given[key]}
    if base["policy"].get("family") == found["policy"].get("family"):
        found["policy"] = {**base["policy"], **found["policy"]}
    return found


def _job(tree: Mapping[str, Any]) -> "train.Job":
    import dataclasses
    from dataclasses import replace

    from deft import policies, spec, train
    from deft.cli import places

    fields = [field.name for field in dataclasses.fields(train.Job)]
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
) -> list[str]:
    """What differs from the last launch, as lines; raises when some of it may not."""
    from deft.cli import settings

    if not resume:
        raise ConfigError(
            f"{folder}: this session exists already.\n"
            "Fix: add resume=true to go on with it, or choose another `session=`."
        )
    old, new = settings.flatten(previous), settings.flatten(tree)
    differ = {
        key: f"  {key}: {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key not in ("resume", "debug", "runs_dir")
    }
    changed = [line for key, line in differ.items() if not key.startswith(FREE_TO_CHANGE)]
    if changed:
        raise ConfigError(
            f"{folder}: a resumed run must keep its settings; these differ:\n"
            + "\n".join(changed)
            + "\nFix: leave them out, or start another `session=`."
        )
    # The data's place is found anew each time.
    return [line for key, line in differ.items() if key != "data.path"]


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
