"""Steps in pieces, in other precisions, and with parts that stay as they are."""

import copy
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from deft import nn, policies, store, train
from deft.errors import ConfigError, TrainError
from deft.policies import bc
from deft.train import broken, checkpoint, stepping
from deft.train import loader as loading
from deft.train.distributed import Ranks
from deft.train.state import assemble, fresh
from suites.demonstrations import write_store


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    return store.open(write_store(tmp_path_factory.mktemp("data") / "home"))


SMALL = nn.ObsEncoderConfig(cnn_channels=8, keypoints=4, image_features=8)


def job(data: store.Store, family: str = "bc", seen: Sequence[str] = ("state",)) -> train.Job:
    chunk = {"pred_horizon": 4, "action_horizon": 2} if family in ("bc", "flow") else {}
    return train.Job(
        policy=policies.POLICIES[family](encoder=SMALL, **chunk),
        data=train.DataConfig(path=str(data.path), observations=tuple(seen), threads=1),
        optim=nn.OptimConfig(lr=1e-3, warmup_steps=1, decay_steps=1000),
        train=train.TrainConfig(steps=4, batch_size=8, log_freq=1, save_freq=4),
        val=train.ValConfig(offline_freq=0),
        device="cpu",
    )


def planned(job: train.Job, **changes: Any) -> train.Job:
    return replace(job, train=replace(job.train, **changes))


def without_dropout(policy: Any) -> Any:
    if hasattr(policy, "dropout"):
        return replace(policy, dropout=0.0)
    return replace(policy, head=replace(policy.head, dropout=0.0))


def weights(run: Path, step: int = 4) -> dict[str, torch.Tensor]:
    return checkpoint.load(run, step, torch.device("cpu"))["weights"]


def losses(run: Path) -> list[float]:
    rows = train.read_metrics(run / "metrics.jsonl")
    return [row["train/loss"] for row in rows if "train/loss" in row]


@pytest.mark.parametrize("family", ["bc", "flow", "gc_bc", "gc_ddpm_bc"])
def test_pieces_make_up_the_batch(data: store.Store, tmp_path: Path, family: str) -> None:
    """Episodes have 12 steps and chunks 4, so pieces differ in how much of them is valid."""
    whole = job(data, family)
    if family.startswith("gc"):
        whole = replace(whole, policy=without_dropout(whole.policy))
    train.train(whole, data, tmp_path / "one")
    train.train(planned(whole, grad_accum_steps=4), data, tmp_path / "four")
    one, four = weights(tmp_path / "one"), weights(tmp_path / "four")
    for name in one:
        torch.testing.assert_close(four[name], one[name], rtol=1e-4, atol=1e-5)
    assert losses(tmp_path / "four") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def test_each_weight_moves_by_its_own_gradient(data: store.Store) -> None:
    """Pictures come with channels last, and so do then the gradients of kernels: an optimiser that
    goes through memory in order would give each weight another one's."""
    whole = planned(job(data, seen=("state", "image")), grad_clip_norm=0.0)
    contract = policies.contract(whole.policy, data.spec, whole.data.observations)
    policy = fresh(whole, contract, data, torch.device("cpu"))
    twin = copy.deepcopy(policy)
    state = assemble(whole, policy, torch.device("cpu"))
    with loading.training_batches(whole, data, contract, 0) as loader:
        loaded = next(iter(loader))
        batch = loading.to_device(loaded, data, contract, torch.device("cpu"))
        draws = loading.draws_of(loaded, 0, torch.device("cpu"))
        step = stepping.Stepper(state, whole, torch.device("cpu"), Ranks())
        step(stepping.pieces(batch, draws, 1))
        twin.losses(batch, draws)[0]["loss"].backward()
    kernels = 0
    for (name, weight), like in zip(policy.named_parameters(), twin.parameters(), strict=True):
        assert like.grad is not None
        moment = state.optimizers["loss"].state[weight]["exp_avg"]
        wanted = (1 - whole.optim.betas[0]) * like.grad
        torch.testing.assert_close(moment, wanted, rtol=1e-4, atol=1e-9, msg=name)
        kernels += weight.ndim == 4
    assert kernels >= 4


