"""Measure a policy in a simulator, or on held-out episodes.

examples:
  deft eval runs/pusht/flow/a env=pusht                     50 test seeds, 4 videos, a report
  deft eval runs/pusht/flow/a@best env=pusht episodes=200   another checkpoint, more episodes
  deft eval my_bundle env=metaworld/drawer-open-v3 blind=true   the same policy without pictures
  deft eval runs/m/gc_bc/a env=metaworld/reach-v3 goals=shuffled    does it heed its goals?
  deft eval ws://127.0.0.1:8000 env=pusht                   through a server; the same result
  deft eval runs/pusht/flow/a data.path=my_store            held-out action error, no simulator
  deft eval runs/bridge/gc_bc/a data.path=bridge_rlds/1.0.0    on the recording it was trained on

A policy is a run, a checkpoint, a bundle, or the address of a server. Without `env=` its actions
are compared with the recorded ones of a store.

settings:  env  episodes=50  seed=100000 (the first of the test seeds)  videos=4  max_steps
           language_encoder=FOLDER (for sentences that are new to the policy)
           action_horizon  blind=false  goals=own|shuffled  device=auto  out=DIR
           token_file=FILE (for a server)
           data.path=STORE or, for a run, any recording; what it was trained on is split as then
           data.split=val|train  data.max_windows=512
           (`eval.episodes=100` and the like are understood too)
A policy with goals is shown what the scripted expert achieved in the same episode.
Results go to <run>/eval/..., or ./eval-... for a bundle or server. A stopped evaluation goes on
where it was when the command is given again.
"""

import argparse
import contextlib
import json
import re
import shlex
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deft.errors import ConfigError
from deft.spec import GOAL

if TYPE_CHECKING:
    from deft.envs import Env
    from deft.eval import EpisodeResult, OfflineResult, Summary
    from deft.spec import Actor

COMMAND = "eval"
_ADDRESS = ("ws://", "wss://", "unix://")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Recorded episodes to compare with, when there is no `env`."""

    path: str = ""
    """A training store; for a run, also any recording. What the run was trained on is split as the
    run split it."""
    split: Literal["val", "train"] = "val"
    """Which of its episodes."""
    max_windows: int = 512
    """Largest number of windows, taken at even distances."""

    def __post_init__(self) -> None:
        if self.max_windows < 1:
            raise ConfigError(f"max_windows is {self.max_windows}.\nFix: set it to 1 or more.")


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Settings of `deft eval`."""

    env: str = ""
    """Environment, as in `pusht`; empty compares with `data.path` instead."""
    episodes: int = 50
    """Number of test seeds."""
    seed: int = 100_000
    """The first test seed; demonstrations are collected below 100000."""
    videos: int = 4
    """Episodes to film, the first ones."""
    max_steps: int | None = None
    """Steps after which an episode ends; null takes the environment's own."""
    action_horizon: int | None = None
    """Rows of a chunk to run before asking again; null takes the policy's own."""
    blind: bool = False
    """Black pictures: what the policy achieves without looking."""
    goals: Literal["own", "shuffled"] = "own"
    """For policies with goals: what the expert achieved in this episode, or in another one."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    out: str = ""
    """Folder of the results; empty puts them into the run, or into the current folder."""
    language_encoder: str = ""
    """Folder of the text encoder that the policy was trained with, for sentences that are new."""
    token_file: str = ""
    """File that holds the server's token."""
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        if bool(self.env) == bool(self.data.path):
            raise ConfigError(
                "Give either `env=` for a simulator or `data.path=` for a store.\n"
                "Fix: add one, as in `env=pusht`."
                if not self.env
                else "Both `env=` and `data.path=` are given.\nFix: leave one out."
            )
        if self.episodes < 1 or self.videos < 0 or self.seed < 0:
            raise ConfigError(
                f"episodes={self.episodes} videos={self.videos} seed={self.seed}.\n"
                "Fix: at least one episode; videos and seed from 0 on."
            )


