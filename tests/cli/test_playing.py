"""Episodes in Push-T while a policy is trained."""

from collections.abc import Mapping
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from deft import bundle, train
from deft.cli import main
from deft.cli.playing import player
from deft.train import checkpoint

pytestmark = pytest.mark.sim

PLAYS = [
    "val.online_freq=2",
    "val.env=pusht",
    "val.num_episodes=2",
    "val.best=eval/max_reward",
    "val.best_is=highest",
]
MEASURED = ("success", "max_reward", "sum_reward", "steps")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training with a simulator, `played`, and without, `alone`."""
    folder = tmp_path_factory.mktemp("runs")
    shown = ["env=pusht", "episodes=2", "observations=[state]", "max_steps=100", "seed=2"]
    assert main.main(["collect", *shown, f"out={folder / 'pusht'}", "workers=0"]) == 0
    for session, more in (("played", PLAYS), ("alone", [])):
        words = ["policy=bc", "task=pusht", f"data.path={folder / 'pusht'}", "device=cpu"]
        words += [f"runs_dir={folder}", f"session={session}", "train.steps=4", "train.save_freq=2"]
        words += ["train.keep_freq=2", "optim.warmup_steps=0", "val.offline_freq=2"]
        words += ["optim.lr=0.01", "policy.dropout=0.1", "train.batch_size=16"]
        assert main.main(["train", *words, *more]) == 0
    return folder / "pusht" / "bc"


def played(run: Path) -> dict[int, dict[str, float]]:
    rows = train.read_metrics(run / "metrics.jsonl")
    return {
        int(row["step"]): {name: row[f"eval/{name}"] for name in MEASURED}
        for row in rows
        if "eval/success" in row
    }


def test_the_best_is_the_one_that_did_best(runs: Path) -> None:
    run = runs / "played"
    found = played(run)
    assert sorted(found) == [2, 4]
    assert all(each["steps"] == 300 for each in found.values())  # nothing is solved so early
    for step, each in found.items():
        assert checkpoint.scores_of(run, step)["eval/max_reward"] == each["max_reward"]
    best = max(sorted(found), key=lambda step: found[step]["max_reward"])
    assert (run / "checkpoints" / "best").resolve() == checkpoint.folder_of(run, best)


def test_what_played_is_what_is_served(runs: Path) -> None:
    """Another process finds the same with the checkpoint: the average in eval mode."""
    run = runs / "played"
    play = player(train.ValConfig(online_freq=2, env="pusht", num_episodes=2))
    assert play is not None
    opened = bundle.load(checkpoint.folder_of(run, 4))
    with torch.no_grad():
        assert dict(play(opened.policy.eval(), 4)) == played(run)[4]


def test_playing_leaves_training_alone(runs: Path) -> None:
    """With dropout, whose random state a simulator could disturb."""
    one, other = (
        checkpoint.load(runs / name, 4, torch.device("cpu")) for name in ("played", "alone")
    )
    assert all(torch.equal(one["weights"][name], other["weights"][name]) for name in one["weights"])


class Screen:
    """Keeps the pictures of what it is shown."""

    shows_videos = True

    def __init__(self) -> None:
        self.films: dict[tuple[int, str], list[np.ndarray]] = {}

    def write(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        pass

    def video(self, step: int, name: str, film: Path) -> None:
        with av.open(str(film)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        self.films[step, name] = frames


def test_a_tracker_sees_the_first_episode(runs: Path) -> None:
    screen = Screen()
    play = player(train.ValConfig(online_freq=2, env="pusht", num_episodes=1), screen)
    assert play is not None
    opened = bundle.load(checkpoint.folder_of(runs / "played", 4))
    with torch.no_grad():
        play(opened.policy.eval(), 4)
    ((key, frames),) = screen.films.items()
    assert key == (4, "eval/video")
    assert len(frames) >= 300
    assert float(np.abs(frames[0].astype(int) - frames[-1]).max()) > 50  # something moved
