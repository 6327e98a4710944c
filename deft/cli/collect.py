"""Record demonstrations of a scripted expert in a simulator, as a training store.

examples:
  deft collect env=metaworld/drawer-open-v3 episodes=50
  deft collect env=pusht episodes=100 observations=[state] workers=4
  deft collect env=metaworld/pick-place-v3 image_size=64x64 noise=0.1 out=data/noisy
  deft collect --list                           every environment with its instruction

settings:  env           pusht, or metaworld/<task>
           episodes=50   solved ones wanted; failed seeds are replaced by further ones
           out           folder of the store; else <data dir>/<env, slashes as underscores>
           seed=0        first seed; 100000 and up are kept for evaluation
           workers=2     simulator processes; 0 plays in this one; the result is the same
           observations  features to record, as in [state,image]; else all
           image_size=96x96  (height x width)    codec=jpeg|raw    quality=90    val_fraction=0.1
           only_success=true                     false keeps failed episodes too
           noise=0.0     Gaussian noise on the actions that are run, standard deviation in halves of
                         the action range; the expert's clean advice is what is recorded
                         (pusht bears 0.02, most of metaworld 0.2)
           executed=false  true records the actions that are run instead: bad demonstrations
           hold_steps    ticks recorded after success; else what suits the expert (metaworld 10)
           max_steps     ticks after which an episode is given up; else the task's own
           max_tries     seeds to play at most; else 3 per episode and 10 more

The same command gives the same bytes on a machine, whatever `workers` is and however often it was
killed and run again: it goes on where it was. Without `out` data goes to $DEFT_DATA_DIR (or data).
"""

import argparse
import importlib.metadata
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from deft import envs, store

_PACKAGES = {"metaworld": ("metaworld", "mujoco", "gymnasium"), "pusht": ("gym-pusht", "pymunk")}
"""What decides the physics of an environment, by the first part of its name."""


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """Settings of `deft collect`."""

    env: str
    """One of `envs.ENVS`."""
    episodes: int = 50
    """Good episodes wanted."""
    out: str | None = None
    """Folder of the store; None takes the data folder and the environment's name."""
    seed: int = 0
    """First seed."""
    workers: int = 2
    """Simulator processes; 0 plays in this one."""
    observations: tuple[str, ...] | None = None
    """Features to record; None takes all."""
    image_size: str = "96x96"
    """Height x width of pictures, in pixels."""
    codec: Literal["jpeg", "raw"] = "jpeg"
    """How pictures are kept."""
    quality: int = 90
    """JPEG quality, 1 to 100."""
    val_fraction: float = 0.1
    """Share of episodes held out for validation."""
    only_success: bool = True
    """Leave out episodes that the expert did not solve, and play further seeds for them."""
    noise: float = 0.0
    """Standard deviation of the noise on the actions that are run, in halves of their range."""
    executed: bool = False
    """Record the actions that are run, noise and all, instead of the expert's advice."""
    hold_steps: int | None = None
    """Ticks recorded after the first success; None takes what suits the expert."""
    max_steps: int | None = None
    """Ticks after which an episode is given up; None takes the task's own."""
    max_tries: int | None = None
    """Seeds to play at most; None takes 3 per episode and 10 more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, see below")
    parser.add_argument("--list", action="store_true", help="name every environment and stop")
    parser.add_argument("--overwrite", action="store_true", help="replace a store that is there")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Collect, and print what became of it."""
    if args.list:
        from deft import envs

        width = max(map(len, envs.ENVS))
        for name, task in envs.ENVS.items():
            print(f"{name:<{width}}  {task}")
        return 0
    from deft.cli import settings

    config = settings.build(CollectConfig, args.overrides, "collect")
    began = time.monotonic()
    summary = collect(config, overwrite=args.overwrite)
    summary["seconds"] = round(time.monotonic() - began, 1)
    if args.json:
        print(json.dumps(summary, indent=2))
        return 0
    rate = summary["expert_success_rate"]
    print(
        f"{summary['episodes']} episodes, {summary['steps']} steps, "
        f"{summary['size_bytes'] / 1e6:.1f} MB in {summary['seconds']} s; "
        f"the expert solved {summary['solved']} of {summary['played']} seeds"
        + (f" ({100 * rate:.0f} %)" if rate is not None else "")
        + f"\n{summary['path']}"
    )
    return 0


