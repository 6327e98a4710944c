"""What training draws: the same after a stop, for any ranks, and from what was chosen."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deft import nn, policies, spec, store, train
from deft.errors import ConfigError, StoreError
from deft.train import loader as loading
from deft.train.augment_cpu import ThreadAugment
from suites.demonstrations import episode, write_store

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("data") / "home", episodes=7, length=5)


def job(path: Path | tuple[str, ...], family: str = "bc", **data: object) -> train.Job:
    policy = policies.POLICIES[family](obs_horizon=2, pred_horizon=1, action_horizon=1)
    given = path if isinstance(path, tuple) else str(path)
    return train.Job(
        policy=policy,
        data=train.DataConfig(path=given, threads=2, **data),  # pyright: ignore
        train=train.TrainConfig(steps=20, batch_size=4, log_freq=1, save_freq=20),
        val=train.ValConfig(offline_freq=0),
        augment=nn.AugmentConfig(order=("random_brightness",)),
        seed=3,
        device="cpu",
    )


def drawn(job: train.Job, start: int = 0, rank: int = 0, world: int = 1) -> list[list[object]]:
    """Of each sample: step of training, episode, tick, goal, wording, and its augmented pixels."""
    data = loading.chosen(job, train.open_data(job.data, job.data.paths))
    contract = policies.contract(job.policy, data.spec, job.data.observations)
    vary = ThreadAugment(job.augment, contract.features, job.seed)
    found: list[list[object]] = []
    with loading.training_batches(
        job, data, contract, start, vary, rank=rank, world_size=world
    ) as batches:
        for step, batch in enumerate(batches, start=start):
            pixels = batch.obs["image"].reshape(len(batch.draws), -1).sum(1, dtype=np.int64)
            columns = (batch.episode, batch.step, batch.goal_distance, batch.text, pixels)
            found += [[step, *row] for row in np.stack(columns, 1).tolist()]
    return found


def steps_of(rows: list[list[object]]) -> dict[object, list[list[object]]]:
    return {step: [row for row in rows if row[0] == step] for step in {row[0] for row in rows}}


def test_a_resumed_run_draws_what_was_left(path: Path) -> None:
    """30 training steps an episode round: every stop but the first is within an epoch."""
    whole = drawn(job(path))
    assert len(whole) == 80
    for start in (1, 7, 13):
        assert drawn(job(path), start) == [row for row in whole if int(str(row[0])) >= start]


@pytest.mark.parametrize("sampling", ["uniform", "by_episode", "by_task"])
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_draw_the_same_between_them(path: Path, sampling: str, world: int) -> None:
    one = job(path, sampling=sampling)
    whole = steps_of(drawn(one))
    ranks = [steps_of(drawn(one, rank=rank, world=world)) for rank in range(world)]
    for step, rows in whole.items():
        assert [row for rank in ranks for row in rank[step]] == rows


SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import torch.distributed as dist
from test_train_loader import drawn, job
from deft.train import loader as loading
rank, world, start, stop, out = (*map(int, sys.argv[2:6]), Path(sys.argv[6]))
dist.init_process_group("gloo", init_method=f"file://{out}/meet", rank=rank, world_size=world)
rows = drawn(job(Path(sys.argv[1])), start, dist.get_rank(), dist.get_world_size())
every = [None] * world
dist.all_gather_object(every, rows)
if rank == 0:
    (out / "rows").write_text(json.dumps(every))
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_with_gloo_draw_the_same(path: Path, tmp_path: Path, world: int) -> None:
    whole = steps_of(drawn(job(path)))
    env = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS}/train", "OMP_NUM_THREADS": "1"}
    for start in (0, 7):
        out = tmp_path / str(start)
        out.mkdir()
        given = [
            [str(path), str(rank), str(world), str(start), "0", str(out)] for rank in range(world)
        ]
        processes = [
            subprocess.Popen([sys.executable, "-c", SCRIPT, *each], env=env) for each in given
        ]
        try:
            assert [process.wait(timeout=200) for process in processes] == [0] * world
        finally:
            for process in processes:
                process.kill()
                process.wait()
        ranks = [steps_of(rows) for rows in json.loads((out / "rows").read_text())]
        for step, rows in whole.items():
            if int(str(step)) >= start:
                assert [row for rank in ranks for row in rank[step]] == rows


KILLED = """
import sys
from dataclasses import replace
from pathlib import Path
from deft import train
from test_train_loader import job
one = job(Path(sys.argv[1]))
one = replace(one, train=replace(one.train, steps=int(sys.argv[3]), save_freq=3))
train.train(one, train.open_data(one.data, one.data.paths), Path(sys.argv[2]), resume=True)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(path: Path, tmp_path: Path) -> None:
    """Losses of every step, which hang on samples, augmentation and noise, are those of one go."""
    env = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS}/train", "OMP_NUM_THREADS": "1"}

    def begin(run: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", KILLED, str(path), str(run), "20"], env=env)

    with begin(tmp_path / "one") as process:
        assert process.wait(timeout=200) == 0
    with begin(tmp_path / "two") as process:
        deadline = time.monotonic() + 200
        while len(train.steps(tmp_path / "two")) == 0 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with begin(tmp_path / "two") as process:
        assert process.wait(timeout=200) == 0
    losses = [
        {
            row["step"]: row["train/loss"]
            for row in train.read_metrics(tmp_path / n / "metrics.jsonl")
        }
        for n in ("one", "two")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 20


def test_the_settings_choose_episodes_and_who_is_held_out(path: Path) -> None:
    one = job(path, episodes="0:4")
    one = replace(one, val=replace(one.val, split=1, offline_freq=1))
    data = loading.chosen(one, train.open_data(one.data, one.data.paths))
    assert sorted(data.episodes.split[:4]) == ["train"] * 3 + ["val"]
    used = {row[1] for row in drawn(one)}
    assert used == set(np.flatnonzero(data.episodes.split == "train").tolist())
    contract = policies.contract(one.policy, data.spec)
    held = loading.held_out(one, data, contract)
    assert held is not None
    assert len(held) == 5
    off = replace(one, val=replace(one.val, split=0))
    assert loading.held_out(off, loading.chosen(off, data), contract) is None
    with pytest.raises(StoreError, match="nothing is left to train on"):
        loading.chosen(job(path, exclude=("*",)), data)


def test_a_mixture_draws_by_weight(path: Path, tmp_path: Path) -> None:
    other = write_store(tmp_path / "other", episodes=3, length=9)
    one = job((str(path), str(other)), weights=(1.0, 3.0), observations=("image",))
    one = replace(one, train=replace(one.train, steps=256))
    counts = Counter(int(str(row[1])) >= 7 for row in drawn(one))
    assert counts[True] == 768
    plain = replace(one, data=replace(one.data, weights=None))
    assert 0.15 < Counter(int(str(r[1])) >= 7 for r in drawn(plain))[True] / 1024 < 0.6
    train.train(
        replace(one, train=replace(one.train, steps=2)),
        train.open_data(one.data, one.data.paths),
        tmp_path / "run",
    )
    with pytest.raises(ConfigError, match="2 numbers for 1 stores"):
        job(path, weights=(1.0, 2.0))
    with pytest.raises(ConfigError, match="above 0"):
        job((str(path), str(other)), weights=(1.0, 0.0))


def test_policies_get_the_goals_and_next_observations_they_take(path: Path) -> None:
    one = job(path, "gc_iql", observations=("image",))
    one = replace(one, data=replace(one.data, goals=store.GoalConfig(strategy="last")))
    data = loading.chosen(one, train.open_data(one.data, one.data.paths))
    contract = policies.contract(one.policy, data.spec, one.data.observations)
    with loading.training_batches(one, data, contract, 0) as batches:
        batch = next(batches)
        given = loading.to_device(batch, data, contract, torch.device("cpu"))
        assert given.goal["image"].shape == (4, 32, 32, 3)
        assert given.next_obs["image"].shape == (4, 2, 32, 32, 3)
        assert given.reward is not None
        assert given.reward.tolist() == batch.reward.tolist()
        assert given.mask is not None
        assert given.mask.tolist() == [1.0] * 4
    plain = job(path)
    contract = policies.contract(plain.policy, data.spec)
    with loading.training_batches(plain, data, contract, 0) as batches:
        given = loading.to_device(next(batches), data, contract, torch.device("cpu"))
    assert given.goal == {}
    assert given.next_obs == {}
    assert given.reward is None


def test_one_of_the_wordings_is_drawn_per_sample(tmp_path: Path) -> None:
    features = (
        *episode(0).spec.features,
        spec.Feature(name="task", role="language", shape=(), dtype="str"),
    )
    contract = replace(episode(0).spec, features=features)
    config = store.WriteConfig(val_fraction=0.0)
    said = ["go home", "return", "come back to the middle"]
    with store.Writer(tmp_path / "s", contract, config, {}) as writer:
        made = [replace(episode(n), spec=contract, task="go home") for n in range(2)]
        writer.add(made[0], said)
        writer.add(made[1])
        writer.finish([each.id for each in made])
    data = store.open(tmp_path / "s")
    assert set(data.texts) == set(said)
    windows = store.Windows(data, spec.Horizons(), split="train")
    sampler = store.Sampler(len(windows), 240, 0)
    with store.Loader(data, windows, sampler, observations=["state"], steps=1) as batches:
        batch = next(batches)
        texts = np.asarray(data.texts)[batch.text]
        assert set(texts[batch.episode == 1]) == {"go home"}
        counts = Counter(texts[batch.episode == 0].tolist())
        assert min(counts[text] for text in said) > 20
        given = loading.to_device(batch, data, contract, torch.device("cpu"))
        assert given.task == tuple(texts.tolist())


def test_metrics_tell_the_share_of_each_stage(path: Path, tmp_path: Path) -> None:
    one = job(path)
    train.train(one, train.open_data(one.data, one.data.paths), tmp_path)
    rows = train.read_metrics(tmp_path / "metrics.jsonl")
    stages = ("wait", "plan", "read", "decode", "augment", "copy", "transfer")
    for row in rows:
        assert all(0 <= row[f"time/{stage}"] <= 1 for stage in stages)
    assert max(row["time/copy"] for row in rows) > 0
    assert max(row["time/augment"] for row in rows) > 0
