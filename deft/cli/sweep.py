"""Train many policies: every run in a process of its own, over GPUs, a cluster or CPU slots.

examples:
  deft sweep experiments.yaml               run what is not done yet; again after any stop
  deft sweep experiments.yaml --detach      the same in the background
  deft sweep status experiments.yaml        the table, from anywhere; --json for programs
  deft sweep stop experiments.yaml          save and leave; the next sweep goes on
  deft sweep experiments.yaml --retry       also runs that failed
  deft sweep experiments.yaml launcher=ray gpus=[0,1]
  deft sweep --import-old old.yaml experiments.yaml

experiments.yaml:
  defaults: {task: pusht, data.path: pusht.zarr.zip, train.steps: 5000}
  matrix:   {policy: [bc, flow], seed: [1, 2, 3]}       or, instead, one by one:
  runs:     [{policy: bc, optim.lr: 1e-3, name: quick, env: {OMP_NUM_THREADS: 4}}]
  name_format: "{policy}-s{seed}"           any setting, by its last word
  gpus: auto                                or [0, 1]; [] is the CPU, with `slots:` runs at a time
  gpus_per_run: 1                           more than one starts torchrun
  env: {WANDB_MODE: offline}
  cuda_libs: pip                            the wheels' CUDA libraries before the system's
  launcher: local                           or ray, slurm; `slurm: {slurm_partition: gpu}`
  metrics: [val/action_error]               in the table at the end: mean and interval over seeds

A run that fails stops no other. The sweep lives in <runs_dir>/sweeps/<name>, logs included.
Exit code 1 when a run is not done.
"""

import argparse
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft.errors import ConfigError

if TYPE_CHECKING:
    from deft import launch

_WORDS = ("name", "runs_dir", "gpus", "gpus_per_run", "slots", "cpus_per_run", "cuda_libs",
          "launcher")  # fmt: skip
