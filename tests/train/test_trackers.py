"""Which tracker a run has, and under which id it is known."""

import json
from pathlib import Path

import pytest

from deft import spec, train
from deft.errors import ConfigError, MissingPackageError, TrainError
from deft.train import trackers
from deft.train.journal import Journal


class Told:
    """A tracker that remembers."""

    shows_videos = False

    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []

    def write(self, step: int, values: dict[str, float]) -> None:
        self.lines.append((step, dict(values)))


def test_settings_survive_the_trip_through_json() -> None:
    config = train.TrackerConfig(kind="wandb", tags=("a", "b"), mode="offline")
    again = spec.from_plain(train.TrackerConfig, json.loads(json.dumps(spec.to_plain(config))))
    assert again == config


def test_a_kind_that_is_not_there_is_answered() -> None:
    assert train.tracker_defaults("tensorboard").kind == "tensorboard"
    with pytest.raises(ConfigError, match="Did you mean 'wandb'"):
        train.tracker_defaults("wanb")


def test_no_tracker_leaves_nothing(tmp_path: Path) -> None:
    with train.tracking(train.TrackerConfig(), tmp_path, {}, start_step=0) as tracker:
        tracker.write(1, {"a": 1.0})
        assert not tracker.shows_videos
    assert not list(tmp_path.iterdir())


def test_the_id_of_a_run_stays_what_it_was(tmp_path: Path) -> None:
    run = tmp_path / "new" / "run"
    first = trackers.kept_id(run, "wandb")
    assert trackers.kept_id(run, "wandb") == first
    assert trackers.kept_id(tmp_path / "other", "wandb") != first
    (run / trackers.NOTE).write_text("{")
    with pytest.raises(TrainError, match="damaged"):
        trackers.kept_id(run, "wandb")


@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_a_package_that_is_not_installed_is_named(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in ("wandb", "tensorboard", "tensorboard.summary.writer.event_file_writer"):
        monkeypatch.setitem(sys.modules, name, None)
    config = train.tracker_defaults(kind)
    with (
        pytest.raises(MissingPackageError, match=r"deft-robotics\[trackers\]"),
        train.tracking(config, tmp_path, {}, start_step=0),
    ):
        pass


def test_a_journal_tells_its_tracker_everything(tmp_path: Path) -> None:
    told = Told()
    with Journal(tmp_path, start_step=0, total_steps=2, tracker=told) as journal:  # type: ignore[arg-type]
        journal.write(1, {"train/loss": 2.0})
        journal.write(2, {"val/loss": 1.0})
    assert told.lines == [(1, {"train/loss": 2.0}), (2, {"val/loss": 1.0})]
    assert len(train.read_metrics(tmp_path / "metrics.jsonl")) == 2
