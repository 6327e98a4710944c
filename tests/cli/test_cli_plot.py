"""`deft plot` over made-up runs."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from deft.cli import plot
from deft.cli.main import main


def write_run(folder: Path, seed: int, policy: str = "bc", lr: float = 0.1, steps: int = 4) -> Path:
    folder.mkdir(parents=True)
    tree = {"policy": {"family": policy}, "optim": {"lr": lr}, "seed": seed, "session": folder.name}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    rows = [
        {"step": step, "train/loss": seed / step, "time/wait": 0.5, "val/by_dimension/x": 1.0}
        for step in range(1, steps + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2, 3):
        write_run(tmp_path / "runs" / "t" / "bc" / f"s{seed}", seed, steps=2 + seed)
    write_run(tmp_path / "runs" / "t" / "flow" / "s1", 5, "flow")
    return tmp_path / "runs"


def test_seeds_become_a_mean_and_a_band(runs: Path) -> None:
    curves = plot.group(plot.find([str(runs)]))
    assert [curve.label for curve in curves] == ["bc (3 seeds)", "flow"]
    (figure,) = plot.draw(curves, None, smooth=1, log_y=False)
    assert figure["title"] == "train/loss"
    x, mean = figure["series"]["bc (3 seeds)"]
    np.testing.assert_allclose(x, [1, 2, 3])  # where all of them have got to
    np.testing.assert_allclose(mean, 2 / x)
    _, low, high = figure["bands"]["bc (3 seeds)"]
    np.testing.assert_allclose(high - mean, 1.959964 / x / np.sqrt(3), rtol=1e-6)
    np.testing.assert_allclose(mean - low, high - mean)
    assert "flow" not in figure["bands"]


def test_curves_are_told_apart_by_what_differs(runs: Path) -> None:
    write_run(runs / "t" / "bc" / "other", 1, lr=0.5)
    labels = [curve.label for curve in plot.group(plot.find([str(runs / "t" / "bc")]))]
    assert labels == ["lr=0.5", "lr=0.1 (3 seeds)"]
    apart = plot.group(plot.find([str(runs / "t" / "bc")]), each=True)
    assert len(apart) == 4
    assert len({curve.label for curve in apart}) == 4


def test_a_page_and_a_picture_are_written(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", str(runs)]) == 0
    assert capsys.readouterr().out == "plot.html\nplot.png\n"
    html = (tmp_path / "plot.html").read_text()
    assert "bc (3 seeds)" in html
    assert 'class="band' in html
    picture = cv2.imread(str(tmp_path / "plot.png"))
    assert picture is not None
    assert picture.std() > 1
    words = ["--metrics", "time/wait", "train/loss", "--out", "some.png", "--smooth", "2", "--log"]
    assert main(["plot", "t/bc/s1", *words]) == 0
    again = cv2.imread(str(tmp_path / "some.png"))
    assert again is not None
    assert again.shape[1] == 2 * 1120


def test_a_sweep_stands_for_its_runs(runs: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    chosen = [str(runs / "t" / "bc" / "s2"), str(runs / "t" / "bc" / "not-begun")]
    (sweep / "sweep.json").write_text(json.dumps({"runs": [{"folder": each} for each in chosen]}))
    assert plot.find([str(sweep)]) == [runs / "t" / "bc" / "s2"]


def test_smoothing_is_the_mean_of_the_last_points() -> None:
    rows = [{"step": float(i), "a": float(i)} for i in range(4)]
    _, y = plot.points(rows, "a", 2)
    np.testing.assert_allclose(y, [0, 0.5, 1.5, 2.5])


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["nowhere"], "no run at 'nowhere'"),
        (["runs", "--metrics", "train/los"], "Did you mean 'train/loss'"),
        (["runs", "--smooth", "0"], "--smooth is 0"),
        (["runs", "--out", "x.pdf"], "neither a page nor a picture"),
    ],
)
@pytest.mark.usefixtures("runs")
def test_mistakes_are_answered(
    words: list[str], answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", *words]) == 2
    assert answer in capsys.readouterr().err
