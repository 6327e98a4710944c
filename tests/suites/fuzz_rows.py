"""Every format that can be read, as one small recording each, for the fuzz tests.

A new format is one row: its name and how to write a recording at a path.
"""

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from suites.bridge_trees import (
    DATED,
    converted,
    converted_example,
    write_converted,
    write_records,
    write_trajectory,
)
from suites.memory_source import MemorySource, tiny_spec
from suites.recordings import (
    BLOSC,
    TASKS,
    blosc,
    demonstration,
    jpeg,
    replay_files,
    rlds_values,
    write_folder,
    write_lerobot,
    write_rlds,
    write_zip,
    zarr_array,
)
from suites.writers import writable_spec, write_all
from suites.zarr_v3 import zarr3_array

LENGTHS = (4, 3)


@dataclass(frozen=True)
class Row:
    """A format, and how to write a small recording of it."""

    format: str
    """A name in `formats.FORMATS`, or `store`."""
    write: Callable[[Path], object]
    """Writes at exactly this path; a file when `suffix` says so, else a folder."""
    suffix: str = ""
    opens: str = ""
    """The file inside that is opened; empty for all of it."""
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    """Settings of the format."""


def _robomimic(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = '{"env_kwargs": {"control_freq": 20}}'
        for number, length in enumerate(LENGTHS):
            made = demonstration(number, length)
            group = file.create_group(f"data/demo_{number}")
            group.attrs["num_samples"] = length
            group["actions"] = made["action"].astype(np.float64) * 0.2
            group["obs/state"] = made["state"].astype(np.float64)
            group["obs/agentview_image"] = made["image"]
        file["mask/train"] = [b"demo_0", b"demo_1"]


def _aloha(path: Path) -> None:
    path.mkdir()
    for number, length in enumerate(LENGTHS):
        made = demonstration(number, length)
        with h5py.File(path / f"episode_{number}.hdf5", "w") as file:
            file["action"] = made["action"].astype(np.float64)
            file["observations/qpos"] = made["state"].astype(np.float64)
            blobs = [np.frombuffer(jpeg(each), np.uint8) for each in made["image"]]
            shape = (length, max(map(len, blobs)))
            padded = file.create_dataset("observations/images/top", shape, "uint8")
            for step, blob in enumerate(blobs):
                padded[step, : len(blob)] = blob
            file.attrs["compress"] = True
            file["compress_len"] = np.array([[len(blob) for blob in blobs]], np.float32)


def write_robotwin(path: Path, dof: int = 6) -> Path:
    """A RoboTwin task: two episodes with both arms, instructions and planned moves."""
    for number, length in enumerate(LENGTHS):
        made = demonstration(number, length + 1)
        file_path = path / "data" / f"episode{number}.hdf5"
        file_path.parent.mkdir(parents=True, exist_ok=True)
        arms = np.repeat(made["action"], dof, axis=1)[:, :dof]
        with h5py.File(file_path, "w") as file:
            for side in ("left", "right"):
                file[f"joint_action/{side}_arm"] = arms.astype(np.float64)
                file[f"joint_action/{side}_gripper"] = np.linspace(0, 1, length + 1)
            blobs = [jpeg(each) for each in made["image"]]
            widest = max(map(len, blobs))
            camera = file.create_group("observation/head_camera")
            camera.create_dataset(
                "rgb", data=[each.ljust(widest, b"\0") for each in blobs], dtype=f"S{widest}"
            )
            camera["depth"] = np.full((length + 1, 32, 48), 640.0)
        said = {"seen": [TASKS[number]], "unseen": ["hoist it"]}
        folder = path / "instructions"
        folder.mkdir(exist_ok=True)
        (folder / f"episode{number}.json").write_text(json.dumps(said))
        plans = {
            f"{side}_joint_path": [{"status": "Success", "position": np.zeros((9, dof))}]
            for side in ("left", "right")
        }
        folder = path / "_traj_data"
        folder.mkdir(exist_ok=True)
        (folder / f"episode{number}.pkl").write_bytes(pickle.dumps(plans))
    return path


def _bridge_raw(path: Path) -> None:
    for number, length in enumerate(LENGTHS):
        folder = path / DATED / f"raw/traj_group0/traj{number}"
        write_trajectory(folder, number, length, cameras=("images0", "depth_images0"))


def _bridge_numpy(path: Path) -> None:
    for number, split in enumerate(("train", "val")):
        write_converted(path / "task" / split / "out.npy", [converted(number, 4)])


def _bridge_tfrecord(path: Path) -> None:
    for number, split in enumerate(("train", "val")):
        write_records(path / "task" / split / "out.tfrecord", [converted_example(number, 4)])


def _rlds(path: Path) -> None:
    write_rlds(path, {"train": [rlds_values(n, length) for n, length in enumerate(LENGTHS)]})


def _plans(path: Path) -> None:
    (path / "_traj_data").mkdir(parents=True)
    for number, length in enumerate(LENGTHS):
        rows = np.repeat(demonstration(number, 20 * length)["state"], 2, axis=1)
        done = {"status": "Success", "position": rows, "velocity": rows}
        tree = {"left_joint_path": [done, {"status": "Fail"}], "right_joint_path": [done]}
        (path / f"_traj_data/episode{number}.pkl").write_bytes(pickle.dumps(tree))


def _store(path: Path) -> None:
    from deft import store

    source = MemorySource(lengths=LENGTHS, spec=tiny_spec(depth=True))
    store.write(path, source, store.WriteConfig(val_fraction=0.5))


def _written(format_: str, **options: Any) -> Callable[[Path], object]:
    """A recording by one of our own writers."""

    def write(path: Path) -> object:
        source = MemorySource(lengths=LENGTHS, spec=writable_spec(), splits=("train", "val"))
        return write_all(path, source, format_, options)

    return write


def _zarr_v3(path: Path) -> None:
    parts = [demonstration(number, length) for number, length in enumerate(LENGTHS)]
    files = {"zarr.json": json.dumps({"zarr_format": 3, "node_type": "group"}).encode()}
    for key, name in (("img", "image"), ("state", "state"), ("action", "action")):
        values = np.concatenate([part[name] for part in parts])
        shard = (8, *values.shape[1:]) if key == "img" else None
        chunks = (4, *values.shape[1:])
        for place, data in zarr3_array(values, chunks, shard=shard).items():
            files[f"data/{key}/{place}"] = data
    ends = np.cumsum(LENGTHS).astype(np.int64)
    for place, data in zarr3_array(ends, (64,)).items():
        files[f"meta/episode_ends/{place}"] = data
    write_folder(path, files)


def _feature_maps(path: Path) -> Path:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(sum(LENGTHS), 3, 4, 8)).astype(np.float16)
    files = {".zgroup": b'{"zarr_format": 2}'}
    for name, data in zarr_array(values, (3, 3, 4, 8), compressor=BLOSC, pack=blosc).items():
        files[f"data/features/{name}"] = data
    for name, data in zarr_array(np.cumsum(LENGTHS).astype(np.int64), (64,)).items():
        files[f"meta/episode_ends/{name}"] = data
    return write_folder(path, files)


