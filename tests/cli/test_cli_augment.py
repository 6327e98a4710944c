"""`augment=` as a user types it to `deft train`."""

from pathlib import Path

import pytest
import yaml

from deft import store, train
from deft.cli.main import main
from suites.demonstrations import write_store

SMALL = [
    "policy=bc",
    "session=a",
    "data.observations=[state,image]",
    "policy.width=16",
    "policy.depth=1",
    "policy.encoder.cnn_channels=8",
    "policy.encoder.keypoints=4",
    "train.steps=2",
    "train.batch_size=4",
    "train.log_freq=1",
    "val.offline_freq=0",
    "device=cpu",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store.open(write_store(tmp_path_factory.mktemp("data") / "home")).path


def run(runs: Path, data: Path, *words: str) -> int:
    return main(["train", f"data.path={data}", f"runs_dir={runs}", *SMALL, *words])


def settings(runs: Path) -> dict[str, object]:
    return yaml.safe_load((runs / "custom/bc/a/config.yaml").read_text())["augment"]


def test_a_named_augmentation_with_one_item_changed(data: Path, tmp_path: Path) -> None:
    assert run(tmp_path, data, "augment=bridge", "augment.brightness=0.1") == 0
    found = settings(tmp_path)
    assert found["brightness"] == 0.1
    assert found["order"] is not None
    assert found["contrast"] == [0.8, 1.2]
    lines = train.read_metrics(tmp_path / "custom/bc/a/metrics.jsonl")
    assert any(line.get("time/augment", 0) > 0 for line in lines)


def test_none_by_default_and_in_runs_from_before(data: Path, tmp_path: Path) -> None:
    assert run(tmp_path, data) == 0
    assert settings(tmp_path)["order"] == []
    file = tmp_path / "custom/bc/a/config.yaml"
    tree = yaml.safe_load(file.read_text())
    del tree["augment"]
    file.write_text(yaml.safe_dump(tree))
    assert run(tmp_path, data, "resume=true", "train.steps=3") == 0
    assert settings(tmp_path)["order"] == []


def test_a_resumed_run_keeps_its_augmentation(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, data, "augment=crop") == 0
    assert run(tmp_path, data, "resume=true", "train.steps=3") == 0
    assert settings(tmp_path)["order"] == ["random_resized_crop"]
    capsys.readouterr()
    assert run(tmp_path, data, "resume=true", "augment=bridge") == 2
    assert "augment.order" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["augment=brigde"], "bridge"),
        (["augment.brightnes=0.1"], "augment.brightness"),
        (["augment.hue=0.9"], "0 to 0.5"),
        (["augment.order=[random_crop]"], "random_resized_crop"),
        (["augment.compat=jax"], "tensorflow"),
    ],
)
def test_wrong_words_are_answered(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert run(tmp_path, data, *words) == 2
    assert says in capsys.readouterr().err
