"""Real TensorFlow and TFDS open what we write, and we open what they write."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from deft import formats
from suites.bridge_trees import DATED, check_recorded, write_trajectory
from suites.peers import peer_program, run_peer
from suites.recordings import TASKS, demonstration

pytestmark = pytest.mark.peer

LENGTHS = (5, 8, 3)


@pytest.fixture
def python() -> Path:
    return peer_program("tensorflow")


# BridgeData's own loader, put down from its description: a bytes feature per key, then the tensor.
READ_BRIDGE = """
import json, sys, tensorflow as tf
import numpy as np
path, kind, out = sys.argv[1:]
types = {
    "observations/images0": tf.uint8, "next_observations/images0": tf.uint8,
    "observations/state": tf.float32, "next_observations/state": tf.float32,
    "observations/saliency": tf.float32, "next_observations/saliency": tf.float32,
    "actions": tf.float32, "terminals": tf.bool, "truncates": tf.bool, "language": tf.string,
}
features = {key: tf.io.FixedLenFeature([], tf.string) for key in types}
data = {}
for number, record in enumerate(tf.data.TFRecordDataset(path, compression_type=kind)):
    parsed = tf.io.parse_single_example(record, features)
    for key, dtype in types.items():
        value = tf.io.parse_tensor(parsed[key], dtype).numpy()
        if key == "language":
            value = np.array([line.decode() for line in value])
        data[f"{number}/{key}"] = value
np.savez(out, **data)
print(json.dumps(number + 1))
"""


@pytest.mark.parametrize("kind", ["", "GZIP"])
def test_tensorflow_reads_our_trajectories(python: Path, tmp_path: Path, kind: str) -> None:
    for number, length in enumerate(LENGTHS):
        folder = tmp_path / "raw" / DATED / f"raw/traj_group0/traj{number}"
        write_trajectory(folder, number, length, language=("put it there", "or there"))
        boxes = [[[0.1, 0.1, 0.3, 0.3]]] * length
        (folder / "filter.pkl").write_bytes(pickle.dumps(boxes))
    source = formats.open(tmp_path / "raw", options={"language": "all"})
    options = {"train_proportion": 1.0, "gzip": kind == "GZIP"}
    with formats.write(tmp_path / "out", "bridge_tfrecord", source.spec, options) as writer:
        for number in range(len(LENGTHS)):
            writer.add(source.read(number))
        writer.finish([info.id for info in source.episodes])
    (file,) = (tmp_path / "out").rglob("out.tfrecord*")
    assert run_peer(python, READ_BRIDGE, file, kind, tmp_path / "read.npz") == len(LENGTHS)
    with np.load(tmp_path / "read.npz") as read:
        for number, length in enumerate(LENGTHS):
            episode = source.read(number)
            count = length - 1
            wanted = {
                "images0": np.stack(list(episode.frames["image_0"])),
                "saliency": np.stack(list(episode.frames["saliency"])),
                "state": episode.arrays["state"],
            }
            for key, array in wanted.items():
                found = read[f"{number}/observations/{key}"]
                assert found.dtype == array.dtype
                np.testing.assert_array_equal(found, array[:-1])
                np.testing.assert_array_equal(read[f"{number}/next_observations/{key}"], array[1:])
            np.testing.assert_array_equal(
                read[f"{number}/actions"], episode.arrays["action"][:count]
            )
            assert not read[f"{number}/terminals"].any()
            assert read[f"{number}/truncates"].tolist() == [False] * (count - 1) + [True]
            assert read[f"{number}/language"].tolist() == ["put it there", "or there"]


# As BridgeData's converter does it (serialize), and with values in lists (proto).
WRITE_BRIDGE = """
import sys, tensorflow as tf
import numpy as np
made, out, how, kind = sys.argv[1:]

def tensor(value):
    if how == "proto":
        if value.dtype.kind == "U":
            value = np.array([line.encode() for line in value.tolist()], object)
        return tf.make_tensor_proto(value).SerializeToString()
    return tf.io.serialize_tensor(tf.constant(value)).numpy()