def collect(config: CollectConfig, *, overwrite: bool = False) -> dict[str, Any]:
    """Play demonstrations into a store.

    Args:
        config: what to collect.
        overwrite: replace a finished store that is there.

    Returns:
        Plain values: path, digest, episodes, steps, size_bytes, and how the expert fared.

    Raises:
        ConfigError: a setting is out of range.
        EnvError: the environment is unknown, or too many seeds failed.
        StoreError: the folder is taken.
    """
    from deft import envs, store
    from deft.cli.ingest import parse_image_size
    from deft.cli.places import data_dir

    height, width = parse_image_size(config.image_size)
    plan = envs.Demonstrations(
        env=config.env,
        observations=config.observations,
        image_height=height,
        image_width=width,
        max_steps=config.max_steps,
        hold_steps=config.hold_steps,
        noise=config.noise,
        executed=config.executed,
    )
    spec = envs.spec_of(plan)
    target = Path(config.out) if config.out else data_dir() / config.env.replace("/", "_")
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    writing = store.WriteConfig(
        codec=config.codec, quality=config.quality, val_fraction=config.val_fraction
    )
    tally = _Tally(config.episodes)
    with store.Writer(target, spec, writing, _provenance(config), overwrite=overwrite) as writer:
        for demonstration in envs.demonstrate(
            plan,
            config.episodes,
            first_seed=config.seed,
            max_tries=config.max_tries,
            keep_failures=not config.only_success,
            workers=config.workers,
            has=writer.has,
        ):
            tally.count(demonstration, is_kept=_keep(writer, config, demonstration))
        report = writer.finish([envs.episode_id(config.env, seed) for seed in sorted(tally.seeds)])
    return {
        "path": str(report.path),
        "digest": report.digest,
        "env": config.env,
        "episodes": report.episodes,
        "steps": report.steps,
        "size_bytes": report.size_bytes,
        "played": tally.known,
        "solved": tally.solved,
        "expert_success_rate": tally.solved / tally.known if tally.known else None,
    }


def _keep(
    writer: "store.Writer", config: CollectConfig, demonstration: "envs.Demonstration"
) -> bool:
    """Store an episode that is wanted, and tell whether it is."""
    from deft import envs

    episode = demonstration.episode
    if episode is None:
        return True
    if demonstration.success or not config.only_success:
        writer.add(episode)
        return True
    why = f"the expert did not solve it in {len(episode)} steps"
    writer.leave_out(envs.episode_id(config.env, demonstration.seed), why)
    return False


def _provenance(config: CollectConfig) -> dict[str, Any]:
    """Everything that decides the episodes, and nothing that does not."""
    from deft import spec

    kept = spec.to_plain(config)
    for name in ("out", "workers", "max_tries", "codec", "quality", "val_fraction"):
        del kept[name]
    packages = _PACKAGES[config.env.split("/", 1)[0]]
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"source": f"deft collect {config.env}", "collect": kept, "simulator": versions}


class _Tally:
    """Counts seeds and says on stderr how far it is: in place on a terminal, else now and then."""

    def __init__(self, wanted: int) -> None:
        self.seeds: list[int] = []
        self.known = 0
        """Seeds of which it is known whether the expert solved them."""
        self.solved = 0
        self._wanted = wanted
        self._kept = 0
        self._played = 0
        self._steps = 0
        self._began = self._said = time.monotonic()
        self._in_place = sys.stderr.isatty()

    def count(self, demonstration: "envs.Demonstration", is_kept: bool) -> None:
        """Take in one seed."""
        self.seeds.append(demonstration.seed)
        self.known += demonstration.success is not None
        self.solved += bool(demonstration.success)
        self._kept += is_kept
        if demonstration.episode is not None:
            self._played += 1
            self._steps += len(demonstration.episode)
        now = time.monotonic()
        is_last = self._kept == self._wanted
        if is_last or now - self._said >= (0.2 if self._in_place else 10.0):
            self._said = now
            self._say(now - self._began, is_last)

    def _say(self, seconds: float, is_last: bool) -> None:
        line = f"{self._kept}/{self._wanted} episodes"
        if self._played:
            line += f", {self._steps / seconds:.0f} steps/s"
            left = (self._wanted - self._kept) * seconds / self._played
            line += f", {left:.0f} s left" if not is_last else f", {seconds:.0f} s"
        failed = self.known - self.solved
        line += f", {failed} failed" if failed else ""
        if self._in_place:
            end = "\n" if is_last else ""
            print(f"\r\x1b[K{line}", end=end, file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)
