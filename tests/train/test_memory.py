"""Memory that runs out, and the batch that fits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deft import bundle, nn, policies, store, train
from deft.errors import ConfigError
from deft.policies import bc
from deft.train import memory
from suites.demonstrations import write_store


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    return store.open(write_store(tmp_path_factory.mktemp("data") / "home"))


def job(data: store.Store, **plan: Any) -> train.Job:
    small = nn.ObsEncoderConfig(cnn_channels=8, keypoints=4, image_features=8)
    return train.Job(
        policy=policies.BCConfig(encoder=small),
        data=train.DataConfig(path=str(data.path), observations=("image",), threads=1),
        train=train.TrainConfig(**{"steps": 2, "batch_size": 8, "save_freq": 2, **plan}),
        val=train.ValConfig(offline_freq=0),
        device="cpu",
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_what_can_be_turned_down_is_said(
    data: store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def losses(*_: object) -> None:
        raise error

    monkeypatch.setattr(bc.BC, "losses", losses)
    with pytest.raises(train.OutOfMemoryError) as raised:
        train.train(job(data, precision="bf16"), data, tmp_path)
    for knob in (
        "train.batch_size=8",
        "train.grad_accum_steps=1",
        "train.precision=bf16",
        "optim.encoder_lr_scale=1",
        "encoder trained",
        "data.image_size=32x32",
        "augment=off",
    ):
        assert knob in str(raised.value)


def test_other_errors_are_left_alone(
    data: store.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(bc.BC, "losses", losses)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train.train(job(data), data, tmp_path)


class Fake:
    """Memory that grows by `row` per row, worse than that beyond `bend`, and is full at `full`."""

    def __init__(self, row: float, bend: int = 10**9, full: float = 1e18) -> None:
        self.row, self.bend, self.full = row, bend, full
        self.asked: list[int] = []

    def __call__(self, size: int) -> float | None:
        self.asked.append(size)
        used = 1000.0 + self.row * size + max(size - self.bend, 0) * self.row
        return used if used < self.full else None


@pytest.mark.parametrize(
    ("fake", "limit", "multiple", "most", "wanted"),
    [
        (Fake(10), 2000, 1, 10_000, 100),
        (Fake(10), 2000, 8, 10_000, 96),
        (Fake(10), 2000, 8, 50, 48),
        (Fake(10), 1100, 8, 10_000, 8),
        (Fake(10), 1e9, 8, 5, 8),
        (Fake(10, bend=64), 2000, 4, 10_000, 76),
        (Fake(10, full=1800), 2000, 4, 10_000, 76),
    ],
)
def test_the_largest_batch(fake: Fake, limit: float, multiple: int, most: int, wanted: int) -> None:
    size = memory.largest_batch(fake, limit, multiple, most)
    assert size == wanted
    assert size % multiple == 0
    used = Fake(fake.row, fake.bend, fake.full)(size)
    assert used is not None
    assert used <= limit
    assert len(fake.asked) < 20


def test_a_batch_that_never_fits_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"limit 0\.00 GB"):
        memory.largest_batch(Fake(10), 1000, 8, 100)


def test_auto_fills_the_memory_it_is_given_and_keeps_its_choice(
    data: store.Store, tmp_path: Path
) -> None:
    def size_of(run: Path) -> int:
        about = bundle.describe(run / "checkpoints" / "last")
        return about["provenance"]["job"]["train"]["batch_size"]

    for megabytes in (5, 10):
        auto = job(data, batch_size="auto", memory_gb=megabytes / 1000)
        train.train(auto, data, tmp_path / str(megabytes))
    small, large = size_of(tmp_path / "5"), size_of(tmp_path / "10")
    assert 1 < small < large <= 96
    more = job(data, batch_size="auto", memory_gb=0.1, steps=3)
    train.train(more, data, tmp_path / "5", resume=True)
    assert size_of(tmp_path / "5") == small
    with pytest.raises(ConfigError, match="does not fit"):
        train.train(replace(auto, train=replace(auto.train, memory_gb=1e-6)), data, tmp_path / "n")
