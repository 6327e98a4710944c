"""A training in shards over two ranks is the training that one process does."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deft import bundle, nn, policies, store, train
from deft.errors import ConfigError
from deft.train import checkpoint, sharding
from suites import shards, spoken
from suites.demonstrations import write_store
from suites.ranks import finished, started

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run of two ranks, and what one process makes of the same jobs."""
    folder = tmp_path_factory.mktemp("shards")
    home, talk = write_store(folder / "home"), spoken.write_store(folder / "spoken", vectors=True)
    found = folder / "runs"
    shards.run(shards.job("flow", home, False, 2), found / "flow" / "from_one")
    processes = started(["-m", "suites.shards", str(home), str(talk), str(found)])
    said = finished(processes, timeout_s=900)
    assert all(process.returncode == 0 for process in processes), said
    for family in shards.CONFIGS.keys() - set(shards.MEETING):
        data = talk if family == "lc_bc" else home
        shards.run(shards.job(family, data, False), found / family / "whole")
    shutil.copytree(found / "flow" / "to_one", found / "flow" / "on_one", symlinks=True)
    shards.run(shards.job("flow", home, True), found / "flow" / "on_one", resume=True)
    return found


def state(run: Path) -> dict[str, Any]:
    return checkpoint.load(run, 4, CPU)


def average(run: Path) -> dict[str, torch.Tensor]:
    """Opens the bundle as a server does, golden answers included."""
    return bundle.load(checkpoint.folder_of(run, 4)).policy.state_dict()


def moments(run: Path) -> dict[str, torch.Tensor]:
    held = state(run)["optimizers"]["loss"]["state"]
    return {f"{i}.{name}": each[name] for i, each in held.items() for name in each}


SEEN = ("train/loss", "train/loss_grad_norm", "val/loss", "val/action_error")


def assert_close(one: Path, other: Path, measured: tuple[str, ...] = SEEN) -> None:
    for of in (lambda run: state(run)["weights"], average, moments):
        mine, theirs = of(one), of(other)
        assert mine.keys() == theirs.keys()
        for name in mine:
            torch.testing.assert_close(theirs[name], mine[name], rtol=1e-3, atol=2e-5)
    rows = [train.read_metrics(run / "metrics.jsonl") for run in (one, other)]
    for name in measured:
        mine, theirs = ([row[name] for row in each if name in row] for each in rows)
        assert len(mine) >= 2
        assert theirs == pytest.approx(mine, rel=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
class TestTwoRanks:
    @pytest.mark.parametrize("family", sorted(policies.POLICIES))
    def test_train_what_is_trained_without_shards(self, runs: Path, family: str) -> None:
        assert_close(runs / family / "whole", runs / family / "shards")

    def test_add_up_pieces(self, runs: Path) -> None:
        assert_close(runs / "flow" / "whole", runs / "flow" / "pieces")

    def test_measure_one_batch_on_one_of_them(self, runs: Path) -> None:
        """The other has none of its own, and computes along all the same."""
        # Means of losses over batches know how large those are.
        measured = tuple(name for name in SEEN if name != "val/loss")
        assert_close(runs / "flow" / "whole", runs / "flow" / "lone", measured)

    def test_compute_in_halves(self, runs: Path) -> None:
        losses = [
            [row["train/loss"] for row in train.read_metrics(path) if "train/loss" in row]
            for path in (runs / "flow" / name / "metrics.jsonl" for name in ("whole", "bf16"))
        ]
        assert losses[1] == pytest.approx(losses[0], rel=0.05)
        assert losses[1] != losses[0]

    def test_go_on_bit_for_bit(self, runs: Path) -> None:
        through, stopped = runs / "bc" / "through", runs / "bc" / "stopped"
        for of in (lambda run: state(run)["weights"], average, moments):
            mine, theirs = of(through), of(stopped)
            assert all(torch.equal(mine[name], theirs[name]) for name in mine)

    def test_go_on_for_one_process_and_one_process_for_them(self, runs: Path) -> None:
        for session in ("from_one", "on_one"):
            assert checkpoint.steps(runs / "flow" / session) == [2, 4]
            assert_close(runs / "flow" / "whole", runs / "flow" / session)

    def test_show_a_simulator_a_whole_policy(self, runs: Path) -> None:
        answers = [
            [row["eval/answer"] for row in train.read_metrics(path) if "eval/answer" in row]
            for path in (runs / "bc" / name / "metrics.jsonl" for name in ("whole", "shards"))
        ]
        assert len(answers[0]) == 2
        assert answers[1] == pytest.approx(answers[0], rel=1e-3)

    def test_leave_checkpoints_that_do_not_tell(self, runs: Path) -> None:
        """The same files, and in them the same kinds of things."""
        folders = [checkpoint.folder_of(runs / "flow" / n, 4) for n in ("whole", "shards")]
        names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
        assert names[0] == names[1]
        one, other = (state(runs / "flow" / name) for name in ("whole", "shards"))
        assert (
            one["optimizers"]["loss"]["param_groups"] == other["optimizers"]["loss"]["param_groups"]
        )
        assert all(type(tensor) is torch.Tensor for tensor in other["weights"].values())

    def test_hold_half_of_everything(self, runs: Path) -> None:
        held = [json.loads((runs / f"held_{rank}.json").read_text()) for rank in (0, 1)]
        for name in ("weights", "gradients", "moments", "average"):
            assert held[0][name] + held[1][name] == pytest.approx(1.0)
            assert held[0][name] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("key", "value"),
    [("batch_size", "auto"), ("compile", True), ("precision", "fp16"), ("channels_last", True)],
)
def test_settings_that_do_not_go_with_shards_are_named(key: str, value: Any) -> None:
    asked = shards.job("flow", Path("data"), True)
    sharding.check(asked)
    with pytest.raises(ConfigError, match=rf"train\.{key} is .*\n.*train\.{key}|number of rows"):
        sharding.check(replace(asked, train=replace(asked.train, **{key: value})))


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        (replace(shards.CONFIGS["gc_iql"], optimisers=True), "policy.optimisers=false"),
        (
            policies.FlowConfig(encoder=nn.ObsEncoderConfig(learn_temperature=True)),
            "policy.encoder.learn_temperature=false",
        ),
    ],
)
def test_policies_that_cannot_be_split_are_named(tmp_path: Path, policy: Any, named: str) -> None:
    data = store.open(write_store(tmp_path / "home"))
    built = policies.build(policy, policies.contract(policy, data.spec), data.stats)
    asked = replace(shards.job("flow", data.path, True), policy=policy)
    with pytest.raises(ConfigError, match=named):
        sharding.split(built, asked, CPU, train.Ranks(0, 2))


def test_one_process_alone_holds_everything(tmp_path: Path) -> None:
    asked = shards.job("flow", write_store(tmp_path / "home"), True, 2)
    shards.run(asked, tmp_path / "run")
    assert train.steps(tmp_path / "run") == [2]
