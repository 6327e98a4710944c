"""Training from a store: learning, saving, stopping and going on."""

import json
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors import SafetensorError

from deft import bundle, nn, policies, store, train
from deft.errors import SpecError, TrainError
from deft.train import checkpoint
from suites.demonstrations import write_store


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    return store.open(write_store(tmp_path_factory.mktemp("data") / "home"))


def job(data: store.Store, family: str = "flow", **changes: object) -> train.Job:
    policy = policies.POLICIES[family](obs_horizon=2, pred_horizon=4, action_horizon=2)
    plan = train.TrainConfig(steps=4, batch_size=8, log_freq=1, save_freq=2)
    whole = train.Job(
        policy=policy,
        data=train.DataConfig(path=str(data.path), observations=("state",), threads=1),
        optim=nn.OptimConfig(lr=1e-3, warmup_steps=1, decay_steps=1000),
        train=plan,
        val=train.ValConfig(offline_freq=2, batch_size=8, max_batches=2),
        device="cpu",
    )
    return replace(whole, **changes)


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    state = checkpoint.load(run, step, torch.device("cpu"))
    average = bundle.load(checkpoint.folder_of(run, step)).policy.state_dict()
    return {**state["weights"], **{f"average.{k}": v for k, v in average.items()}}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("family", ["bc", "flow"])
@pytest.mark.parametrize("seen", [("state",), ("image",), ("state", "image")])
def test_stop_and_go_on_equals_one_go(
    data: store.Store, tmp_path: Path, family: str, seen: tuple[str, ...]
) -> None:
    whole = job(data, family)
    whole = replace(whole, data=replace(whole.data, observations=seen))
    half = replace(whole, train=replace(whole.train, steps=2))
    train.train(whole, data, tmp_path / "one")
    train.train(half, data, tmp_path / "two")
    train.train(whole, data, tmp_path / "two", resume=True)
    assert equal(weights(tmp_path / "one", 4), weights(tmp_path / "two", 4))
    metrics = [train.read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    losses = [{m["step"]: m["train/loss"] for m in each if "train/loss" in m} for each in metrics]
    assert losses[0] == losses[1]
    assert list(losses[0]) == [1, 2, 3, 4]


def test_it_learns_and_the_checkpoint_acts(data: store.Store, tmp_path: Path) -> None:
    plan = train.TrainConfig(steps=200, batch_size=32, log_freq=50, save_freq=200)
    last = train.train(job(data, "bc", train=plan), data, tmp_path)
    assert last["val/action_error"] < 0.3 * last["val/baseline_error"]
    actor = bundle.actor(bundle.load(tmp_path / "checkpoints" / "last"))
    seen = {"state": torch.tensor([[0.5, -0.5], [0.5, -0.5]]).numpy()}
    chunk = actor.act_many([seen], [0])[0]
    assert chunk.actions[0] == pytest.approx([-0.1, 0.1], abs=0.06)


def test_kept_are_the_last_the_best_and_the_multiples(data: store.Store, tmp_path: Path) -> None:
    plan = train.TrainConfig(steps=10, batch_size=4, log_freq=5, save_freq=1, keep_freq=4)
    train.train(job(data, train=plan), data, tmp_path)
    kept = train.steps(tmp_path)
    best = checkpoint.best_step(tmp_path, "val/action_error")
    assert set(kept) == {4, 8, 10, best}
    folder = tmp_path / "checkpoints"
    assert (folder / "last").resolve().name == "step_0000000010"
    assert (folder / "best").resolve() == checkpoint.folder_of(tmp_path, best or 0).resolve()
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith(".")) == []


@pytest.mark.slow
def test_of_a_hundred_checkpoints_those_remain_that_should(
    data: store.Store, tmp_path: Path
) -> None:
    plan = train.TrainConfig(steps=200, batch_size=4, log_freq=50, save_freq=2, keep_freq=30)
    train.train(job(data, "bc", train=plan), data, tmp_path)
    rows = train.read_metrics(tmp_path / "metrics.jsonl")
    errors = [(row["val/action_error"], row["step"]) for row in rows if "val/action_error" in row]
    assert len(errors) == 100
    # The best may have been one that was superseded, but what was best is never thrown away.
    assert set(train.steps(tmp_path)) == {*range(30, 201, 30), 200, min(errors)[1]}


@pytest.mark.parametrize(("best_is", "wanted"), [("lowest", 3), ("highest", 2)])
def test_best_is_what_the_settings_say(
    data: store.Store, tmp_path: Path, best_is: Literal["lowest", "highest"], wanted: int
) -> None:
    """Episodes are played every second step, and with every checkpoint, by which they choose."""
    played: list[int] = []

    def play(policy: policies.Policy, step: int) -> dict[str, float]:
        assert not policy.training
        torch.rand(3)  # must not change what training draws
        played.append(step)
        return {"success": {2: 0.9, 3: 0.1}.get(step, 0.5)}

    val = train.ValConfig(
        offline_freq=0, online_freq=2, env="x", best="eval/success", best_is=best_is
    )
    plan = train.TrainConfig(steps=5, batch_size=4, log_freq=5, save_freq=1)
    dropped = replace(job(data, "bc").policy, dropout=0.2)
    whole = job(data, policy=dropped, train=plan, val=val)
    last = train.train(whole, data, tmp_path / "played", evaluate=play)
    assert (played, last["eval/success"]) == ([1, 2, 3, 4, 5], 0.5)
    assert train.steps(tmp_path / "played") == sorted({wanted, 5})
    folder = tmp_path / "played" / "checkpoints"
    assert (folder / "best").resolve().name == f"step_{wanted:010d}"
    train.train(replace(whole, val=train.ValConfig(offline_freq=0)), data, tmp_path / "plain")
    assert equal(weights(tmp_path / "plain", 5), weights(tmp_path / "played", 5))


