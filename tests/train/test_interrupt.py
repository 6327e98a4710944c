"""Leaving early loses no step: by a signal, or by the clock."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deft import nn, policies, store, train
from deft.policies import bc
from deft.train import checkpoint, interrupt
from suites.demonstrations import write_store


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    return store.open(write_store(tmp_path_factory.mktemp("data") / "home"))


def job(data: store.Store) -> train.Job:
    return train.Job(
        policy=policies.BCConfig(pred_horizon=4, action_horizon=2, dropout=0.1),
        data=train.DataConfig(path=str(data.path), observations=("state",), threads=1),
        optim=nn.OptimConfig(lr=1e-3, warmup_steps=1, decay_steps=100),
        train=train.TrainConfig(steps=8, batch_size=8, log_freq=4, save_freq=8),
        val=train.ValConfig(offline_freq=4, batch_size=8, max_batches=1),
        device="cpu",
    )


def at_step(number: int, does: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Call something in the middle of a step, counted from 1."""
    true, seen = bc.BC.losses, []

    def losses(self: bc.BC, batch: nn.Batch, draws: nn.Draws) -> Any:
        if self.training:
            seen.append(1)
            if len(seen) == number:
                does()
        return true(self, batch, draws)

    patch.setattr(bc.BC, "losses", losses)


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_loses_no_step(
    data: store.Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: signal.Signals,
    code: int,
) -> None:
    train.train(job(data), data, tmp_path / "whole")
    before = signal.getsignal(kind)
    with monkeypatch.context() as patch:
        at_step(3, lambda: os.kill(os.getpid(), kind), patch)
        with pytest.raises(train.StoppedError, match=f"{kind.name} came(?s:.)*step 3") as stopped:
            train.train(job(data), data, tmp_path / "cut")
    assert stopped.value.code == code
    assert signal.getsignal(kind) is before
    assert train.steps(tmp_path / "cut") == [3]
    train.train(job(data), data, tmp_path / "cut", resume=True)
    runs = [tmp_path / "whole", tmp_path / "cut"]
    one, two = (checkpoint.load(run, 8, torch.device("cpu")) for run in runs)
    assert all(torch.equal(one["weights"][name], two["weights"][name]) for name in one["weights"])
    # The curves go on as if nothing had happened: means span the stop.
    rows = [
        [{k: v for k, v in row.items() if not k.startswith(("time/", "memory"))} for row in each]
        for each in (train.read_metrics(run / "metrics.jsonl") for run in runs)
    ]
    assert rows[0] == rows[1]
    assert train.steps(tmp_path / "cut") == [8]


def test_the_clock_ends_a_run(
    data: store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now)

    def pass_two_minutes() -> None:
        nonlocal now
        now += 120

    at_step(5, pass_two_minutes, monkeypatch)
    short = replace(job(data), train=replace(job(data).train, max_minutes=1.5))
    with pytest.raises(train.StoppedError, match=r"train\.max_minutes=1\.5 are over") as stopped:
        train.train(short, data, tmp_path)
    assert stopped.value.code == interrupt.OUT_OF_TIME
    assert train.steps(tmp_path) == [5]


def test_a_signal_in_the_last_step_is_the_end_of_the_run(
    data: store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(8, lambda: os.kill(os.getpid(), signal.SIGTERM), monkeypatch)
    train.train(job(data), data, tmp_path)
    assert train.steps(tmp_path) == [8]


def test_a_second_signal_stops_at_once(
    data: store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_step(2, twice, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train.train(job(data), data, tmp_path)
    assert train.steps(tmp_path) == []
