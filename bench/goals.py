"""Do goal-conditioned policies reach their goals? MetaWorld's reach: one scene, a goal per episode.

Everything goes through the command line, as a user would do it: demonstrations of the scripted
expert, training, evaluation on test seeds with the goal that the expert reached in the same
episode, with the goal of another episode (`goals=shuffled`), and an untrained policy. A Markdown
table goes to the standard output.

    OMP_NUM_THREADS=1 python bench/goals.py image [--steps 3000]     seeing pictures and the hand
    OMP_NUM_THREADS=1 python bench/goals.py mixed [--steps 3000]     state, half of the data bad
    OMP_NUM_THREADS=1 python bench/goals.py mixed --expert-share 0.1 --expert-episodes 10
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ENV = "metaworld/reach-v3"
IMAGE = {
    "gc_bc": (),
    # A whole chunk runs, so that the hand does not wait for twenty steps of diffusion every tick.
    "gc_ddpm_bc": ("policy.action_horizon=4",),
}
LONGER = {"gc_ddpm_bc": 2}
"""Diffusion learns noise at every step from 0 to 19, for which it needs more batches."""
SEEN = (
    "data.observations=[image,proprio]",
    "policy.goals=[image]",
    "policy.encoder.image=cnn",
    "policy.encoder.cnn_channels=16",
    # The camera stands still, so that where something is in the map says where it is.
    "policy.encoder.pool=none",
    "policy.encoder.image_features=64",
)
MIXED = (
    ("gc_bc", ()),
    ("gc_iql", ("policy.temperature=0.1",)),
    ("contrastive_rl", ("policy.critic=td",)),
    ("contrastive_rl", ("policy.critic=monte_carlo", "data.goals.strategy=geometric")),
)
POLICIES = tuple(dict.fromkeys((*IMAGE, *(policy for policy, _ in MIXED))))


def deft(*words: str) -> dict:
    """One command with `--json` where it has it; what it printed, or nothing."""
    command = [sys.executable, "-m", "deft", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(" ".join(("deft", *words)), file=sys.stderr)
    return json.loads(done.stdout) if "--json" in words else {}


def collect(folder: Path, episodes: int, noise: float, *more: str) -> Path:
    out = folder / f"reach_{episodes}_{noise}"
    if (out / "store.json").exists():
        return out
    words = (f"env={ENV}", f"episodes={episodes}", f"noise={noise}", f"out={out}", *more)
    deft("collect", *words, "image_size=64x64", "codec=raw", "max_steps=150")
    return out


def train(folder: Path, policy: str, data: str, session: str, seed: int, *more: str) -> Path:
    deft(
        "train",
        f"policy={policy}",
        "task=custom",
        f"data.path={data}",
        f"session={session}",
        f"seed={seed}",
        f"runs_dir={folder / 'runs'}",
        "optim.lr=1e-3",
        "optim.warmup_steps=200",
        "val.offline_freq=0",
        "train.save_freq=100000",
        *more,
    )
    return folder / "runs" / "custom" / policy / session


def measure(run: Path, episodes: int, *more: str) -> str:
    words = (f"env={ENV}", f"episodes={episodes}", "videos=0", "max_steps=150", *more)
    found = deft("eval", str(run), *words, "--json")
    low, high = found["success_low"], found["success_high"]
    return f"{found['successes']} of {found['episodes']} ({low:.2f} to {high:.2f})"


def image(folder: Path, steps: int, episodes: int, policies: Sequence[str]) -> None:
    """Pictures and the hand; the goal is the last picture of a demonstration."""
    data = collect(folder, 200, 0.1, "observations=[image,proprio]")
    print("| policy | own goals | shuffled goals | untrained |\n| --- | --- | --- | --- |")
    for policy in (each for each in IMAGE if each in policies):
        more = (*SEEN, "train.batch_size=64", *IMAGE[policy])
        length = f"train.steps={steps * LONGER.get(policy, 1)}"
        run = train(folder, policy, str(data), "trained", 0, *more, length)
        raw = train(
            folder, policy, str(data), "untrained", 0, *more, "train.steps=1", "optim.lr=1e-9"
        )
        own, shuffled = (measure(run, episodes, f"goals={each}") for each in ("own", "shuffled"))
        print(f"| {policy} | {own} | {shuffled} | {measure(raw, episodes)} |", flush=True)


def mixed(args: argparse.Namespace) -> None:
    """The hand alone; a share of the samples is expert, in the rest actions are mostly noise."""
    seen = ("observations=[proprio]", "executed=true")
    good = collect(args.folder, args.expert_episodes, 0.1, *seen)
    bad = collect(args.folder, 50, 2.0, *seen, "only_success=false")
    print("| policy | seed | own goals | shuffled goals |\n| --- | --- | --- | --- |")
    for policy, settings in MIXED:
        if policy not in args.policies:
            continue
        name = " ".join((policy, *(each.split("=")[1] for each in settings)))
        for seed in range(args.seeds):
            run = train(
                args.folder,
                policy,
                f"[{good},{bad}]",
                f"{name.replace(' ', '-')}-{args.expert_share}-{args.expert_episodes}-{seed}",
                seed,
                f"data.weights=[{args.expert_share},{1 - args.expert_share:.6g}]",
                "data.observations=[proprio]",
                "train.batch_size=256",
                "policy.pred_horizon=1",
                f"train.steps={args.steps}",
                *settings,
            )
            own, shuffled = (measure(run, args.episodes, f"goals={g}") for g in ("own", "shuffled"))
            print(f"| {name} | {seed} | {own} | {shuffled} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["image", "mixed"])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--expert-share", type=float, default=0.5, help="of the mixed samples")
    parser.add_argument("--expert-episodes", type=int, default=50, help="of the mixed data")
    parser.add_argument("--folder", type=Path, default=Path("bench/results/goals"))
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.what == "image":
        image(args.folder, args.steps, args.episodes, args.policies)
    else:
        mixed(args)


if __name__ == "__main__":
    main()
