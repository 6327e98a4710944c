"""Does each of BridgeData's algorithms learn? On 25 real clips, through the command line.

Every policy is trained on some clips of the sample's train file and compared with the mean action,
on those clips and on the rest, which it has never seen. (The sample's val file holds the same
episodes, so it is left out.) A Markdown table goes to the standard output.

    OMP_NUM_THREADS=1 python bench/bridge_learns.py FOLDER SAMPLE [--steps 250] [--encoder cnn]

25 clips of ten steps are far too few to learn a skill from. What the table can show is that each
loss pulls the actions towards the demonstrated ones: the error on the training clips falls far
below that of the mean action, while the error on the others stays near or above it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

POLICIES = ("bc", "gc_bc", "lc_bc", "gc_ddpm_bc", "gc_iql", "contrastive_rl")
FILM = "-film"
LONGER = {"gc_ddpm_bc": 6}
"""Diffusion learns noise at every step from 0 to 19, for which it needs more batches."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where runs and converted data go")
    parser.add_argument("sample", type=Path, help="an RLDS folder with the file `train`")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--encoder", default="cnn", help="cnn, or resnetv1-18-bridge and the like")
    parser.add_argument("--held-out", type=int, default=5, help="clips that are not trained on")
    parser.add_argument("--policies", nargs="+", default=POLICIES)
    options = parser.parse_args()
    print(
        f"{options.encoder}, {options.steps} steps of {options.batch}, {options.held_out} clips "
        f"held out; load {os.getloadavg()[0]:.1f} at the start\n"
    )
    print(
        "| policy | steps | training clips | mean action | share | held-out clips | mean action "
        "| share | minutes |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for policy in options.policies:
        begun = time.monotonic()
        run = train(policy, options)
        minutes = (time.monotonic() - begun) / 60
        cells = [cell for split in ("train", "val") for cell in measure(run, split, options)]
        print(
            f"| {policy} | {steps_of(policy, options)} | {' | '.join(cells)} | {minutes:.1f} |",
            flush=True,
        )


def train(policy: str, options: argparse.Namespace) -> Path:
    """The run of one policy, as a user would start it."""
    cnn = (
        "policy.encoder.cnn_channels=16",
        "policy.encoder.pool=none",
        "policy.encoder.image_features=64",
    )
    film = FILM if policy == "lc_bc" and options.encoder != "cnn" else ""
    deft(
        options,
        "train",
        f"policy={policy}",
        "task=bridge",
        f"data.path={options.sample}",
        "data.include=[train-*]",
        f"val.split={options.held_out}",
        "val.offline_freq=0",
        f"policy.encoder.image={options.encoder}{film}",
        *(cnn if options.encoder == "cnn" else ()),
        f"train.steps={steps_of(policy, options)}",
        f"train.batch_size={options.batch}",
        f"train.save_freq={steps_of(policy, options)}",
        # So few steps: a faster rate, a shorter warm-up and a shorter average; nothing is varied.
        "optim.lr=1e-3",
        "optim.warmup_steps=50",
        "train.ema_max_decay=0.98",
        "train.ema_power=0.75",
        "augment=none",
        f"runs_dir={options.folder / 'runs'}",
        "session=learns",
    )
    return options.folder / "runs" / "bridge" / policy / "learns"


def steps_of(policy: str, options: argparse.Namespace) -> int:
    return options.steps * LONGER.get(policy, 1)


def measure(run: Path, split: str, options: argparse.Namespace) -> tuple[str, str, str]:
    """Error of the policy with its interval, that of the mean action, and the one by the other."""
    words = (f"data.path={options.sample}", f"data.split={split}", "--json")
    methods = json.loads(deft(options, "eval", str(run), *words))["methods"]
    own, mean = methods["policy"], methods["mean"]["normalised_mae"]
    low, high = own["normalised_mae_low"], own["normalised_mae_high"]
    error = own["normalised_mae"]
    return f"{error:.3f} ({low:.3f} to {high:.3f})", f"{mean:.3f}", f"{error / mean:.2f}"


def deft(options: argparse.Namespace, *words: str) -> str:
    """One command; what it printed on its standard output."""
    print(" ".join(("deft", *words)), file=sys.stderr)
    home = dict(os.environ, DEFT_DATA_DIR=str(options.folder / "data"))
    command = [sys.executable, "-m", "deft", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=home).stdout


if __name__ == "__main__":
    main()
