"""Starting from weights that were learned before."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deft import nn, policies, store, train
from deft.errors import TrainError
from deft.train import beginnings, checkpoint
from suites.demonstrations import write_store

SMALL = nn.ObsEncoderConfig(cnn_channels=8, keypoints=4, image_features=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    return store.open(write_store(tmp_path_factory.mktemp("data") / "home"))


def job(data: store.Store, family: str = "bc", **policy: object) -> train.Job:
    return train.Job(
        policy=policies.POLICIES[family](encoder=SMALL, **policy),
        data=train.DataConfig(path=str(data.path), observations=("state", "image"), threads=1),
        optim=nn.OptimConfig(lr=1e-9, warmup_steps=0, schedule="constant"),
        train=train.TrainConfig(steps=1, batch_size=8, ema_max_decay=0),
        val=train.ValConfig(offline_freq=0),
        device="cpu",
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(run, 1, torch.device("cpu"))["weights"]


def policy(
    data: store.Store, config: object, seen: tuple[str, ...] = ("state", "image")
) -> policies.Policy:
    return policies.build(config, policies.contract(config, data.spec, seen), data.stats)


def test_weights_are_the_bundles_and_statistics_the_datas(
    data: store.Store, tmp_path: Path
) -> None:
    train.train(replace(job(data), seed=1), data, tmp_path / "old")
    other = store.open(write_store(tmp_path / "other", episodes=7))
    finer = replace(job(other), init_from=str(tmp_path / "old"), seed=2)
    train.train(finer, other, tmp_path / "new")
    old, new = weights(tmp_path / "old"), weights(tmp_path / "new")
    fresh = policy(other, job(data).policy).state_dict()
    for name, tensor in new.items():
        if "normalizer" in name:
            assert torch.equal(tensor, fresh[name])
        else:
            torch.testing.assert_close(tensor, old[name], rtol=0, atol=1e-6)
    assert not torch.equal(old["normalizer.action_offset"], new["normalizer.action_offset"])
    log = (tmp_path / "new" / "logs" / "train.log").read_text()
    assert "statistics are those of the data trained on now" in log
    # Going on later is from the run's own checkpoint.
    train.train(
        replace(finer, init_from="gone", train=replace(finer.train, steps=2)),
        other,
        tmp_path / "new",
        resume=True,
    )


def test_what_is_not_taken_is_listed_with_its_shapes(data: store.Store, tmp_path: Path) -> None:
    train.train(job(data), data, tmp_path)
    aimed = policy(data, policies.GCBCConfig(encoder=SMALL))
    loaded = beginnings.from_bundle(aimed, str(tmp_path))
    said = "\n".join(loaded.lines())
    stem = "encoder.images.0.body.layers.0.weight"
    assert f"{stem} 8x3x5x5 there, 8x6x5x5 here" in said
    assert "encoder.images.0.body.layers.3.weight" in loaded.taken
    assert any(name.startswith("trunk") for name in loaded.unused)
    assert any(name.startswith("head") for name in loaded.fresh)
    assert "it is a bc, this is a gc_bc" in said


def test_nothing_that_fits_is_refused(data: store.Store, tmp_path: Path) -> None:
    train.train(job(data), data, tmp_path)
    blind = policy(data, policies.FlowConfig(), ("state",))
    with pytest.raises(TrainError, match=r"none of its weights(?s:.)*have no place here"):
        beginnings.from_bundle(blind, str(tmp_path))


@pytest.mark.parametrize("prefix", ["", "module.backbone."])
@pytest.mark.parametrize("family", ["bc", "gc_iql"])
def test_an_encoder_comes_from_a_file(
    data: store.Store, tmp_path: Path, prefix: str, family: str
) -> None:
    """gc_iql sees a goal beside the picture, so its first kernel has 6 channels, and it has a
    second encoder that follows the first."""
    body = nn.ImageEncoder(SMALL, data.spec["image"], 3).body
    given = {prefix + name: torch.rand_like(each) for name, each in body.state_dict().items()}
    given[prefix + "fc.weight"] = torch.zeros(3, 3)
    given[prefix + "layers.1.running_mean"] = torch.zeros(3)
    save_file(given, tmp_path / "encoder.safetensors")
    extra = {} if family == "bc" else {"goals": ("image",)}
    made = policy(data, policies.POLICIES[family](encoder=SMALL, **extra))
    loaded = beginnings.encoder_from_file(made, str(tmp_path / "encoder.safetensors"))
    assert loaded.unused == [prefix + "fc.weight"]
    assert not loaded.fresh
    stem = given[prefix + "layers.0.weight"]
    for name, tensor in made.state_dict().items():
        if name.endswith("body.layers.0.weight"):
            wanted = stem if family == "bc" else torch.cat((stem, stem), 1) / 2
            torch.testing.assert_close(tensor, wanted)
        elif name.endswith("body.layers.3.weight"):
            assert torch.equal(tensor, given[prefix + "layers.3.weight"])
    assert sum("body.layers.0.weight" in name for name in loaded.taken) == (
        1 if family == "bc" else 2
    )


def test_a_kernel_for_colours_fits_any_number_of_channels() -> None:
    kernel = torch.rand(2, 3, 5, 5)
    picture = torch.rand(1, 3, 9, 9)
    wanted = torch.nn.functional.conv2d(picture, kernel)
    twice = beginnings.widened(kernel, 6)
    seen = torch.nn.functional.conv2d(torch.cat((picture, picture), 1), twice)
    torch.testing.assert_close(seen, wanted)
    grey = picture.mean(1, keepdim=True)
    seen = torch.nn.functional.conv2d(grey, beginnings.widened(kernel, 1))
    torch.testing.assert_close(seen, torch.nn.functional.conv2d(grey.expand(-1, 3, -1, -1), kernel))
    placed = beginnings.widened(kernel, 8, coordinates=2)
    assert placed.shape == (2, 8, 5, 5)
    assert placed[:, 6:].abs().sum() == 0
    own = torch.rand(2, 5, 5, 5)
    assert torch.equal(beginnings.widened(own, 8, coordinates=2)[:, 6:], own[:, 3:])


def test_files_that_do_not_fit_are_refused(data: store.Store, tmp_path: Path) -> None:
    made = policy(data, policies.BCConfig(encoder=SMALL))
    (tmp_path / "text").write_text("no")
    with pytest.raises(TrainError, match="cannot be read"):
        beginnings.encoder_from_file(made, str(tmp_path / "text"))
    save_file({"a": torch.zeros(1)}, tmp_path / "a")
    with pytest.raises(TrainError, match="none of its weights"):
        beginnings.encoder_from_file(made, str(tmp_path / "a"))
    blind = policy(data, policies.BCConfig(), ("state",))
    with pytest.raises(TrainError, match="no image network"):
        beginnings.encoder_from_file(blind, str(tmp_path / "a"))
