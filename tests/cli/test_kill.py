"""`kill -9` at random moments of a conversion and of a training, then the same command again.

The real command line runs in processes of its own. The moments come from a fixed seed, but what
the process is doing then does not: a failure here is real even when it does not repeat.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from deft import bundle, formats
from deft.spec import Episode, Feature, Spec
from deft.train import checkpoint
from suites import ranks
from suites.demonstrations import write_store
from suites.formats import same

FEW = 2
MANY = 10
CONVERSIONS = 30

EPISODES_ALIKE = formats.WRITABLE.keys() - {"bridge_tfrecord"}
"""Formats that promise equal episodes, where bytes may differ."""


def deft(*words: str, kill_after_s: float | None = None) -> bool:
    """Run one command; True when it ended by itself, and then it must have succeeded."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deft", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        said, _ = process.communicate(timeout=600 if kill_after_s is None else kill_after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert kill_after_s is not None, "took more than ten minutes"
        return False
    assert process.returncode == 0, said
    return True


def killed_once(words: list[str], again: list[str], moment_s: float) -> None:
    """Kill the command at this moment of its run, earlier if it is done by then; then let it end.

    The command must be one that a second call finds finished, not one that then fails.
    """
    while deft(*words, kill_after_s=moment_s):
        words, moment_s = again, moment_s * 0.5
    deft(*again)


def files(path: Path) -> dict[str, bytes]:
    found = [path, *sorted(path.rglob("*"))]
    return {str(each.relative_to(path)): each.read_bytes() for each in found if each.is_file()}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("kill") / "home", episodes=40, length=60)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Feature maps, for the one format that holds nothing else."""
    maps = Feature(name="features", role="feature_map", shape=(8, 8, 32), dtype="float16")
    contract = Spec(features=(maps,), fps=10.0)
    path = tmp_path_factory.mktemp("features") / "home"
    ids = [f"episode-{number:03d}" for number in range(40)]
    with formats.write(path, "feature_zarr", contract) as writer:
        for number, id_ in enumerate(ids):
            drawn = np.random.default_rng(number).normal(size=(60, *maps.shape))
            arrays = {"features": drawn.astype(np.float16)}
            writer.add(Episode(spec=contract, id=id_, arrays=arrays))
        return writer.finish(ids)


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kills", [FEW, pytest.param(CONVERSIONS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("to", ["store", "bridge_tfrecord"])
def test_convert_ends_with_the_same_bytes(
    recording: Path, tmp_path: Path, to: str, kills: int
) -> None:
    kill_conversions(recording, tmp_path, to, kills)
    for number in range(kills):
        assert files(tmp_path / f"killed-{number}") == files(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("to", sorted(EPISODES_ALIKE))
def test_convert_ends_with_the_same_episodes(
    recording: Path, features: Path, tmp_path: Path, to: str
) -> None:
    source = features if to == "feature_zarr" else recording
    kill_conversions(source, tmp_path, to, CONVERSIONS)
    whole = formats.open(tmp_path / "whole")
    wanted = [whole.read(number) for number in range(len(whole.episodes))]
    for number in range(CONVERSIONS):
        if files(tmp_path / f"killed-{number}") == files(tmp_path / "whole"):
            continue
        found = formats.open(tmp_path / f"killed-{number}")
        assert found.problems == whole.problems
        assert list(found.episodes) == list(whole.episodes)
        assert all(same(found.read(n), each) for n, each in enumerate(wanted))


def kill_conversions(recording: Path, folder: Path, to: str, kills: int) -> None:
    """Convert once in peace, and `kills` times with a kill at a random moment and a second call."""

    def command(target: str) -> list[str]:
        sizes = [] if to == "feature_zarr" else ["--image-size", "96x128"]
        words = ["--to", to, "--workers", "2", *sizes]
        return ["convert", str(recording), str(folder / target), *words]

    began = time.monotonic()
    deft(*command("whole"))
    took = time.monotonic() - began
    moments = random.Random(0)
    for number in range(kills):
        words = command(f"killed-{number}")
        killed_once(words, words, moments.uniform(0.2, 1.0) * took)
        reports = [(folder / f"{name}.conversion.json") for name in ("whole", f"killed-{number}")]
        if to != "store":
            assert reports[0].read_bytes() == reports[1].read_bytes()
    assert not list(folder.glob("*.partial"))


TINY = [
    "policy.encoder.image=cnn",
    "policy.encoder.cnn_channels=8",
    "policy.encoder.pool=average",
    "policy.encoder.ticks=separate",
    "policy.encoder.image_features=8",
    "policy.head.hidden=[16]",
    "policy.goals=[state]",
    "policy.obs_horizon=1",
    "policy.pred_horizon=1",
    "policy.action_horizon=1",
]
"""Settings that make policies of BridgeData small; they act one step at a time."""


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kills", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "policy",
    [
        "bc",
        "flow",
        pytest.param("gc_iql", marks=pytest.mark.slow),
        pytest.param("contrastive_rl", marks=pytest.mark.slow),
    ],
)
def test_training_ends_with_the_same_weights(
    recording: Path, tmp_path: Path, policy: str, kills: int
) -> None:
    def command(session: str, *more: str) -> list[str]:
        return [
            "train",
            f"policy={policy}",
            f"data.path={recording}",
            f"runs_dir={tmp_path}",
            f"session={session}",
            "data.observations=[state,image]",
            "policy.obs_horizon=2",
            "policy.pred_horizon=4",
            "policy.action_horizon=2",
            "train.steps=60",
            "train.batch_size=8",
            "train.save_freq=5",
            "train.log_freq=5",
            "val.offline_freq=10",
            "val.max_batches=1",
            "device=cpu",
            *(TINY if policy in ("gc_iql", "contrastive_rl") else []),
            *more,
        ]

    began = time.monotonic()
    deft(*command("whole"))
    took = time.monotonic() - began
    whole = tmp_path / "custom" / policy / "whole"
    moments = random.Random(0)
    for number in range(kills):
        words = command(f"killed-{number}")
        killed_once(words, [*words, "resume=true"], moments.uniform(0.2, 1.0) * took)
        assert_same(whole, whole.with_name(f"killed-{number}"))


def of_two_ranks(recording: Path, runs: Path, session: str, *more: str) -> list[str]:
    words = ["policy=bc", f"data.path={recording}", f"runs_dir={runs}", "device=cpu"]
    words += ["data.observations=[state]", f"session={session}", *more]
    words += ["train.steps=60", "train.batch_size=8", "train.save_freq=5", "train.log_freq=5"]
    words += ["val.offline_freq=10", "val.max_batches=1"]
    return ["-m", "deft", "train", *words]


def killed_together(words: list[str], after_s: float) -> None:
    """Both ranks are killed, as a machine that goes down kills them."""
    processes = ranks.started(words)
    time.sleep(after_s)
    for process in processes:
        process.kill()
    ranks.finished(processes)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("sharded", [False, True])
def test_two_ranks_end_with_the_same_weights(
    recording: Path, tmp_path: Path, sharded: bool
) -> None:
    more = ["policy.dropout=0.1", f"train.sharded={str(sharded).lower()}"]
    began = time.monotonic()
    ended(ranks.started(of_two_ranks(recording, tmp_path, "whole", *more)))
    took = time.monotonic() - began
    whole = tmp_path / "custom" / "bc" / "whole"
    moments = random.Random(1)
    for number in range(FEW if sharded else MANY):
        words = of_two_ranks(recording, tmp_path, f"killed-{number}", *more)
        killed_together(words, moments.uniform(0.3, 0.95) * took)
        ended(ranks.started([*words, "resume=true"]))
        assert_same(whole, whole.with_name(f"killed-{number}"))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_one_rank_ends_what_two_began(recording: Path, tmp_path: Path) -> None:
    """The same up to rounding, for each rank adds up its part of a batch first."""
    began = time.monotonic()
    ended(ranks.started(of_two_ranks(recording, tmp_path, "whole")))
    took = time.monotonic() - began
    whole = tmp_path / "custom" / "bc" / "whole"
    moments = random.Random(2)
    for number in range(2 * FEW):
        words = of_two_ranks(recording, tmp_path, f"killed-{number}")
        killed_together(words, moments.uniform(0.5, 0.95) * took)
        ended(ranks.started([*words, "resume=true"], 1))
        runs = (whole, whole.with_name(f"killed-{number}"))
        mine, theirs = (checkpoint.load(run, 60, torch.device("cpu"))["weights"] for run in runs)
        for name in mine:
            torch.testing.assert_close(theirs[name], mine[name], rtol=1e-3, atol=1e-5)


def ended(processes: list[subprocess.Popen[str]]) -> None:
    said = ranks.finished(processes)
    assert all(process.returncode == 0 for process in processes), said


def assert_same(one: Path, other: Path) -> None:
    """The last checkpoints of two runs hold the same bits: weights, average, optimiser."""
    ends = [checkpoint.load(folder, 60, torch.device("cpu")) for folder in (one, other)]
    averages = [bundle.load(checkpoint.folder_of(f, 60)).policy.state_dict() for f in (one, other)]
    for mine, theirs in ((ends[0]["weights"], ends[1]["weights"]), averages):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert ends[0]["optimizers"].keys() == ends[1]["optimizers"].keys()
    moments = [end["optimizers"]["loss"]["state"] for end in ends]
    for key, state in moments[0].items():
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(state[name], moments[1][key][name])
