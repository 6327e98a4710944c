"""Write a checkpoint, ours or BridgeData V2's, as a bundle that opens by itself.

examples:
  deft export runs/pusht/flow/a my_bundle             the last checkpoint
  deft export runs/pusht/flow/a@best my_bundle        the one with the lowest held-out error
  deft export runs/pusht/flow/a@5000 my_bundle --golden 32 --overwrite
  deft export checkpoint_300000 my_bundle --from jaxrl --image-size 256x256

A bundle is a folder with weights, contract, statistics and golden pairs: observations with the
actions that the weights answer. Whoever opens it runs them first. Their observations are real ones
from the store that was trained on, held-out ones if it has any; when that store cannot be read any
more, they are blended from those in the checkpoint, and bundle.json says so.

--from jaxrl reads a checkpoint of BridgeData V2's JAX code (gc_bc, lc_bc, gc_ddpm_bc, gc_iql,
contrastive_rl): a file of flax.training.checkpoints, or Orbax's folder with everything in one
file. It holds no size of pictures and no statistics: give them, else the published ones are taken.
Its golden observations are random pictures.
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deft.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from deft.bundle import Bundle
    from deft.spec import Observation, Spec
    from deft.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN[@STEP]", help="run, RUN@last|best|STEP or checkpoint")
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="folder to write")
    parser.add_argument("--golden", type=int, default=16, help="golden pairs (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace a bundle that is there")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    jaxrl = parser.add_argument_group("checkpoints of BridgeData V2's JAX code")
    jaxrl.add_argument("--from", dest="origin", choices=["jaxrl"], help="whose checkpoint it is")
    jaxrl.add_argument("--image-size", default="256x256", metavar="HxW", help="(%(default)s)")
    jaxrl.add_argument("--obs-horizon", type=int, default=1, help="observed ticks (%(default)s)")
    jaxrl.add_argument("--pool", default="average", choices=["average", "max", "spatial_softmax"])
    jaxrl.add_argument("--activation", default="swish", choices=["swish", "relu"])
    jaxrl.add_argument("--camera", default="image_0", help="name of the picture (%(default)s)")
    jaxrl.add_argument("--fps", type=float, default=5.0, help="ticks per second (%(default)s)")
    jaxrl.add_argument("--stats", type=Path, metavar="FILE", help="JSON: mean and std of actions")


def run(args: argparse.Namespace) -> int:
    from deft import bundle

    if args.golden < 1:
        raise ConfigError(f"--golden is {args.golden}.\nFix: give 1 or more.")
    if args.origin == "jaxrl":
        _from_jaxrl(args)
        return _report(args, "JAX checkpoint", f"{args.golden} random observations")
    opened = bundle.load(bundle.resolve(args.run))
    observations, source = golden_observations(opened, args.golden)
    bundle.save(
        args.bundle,
        opened.policy,
        overwrite=args.overwrite,
        provenance={**opened.info["provenance"], "exported_from": opened.digest},
        golden=[(observation, key) for key, observation in enumerate(observations)],
        golden_source=source,
        sentences=opened.sentences,
    )
    return _report(args, str(opened.path), f"{len(observations)} golden pairs: {source}")


def _report(args: argparse.Namespace, origin: str, golden: str) -> int:
    from deft import bundle

    # Opened once more: what was written is what whoever gets it will read.
    written = bundle.load(args.bundle)
    if args.json:
        print(json.dumps(bundle.describe(args.bundle)))
        return 0
    size = sum(each.stat().st_size for each in args.bundle.iterdir()) / 1e6
    print(f"{args.bundle}: {written.info['family']} from {origin}, {size:.1f} MB")
    print(f"digest {written.digest[:16]}, {golden}")
    return 0


def _from_jaxrl(args: argparse.Namespace) -> None:
    from deft import bundle, formats
    from deft.cli.ingest import parse_image_size
    from deft.recipes import jaxrl

    height, width = parse_image_size(args.image_size)
    given = jaxrl.Given(
        height=height,
        width=width,
        fps=args.fps,
        camera=args.camera,
        obs_horizon=args.obs_horizon,
        pool=args.pool,
        activation=args.activation,
        action=jaxrl.stats_from(args.stats) if args.stats else jaxrl.BRIDGE_ACTION,
    )
    leaves = formats.flatten(formats.read_flax(args.run))
    policy = jaxrl.policy_from(leaves, given, args.run)
    rng = np.random.default_rng(0)
    golden = [(_random(policy.spec, rng), key) for key in range(args.golden)]
    stats = args.stats.name if args.stats else "published by BridgeData V2"
    bundle.save(
        args.bundle,
        policy,
        overwrite=args.overwrite,
        provenance={"from": "jaxrl", "checkpoint": Path(args.run).name, "action_stats": stats},
        golden=golden,
        golden_source="random pictures",
    )


def _random(contract: "Spec", rng: np.random.Generator) -> "Observation":
    """An observation of noise: enough to tell whether weights were read as they were written."""
    assert contract.horizons is not None  # a policy's contract has them
    seen: dict[str, Any] = {}
    for feature in contract.features:
        shape = (contract.horizons.obs_horizon, *feature.shape)
        if feature.dtype == "uint8":
            seen[feature.name] = rng.integers(0, 256, shape, dtype=np.uint8)
        elif feature.role != "action":
            seen[feature.name] = rng.normal(size=shape).astype(np.float32)
    return seen


def golden_observations(opened: "Bundle", count: int) -> "tuple[list[Observation], str]":
    """Observations for golden pairs, and where they are from, for people.

    Args:
        opened: a checkpoint; its provenance says which store it was trained on.
        count: how many, 1 or more.
    """
    from deft import store

    data = opened.info["provenance"].get("data")
    path, digest = (data.get("path"), data.get("digest")) if isinstance(data, dict) else ("", "")
    try:
        opened_store = store.open(str(path)) if path else None
    except StoreError:  # moved or deleted since: `source` tells so
        opened_store = None
    has_goal = bool(opened.spec.role("goal"))
    if opened_store is None or opened_store.digest != digest or has_goal:
        blended = _blend(opened.golden.observations, opened.spec, count)
        return blended, "blended from the checkpoint's own, the training data is not at hand"
    split = "val" if "val" in opened_store.episodes.split else "train"
    found = _drawn(opened_store, opened.spec, split, count)
    return found, f"{len(found)} of {opened_store.path.name}, split {split}"


def _drawn(data: "Store", contract: "Spec", split: str, count: int) -> "list[Observation]":
    """Real observations, drawn with a fixed seed."""
    from deft import store

    assert contract.horizons is not None  # a bundle's contract has them
    follows_text = any(feature.dtype == "str" for feature in contract.features)
    windows = store.Windows(data, contract.horizons, split=split, labeled=follows_text)
    rows = min(count, len(windows))
    sampler = store.Sampler(len(windows), rows, seed=0)
    inputs = [feature for feature in contract.features if feature.role != "action"]
    arrays = [feature.name for feature in inputs if feature.dtype != "str"]
    texts = [feature.name for feature in inputs if feature.dtype == "str"]
    with store.Loader(
        data, windows, sampler, observations=arrays, threads=1, prefetch=1, steps=1
    ) as loader:
        batch = next(iter(loader))
        return [
            {name: batch.obs[name][row].copy() for name in arrays}
            | dict.fromkeys(texts, data.tasks[batch.task[row]])
            for row in range(rows)
        ]


def _blend(own: "tuple[Observation, ...]", contract: "Spec", count: int) -> "list[Observation]":
    """The checkpoint's observations, then mixtures of two of them: never outside their range."""
    rng = np.random.default_rng(0)
    made = [dict(observation) for observation in own[:count]]
    while len(made) < count:
        first, second = (own[i] for i in rng.integers(0, len(own), 2))
        share = rng.uniform()
        made.append(
            {
                feature.name: _mix(first[feature.name], second[feature.name], share)
                for feature in contract.features
                if feature.role != "action"
            }
        )
    return made


def _mix(first: Any, second: Any, share: float) -> Any:
    if isinstance(first, str) or first.dtype == bool:
        return first
    mixed = share * first.astype(np.float64) + (1 - share) * second.astype(np.float64)
    if first.dtype.kind in "iu":
        mixed = np.rint(mixed)
    return mixed.astype(first.dtype)
