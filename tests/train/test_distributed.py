"""Two ranks over gloo train what one would; a resumed run may have another number of them."""

import signal
import time
from pathlib import Path

import pytest
import torch

from deft import bundle, train
from deft.errors import ConfigError
from deft.train import checkpoint
from deft.train.distributed import Ranks, _buckets
from suites.demonstrations import write_store
from suites.ranks import finished, started

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("data") / "home")


def command(data: Path, runs: Path, session: str, *more: str, policy: str = "bc") -> list[str]:
    return [
        *("-m", "deft", "train", f"policy={policy}", f"data.path={data}", f"runs_dir={runs}"),
        *(f"session={session}", "data.observations=[state]", "policy.width=16", "policy.depth=1"),
        *("train.steps=6", "train.batch_size=8", "train.save_freq=3", "train.log_freq=1"),
        *("train.keep_freq=3", "val.offline_freq=3", "val.batch_size=4", "val.max_batches=3"),
        *("optim.warmup_steps=1", "optim.decay_steps=100", "device=cpu", "data.threads=1"),
        *more,
    ]


def run(words: list[str], ranks: int = 2) -> None:
    processes = started(words, ranks)
    said = finished(processes)
    assert all(process.returncode == 0 for process in processes), said


def weights(folder: Path, step: int = 6) -> dict[str, torch.Tensor]:
    average = bundle.load(checkpoint.folder_of(folder, step), golden=False).policy.state_dict()
    state = checkpoint.load(folder, step, torch.device("cpu"))
    return {**state["weights"], **{f"average.{name}": each for name, each in average.items()}}


def measured(folder: Path, name: str) -> list[float]:
    return [row[name] for row in train.read_metrics(folder / "metrics.jsonl") if name in row]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["bc", "flow"])
def test_two_ranks_train_what_one_does(data: Path, tmp_path: Path, policy: str) -> None:
    runs = tmp_path / "custom" / policy
    run(command(data, tmp_path, "one", policy=policy), 1)
    run(command(data, tmp_path, "two", policy=policy))
    run(command(data, tmp_path, "cut", "train.grad_accum_steps=2", policy=policy))
    for other in ("two", "cut"):
        for name in ("train/loss", "val/loss", "val/action_error", "val/action_mae/x", "lr"):
            one, two = measured(runs / "one", name), measured(runs / other, name)
            assert len(one) >= 2
            assert two == pytest.approx(one, rel=1e-4)
        mine, theirs = weights(runs / "one"), weights(runs / other)
        for name in mine:
            torch.testing.assert_close(theirs[name], mine[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_two_ranks_go_on_bit_for_bit_and_one_goes_on_for_two(data: Path, tmp_path: Path) -> None:
    """With dropout, whose random state each rank has for itself."""
    runs = tmp_path / "custom" / "bc"
    more = ["policy.dropout=0.1"]
    run(command(data, tmp_path, "whole", *more))
    run(command(data, tmp_path, "half", *more, "train.steps=3"))
    run(command(data, tmp_path, "half", "resume=true"))
    mine, theirs = weights(runs / "whole"), weights(runs / "half")
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)

    run(command(data, tmp_path, "plain"))
    run(command(data, tmp_path, "fewer", "train.steps=3"))
    run(command(data, tmp_path, "fewer", "resume=true"), 1)
    mine, theirs = weights(runs / "plain"), weights(runs / "fewer")
    for name in mine:
        torch.testing.assert_close(theirs[name], mine[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_both_after_the_same_step(data: Path, tmp_path: Path) -> None:
    runs = tmp_path / "custom" / "bc"
    long = ["train.steps=100000", "train.save_freq=100000", "val.offline_freq=0"]
    processes = started(command(data, tmp_path, "a", *long, "train.keep_freq=0"))
    log = runs / "a" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGTERM)
    said = finished(processes)
    assert [process.returncode for process in processes] == [3, 128 + signal.SIGTERM], said
    assert len(train.steps(runs / "a")) == 1
    assert "resume=true" in said[0]


@pytest.mark.slow
def test_ranks_that_differ_are_told_apart(data: Path, tmp_path: Path) -> None:
    """As on two machines with different data at the same path."""
    other = write_store(tmp_path / "other", episodes=6)
    script = """if True:
        import os, sys
        from pathlib import Path
        from deft import policies, store, train
        data = store.open(sys.argv[1 + int(os.environ["RANK"])])
        job = train.Job(
            policy=policies.BCConfig(width=8, depth=1),
            data=train.DataConfig(path=str(data.path), observations=("state",)),
            train=train.TrainConfig(steps=1, batch_size=2),
            device="cpu",
        )
        train.train(job, data, Path(sys.argv[3]))
    """
    processes = started(["-c", script, str(data), str(other), str(tmp_path / "run")])
    said = finished(processes)
    assert all(process.returncode == 1 for process in processes)
    assert "Rank 1 would train something else than rank 0" in said[0]
    assert "data: rank 0 has" in said[0]


def test_alone_nothing_is_sent() -> None:
    ranks = Ranks()
    assert (ranks.is_first, ranks.total([1.5]), ranks.gather("a")) == (True, [1.5], ["a"])
    gradient = torch.ones(3)
    ranks.add_up([gradient])
    ranks.agree({"a": "b"})
    assert gradient.tolist() == [1, 1, 1]


def test_gradients_travel_in_buckets_of_one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deft.train.distributed.BUCKET_BYTES", 40)
    sent = [torch.zeros(n) for n in (4, 4, 4, 20)] + [torch.zeros(1, dtype=torch.float64)]
    found = _buckets(sent)
    assert [[len(each) for each in bucket] for bucket in found] == [[4, 4], [4], [20], [1]]


def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="torchrun"):
        Ranks.here()
