"""LeRobot's own data set and torch's DataLoader, timed on request; run by `bench/loader.py`.

Runs in the environment that `bench/peers/lerobot.sh` makes, knows nothing of Deft:

    FOLDER/bin/lrpy bench/peers/loader_lerobot.py FRAMES ROOT

FRAMES holds `layout.json` (cameras, height, width, episodes, length, fps, obs_horizon,
pred_horizon) and per episode `<n>_<camera>.npy`, uint8 `T H W C`, `<n>_state.npy` and
`<n>_action.npy`. They are written below ROOT as two LeRobot data sets, one with videos (LeRobot's
own choice of codec) and one with pictures inside parquet; then a line `{"ready": true, ...}` comes.
After that every line of standard input is a job,

    {"storage": "video", "backend": "torchcodec", "workers": 2, "batch": 64, "batches": 6}

and is answered by `{"samples": ..., "wall_s": ..., "cpu_s": ...}`: of `batches` batches once the
workers run at a steady pace, with the CPU time of this process and its workers. Or it is

    {"storage": "image", "backend": "torchcodec", "sample": 17}

answered by the sums of that sample's pictures (in levels), states and actions, `{"sums": [...]}`,
to see that both sides hold the same.
"""

import itertools
import json
import logging
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from lerobot.datasets import video_utils
from lerobot.datasets.lerobot_dataset import LeRobotDataset, LeRobotDatasetMetadata

WARM = 6
"""Batches taken before the clock starts: more than the workers hold ready, so that none of those
that are timed was made before."""

VECTOR = {"dtype": "float32", "names": None}


def write(frames, root, layout, storage):
    """One LeRobot data set of all episodes; returns the seconds it took."""
    features = {
        "observation.state": {**VECTOR, "shape": (layout["state_numbers"],)},
        "action": {**VECTOR, "shape": (layout["numbers"],)},
    }
    for camera in layout["cameras"]:
        features[f"observation.images.{camera}"] = {
            "dtype": storage,
            "shape": (layout["height"], layout["width"], 3),
            "names": ["height", "width", "channels"],
        }
    shutil.rmtree(root, ignore_errors=True)
    began = time.perf_counter()
    dataset = LeRobotDataset.create(
        repo_id=f"bench/{storage}",
        root=root,
        fps=int(layout["fps"]),
        features=features,
        use_videos=storage == "video",
    )
    for episode in range(layout["episodes"]):
        held = {
            name: np.load(frames / f"{episode}_{name}.npy")
            for name in (*layout["cameras"], "state", "action")
        }
        for step in range(layout["length"]):
            frame = {"observation.state": held["state"][step], "action": held["action"][step]}
            for camera in layout["cameras"]:
                frame[f"observation.images.{camera}"] = held[camera][step]
            dataset.add_frame(frame | {"task": "look"})
        dataset.save_episode()
    dataset.finalize()
    return time.perf_counter() - began


def opened(root, layout, storage, backend):
    """The data set with windows of `obs_horizon` pictures and `pred_horizon` actions."""
    meta = LeRobotDatasetMetadata(f"bench/{storage}", root=root)
    observed = [n / meta.fps for n in range(1 - layout["obs_horizon"], 1)]
    windows = dict.fromkeys((*meta.camera_keys, "observation.state"), observed)
    windows["action"] = [n / meta.fps for n in range(layout["pred_horizon"])]
    return LeRobotDataset(meta.repo_id, root=root, delta_timestamps=windows, video_backend=backend)


def endless(dataset, job):
    """A loader of batches as `job` says, the same ones every time."""
    # Workers would inherit open decoders, and with them one place in the file for all.
    video_utils._default_decoder_cache.clear()
    # Drawn with replacement and without end: no epoch ends, which would restart the workers.
    sampler = torch.utils.data.RandomSampler(
        dataset,
        replacement=True,
        num_samples=10**9 // job["batch"],
        generator=torch.Generator().manual_seed(0),
    )
    return torch.utils.data.DataLoader(
        dataset,
        batch_size=job["batch"],
        sampler=sampler,
        num_workers=job["workers"],
        prefetch_factor=2 if job["workers"] else None,
    )


def measure(dataset, layout, job):
    """Run one job; see the module."""
    loader = endless(dataset, job)
    batches = iter(loader)
    first = next(batches)
    shape = (job["batch"], layout["obs_horizon"], 3, layout["height"], layout["width"])
    for camera in layout["cameras"]:
        picture = first[f"observation.images.{camera}"]
        assert tuple(picture.shape) == shape, picture.shape
    assert first["action"].shape[1] == layout["pred_horizon"]
    for _ in itertools.islice(batches, WARM if job["workers"] else 0):
        pass
    began, wall = cpu_s(), time.perf_counter()
    for _ in itertools.islice(batches, job["batches"]):
        pass
    spent = {"wall_s": time.perf_counter() - wall, "cpu_s": cpu_s() - began}
    del batches, loader
    return {"samples": job["batches"] * job["batch"], **spent}


def sums(dataset, layout, index):
    """What identifies a sample: pictures of all cameras together, state, action."""
    sample = dataset[index]
    pictures = [sample[f"observation.images.{camera}"] for camera in layout["cameras"]]
    levels = sum(int((255 * picture).round().sum(dtype=torch.float64)) for picture in pictures)
    numbers = [float(sample[key].double().sum()) for key in ("observation.state", "action")]
    return {"sums": [levels, *numbers]}


def cpu_s():
    """CPU time of this process and its living workers."""
    own = psutil.Process()
    times = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def main():
    logging.disable(logging.INFO)
    frames, root = Path(sys.argv[1]), Path(sys.argv[2])
    layout = json.loads((frames / "layout.json").read_text())
    report = {"ready": True, "torch_threads": torch.get_num_threads()}
    for storage in ("video", "image"):
        report[f"{storage}_write_s"] = round(write(frames, root / storage, layout, storage), 2)
        held = (file for file in (root / storage).rglob("*") if file.is_file())
        report[f"{storage}_mb"] = round(sum(file.stat().st_size for file in held) / 1e6, 2)
    print(json.dumps(report), flush=True)
    datasets = {}
    for line in sys.stdin:
        job = json.loads(line)
        key = (job["storage"], job["backend"])
        if key not in datasets:
            datasets[key] = opened(root / job["storage"], layout, *key)
        if "sample" in job:
            answer = sums(datasets[key], layout, job["sample"])
        else:
            answer = measure(datasets[key], layout, job)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
