"""Real robomimic trains on what we write, and we open what real robomimic users have."""

from pathlib import Path

import numpy as np
import pytest

from deft import formats
from suites.memory_source import MemorySource
from suites.peers import peer_program, run_peer
from suites.writers import writable_spec, write_all

pytestmark = pytest.mark.peer


@pytest.fixture
def python() -> Path:
    return peer_program("robomimic")


MODALITIES = """
import robomimic.utils.obs_utils as ObsUtils
ObsUtils.initialize_obs_modality_mapping_from_dict({"low_dim": ["state"], "rgb": ["image"]})
"""

# Settings as robomimic's own training passes them, with its defaults for `BC`.
READ = """
import json, sys
import numpy as np
import robomimic.utils.obs_utils as ObsUtils
from robomimic.utils.dataset import SequenceDataset
path, cache, out = sys.argv[1:]
ObsUtils.initialize_obs_modality_mapping_from_dict({"low_dim": ["state"], "rgb": ["image"]})
held, about = {}, {}
for mask in (None, "train", "valid"):
    data = SequenceDataset(
        hdf5_path=path, obs_keys=("state", "image"), dataset_keys=("actions", "rewards", "dones"),
        frame_stack=1, seq_length=3, pad_seq_length=True, get_pad_mask=True, goal_mode="last",
        hdf5_cache_mode=None if cache == "none" else cache, hdf5_use_swmr=True,
        hdf5_normalize_obs=False, filter_by_attribute=mask,
    )
    about[str(mask)] = {"steps": len(data), "demos": data.demos}
    if mask is None:
        for number in range(len(data)):
            item = data[number]
            for key in ("actions", "rewards", "dones", "pad_mask"):
                held[f"{number}/{key}"] = np.asarray(item[key])
            for group in ("obs", "next_obs", "goal_obs"):
                for key in ("state", "image"):
                    held[f"{number}/{group}/{key}"] = np.asarray(item[group][key])
np.savez(out, **held)
print(json.dumps(about))
"""


@pytest.mark.parametrize("cache", ["none", "low_dim", "all"])
@pytest.mark.parametrize("compress", [False, True])
def test_robomimic_draws_sequences_from_our_files(
    python: Path, tmp_path: Path, cache: str, compress: bool
) -> None:
    source = MemorySource(spec=writable_spec(), splits=("train", "val"))
    options = {"next_obs": True, "compress": compress}
    path = write_all(tmp_path / "demos.hdf5", source, "robomimic", options)
    about = run_peer(python, READ, path, cache, tmp_path / "read.npz")
    total = sum(source.lengths)
    assert about == {
        "None": {"steps": total, "demos": [f"demo_{n}" for n in range(4)]},
        "train": {"steps": source.lengths[0] + source.lengths[2], "demos": ["demo_0", "demo_2"]},
        "valid": {"steps": source.lengths[1] + source.lengths[3], "demos": ["demo_1", "demo_3"]},
    }
    at = 0
    with np.load(tmp_path / "read.npz") as read:
        for number, length in enumerate(source.lengths):
            made = source.read(number)
            images = np.stack(list(made.frames["image"]))
            for step in range(length):
                steps = np.minimum(np.arange(step, step + 3), length - 1)
                state = made.arrays["state"]
                after = np.minimum(steps + 1, length - 1)
                for key, wanted in {
                    "actions": made.arrays["action"][steps],
                    "dones": (steps == length - 1).astype(int),
                    "rewards": np.zeros(3),
                    "obs/state": state[steps],
                    "obs/image": images[steps],
                    "next_obs/state": state[after],
                    "next_obs/image": images[after],
                    "goal_obs/state": state[[-1]],
                }.items():
                    np.testing.assert_array_equal(read[f"{at}/{key}"].squeeze(), wanted.squeeze())
                at += 1
    assert at == total