def test_pieces_are_worth_what_they_teach() -> None:
    valid = np.array([[True, False], [False, False], [True, True], [True, True]])
    assert stepping.learned(valid, 2) == [1.0, 4.0]
    batch = nn.Batch(obs={"state": torch.arange(4.0)[:, None, None]}, task=("a", "b", "c", "d"))
    found = stepping.pieces(batch, nn.Draws(0, torch.arange(4)), 2, [0.2, 0.8])
    assert [piece.share for piece in found] == [0.2, 0.8]
    assert found[1].batch.task == ("c", "d")
    assert found[1].draws.rows.tolist() == [2, 3]
    assert found[1].batch.obs["state"].flatten().tolist() == [2.0, 3.0]


def test_a_batch_that_cannot_be_cut_names_those_that_can(data: store.Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size=6 or 9"):
        train.train(planned(job(data), grad_accum_steps=3), data, tmp_path)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("accum", [1, 2])
def test_half_precision_learns_the_same(
    data: store.Store, tmp_path: Path, precision: str, accum: int
) -> None:
    whole = planned(job(data, seen=("state", "image")), steps=20, save_freq=10, log_freq=10)
    train.train(whole, data, tmp_path / "fp32")
    half = planned(whole, precision=precision, grad_accum_steps=accum)
    train.train(half, data, tmp_path / "half")
    assert losses(tmp_path / "half") == pytest.approx(losses(tmp_path / "fp32"), rel=0.1)
    assert losses(tmp_path / "half") != losses(tmp_path / "fp32")
    assert all(each.dtype != torch.float16 for each in weights(tmp_path / "half", 20).values())
    # Stopping in between changes no bit, the scaler's included.
    train.train(planned(half, steps=10), data, tmp_path / "two")
    train.train(half, data, tmp_path / "two", resume=True)
    one, two = weights(tmp_path / "half", 20), weights(tmp_path / "two", 20)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_channels_last_changes_nothing_but_the_layout(data: store.Store, tmp_path: Path) -> None:
    whole = job(data, seen=("image",))
    train.train(whole, data, tmp_path / "one")
    train.train(planned(whole, channels_last=True), data, tmp_path / "last")
    assert losses(tmp_path / "last") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)
    kernels = [w for w in weights(tmp_path / "last").values() if w.ndim == 4]
    assert any(not kernel.is_contiguous() for kernel in kernels)


@pytest.mark.parametrize("family", ["bc", "gc_iql", "contrastive_rl"])
def test_a_frozen_encoder_stays_bit_for_bit(data: store.Store, tmp_path: Path, family: str) -> None:
    frozen = job(data, family, seen=("state", "image"))
    frozen = replace(frozen, optim=replace(frozen.optim, encoder_lr_scale=0.0, weight_decay=0.1))
    train.train(planned(frozen, save_freq=1, keep_freq=1), data, tmp_path)
    first, last = weights(tmp_path, 1), weights(tmp_path, 4)
    images = [name for name in first if ".images." in name]
    assert images
    assert all(torch.equal(first[name], last[name]) for name in images)
    moved = [n for n in first if n not in images and not torch.equal(first[n], last[n])]
    assert moved


def test_several_objectives_in_pieces(data: store.Store, tmp_path: Path) -> None:
    """Without negatives from the batch, the losses of rows do not meet."""
    whole = job(data, "gc_iql")
    policy = replace(whole.policy, optimisers=True, negatives=0.0)
    whole = replace(whole, policy=without_dropout(policy))
    train.train(whole, data, tmp_path / "one")
    train.train(planned(whole, grad_accum_steps=2), data, tmp_path / "two")
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=2e-5)


