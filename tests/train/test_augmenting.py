"""Which executor a run takes, and what it does to training and to validation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deft import nn, policies, spec, store, train
from deft.nn.augment_plan import ITEMS
from deft.train.augmenting import Augmentation
from deft.train.loader import draws_of, held_out, to_device, training_batches, val_batches
from suites.demonstrations import write_store

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    return store.open(write_store(tmp_path_factory.mktemp("data") / "home"))


def job(data: store.Store, steps: int = 4, **augment: object) -> train.Job:
    encoder = nn.ObsEncoderConfig(cnn_channels=8, keypoints=4, image_features=8)
    return train.Job(
        policy=policies.BCConfig(
            obs_horizon=2, pred_horizon=4, action_horizon=2, width=16, depth=1, encoder=encoder
        ),
        data=train.DataConfig(path=str(data.path), observations=("state", "image"), threads=2),
        train=train.TrainConfig(steps=steps, batch_size=8, log_freq=1, save_freq=2),
        val=train.ValConfig(offline_freq=2, batch_size=8, max_batches=2),
        augment=nn.AugmentConfig(**{"order": ITEMS, **augment}),
        device="cpu",
    )


def seen(job: train.Job, data: store.Store, start: int = 0) -> list[np.ndarray]:
    """The pictures that are trained on, batch by batch."""
    contract = policies.contract(job.policy, data.spec, job.data.observations)
    vary = Augmentation.of(job, contract, data.spec, CPU)
    with training_batches(job, data, contract, start, vary.threads) as loader:
        return [
            vary(to_device(batch, data, contract, CPU), draws_of(batch, job.seed, CPU))
            .obs["image"]
            .numpy()
            .copy()
            for batch in loader
        ]


def test_the_device_decides_where(data: store.Store) -> None:
    def picked(executor: str, device: str) -> tuple[bool, bool]:
        whole = job(data, executor=executor)
        found = Augmentation.of(whole, data.spec, data.spec, torch.device(device))
        return found.threads is not None, found.device is not None

    assert picked("auto", "cpu") == (True, False)
    assert picked("auto", "cuda") == (False, True)
    assert picked("threads", "cuda") == (True, False)
    assert picked("device", "cpu") == (False, True)
    off = Augmentation.of(job(data, order=()), data.spec, data.spec, CPU)
    assert off == Augmentation()


def test_both_executors_show_the_policy_the_same(data: store.Store) -> None:
    threads, device = seen(job(data), data), seen(job(data, executor="device"), data)
    plain = seen(job(data, order=()), data)
    for one, other, as_stored in zip(threads, device, plain, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 2
        assert np.abs(one.astype(int) - as_stored).mean() > 2


def test_a_resumed_run_draws_as_the_whole_one_would_have(data: store.Store) -> None:
    whole, rest = seen(job(data), data), seen(job(data), data, start=3)
    assert len(rest) == 1
    np.testing.assert_array_equal(rest[0], whole[3])


def test_another_epoch_shows_the_same_picture_differently(data: store.Store) -> None:
    contract = policies.contract(job(data).policy, data.spec, ("state", "image"))
    windows = store.Windows(data, contract.horizons, split="train")
    plan = replace(job(data).train, batch_size=len(windows), steps=2)
    epochs = seen(replace(job(data), train=plan), data)
    orders = [store.Sampler(len(windows), len(windows), 0).batch(step)[0] for step in (0, 1)]
    first, second = (epoch[np.argsort(order)] for epoch, order in zip(epochs, orders, strict=True))
    assert (np.abs(first.astype(int) - second).mean((1, 2, 3, 4)) > 1).all()


def test_saliency_maps_follow_unless_told_not_to(data: store.Store) -> None:
    maps = spec.Feature(name="gaze", role="saliency", shape=(8, 8, 1), dtype="uint8")
    wider = replace(data.spec, features=(*data.spec.features, maps))
    whole = job(data)
    for follows in (True, False):
        config = replace(whole.policy, saliency=nn.SaliencyConfig(augment=follows))
        for executor in ("threads", "device"):
            changed = replace(
                whole, policy=config, augment=replace(whole.augment, executor=executor)
            )
            found = Augmentation.of(changed, data.spec, wider, CPU)
            roles = (found.threads or found.device.augment).roles
            assert ("gaze" in roles) == follows


def test_held_out_pictures_are_left_alone(data: store.Store) -> None:
    whole = job(data)
    contract = policies.contract(whole.policy, data.spec, whole.data.observations)
    windows = held_out(whole, data, contract)
    assert windows is not None
    plain = replace(whole, augment=nn.AugmentConfig())
    for (one, _), (other, _) in zip(
        val_batches(whole, windows, contract, CPU),
        val_batches(plain, windows, contract, CPU),
        strict=True,
    ):
        assert torch.equal(one.obs["image"], other.obs["image"])


@pytest.mark.parametrize("executor", ["threads", "device"])
def test_a_run_reports_what_augmentation_takes(
    data: store.Store, tmp_path: Path, executor: str
) -> None:
    train.train(job(data, executor=executor), data, tmp_path)
    lines = [m for m in train.read_metrics(tmp_path / "metrics.jsonl") if "train/loss" in m]
    name = "time/augment" if executor == "threads" else "time/augment_device"
    assert len(lines) == 4
    assert all(0 <= line[name] < 1 for line in lines)
    assert lines[0][name] > 0
    assert ("time/augment_device" in lines[0]) == (executor == "device")
