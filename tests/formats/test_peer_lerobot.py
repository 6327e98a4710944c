"""Real LeRobot opens what we write, and we open what it writes: v3.0 with 0.4.4, v2.1 with 0.3.3.

bench/peers/lerobot.sh .peers/lerobot && bench/peers/lerobot.sh .peers/lerobot_v21 0.3.3
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft import formats
from deft.spec import Feature, Spec
from suites.memory_source import MemorySource, picture
from suites.peers import peer_program, run_peer
from suites.writers import writable_spec, write_all

pytestmark = pytest.mark.peer

PEERS = {"lerobot_v30": "lerobot", "lerobot_v21": "lerobot_v21"}
LENGTHS = (5, 9, 4, 12)
HEIGHT, WIDTH = 48, 64


def program(format_: str) -> Path:
    return peer_program(PEERS[format_], "bin/lrpy")


# Every step of a data set as LeRobot hands it to a policy, and its statistics.
READ = """
import json, logging, sys
import numpy as np
logging.disable(logging.INFO)
from lerobot.datasets.lerobot_dataset import LeRobotDataset
root, out = sys.argv[1:]
dataset = LeRobotDataset("deft/test", root=root)
steps = [dataset[n] for n in range(len(dataset))]
data = {}
for key in steps[0]:
    values = [step[key] for step in steps]
    if key == "task":
        data[key] = np.array(values)
    else:
        data[key] = np.stack([value.numpy() for value in values])
for key, summary in dataset.meta.stats.items():
    for name, value in summary.items():
        data[f"stats/{key}/{name}"] = np.asarray(value)
np.savez(out, **data)
print(json.dumps({
    "episodes": dataset.num_episodes, "frames": dataset.num_frames, "fps": dataset.fps,
    "robot": dataset.meta.robot_type, "features": sorted(dataset.meta.features),
    "cameras": dataset.meta.camera_keys,
}))
"""

# A data set as LeRobot records it. Pictures come in a file, numbers are drawn here and there alike.
WRITE = """
import json, logging, sys
import numpy as np
logging.disable(logging.INFO)
from lerobot.datasets.lerobot_dataset import LeRobotDataset
root, kind, given = sys.argv[1:]
data = np.load(given)
features = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "g"]},
    "action": {"dtype": "float32", "shape": (2,), "names": ["dx", "dy"]},
    "observation.images.top": {"dtype": kind, "shape": data["0/image"].shape[1:],
                               "names": ["height", "width", "channels"]},
    "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
    "grid": {"dtype": "float32", "shape": (2, 3), "names": None},
}
dataset = LeRobotDataset.create("deft/test", 10, features, root=root, robot_type="testbot",
                                use_videos=kind == "video")
number = 0
while f"{number}/image" in data:
    for t, image in enumerate(data[f"{number}/image"]):
        frame = {"observation.state": data[f"{number}/state"][t],
                 "action": data[f"{number}/action"][t], "observation.images.top": image,
                 "next.reward": np.array([t], np.float32),
                 "grid": np.full((2, 3), t, np.float32)}
        task = ["push the block", "lift the carrot"][number % 2]
        try:
            dataset.add_frame({**frame, "task": task})
        except TypeError:  # before 0.4 the task was an argument
            dataset.add_frame(frame, task=task)
    dataset.save_episode()
    number += 1
if hasattr(dataset, "finalize"):
    dataset.finalize()
