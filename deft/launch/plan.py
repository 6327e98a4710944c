"""What a sweep is to run: `experiments.yaml` as a list of runs with their command lines."""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from deft.errors import ConfigError, nearest, need
from deft.spec import from_plain

_OWN = ("name", "env", "gpus_per_run", "overrides")
"""Keys of one run that are no settings of `deft train`."""
_SAFE = re.compile(r"[A-Za-z0-9_./+-]+")
_NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WORDS = ("true", "false", "null", "nan", "inf")


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Everything that `experiments.yaml` may say."""

    name: str = ""
    """Name of the sweep; empty takes the file's."""
    runs_dir: str = ""
    """Folder of the runs; empty takes $DEFT_RUNS_DIR, or `runs`."""
    defaults: dict[str, Any] = field(default_factory=dict[str, Any])
    """Settings of every run, dotted or nested."""
    matrix: dict[str, Any] = field(default_factory=dict[str, Any])
    """Settings with a list of values each; every combination is a run."""
    runs: tuple[dict[str, Any], ...] = ()
    """Runs one by one, instead of a matrix: settings, and `name`, `env`, `gpus_per_run`."""
    overrides: tuple[str, ...] = ()
    """Further words for every run, as they are."""
    name_format: str = ""
    """Name of each run, as in "{policy}-{lr}-s{seed}"; empty makes one from what differs."""
    gpus: str | tuple[int, ...] = "auto"
    """GPUs to use: auto for all, a list of numbers, or an empty list for the CPU."""
    gpus_per_run: int = 1
    """GPUs of one run; with more than one it starts under torchrun."""
    slots: int = 1
    """Runs at the same time on the CPU, and of SLURM or Ray as many as they take."""
    cpus_per_run: int = 1
    """CPU cores asked of Ray for each run."""
    env: dict[str, Any] = field(default_factory=dict[str, Any])
    """Environment variables of every run."""
    cuda_libs: Literal["pip", "system"] = "system"
    """`pip` puts the CUDA libraries that came with wheels before all others."""
    launcher: Literal["local", "ray", "slurm"] = "local"
    """Where runs happen."""
    slurm: dict[str, Any] = field(default_factory=dict[str, Any])
    """What submitit takes (timeout_min, slurm_partition, mem_gb, ...); `cluster: local` runs the
    jobs on this machine instead."""
    metrics: tuple[str, ...] = ("val/action_error", "val/loss", "train/loss")
    """Measurements in the table at the end."""

    def __post_init__(self) -> None:
        if bool(self.matrix) == bool(self.runs):
            raise ConfigError(
                f"The sweep has {'both `matrix` and `runs`' if self.runs else 'no runs'}.\n"
                "Fix: give either `matrix:` with lists of values, or `runs:` with a list of runs."
            )
        for name in ("gpus_per_run", "slots", "cpus_per_run"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}.\nFix: set it to 1 or more.")
        if isinstance(self.gpus, str) and self.gpus != "auto":
            raise ConfigError(
                f"gpus is '{self.gpus}'.\nFix: write auto, a list as in [0,1], or [] for the CPU."
            )
        for key, values in self.matrix.items():
            if not isinstance(values, list | tuple) or not values:
                raise ConfigError(
                    f"matrix.{key} is {values!r}.\nFix: give a list of values, as in [1, 2, 3]; "
                    "what is the same for all runs belongs in `defaults`."
                )


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of a sweep."""

    name: str
    words: tuple[str, ...]
    """`key=value` for `deft train`."""
    labels: dict[str, str]
    """What differs between runs, for the table."""
    env: dict[str, str]
    folder: str
    """Where the training writes, absolute."""
    gpus: int = 1


def read(path: Path) -> dict[str, Any]:
    """The tree of an experiments.yaml. Raises `ConfigError` when it is none."""
    yaml = need("yaml", "train")
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path}: this sweep cannot be read: {error}.\nFix: give a YAML file with `matrix:` "
            "or `runs:`; `deft sweep --help` shows one."
        ) from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: there are no settings in it.\nFix: see `deft sweep --help`.")
    if "global" in tree:
        raise ConfigError(
            f"{path}: this is a file of the older launcher.\n"
            f"Fix: deft sweep --import-old {path} experiments.yaml"
        )
    return tree


def config(tree: Mapping[str, Any]) -> SweepConfig:
    """The checked settings. Raises `ConfigError` for unknown names and wrong types."""
    return from_plain(SweepConfig, tree)


def runs(config: SweepConfig, name: str, runs_dir: Path) -> list[Run]:
    """Every run of a sweep, in order.

    Args:
        config: the sweep.
        name: its name, which `name_format` knows as `{sweep}`.
        runs_dir: folder of runs; made absolute.

    Raises:
        ConfigError: two runs would have one name, or `name_format` names what is not there.
    """
    if config.matrix:
        values = itertools.product(*config.matrix.values())
        given = [dict(zip(config.matrix, each, strict=True)) for each in values]
    else:
        given = [dict(each) for each in config.runs]
    defaults = flat(config.defaults)
    trees = [
        defaults | flat({key: value for key, value in each.items() if key not in _OWN})
        for each in given
    ]
    differing = [
        key
        for key in dict.fromkeys(key for tree in trees for key in tree)
        if key in config.matrix or len({json.dumps(tree.get(key)) for tree in trees}) > 1
    ]
    made = [
        _run(config, name, runs_dir.absolute(), own, tree, differing)
        for own, tree in zip(given, trees, strict=True)
    ]
    for key, what in (("name", "name"), ("folder", "folder")):
        seen: dict[str, str] = {}
        for run in made:
            value = getattr(run, key)
            if value in seen:
                raise ConfigError(
                    f"Two runs of the sweep have the {what} '{value}'.\n"
                    f"Found: {seen[value]}, and {' '.join(run.words)}.\n"
                    "Fix: use in `name_format` what differs between them, or give each a `name`."
                )
            seen[value] = " ".join(run.words)
    return made


def _run(
    config: SweepConfig,
    sweep: str,
    runs_dir: Path,
    own: Mapping[str, Any],
    tree: Mapping[str, Any],
    differing: Sequence[str],
) -> Run:
    reserved = {"session", "runs_dir", "resume"} & tree.keys()
    if reserved:
        raise ConfigError(
            f"The sweep sets {', '.join(sorted(reserved))}.\n"
            "Fix: leave it out; a sweep names its runs by `name` or `name_format`."
        )
    policy, task = str(tree.get("policy", "flow")), str(tree.get("task", "custom"))
    labels = {key: _shown(tree[key]) for key in differing if key in tree}
    name = str(own["name"]) if "name" in own else _name(config, sweep, tree, labels)
    clean = _clean(name)
    if not clean:
        raise ConfigError(f"'{name}' is no name of a run.\nFix: use letters and digits.")
    extra = own.get("overrides", ())
    if isinstance(extra, str) or not isinstance(extra, list | tuple):
        raise ConfigError(f"{name}: overrides is {extra!r}.\nFix: give a list of words.")
    gpus = own.get("gpus_per_run", config.gpus_per_run)
    if type(gpus) is not int or gpus < 1:
        raise ConfigError(f"{name}: gpus_per_run is {gpus!r}.\nFix: give 1 or more.")
    environment = config.env | dict(own.get("env", {}))
    return Run(
        name=clean,
        words=(*(f"{key}={word(value)}" for key, value in tree.items()), *config.overrides,
               *map(str, extra)),
        labels=labels,
        env={str(key): "" if value is None else str(value) for key, value in environment.items()},
        folder=str(runs_dir / task / policy / clean),
        gpus=gpus,
    )  # fmt: skip


def _name(
    config: SweepConfig, sweep: str, tree: Mapping[str, Any], labels: Mapping[str, str]
) -> str:
    if not config.name_format:
        parts = [labels[key] for key in ("policy", "task") if key in labels]
        parts += [
            f"{key.rsplit('.', 1)[-1]}_{value}"
            for key, value in labels.items()
            if key not in ("policy", "task")
        ]
        return "-".join(parts) or sweep
    known = {"sweep": sweep, "policy": "flow", "task": "custom"}
    for key, value in tree.items():
        known[key] = known[key.rsplit(".", 1)[-1]] = _shown(value)
    known |= {key: _shown(tree[key]) for key in tree if "." not in key}

    def fill(match: re.Match[str]) -> str:
        key = match[1]
        if key not in known:
            raise ConfigError(
                f"name_format has {{{key}}}, which is no setting of this sweep. "
                f"{nearest(key, known)}\nFix: use one of these names."
            )
        return known[key]

    return re.sub(r"\{([^{}]*)\}", fill, config.name_format)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested groups as dotted keys."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def word(value: Any) -> str:
    """A value in the grammar of Hydra's words.

    Text stays text, except that YAML 1.1 reads 1e-3 as text, and who writes it means a number.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(word(each) for each in value) + "]"
    text = str(value)
    is_number = _NUMBER.fullmatch(text) is not None and "e" not in text.lower()
    if _SAFE.fullmatch(text) and not is_number and text.lower() not in _WORDS:
        return text
    escaped = text.replace("\\", "\\\\") if text.endswith("\\") else text
    return "'" + escaped.replace("'", "\\'") + "'"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(_shown(each) for each in value)
    return str(value)


def _clean(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", name).strip("-.")