@dataclass(frozen=True)
class Target:
    """A policy that answers, and where it came from."""

    actor: "Actor"
    settings: dict[str, str]
    """What names the policy for good: its digest and the device, or the server."""
    name: str
    """For titles, short."""
    home: Path | None
    """The run that its results belong to."""
    label: str
    """For folder names."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("policy", help="run, checkpoint, bundle, ws://… or unix://…")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, see above")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace) -> int:
    from deft.cli import settings

    words = [word.removeprefix("eval.") for word in args.overrides]
    config = settings.build(EvalConfig, words, COMMAND)
    command = shlex.join(["deft", COMMAND, args.policy, *args.overrides])
    with _open(args.policy, config) as target:
        where = target.settings["device"]
        print(
            f"{target.name}, {'behind a server' if where == 'server' else f'on {where}'}",
            file=sys.stderr,
        )
        if config.env:
            _simulate(target, config, command, as_json=args.json)
        else:
            _compare(target, config, command, as_json=args.json)
    return 0


@contextlib.contextmanager
def _open(policy: str, config: EvalConfig) -> Generator[Target]:
    """The policy as an actor; a connection is closed at the end."""
    if policy.startswith(_ADDRESS):
        from deft import wire

        token = _token(config.token_file)
        # Pixels as they are: compressing them would change what the policy sees.
        with wire.connect(policy, token=token, images="raw") as remote:
            label = re.sub(r"[^\w.]+", "-", policy.split("//", 1)[1]).strip("-")
            actor = _blinded(remote, config)
            settings = {"policy": remote.bundle or policy, "device": "server"}
            yield Target(actor, settings, remote.name or policy, None, label)
        return
    from deft import bundle

    path = bundle.resolve(policy).resolve()
    loaded = bundle.load(path, device=config.device, language_encoder=config.language_encoder)
    is_checkpoint = path.parent.name == "checkpoints"
    home = path.parent.parent if is_checkpoint else None
    name = f"{'/'.join(home.parts[-3:])} {path.name}" if home else path.name
    actor = _blinded(bundle.actor(loaded), config)
    # The last bits of a result differ between kinds of device.
    settings = {"policy": loaded.digest, "device": loaded.device.type}
    yield Target(actor, settings, name, home, path.name)


def _blinded(actor: "Actor", config: EvalConfig) -> "Actor":
    from deft import eval as evaluation

    return evaluation.BlindActor(actor) if config.blind else actor


def _token(path: str) -> str | None:
    if not path:
        return None
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"token_file={path}: {error.strerror}.\nFix: give the file that the server uses."
        ) from error


def _folder(target: Target, config: EvalConfig, what: str) -> Path:
    if config.out:
        return Path(config.out)
    what = what.replace("/", "-") + ("-blind" if config.blind else "")
    what += "-shuffled" if config.goals == "shuffled" else ""
    if target.home is not None:
        return target.home / "eval" / f"{what}-{target.label}"
    return Path(f"eval-{target.label}-{what}")


def _marks(config: EvalConfig) -> str:
    """What is not as usual, for titles."""
    marks = [
        *(["blind"] if config.blind else []),
        *(["shuffled goals"] if config.goals != "own" else []),
    ]
    return f" ({', '.join(marks)})" if marks else ""


def _simulate(target: Target, config: EvalConfig, command: str, *, as_json: bool) -> None:
    from deft import eval as evaluation

    seeds = range(config.seed, config.seed + config.episodes)
    folder = _folder(target, config, config.env)
    summary = evaluation.measure(
        folder,
        lambda: make_env(target.actor, config),
        target.actor,
        seeds,
        settings={
            **target.settings,
            "env": config.env,
            "blind": config.blind,
            **({"goals": config.goals} if config.goals != "own" else {}),
        },
        title=f"{target.name}{_marks(config)} on {config.env}",
        command=command,
        action_horizon=config.action_horizon,
        max_steps=config.max_steps,
        video_seeds=seeds[: config.videos],
        on_episode=Progress().episode,
    )
    page = folder / "report.html"
    if as_json:
        from deft.spec import to_plain

        print(json.dumps({**to_plain(summary), "report": str(page)}))
    else:
        _print_summary(summary, page)


def make_env(actor: "Actor", config: EvalConfig) -> "Env":
    """An environment that shows what the policy looks at, and nothing else."""
    from deft import envs

    goals = [f.name.removeprefix(GOAL) for f in actor.spec.role("goal")]
    inputs = [
        f for f in actor.spec.features if f.role not in ("action", "goal") and f.dtype != "str"
    ]
    options: dict[str, Any] = {"max_steps": config.max_steps}
    sizes = {(f.height, f.width) for f in inputs if f.is_frame}
    if len(sizes) > 1:
        raise ConfigError(
            f"{config.env} renders one image size, and the policy wants several: "
            + ", ".join(f"{f.name} {f.describe()}" for f in inputs if f.is_frame)
            + ".\nFix: train with `data.image_size`."
        )
    for height, width in sizes:
        options |= {"image_height": height, "image_width": width}
    env = envs.make(config.env, tuple(f.name for f in inputs), **options)
    if not goals:
        return env
    # Seeds of another run of as many episodes: every goal is met, and none in its own episode.
    offset = 0 if config.goals == "own" else config.episodes
    return envs.GoalEnv(env, envs.expert(config.env), goals, offset)


def _compare(target: Target, config: EvalConfig, command: str, *, as_json: bool) -> None:
    from deft import eval as evaluation
    from deft.cli import held_out

    opened = held_out.recorded(config.data.path, target.home)
    path = opened.path
    result = evaluation.offline(
        target.actor,
        opened,
        split=config.data.split,
        max_windows=config.data.max_windows,
        progress=_windows_progress if sys.stderr.isatty() else None,
    )
    folder = _folder(target, config, f"{path.name}-{config.data.split}")
    page = evaluation.write_offline(
        folder,
        result,
        title=f"{target.name}{' (blind)' if config.blind else ''} on {path.name}",
        command=command,
        settings={
            **target.settings,
            "store": opened.digest,
            "blind": config.blind,
            "split": config.data.split,
            "max_windows": config.data.max_windows,
        },
    )
    if as_json:
        print(json.dumps({**result.to_json(), "report": str(page)}))
    else:
        _print_offline(result, page)


class Progress:
    """One line per episode on stderr, with the time left."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._done = 0
        self._successes = 0

    def episode(self, result: "EpisodeResult", left: int) -> None:
        self._done += 1
        self._successes += result.success
        each = (time.monotonic() - self._began) / self._done
        print(
            f"[{self._done}/{self._done + left}] seed {result.seed}  "
            f"{'success' if result.success else 'failure'}  "
            f"max reward {result.max_reward:.3g}  {result.steps} steps  {result.seconds:.1f} s  "
            f"inference {result.inference_ms_p50:.1f} ms  "
            f"so far {self._successes}/{self._done}  {each * left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )


def _windows_progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\r{done}/{total} windows", end=end, file=sys.stderr, flush=True)


def _print_summary(summary: "Summary", page: Path) -> None:
    rows = [
        ("success", f"{summary.successes} of {summary.episodes} = {summary.success_rate:.3f}"),
        ("95 % interval", f"{summary.success_low:.3f} to {summary.success_high:.3f} (Wilson)"),
        (
            "mean of max reward",
            f"{summary.max_reward_mean:.4g} "
            f"({summary.max_reward_low:.4g} to {summary.max_reward_high:.4g})",
        ),
        ("steps per episode", f"{summary.steps_mean:.1f}"),
        ("inference", f"{summary.inference_ms_p50:.2f} ms (median per request)"),
    ]
    for label, value in rows:
        print(f"{label:<20}{value}")
    for note in summary.notes:
        print(f"{'note':<20}{note}")
    print(f"{'report':<20}{page}")


def _print_offline(result: "OfflineResult", page: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    print(
        f"{result.windows} windows of {result.episodes} '{result.split}' episodes, "
        f"{result.rows} actions"
    )
    table = Table("method", "error / std", "95 % interval", "first step", "last step")
    for name, error in result.methods.items():
        interval = "" if error.low is None else f"{error.low:.4f} to {error.high:.4f}"
        ahead = error.normalised_mae_ahead
        table.add_row(
            name, f"{error.normalised_mae:.4f}", interval, f"{ahead[0]:.4f}", f"{ahead[-1]:.4f}"
        )
    Console().print(table)
    for note in result.notes:
        print(f"note: {note}")
    print(f"report: {page}")