with np.load(made) as held, tf.io.TFRecordWriter(out, kind) as writer:
    for number in range(len({key.split("/")[0] for key in held})):
        feature = {}
        for key in held:
            if key.startswith(f"{number}/"):
                data = tensor(held[key])
                feature[key.split("/", 1)[1]] = tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[data]))
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        writer.write(example.SerializeToString())
"""


@pytest.mark.parametrize("how", ["serialize", "proto"])
@pytest.mark.parametrize("kind", ["", "GZIP"])
def test_we_read_trajectories_of_tensorflow(
    python: Path, tmp_path: Path, how: str, kind: str
) -> None:
    lengths = (*LENGTHS, 2)  # the last is one transition: single numbers stand in lists of values
    values: dict[str, np.ndarray] = {}
    for number, length in enumerate(lengths):
        made, count = demonstration(number, length), length - 1
        values |= {
            f"{number}/observations/images0": made["image"][:-1],
            f"{number}/next_observations/images0": made["image"][1:],
            f"{number}/observations/state": made["state"][:-1],
            f"{number}/next_observations/state": made["state"][1:],
            f"{number}/observations/one": np.full((count, 1), 2.5, np.float64),
            f"{number}/next_observations/one": np.full((count, 1), 2.5, np.float64),
            f"{number}/observations/small": np.full((count, 1), -3, np.int16),
            f"{number}/next_observations/small": np.full((count, 1), -3, np.int16),
            f"{number}/observations/half": np.full(count, 0.5, np.float16),
            f"{number}/next_observations/half": np.full(count, 0.5, np.float16),
            f"{number}/actions": made["action"][:-1],
            f"{number}/terminals": np.zeros(count, np.bool_),
            f"{number}/truncates": np.arange(count) == count - 1,
            f"{number}/language": np.array(["put it there", "or there"]),
        }
    np.savez(tmp_path / "made.npz", **values)  # pyright: ignore[reportArgumentType]
    (tmp_path / "train").mkdir()
    file = tmp_path / ("train/out.tfrecord.gz" if kind else "train/out.tfrecord")
    run_peer(python, WRITE_BRIDGE, tmp_path / "made.npz", file, how, kind)
    recording = formats.open(tmp_path)
    assert [info.length for info in recording.episodes] == list(lengths)
    for number, length in enumerate(lengths):
        episode = recording.read(number)
        check_recorded(episode, number)
        assert (episode.task, episode.split) == ("put it there", "train")
        assert episode.arrays["one"].tolist() == [[2.5]] * length
        assert episode.arrays["small"].tolist() == [[-3]] * length
        assert episode.arrays["half"].tolist() == [0.5] * length


WRITE_RLDS = """
import sys, json
import numpy as np
import tensorflow_datasets as tfds
tfds.core.utils.gcs_utils._is_gcs_disabled = True  # it would ask for a copy on the network
made, out = sys.argv[1:]
held = dict(np.load(made))
lengths, tasks = json.loads(str(held["lengths"])), json.loads(str(held["tasks"]))
height, width = held["0/image"].shape[1:3]

class Demo(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
        Tensor, Scalar = tfds.features.Tensor, tfds.features.Scalar
        steps = tfds.features.Dataset({
            "observation": tfds.features.FeaturesDict({
                "image_0": tfds.features.Image(shape=(height, width, 3), encoding_format="png"),
                "image_1": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                "depth": tfds.features.Image(
                    shape=(height, width, 1), dtype=np.uint16, encoding_format="png"),
                "gaze": Tensor(shape=(height, width, 1), dtype=np.float32),
                "state": Tensor(shape=(3,), dtype=np.float32),
            }),
            "action": Tensor(shape=(2,), dtype=np.float32),
            "reward": Scalar(dtype=np.float32),
            "count": Scalar(dtype=np.int64),
            "is_first": Scalar(dtype=np.bool_),
            "language_instruction": tfds.features.Text(),
        })
        metadata = tfds.features.FeaturesDict({"file_path": tfds.features.Text()})
        features = {"steps": steps, "episode_metadata": metadata}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples([0, 1]), "val": self._generate_examples([2])}

    def _generate_examples(self, numbers):
        for number in numbers:
            steps = []
            for step in range(lengths[number]):
                image = held[f"{number}/image"][step]
                steps.append({
                    "observation": {
                        "image_0": image, "image_1": image,
                        "depth": image[..., :1].astype(np.uint16) * 200,
                        "gaze": held[f"{number}/gaze"][step],
                        "state": held[f"{number}/state"][step],
                    },
                    "action": held[f"{number}/action"][step],
                    "reward": float(step), "count": step - 1, "is_first": step == 0,
                    "language_instruction": tasks[number],
                })
            yield number, {"steps": steps, "episode_metadata": {"file_path": str(number)}}

Demo(data_dir=out).download_and_prepare()
print("null")
"""


def test_we_read_a_data_set_of_tfds(python: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = {n: demonstration(n, length) for n, length in enumerate(LENGTHS)}
    tasks = [TASKS[number % len(TASKS)] for number in range(len(LENGTHS))]
    values: dict[str, np.ndarray] = {
        "lengths": np.array(json.dumps(LENGTHS)),
        "tasks": np.array(json.dumps(tasks)),
    }
    for number, each in made.items():
        maps = rng.random((*each["image"].shape[:3], 1)).astype(np.float32)
        each["gaze"] = maps
        values |= {f"{number}/{key}": each[key] for key in ("image", "gaze", "state", "action")}
    np.savez(tmp_path / "made.npz", **values)  # pyright: ignore[reportArgumentType]
    run_peer(python, WRITE_RLDS, tmp_path / "made.npz", tmp_path / "tfds")
    recording = formats.open(tmp_path / "tfds/demo/1.2.0")
    assert recording.format == "rlds"
    assert recording.problems == ()
    assert [info.split for info in recording.episodes] == ["train", "train", "val"]
    # TFDS shuffles what it writes.
    by_length = {info.length: number for number, info in enumerate(recording.episodes)}
    for number, length in enumerate(LENGTHS):
        episode = recording.read(by_length[length])
        each = made[number]
        assert episode.task == tasks[number]
        np.testing.assert_array_equal(episode.arrays["state"], each["state"])
        np.testing.assert_array_equal(episode.arrays["action"], each["action"])
        assert episode.arrays["count"].tolist() == list(range(-1, length - 1))
        assert episode.arrays["is_first"].tolist() == [True] + [False] * (length - 1)
        pictures = {name: np.stack(list(frames)) for name, frames in episode.frames.items()}
        np.testing.assert_array_equal(pictures["image_0"], each["image"])
        assert np.abs(pictures["image_1"].astype(float) - each["image"]).mean() < 4
        wanted = each["image"][..., :1].astype(np.uint16) * 200
        np.testing.assert_array_equal(pictures["depth"], wanted)
        np.testing.assert_array_equal(pictures["saliency"], each["gaze"])