ABOUT = """
import json, sys
import robomimic.utils.file_utils as FileUtils
env = FileUtils.get_env_metadata_from_dataset(sys.argv[1])
shapes = FileUtils.get_shape_metadata_from_dataset(sys.argv[1], all_obs_keys=["state", "image"])
print(json.dumps([env, shapes["ac_dim"], {k: list(v) for k, v in shapes["all_shapes"].items()}]))
"""


def test_robomimic_knows_what_our_files_hold(python: Path, tmp_path: Path) -> None:
    path = write_all(tmp_path / "demos.hdf5", MemorySource(spec=writable_spec()), "robomimic")
    script = ABOUT.replace("env =", MODALITIES + "env =", 1)
    env, width, shapes = run_peer(python, script, path)
    assert env == {"env_name": "", "type": 2, "env_type": 2, "env_kwargs": {"control_freq": 10.0}}
    assert width == 2
    assert shapes == {"state": [3], "image": [3, 24, 32]}


# robomimic writes no demonstrations without a simulator; these are its data sets by its own
# description, made with its environment's h5py, split by its own script.
WRITE = """
import json, sys
import h5py
import numpy as np
path = sys.argv[1]
rng = np.random.default_rng(0)
with h5py.File(path, "w", libver="latest") as file:
    data = file.create_group("data")
    total = 0
    for number in range(11):
        length = 4 + number
        demo = data.create_group(f"demo_{number}")
        demo.create_dataset("actions", data=rng.uniform(-1, 1, (length, 7)))
        demo.create_dataset("rewards", data=np.zeros(length))
        demo.create_dataset("dones", data=np.eye(length, dtype=int)[-1])
        demo.create_dataset("states", data=rng.normal(size=(length, 32)))
        for group in ("obs", "next_obs"):
            demo.create_dataset(f"{group}/robot0_eef_pos", data=rng.normal(size=(length, 3)))
            pixels = rng.integers(0, 255, (length, 84, 84, 3), np.uint8)
            demo.create_dataset(f"{group}/agentview_image", data=pixels, compression="gzip")
        demo.attrs["num_samples"] = length
        demo.attrs["model_file"] = "<mujoco/>"
        total += length
    data.attrs["total"] = total
    env = {"env_name": "Lift", "type": 1, "env_version": "1.4.1",
           "env_kwargs": {"control_freq": 20, "robots": ["Panda"]}}
    data.attrs["env_args"] = json.dumps(env, indent=4)
from robomimic.scripts.split_train_val import split_train_val_from_hdf5
split_train_val_from_hdf5(path, val_ratio=0.3)
sums = {}
with h5py.File(path, swmr=True, libver="latest") as file:
    for name in file["data"]:
        demo = file["data"][name]
        sums[name] = [float(demo["actions"][:].sum()), int(demo["obs/agentview_image"][:].sum())]
    masks = {name: [each.decode() for each in file["mask"][name][:]] for name in file["mask"]}
print(json.dumps([sums, masks]))
"""


def test_we_open_what_robomimic_writes(python: Path, tmp_path: Path) -> None:
    path = tmp_path / "low_dim.hdf5"
    sums, masks = run_peer(python, WRITE, path)
    recording = formats.open(path)
    assert [info.id for info in recording.episodes] == [f"demo_{n}" for n in range(11)]
    assert (recording.spec.fps, recording.spec.embodiment) == (20, "Panda")
    held_out = {info.id for info in recording.episodes if info.split == "val"}
    assert held_out == set(masks["valid"])
    assert {info.id for info in recording.episodes if info.split == "train"} == set(masks["train"])
    for number, info in enumerate(recording.episodes):
        episode = recording.read(number)
        actions, pixels = sums[info.id]
        assert episode.arrays["action"].sum() == pytest.approx(actions, abs=1e-4)
        frames = episode.frames["agentview_image"]
        assert sum(int(picture.astype(np.int64).sum()) for picture in frames) == pixels
    assert {each.severity for each in recording.problems} <= {"note"}