def _composite(path: Path) -> None:
    write_robotwin(path / "data" / "lift_can" / "demo_clean")
    _feature_maps(path / "features" / "lift_can-demo_clean-2_head_camera.zarr")
    parts = {"trajectories": "data", "features": {"dinov3": "features"}, "align": "hdf5"}
    (path / "parts.json").write_text(json.dumps(parts))


def _lerobot_v20(path: Path) -> None:
    write_lerobot(path, LENGTHS, "image")
    info = json.loads((path / "meta/info.json").read_text())
    (path / "meta/info.json").write_text(json.dumps(info | {"codebase_version": "v2.0"}))


ROWS: dict[str, Row] = {
    "aloha": Row("aloha", _aloha),
    "composite": Row("composite", _composite, opens="parts.json"),
    "feature_zarr": Row("feature_zarr", _feature_maps),
    "lerobot v2.0": Row("lerobot", _lerobot_v20),
    "lerobot v2.1 written": Row("lerobot", _written("lerobot_v21", pictures="image")),
    "lerobot v3.0": Row("lerobot", _written("lerobot_v30")),
    "replay_zarr v3": Row("replay_zarr", _zarr_v3),
    "vita_zarr": Row("vita_zarr", _written("vita_zarr")),
    "bridge_numpy": Row("bridge_numpy", _bridge_numpy),
    "bridge_raw": Row("bridge_raw", _bridge_raw),
    "bridge_tfrecord": Row("bridge_tfrecord", _bridge_tfrecord),
    "lerobot images": Row("lerobot", lambda path: write_lerobot(path, LENGTHS, "image")),
    "lerobot video": Row("lerobot", lambda path: write_lerobot(path, LENGTHS)),
    "replay_zarr": Row("replay_zarr", lambda path: write_folder(path, replay_files(LENGTHS))),
    "replay_zarr zip": Row(
        "replay_zarr", lambda path: write_zip(path, replay_files(LENGTHS)), ".zarr.zip"
    ),
    "rlds": Row("rlds", _rlds),
    "robomimic": Row("robomimic", _robomimic, ".hdf5"),
    "robotwin": Row("robotwin", write_robotwin),
    "robotwin_plans": Row("robotwin_plans", _plans, options={"alignment": "traj_simulate"}),
    "store": Row("store", _store),
}
"""Every format, some of them in several shapes."""
