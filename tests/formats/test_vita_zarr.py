"""VITA data sets: as its own converter writes them, and what can be wrong with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft import formats
from deft.errors import FormatError
from suites.formats import FormatChecks
from suites.recordings import (
    HEIGHT,
    TASKS,
    WIDTH,
    demonstration,
    lerobot_info,
    replay_files,
    write_folder,
    zarr_array,
)

TOP = "observation.images.top"


def vita_files(lengths: tuple[int, ...], **changes: np.ndarray) -> dict[str, bytes]:
    """What the converter leaves: LeRobot's features in `config.json`, with another picture size."""
    total = sum(lengths)
    steps = [np.arange(length) for length in lengths]
    made = [demonstration(n, length) for n, length in enumerate(lengths)]
    arrays: dict[str, np.ndarray] = {
        "observation.state": np.concatenate([each["state"] for each in made]),
        TOP: np.concatenate([each["image"] for each in made]),
        "next.reward": np.zeros(total, np.float32),
        "timestamp": (np.concatenate(steps) / 10).astype(np.float32),
        "frame_index": np.concatenate(steps),
        "episode_index": np.repeat(np.arange(len(lengths)), lengths),
        "index": np.arange(total),
        "task_index": np.repeat(np.arange(len(lengths)) % len(TASKS), lengths),
    }
    files = replay_files(lengths, **(arrays | changes))
    files = {k: v for k, v in files.items() if not k.startswith(("data/img/", "data/state/"))}
    info = lerobot_info(len(lengths))
    info["features"][TOP]["shape"] = [480, 640, 3]
    config = {
        "repo_id": "owner/name",
        "stats": {},
        "num_frames": total,
        "num_episodes": len(lengths),
        "features": info["features"],
        "camera_keys": [TOP],
        "fps": 10,
        "tasks": {str(index): task for index, task in enumerate(TASKS)},
    }
    return files | {"config.json": json.dumps(config).encode()}


class TestVitaZarr(FormatChecks):
    format = "vita_zarr"
    cameras = ("top",)

    @classmethod
    def write(cls, folder: Path) -> Path:
        return write_folder(folder / "set", vita_files(cls.lengths))

    def test_names_are_those_of_lerobot(self, recording: formats.Recording) -> None:
        assert set(recording.spec.names) == {"state", "action", "top", "reward"}
        assert recording.spec["state"].names == ("a", "b", "c")
        assert recording.spec["action"].names == ("m0", "m1")
        assert recording.spec["top"].shape == (HEIGHT, WIDTH, 3)
        assert recording.spec["reward"].shape == ()
        assert recording.spec.fps == 10
        assert [info.task for info in recording.episodes] == [TASKS[0], TASKS[1], TASKS[0]]


def opened(folder: Path, files: dict[str, bytes], **config: Any) -> formats.Recording:
    tree = json.loads(files["config.json"]) | config
    return formats.open(write_folder(folder, files | {"config.json": json.dumps(tree).encode()}))


def findings(recording: formats.Recording) -> set[str]:
    return {problem.what for problem in recording.problems}


def test_findings_are_reported(tmp_path: Path) -> None:
    lengths = (5, 6)
    found = findings(opened(tmp_path / "a", vita_files(lengths), num_frames=20, num_episodes=3))
    assert found == {
        "config.json promises 3 episodes, there are 2",
        "config.json promises 20 steps, there are 11",
    }
    found = findings(opened(tmp_path / "b", vita_files(lengths), fps=25))
    assert found == {"time stamps are 0.1 s apart, fps is 25"}
    index = np.array([0] * 4 + [1] * 7)
    found = findings(opened(tmp_path / "c", vita_files(lengths, episode_index=index)))
    assert found == {"`episode_index` changes inside 1 episodes (number 0)"}
    files = vita_files(lengths, extra=np.zeros(11))
    files = {key: data for key, data in files.items() if "reward" not in key}
    assert findings(opened(tmp_path / "d", files)) == {
        "config.json declares 'next.reward', there is no such array",
        "'extra' is not in config.json",
    }
    state = np.ones((11, 4), np.float32)
    recording = opened(tmp_path / "e", vita_files(lengths, **{"observation.state": state}))
    assert findings(recording) == {"'observation.state' has shape [4], declared [3]"}
    assert recording.spec["state"].names == ()


def test_a_set_that_was_cut_off_keeps_its_whole_episodes(tmp_path: Path) -> None:
    files = vita_files((5, 6))
    short = zarr_array(np.ones((7, 2), np.float32), (5, 2))
    files |= {f"data/action/{name}": data for name, data in short.items()}
    del files["data/action/1.0"]
    recording = opened(tmp_path / "a", files)
    assert [info.length for info in recording.episodes] == [5]
    assert "ends at step 11, 'action' has 7 rows" in findings(recording)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"fps": 0}, "'fps' is 0"),
        ({"features": []}, "'features' must be dict"),
        ({"features": {}}, "no feature 'action'"),
        ({"tasks": ["a"]}, "'tasks' must give"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        opened(tmp_path / "a", vita_files((5, 6)), **config)


def test_the_action_must_be_there(tmp_path: Path) -> None:
    files = vita_files((5, 6))
    files = {key: data for key, data in files.items() if "data/action" not in key}
    with pytest.raises(FormatError, match="no array `data/action`"):
        opened(tmp_path / "a", files)
