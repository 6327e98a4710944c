"""`deft view RUN --saliency`."""

import re
from pathlib import Path

import pytest

from deft.cli.main import main
from suites.demonstrations import write_store as write_unmarked
from suites.marked import write_store

SMALL = [
    "policy.encoder.cnn_channels=8",
    "train.steps=2",
    "train.batch_size=4",
    "device=cpu",
    "session=a",
]


def trained(tmp_path: Path, data: Path, *words: str) -> Path:
    given = [f"data.path={data}", f"runs_dir={tmp_path}", *SMALL, *words]
    assert main(["train", *given]) == 0
    family = next(word.split("=")[1] for word in words if word.startswith("policy="))
    return tmp_path / "custom" / family / "a"


@pytest.mark.parametrize(
    "words", [["policy=bc"], ["policy=gc_bc", "policy.encoder.image=cnn", "policy.obs_horizon=2"]]
)
def test_picture_target_and_prediction_are_side_by_side(tmp_path: Path, words: list[str]) -> None:
    data = write_store(tmp_path / "s", episodes=10, length=5)
    run = trained(tmp_path, data, *words, "policy.saliency.enabled=true")
    assert main(["view", str(run), "--saliency", "3"]) == 0
    text = (run / "saliency.html").read_text()
    for caption in ("picture", "target", "prediction"):
        assert len(re.findall(f"<span>{caption}</span>", text)) == 3
    assert len(re.findall(r"<figcaption>.*?\d+% of the prediction on the target", text)) == 3
    assert "Area of the target" in text
    assert "Trained with saliency of weight 1" in text


def test_data_without_maps_shows_the_prediction(tmp_path: Path) -> None:
    data = write_unmarked(tmp_path / "s")
    run = trained(tmp_path, data, "policy=bc", "data.observations=[image]")
    assert main(["view", f"{run}@last", "--saliency", "--out", str(tmp_path / "p.html")]) == 0
    text = (tmp_path / "p.html").read_text()
    assert len(re.findall("<span>prediction</span>", text)) == 8
    assert "<span>target</span>" not in text
    assert "no target" in text


def test_what_cannot_be_shown_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unseen = trained(
        tmp_path, write_unmarked(tmp_path / "s"), "policy=bc", "data.observations=[state]"
    )
    assert main(["view", str(unseen), "--saliency"]) != 0
    assert "sees no pictures" in capsys.readouterr().err
    assert main(["view", str(unseen), "--saliency", "0"]) == 2
    assert main(["view", str(tmp_path / "s"), "--saliency"]) != 0