print(json.dumps(number))
"""


def rich_spec() -> Spec:
    """Every kind of feature that LeRobot can hold."""
    more = (
        Feature(name="wrist/cam", role="image", shape=(HEIGHT, WIDTH, 3), dtype="uint8"),
        Feature(name="depth", role="depth", shape=(24, 32, 1), dtype="uint16", unit="mm"),
        Feature(name="reward", role="reward", shape=(), dtype="float32"),
        Feature(name="counter", role="other", shape=(), dtype="int64"),
        Feature(name="grid", role="feature_map", shape=(2, 2, 3), dtype="float32"),
    )
    spec = writable_spec()
    return replace(spec, features=(*spec.features, *more), embodiment="testbot")


@pytest.mark.parametrize("pictures", ["video", "image"])
@pytest.mark.parametrize("format_", list(PEERS))
def test_lerobot_opens_what_we_write(format_: str, pictures: str, tmp_path: Path) -> None:
    python = program(format_)
    source = MemorySource(LENGTHS, spec=rich_spec())
    root = write_all(tmp_path / "ours", source, format_, {"pictures": pictures})
    found = run_peer(python, READ, root, tmp_path / "read.npz")
    assert (found["episodes"], found["frames"]) == (len(LENGTHS), sum(LENGTHS))
    assert (found["fps"], found["robot"]) == (10, "testbot")
    keys = {"image": "observation.images.image", "wrist/cam": "observation.images.wrist.cam"}
    assert set(keys.values()) < set(found["cameras"])
    episodes = [source.read(n) for n in range(len(LENGTHS))]
    with np.load(tmp_path / "read.npz") as read:
        for name, key in (("state", "observation.state"), ("action", "action"), ("grid", "grid"),
                          ("reward", "next.reward"), ("counter", "counter")):  # fmt: skip
            wanted = np.concatenate([episode.arrays[name] for episode in episodes])
            np.testing.assert_array_equal(read[key].reshape(wanted.shape), wanted)
        lengths = [np.arange(n) for n in LENGTHS]
        np.testing.assert_array_equal(read["frame_index"], np.concatenate(lengths))
        np.testing.assert_array_equal(read["index"], np.arange(sum(LENGTHS)))
        assert read["task"].tolist() == [e.task for e in episodes for _ in range(len(e))]
        for name, key in keys.items():
            wanted = np.concatenate([list(episode.frames[name]) for episode in episodes])
            pixels = read[key].transpose(0, 2, 3, 1) * 255
            error = pixels - wanted
            if pictures == "image":
                assert np.abs(error).max() < 0.01
            else:
                assert 10 * np.log10(255**2 / np.mean(error**2)) > 34
            for step in np.flatnonzero(read["frame_index"]):  # and no picture is the one before
                mine, other = np.abs(pixels[step] - wanted[[step, step - 1]]).mean((1, 2, 3))
                assert mine < other
        depth = np.concatenate([list(episode.frames["depth"]) for episode in episodes])
        np.testing.assert_array_equal(
            read["observation.images.depth"].astype(np.int64).reshape(depth.shape) & 0xFFFF, depth
        )
        _compare_stats(read, episodes, exact="q01" in str(list(read)))


def _compare_stats(read: Any, episodes: list[Any], exact: bool) -> None:
    """What LeRobot takes for the statistics of the data set, against all steps."""
    for name, key in (("state", "observation.state"), ("action", "action")):
        values = np.concatenate([episode.arrays[name] for episode in episodes])
        span = values.max(0) - values.min(0)
        wanted = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0),
                  "std": values.std(0)}  # fmt: skip
        for stat, value in wanted.items():
            np.testing.assert_allclose(read[f"stats/{key}/{stat}"], value, rtol=1e-5, atol=1e-5)
        for stat, share in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)) if exact else ():
            low = np.quantile(values, share, axis=0, method="lower")
            high = np.quantile(values, share, axis=0, method="higher")
            assert (read[f"stats/{key}/{stat}"] >= low - span / 1000).all()
            assert (read[f"stats/{key}/{stat}"] <= high + span / 1000).all()
    pictures = np.concatenate([list(episode.frames["image"]) for episode in episodes]) / 255
    key = "stats/observation.images.image/"
    for stat, value in (("mean", pictures.mean((0, 1, 2))), ("std", pictures.std((0, 1, 2)))):
        assert read[key + stat].shape == (3, 1, 1)
        np.testing.assert_allclose(read[key + stat].ravel(), value, atol=2e-3)
    assert read[key + "count"].tolist() == [len(pictures)]


@pytest.mark.parametrize("kind", ["video", "image"])
@pytest.mark.parametrize("format_", list(PEERS))
def test_we_open_what_lerobot_writes(format_: str, kind: str, tmp_path: Path) -> None:
    python = program(format_)
    made: dict[str, np.ndarray] = {}
    for number, length in enumerate(LENGTHS):
        rng = np.random.default_rng(number)
        made[f"{number}/image"] = np.stack(
            [picture(number, step, HEIGHT, WIDTH) for step in range(length)]
        )
        made[f"{number}/state"] = rng.normal(size=(length, 3)).astype(np.float32)
        made[f"{number}/action"] = rng.normal(size=(length, 2)).astype(np.float32)
    np.savez(tmp_path / "given.npz", **made)  # pyright: ignore[reportArgumentType]
    root = tmp_path / "theirs"
    assert run_peer(python, WRITE, root, kind, tmp_path / "given.npz") == len(LENGTHS)
    recording = formats.open(root)
    assert recording.problems == ()
    assert (recording.spec.fps, recording.spec.embodiment) == (10, "testbot")
    assert recording.spec["state"].names == ("x", "y", "g")
    assert [info.length for info in recording.episodes] == list(LENGTHS)
    for number, info in enumerate(recording.episodes):
        episode = recording.read(number)
        assert episode.task == info.task == ("push the block", "lift the carrot")[number % 2]
        for name in ("state", "action"):
            np.testing.assert_array_equal(episode.arrays[name], made[f"{number}/{name}"])
        assert episode.arrays["grid"].shape == (info.length, 2, 3)
        error = np.stack(list(episode.frames["top"])) - made[f"{number}/image"].astype(float)
        if kind == "image":
            assert not error.any()
        else:
            assert 10 * np.log10(255**2 / np.mean(error**2)) > 34
        step = info.length // 2
        np.testing.assert_array_equal(
            episode.frames["top"][step], list(recording.read(number).frames["top"])[step]
        )
    if format_ == "lerobot_v30":
        _compare_with_theirs(root, recording, kind, tmp_path)


def _compare_with_theirs(
    root: Path, recording: formats.Recording, kind: str, tmp_path: Path
) -> None:
    """The same data set written again by us has the statistics that LeRobot gave it."""
    if kind == "video":
        return  # theirs are of the pictures before they were encoded
    with formats.write(tmp_path / "again", "lerobot_v30", recording.spec) as writer:
        for number in range(len(LENGTHS)):
            writer.add(recording.read(number))
        writer.finish([info.id for info in recording.episodes])
    ours, theirs = (
        json.loads((path / "meta" / "stats.json").read_text())
        for path in (tmp_path / "again", root)
    )
    assert ours.keys() == theirs.keys()
    for key, summary in theirs.items():
        assert ours[key].keys() == summary.keys()
        for name, value in summary.items():
            assert np.shape(ours[key][name]) == np.shape(value), (key, name)
            if name == "std" and "images" in key:
                continue  # LeRobot 0.4.4 squares pictures in 8 bits there
            if name in ("min", "max", "mean", "std", "count"):
                np.testing.assert_allclose(ours[key][name], value, rtol=1e-4, atol=1e-4)