def test_a_weight_without_a_part_in_its_loss_is_named(
    data: store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = bc.BC.__init__

    def with_more(self: bc.BC, *args: Any) -> None:
        build(self, *args)
        self.spare = torch.nn.Linear(2, 2)

    monkeypatch.setattr(bc.BC, "__init__", with_more)
    with pytest.raises(TrainError, match=r"spare\.weight, spare\.bias"):
        train.train(job(data), data, tmp_path)


def test_the_batch_of_a_broken_step_is_kept(
    data: store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = bc.BC.losses
    seen: list[torch.Tensor] = []

    def breaks(self: bc.BC, batch: nn.Batch, draws: nn.Draws) -> Any:
        found, parts = true(self, batch, draws)
        seen.append(draws.rows.clone())
        assert batch.action is not None
        return {"loss": found["loss"] * (torch.nan if len(seen) == 3 else 1.0)}, parts

    monkeypatch.setattr(bc.BC, "losses", breaks)
    with pytest.raises(TrainError, match=r"step 3: train/loss(?s:.)*nan_batch\.safetensors"):
        train.train(planned(job(data), steps=10, log_freq=5, save_freq=10), data, tmp_path)
    kept = load_file(tmp_path / "logs" / "nan_batch.safetensors")
    assert kept["draws"].tolist() == seen[2].tolist()
    assert kept["obs.state"].shape == (8, 1, 2)
    assert kept["action_valid"].shape == (8, 4)
    assert train.steps(tmp_path) == []


def test_what_is_odd_in_a_batch_is_named(tmp_path: Path) -> None:
    batch = nn.Batch(obs={"state": torch.tensor([[[1.0, torch.inf]]])}, task=("go",))
    draws = nn.Draws(3, torch.tensor([7]))
    assert broken.write_batch(tmp_path / "b.safetensors", batch, draws, 1) == ["obs.state"]
    held = {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([1.0, torch.inf])}
    with pytest.raises(TrainError, match=r"step 6: b is not finite(?s:.)*obs\.state in it"):
        broken.check_finite(held, 6, tmp_path, Ranks(), lambda step: (batch, draws))
    del held["b"]
    assert broken.check_finite(held, 6, tmp_path, Ranks(), lambda step: (batch, draws)) == {
        "a": 2.0
    }


@pytest.mark.compile
@pytest.mark.timeout(600)
@pytest.mark.parametrize("family", ["bc", "gc_iql"])
def test_a_compiled_policy_learns_the_same(data: store.Store, tmp_path: Path, family: str) -> None:
    """In a process without the tests' shape checks, which cannot be compiled."""
    script = f"""if True:
        import sys
        from dataclasses import replace
        from pathlib import Path
        from deft import nn, policies, store, train
        data = store.open(sys.argv[1])
        extra = {{"optimisers": True, "negatives": 0.0}} if "{family}" == "gc_iql" else {{}}
        if extra:
            extra["head"] = replace(policies.POLICIES["gc_iql"]().head, dropout=0.0)
        job = train.Job(
            policy=policies.POLICIES["{family}"](**extra),
            data=train.DataConfig(path=str(data.path), observations=("state",), threads=1),
            optim=nn.OptimConfig(lr=1e-3, warmup_steps=1),
            train=train.TrainConfig(steps=3, batch_size=8, log_freq=1),
            val=train.ValConfig(offline_freq=1, batch_size=8, max_batches=1),
            device="cpu",
        )
        for name in ("plain", "compiled"):
            plan = replace(job.train, compile=name == "compiled")
            train.train(replace(job, train=plan), data, Path(sys.argv[2]) / name)
    """
    done = subprocess.run(
        [sys.executable, "-c", script, str(data.path), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name = "train/loss" if family == "bc" else "train/critic"
    plain, compiled = (
        [row[name] for row in train.read_metrics(tmp_path / each / "metrics.jsonl") if name in row]
        for each in ("plain", "compiled")
    )
    assert len(plain) == 3
    assert compiled == pytest.approx(plain, rel=1e-3)
