"""Do goal-conditioned policies reach their goals? MetaWorld's reach: one scene, a goal per episode.

Everything goes through the command line, as a user would do it: demonstrations of the scripted
expert, training, evaluation on test seeds with the goal that the expert reached in the same
episode, with the goal of another episode (`goals=shuffled`), and an untrained policy. A Markdown
table goes to the standard output.

    OMP_NUM_THREADS=1 python bench/goals.py image [--steps 3000]     seeing pictures and the hand
    OMP_NUM_THREADS=1 python bench/goals.py mixed [--steps 3000]     state, half of the data bad
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ENV = "metaworld/reach-v3"
IMAGE = ("gc_bc", "gc_ddpm_bc")
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
        "policy.encoder.image=cnn",
        "policy.encoder.pool=spatial_softmax",
        "policy.encoder.ticks=separate",
        "policy.encoder.image_features=64",
        *more,
    )
    return folder / "runs" / "custom" / policy / session


def measure(run: Path, episodes: int, *more: str) -> str:
    words = (f"env={ENV}", f"episodes={episodes}", "videos=0", "max_steps=150", *more)
    found = deft("eval", str(run), *words, "--json")
    low, high = found["success_low"], found["success_high"]
    return f"{found['successes']} of {found['episodes']} ({low:.2f} to {high:.2f})"


def image(folder: Path, steps: int, episodes: int, policies: Sequence[str]) -> None:
    """Pictures and the hand; goals are the last picture and the last place of the hand."""
    data = collect(folder, 100, 0.1, "observations=[image,proprio]")
    print("| policy | own goals | shuffled goals | untrained |\n| --- | --- | --- | --- |")
    for policy in (each for each in IMAGE if each in policies):
        more = ("data.observations=[image,proprio]", "policy.goals=[image]", "train.batch_size=64")
        run = train(folder, policy, str(data), "trained", 0, *more, f"train.steps={steps}")
        raw = train(
            folder, policy, str(data), "untrained", 0, *more, "train.steps=1", "optim.lr=1e-9"
        )
        own, shuffled = (measure(run, episodes, f"goals={each}") for each in ("own", "shuffled"))
        print(f"| {policy} | {own} | {shuffled} | {measure(raw, episodes)} |", flush=True)


def mixed(folder: Path, steps: int, episodes: int, seeds: int, policies: Sequence[str]) -> None:
    """The hand alone; half of the samples expert, half from actions that are mostly noise."""
    good = collect(folder, 50, 0.1, "observations=[proprio]", "executed=true")
    bad = collect(folder, 50, 2.0, "observations=[proprio]", "executed=true", "only_success=false")
    print("| policy | seed | own goals | shuffled goals |\n| --- | --- | --- | --- |")
    for policy, settings in MIXED:
        if policy not in policies:
            continue
        name = " ".join((policy, *(each.split("=")[1] for each in settings)))
        for seed in range(seeds):
            run = train(
                folder,
                policy,
                f"[{good},{bad}]",
                name.replace(" ", "-") + f"-{seed}",
                seed,
                "data.weights=[0.5,0.5]",
                "data.observations=[proprio]",
                "train.batch_size=256",
                "policy.pred_horizon=1",
                f"train.steps={steps}",
                *settings,
            )
            own, shuffled = (measure(run, episodes, f"goals={g}") for g in ("own", "shuffled"))
            print(f"| {name} | {seed} | {own} | {shuffled} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["image", "mixed"])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("bench/results/goals"))
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.what == "image":
        image(args.folder, args.steps, args.episodes, args.policies)
    else:
        mixed(args.folder, args.steps, args.episodes, args.seeds, args.policies)


if __name__ == "__main__":
    main()