def test_held_out_errors_are_told_apart(data: store.Store, tmp_path: Path) -> None:
    last = train.train(job(data), data, tmp_path)
    by_dimension = [last[f"val/action_mae/{name}"] for name in "xy"]
    assert sum(by_dimension) / 2 == pytest.approx(last["val/action_mae"], rel=1e-5)
    ahead = [last[f"val/action_error/+{tick}"] for tick in range(4)]
    assert min(ahead) < last["val/action_error"] < max(ahead)
    assert "val/action_error/+4" not in last
    console = (tmp_path / "logs" / "train.log").read_text()
    assert "val/action_mae " in console
    assert "val/action_mae/x" not in console


def test_a_length_in_epochs(data: store.Store, tmp_path: Path) -> None:
    """Seven episodes of twelve steps are 84 windows, ten and a half batches."""
    plan = train.TrainConfig(epochs=1.5, batch_size=8, log_freq=1, save_freq=100)
    train.train(job(data, train=plan), data, tmp_path)
    assert train.steps(tmp_path) == [16]
    assert "train.epochs=1.5: 16 steps" in (tmp_path / "logs" / "train.log").read_text()


@pytest.mark.parametrize("file", ["training_state.pt", "training.json", "model.safetensors"])
def test_a_torn_checkpoint_is_never_gone_on_from(
    data: store.Store, tmp_path: Path, file: str
) -> None:
    train.train(job(data), data, tmp_path)
    damaged = checkpoint.folder_of(tmp_path, 4) / file
    damaged.write_bytes(damaged.read_bytes()[:-20])
    longer = replace(job(data), train=train.TrainConfig(steps=6, batch_size=8))
    with pytest.raises(ValueError if file == "model.safetensors" else TrainError, match="step_"):
        train.train(longer, data, tmp_path, resume=True)


def test_other_data_is_never_gone_on_with(data: store.Store, tmp_path: Path) -> None:
    train.train(job(data), data, tmp_path / "run")
    other = store.open(write_store(tmp_path / "other", episodes=9))
    with pytest.raises(TrainError, match="began with other data"):
        train.train(job(other), other, tmp_path / "run", resume=True)


def test_a_full_disk_costs_no_earlier_checkpoint(
    data: store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save: Callable[..., None] = torch.save
    calls: list[int] = []

    def full(*args: object, **kwargs: object) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        save(*args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainError, match=r"No space left(?s:.)*resume=true"):
        train.train(job(data), data, tmp_path)
    assert train.steps(tmp_path) == [2]
    monkeypatch.undo()
    train.train(job(data), data, tmp_path, resume=True)
    assert train.steps(tmp_path)[-1] == 4


@pytest.mark.parametrize("kind", ["limit", "safetensors"])
def test_a_disk_that_refuses_anywhere_costs_no_earlier_checkpoint(
    data: store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    train.train(replace(job(data), train=train.TrainConfig(steps=2, batch_size=8)), data, tmp_path)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("step_*2/*"))}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if kind == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    else:

        def refuse(*_: object, **__: object) -> None:
            raise SafetensorError("I/O error: No space left on device (os error 28)")

        monkeypatch.setattr("deft.bundle.writing.save_file", refuse)
    try:
        with pytest.raises(TrainError, match="Earlier checkpoints are untouched"):
            train.train(job(data), data, tmp_path, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert train.steps(tmp_path) == [2]
    assert before == {path: path.read_bytes() for path in sorted(tmp_path.rglob("step_*2/*"))}
    assert not list(tmp_path.rglob(".writing*"))
    monkeypatch.undo()
    train.train(job(data), data, tmp_path, resume=True)
    assert train.steps(tmp_path)[-1] == 4


def test_a_loss_that_explodes_stops_the_run(data: store.Store, tmp_path: Path) -> None:
    plan = train.TrainConfig(steps=50, batch_size=4, log_freq=1, grad_clip_norm=0)
    wild = job(data, "bc", train=plan, optim=nn.OptimConfig(lr=1e30, warmup_steps=0))
    with pytest.raises(TrainError, match="not finite"):
        train.train(wild, data, tmp_path)
    assert train.steps(tmp_path) == []


def test_nothing_to_train_on_is_said(data: store.Store, tmp_path: Path) -> None:
    plain = job(data)
    with pytest.raises(SpecError, match="Did you mean 'state'"):
        train.train(
            replace(plain, data=replace(plain.data, observations=("stat",))), data, tmp_path
        )


def test_a_torn_line_of_metrics_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1, "a": 2.0}) + '\n{"step": 2, "a"')
    assert train.read_metrics(path) == [{"step": 1, "a": 2.0}]
    path.write_text('{"step"\n{"step": 2}\n')
    with pytest.raises(TrainError, match="line 1"):
        train.read_metrics(path)
