"""Training with maps of where to look: the network looks there, and acts no worse for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deft import bundle, nn, policies, store, train
from deft import eval as evaluation
from deft.train import loader as loading
from suites.marked import write_store


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("marked") / "few", episodes=10, length=6)


def job(
    path: Path, steps: int, seed: int = 0, order: tuple[str, ...] = (), **saliency: object
) -> train.Job:
    return train.Job(
        policy=policies.BCConfig(
            pred_horizon=1,
            action_horizon=1,
            width=64,
            depth=2,
            encoder=nn.ObsEncoderConfig(cnn_channels=8, keypoints=8, image_features=16),
            saliency=nn.SaliencyConfig(**saliency),  # pyright: ignore
        ),
        data=train.DataConfig(path=str(path)),
        optim=nn.OptimConfig(lr=2e-3, warmup_steps=20),
        train=train.TrainConfig(
            steps=steps, batch_size=16, log_freq=steps, save_freq=steps, ema_max_decay=0.9
        ),
        val=train.ValConfig(offline_freq=steps),
        augment=nn.AugmentConfig(order=order),  # pyright: ignore
        seed=seed,
        device="cpu",
    )


def trained(job: train.Job, run: Path) -> dict[str, float]:
    return train.train(job, train.open_data(job.data, job.data.paths), run)


def mass_inside(run: Path, job: train.Job) -> tuple[float, float]:
    """Share of the network's attention on the target over held-out steps, and the target's area.

    Attention is the mask's softmax over the map's cells, each cell spread evenly over its pixels:
    stretching the bicubic mask to 0 to 1 lifts the whole background.
    """
    policy = bundle.load(run / "checkpoints" / "last", golden=False).policy
    asked = replace(job, policy=replace(job.policy, saliency=nn.SaliencyConfig(enabled=True)))
    data = loading.chosen(asked, store.open(job.data.paths[0]))
    windows = loading.held_out(asked, data, policy.spec)
    assert windows is not None
    inside, area = [], []
    for batch, _ in loading.val_batches(asked, windows, policy.spec, torch.device("cpu")):
        target = batch.saliency["camera"][:, -1]  # B H W
        with torch.no_grad():
            maps = policy.encoder.encode(batch.obs).maps["camera"][:, -1]  # pyright: ignore
        strength = maps.abs().sum(1)  # B Hf Wf
        share = strength.flatten(1).softmax(-1).view_as(strength)  # B Hf Wf
        times = target.shape[-1] // share.shape[-1]
        mask = share.repeat_interleave(times, 1).repeat_interleave(times, 2)  # B H W
        inside += ((mask * (target > 0)).sum((1, 2)) / times**2).tolist()
        area += (target > 0).float().mean((1, 2)).tolist()
    return float(np.mean(inside)), float(np.mean(area))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return bundle.load(run / "checkpoints" / "last", golden=False).policy.state_dict()


def test_weight_zero_changes_no_bit(few: Path, tmp_path: Path) -> None:
    trained(job(few, 5), tmp_path / "off")
    trained(job(few, 5, enabled=True, weight=0.0), tmp_path / "zero")
    trained(job(few, 5, enabled=True, weight=1.0), tmp_path / "on")
    off, zero, on = (weights(tmp_path / name) for name in ("off", "zero", "on"))
    assert all(torch.equal(off[name], zero[name]) for name in off)
    assert not all(torch.equal(off[name], on[name]) for name in off)


def test_batches_hold_the_maps_of_the_data(few: Path) -> None:
    wanted = job(few, 3, enabled=True)
    data = loading.chosen(wanted, store.open(few))
    contract = policies.contract(wanted.policy, data.spec)
    assert "saliency" not in contract  # a robot has no such map
    with loading.training_batches(wanted, data, contract, 0) as batches:
        raw = next(iter(batches))
        sent = loading.to_device(raw, data, contract, torch.device("cpu"))
        assert set(sent.obs) == {"camera"}
        assert set(sent.saliency) == {"camera"}
        maps = sent.saliency["camera"].numpy()
        for row in range(len(maps)):
            place = int(data.episodes.start[raw.episode[row]] + raw.step[row])
            kept = np.empty((64, 64, 1), np.float32)
            data.frames["saliency"].decode_into(place, kept)
            np.testing.assert_allclose(maps[row, 0], kept[..., 0], atol=1e-4)
            # The marked square is orange in the middle.
            down, across = np.argwhere(maps[row, 0] > 0.5).mean(0).round().astype(int)
            assert np.abs(sent.obs["camera"][row, 0, down, across].numpy() - 0.0)[2] < 80
    off = job(few, 3)
    with loading.training_batches(off, data, contract, 0) as batches:
        sent = loading.to_device(next(iter(batches)), data, contract, torch.device("cpu"))
        assert sent.saliency == {}


@pytest.mark.parametrize(("augment", "follows"), [(True, True), (False, False)])
def test_maps_follow_the_crop_or_stay(few: Path, augment: bool, follows: bool) -> None:
    """With the crop off the map by as much as it moves the picture."""
    from deft.train.augmenting import Augmentation

    wanted = job(few, 3, 0, ("random_resized_crop",), enabled=True, augment=augment)
    data = loading.chosen(wanted, store.open(few))
    contract = policies.contract(wanted.policy, data.spec)
    vary = Augmentation.of(wanted, contract, data.spec, torch.device("cpu"))
    plain = job(few, 3, enabled=True)
    with (
        loading.training_batches(wanted, data, contract, 0, vary.threads) as moved,
        loading.training_batches(plain, data, contract, 0) as still,
    ):
        a, b = (
            loading.to_device(next(iter(each)), data, contract, torch.device("cpu"))
            for each in (moved, still)
        )
    assert not torch.equal(a.obs["camera"], b.obs["camera"])
    assert torch.equal(a.saliency["camera"], b.saliency["camera"]) is not follows


def test_the_network_looks_where_the_maps_say(few: Path, tmp_path: Path) -> None:
    off, on = job(few, 90), job(few, 90, enabled=True, weight=2.0)
    trained(off, tmp_path / "off")
    last = trained(on, tmp_path / "on")
    assert last["train/saliency_reg"] < 0.3
    without, area = mass_inside(tmp_path / "off", off)
    with_maps, _ = mass_inside(tmp_path / "on", on)
    assert with_maps > 2 * without
    assert with_maps > 3 * area


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_it_acts_no_worse_over_three_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_mirrored: bool
) -> None:
    """And better, where a blue square gives the orange one's place away in training only.

    Where nothing does, networks find the orange square by themselves, and maps have little to add.
    Where it does, one of the three networks stays with the blue square: once the softmax over the
    cells has settled on one, the others have no gradient left. Flatter (beta 4) or with more
    weight (5), the same one stays.
    """
    path = write_store(tmp_path / "many", episodes=60, is_mirrored=is_mirrored)
    plain = store.open(write_store(tmp_path / "plain", episodes=60, is_mirrored=False))
    found: dict[str, list[tuple[float, float, float]]] = {"off": [], "on": []}
    for seed in range(3):
        for name, is_on in (("off", False), ("on", True)):
            made = job(path, 600, seed, enabled=is_on, weight=1.0)
            run = tmp_path / f"{name}{seed}"
            last = trained(made, run)
            inside, area = mass_inside(run, made)
            actor = bundle.actor(bundle.load(run / "checkpoints" / "last", golden=False))
            changed = evaluation.offline(actor, plain, split="val").methods["policy"]
            found[name].append((inside, last["val/action_error"], changed.normalised_mse))
            with capsys.disabled():
                print(
                    f"\nseed {seed} {name}: attention inside {inside:.3f} (area {area:.3f}), "
                    f"held-out action error {last['val/action_error']:.4f}, "
                    f"without the give-away {changed.normalised_mse:.4f}"
                )
    (inside, error, changed), (inside_on, error_on, changed_on) = (
        np.mean(found[name], 0) for name in ("off", "on")
    )
    assert inside_on > inside + (0.2 if is_mirrored else 0.0)
    assert error_on < 1.1 * error
    if is_mirrored:
        assert changed_on < 0.7 * changed
    else:
        assert min(row[0] for row in found["on"]) > 0.6
