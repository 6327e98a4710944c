"""Stopped and gone on is the same as never stopped, for every policy of the family."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deft import bundle, nn, policies, spec, store, train
from deft.train import checkpoint
from suites.demonstrations import SPEC, episode

VECTOR = 6
CASES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "bc state": ("bc", {}, ("state",)),
    "bc image": ("bc", {}, ("image",)),
    "gc_bc state": ("gc_bc", {}, ("state",)),
    "gc_bc image": ("gc_bc", {}, ("state", "image")),
    "lc_bc image": ("lc_bc", {}, ("image",)),
    "gc_ddpm_bc state": ("gc_ddpm_bc", {}, ("state",)),
    "gc_ddpm_bc image": ("gc_ddpm_bc", {}, ("image",)),
    "gc_iql state": ("gc_iql", {}, ("state",)),
    "gc_iql, an optimiser per loss": ("gc_iql", {"optimisers": True}, ("image",)),
    "contrastive_rl state": ("contrastive_rl", {}, ("state",)),
    "contrastive_rl, an optimiser per loss": ("contrastive_rl", {"optimisers": True}, ("image",)),
    "contrastive_rl monte_carlo": ("contrastive_rl", {"critic": "monte_carlo"}, ("state",)),
}


LEARNED = ("train/loss", "train/actor", "train/critic", "train/value", "val/action_error")
"""What metrics.jsonl must repeat."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    """Demonstrations with a sentence and its vector."""
    vector = spec.Feature(
        name="language_embedding", role="language", shape=(VECTOR,), dtype="float32"
    )
    contract = replace(SPEC, features=(*SPEC.features, vector))
    path = tmp_path_factory.mktemp("data") / "home"
    config = store.WriteConfig(val_fraction=0.2)
    with store.Writer(path, contract, config, {"made by": "tests"}) as writer:
        made = [episode(number) for number in range(8)]
        for number, each in enumerate(made):
            text = np.random.default_rng(number % 2).normal(size=VECTOR).astype(np.float32)
            arrays = {**each.arrays, "language_embedding": np.tile(text, (len(each), 1))}
            task = ("go home", "go slowly")[number % 2]
            writer.add(replace(each, spec=contract, arrays=arrays, task=task))
        writer.finish([each.id for each in made])
    return store.open(path)


def job(data: store.Store, family: str, settings: dict[str, Any], seen: tuple[str, ...]) -> Any:
    config = policies.POLICIES[family](**settings)
    encoder = replace(config.encoder, image="cnn", cnn_channels=8, pool="average")
    small: dict[str, Any] = {"encoder": encoder}
    if family in ("bc", "gc_ddpm_bc"):
        small |= {"width": 16, "dropout": 0.1}
    else:
        small["head"] = nn.ActionHeadConfig(hidden=(16, 16))
    return train.Job(
        policy=replace(config, **small),
        data=train.DataConfig(path=str(data.path), observations=seen, threads=1),
        optim=nn.OptimConfig(lr=1e-3, warmup_steps=1, decay_steps=100),
        train=train.TrainConfig(
            steps=6, batch_size=8, log_freq=1, save_freq=3, keep_freq=3, ema_max_decay=0.9
        ),
        val=train.ValConfig(offline_freq=3, batch_size=8, max_batches=1),
        augment=nn.AugmentConfig(order=("random_brightness",), brightness=0.2),
        device="cpu",
    )


def everything(run: Path, step: int) -> dict[str, torch.Tensor]:
    """Weights, targets among them, moments of every optimiser, and the average."""
    state = checkpoint.load(run, step, torch.device("cpu"))
    average = bundle.load(checkpoint.folder_of(run, step)).policy.state_dict()
    return _flat({"state": state, "average": average})


def _flat(tree: Any, name: str = "") -> dict[str, torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return {name: tree}
    if isinstance(tree, dict):
        pairs = tree.items()
    elif isinstance(tree, list | tuple):
        pairs = enumerate(tree)
    else:
        return {}
    found: dict[str, torch.Tensor] = {}
    for key, value in pairs:
        found |= _flat(value, f"{name}.{key}")
    return found


@pytest.mark.parametrize(("family", "settings", "seen"), CASES.values(), ids=CASES)
def test_stop_and_go_on_equals_one_go(
    data: store.Store,
    tmp_path: Path,
    family: str,
    settings: dict[str, Any],
    seen: tuple[str, ...],
) -> None:
    whole = job(data, family, settings, seen)
    half = replace(whole, train=replace(whole.train, steps=3))
    train.train(whole, data, tmp_path / "one")
    train.train(half, data, tmp_path / "two")
    train.train(whole, data, tmp_path / "two", resume=True)
    one, two = (everything(tmp_path / name, 6) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    halfway = everything(tmp_path / "one", 3)
    moved = [name for name in one if not torch.equal(one[name], halfway[name])]
    for piece in _pieces(family, seen):
        assert any(piece in name for name in moved), piece
    logs = [train.read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    losses = [
        {(row["step"], key): row[key] for row in log for key in row if key.startswith(LEARNED)}
        for log in logs
    ]
    assert losses[0] == losses[1]
    assert losses[0]


def _pieces(family: str, seen: tuple[str, ...]) -> list[str]:
    """What must be among the things that are saved and change."""
    pieces = ["exp_avg", "average."]
    if family == "gc_iql":
        pieces += ["target_value", *(["target_encoder"] if "image" in seen else [])]
    if family == "contrastive_rl":
        pieces.append("target.")
    return pieces