"""What may be changed on the command line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="*", metavar="[status|stop] FILE [KEY=VALUE]")
    parser.add_argument("--detach", action="store_true", help="go on in the background")
    parser.add_argument("--retry", action="store_true", help="also run what failed")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.add_argument(
        "--import-old", nargs=2, metavar=("OLD", "NEW"), help="rewrite an older launcher's file"
    )


def run(args: argparse.Namespace) -> int:
    words = list(args.what)
    if args.import_old:
        return _import_old(*map(Path, args.import_old))
    action = words.pop(0) if words and words[0] in ("status", "stop") else ""
    if not words:
        raise ConfigError("No sweep is named.\nFix: deft sweep experiments.yaml")
    target = Path(words.pop(0)).expanduser()
    if action:
        folder = _folder(target, words)
        return _stop(folder) if action == "stop" else _status(folder, as_json=args.json)
    config = _config(target, words)
    folder = _home(config, target)
    if args.detach:
        return _detach(target, words, folder, retry=args.retry)
    return _work(config, folder, retry=args.retry, as_json=args.json)


def _config(path: Path, words: list[str]) -> "launch.SweepConfig":
    from deft import launch, spec
    from deft.cli import settings

    config = launch.config(launch.read(path))
    tree = {key: spec.to_plain(getattr(config, key)) for key in _WORDS}
    return launch.config(spec.to_plain(config) | settings.compose(tree, words, "sweep"))


def _runs_dir(config: "launch.SweepConfig") -> Path:
    from deft.cli import places

    return (Path(config.runs_dir).expanduser() if config.runs_dir else places.runs_dir()).absolute()


def _home(config: "launch.SweepConfig", path: Path) -> Path:
    return _runs_dir(config) / "sweeps" / (config.name or path.stem)


def _folder(target: Path, words: list[str]) -> Path:
    """The folder of a sweep that is named by its file, its folder or its name."""
    from deft.cli import places

    if target.is_file():
        return _home(_config(target, words), target)
    tried = (target, places.runs_dir() / "sweeps" / target)
    for folder in tried:
        if (folder / "sweep.json").is_file():
            return folder
    raise ConfigError(
        f"There is no sweep '{target}'.\n"
        f"Found nothing at: {', '.join(str(each.absolute()) for each in tried)}.\n"
        "Fix: give the experiments.yaml of one, or its folder."
    )


def _work(config: "launch.SweepConfig", folder: Path, *, retry: bool, as_json: bool) -> int:
    from deft import launch, spec
    from deft.cli import sweep_table

    book = launch.Book(folder)
    planned = launch.runs(config, folder.name, _runs_dir(config))
    with book.at_work():
        book.open(planned, Path.cwd(), spec.to_plain(config))
        table = sweep_table.Live(book)
        signal.signal(signal.SIGTERM, _leave)
        with table:
            sweep = launch.Sweep(
                config,
                book,
                planned,
                _engine(config, folder),
                retry=retry,
                on_change=table.note,
                on_tick=table.tick,
            )
            try:
                sweep.work()
            except KeyboardInterrupt:
                table.say("stopping: every run saves and leaves; the same command goes on")
                raise
    return _status(folder, as_json=as_json)


def _engine(config: "launch.SweepConfig", folder: Path) -> "launch.Engine":
    from deft import launch

    gpus = launch.find_gpus(os.environ) if isinstance(config.gpus, str) else list(config.gpus)
    if config.launcher == "ray":
        chosen = None if config.gpus == "auto" else gpus
        return launch.Ray(chosen, config.slots, config.cpus_per_run)
    if config.launcher == "slurm":
        # A login node has no GPUs: there, `auto` means that the nodes do.
        has_gpus = bool(gpus) or (config.gpus == "auto" and "cluster" not in config.slurm)
        return launch.Slurm(folder, config.slurm, has_gpus)
    return launch.Local(gpus, config.slots)


def _leave(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _detach(path: Path, words: list[str], folder: Path, *, retry: bool) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "deft", "sweep", str(path), *words, *["--retry"] * retry]
    with (folder / "sweep.log").open("ab") as log, open(os.devnull, "rb") as nothing:
        redirect = [
            (os.POSIX_SPAWN_DUP2, file.fileno(), number)
            for number, file in enumerate((nothing, log, log))
        ]
        # Not by `subprocess`, which minds about processes that are left alone.
        process = os.posix_spawn(
            sys.executable, command, os.environ, file_actions=redirect, setsid=True
        )
    print(f"process {process} is at work; it says what it does in {folder / 'sweep.log'}")
    print(f"deft sweep status {folder}")
    return 0


def _stop(folder: Path) -> int:
    from deft import launch

    worker = launch.Book(folder).worker()
    if worker is None:
        print(f"{folder}: nobody is at work on this sweep")
        return 0
    os.kill(worker, signal.SIGTERM)
    print(f"{folder}: process {worker} is told to stop; its runs save and leave")
    return 0


def _status(folder: Path, *, as_json: bool) -> int:
    from deft import launch
    from deft.cli import sweep_table

    book = launch.Book(folder)
    rows = launch.rows(book)
    groups = launch.groups(rows, book.plan()["settings"]["metrics"])
    if as_json:
        worker = book.worker()
        tree = {
            "folder": str(folder),
            "process": worker,
            "runs": [dataclasses.asdict(row) for row in rows],
            "groups": [dataclasses.asdict(group) for group in groups],
        }
        print(json.dumps(tree, indent=2))
    else:
        sweep_table.show(folder, rows, groups)
    return 0 if all(row.state == "done" for row in rows) else 1


def _import_old(old: Path, new: Path) -> int:
    from deft import launch
    from deft.errors import need

    yaml = need("yaml", "train")
    if new.exists():
        raise ConfigError(f"{new} exists already.\nFix: give another name.")
    try:
        tree = yaml.safe_load(old.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{old}: cannot be read: {error}.\nFix: give a YAML file.") from error
    made, notes = launch.convert(tree if isinstance(tree, dict) else {})
    launch.config(made)
    new.write_text(
        f"# Made from {old.name}; `deft sweep {new.name}` runs it.\n"
        + "".join(f"# {key}: {became}\n" for key, became in notes)
        + yaml.safe_dump(made, sort_keys=False)
    )
    width = max((len(key) for key, _ in notes), default=0)
    for key, became in notes:
        print(f"{key:<{width}}  {became}")
    print(new)
    return 0
