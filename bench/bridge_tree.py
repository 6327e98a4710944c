"""A made-up BridgeData tree as its recorder leaves it: 640x480 JPEG, pickles, dated folders.

    python bench/bridge_tree.py FOLDER --trajectories 200 --frames 40

Pictures are fields of colour with objects that move, under a sensor's noise, at the quality of a
webcam: 60 to 100 kB each. No two are alike.
"""

import argparse
import json
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg

HEIGHT, WIDTH, QUALITY = 480, 640, 90
TASKS = ("rss/toykitchen1/put_x_in_y", "rss/toykitchen2/open_z", "icra/desk/lift_w", "flap/a/b")
PER_DATE = 25


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trajectories", type=int, default=200)
    parser.add_argument("--frames", type=int, default=40)
    options = parser.parse_args()
    make_tree(options.folder, options.trajectories, options.frames)


def make_tree(root: Path, trajectories: int, frames: int) -> None:
    """The tree, unless one of these sizes is there already."""
    mark, plan = root / "made.json", {"trajectories": trajectories, "frames": frames, "version": 1}
    if mark.is_file() and json.loads(mark.read_text()) == plan:
        return
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_one, [root] * trajectories, range(trajectories), [frames] * trajectories))
    mark.write_text(json.dumps(plan))


def repeat_tree(root: Path, more: Path, trajectories: int) -> None:
    """A larger tree whose trajectories are hard links to those of `root`; numbers of its own."""
    folders = sorted(path.parent for path in root.rglob("obs_dict.pkl"))
    for number in range(trajectories):
        place = more / _place(number)
        if place.exists():
            continue
        source = folders[number % len(folders)]
        (place / "images0").mkdir(parents=True)
        for file in source.rglob("*.*"):
            os.link(file, place / file.relative_to(source))


def _place(number: int) -> Path:
    task, run = TASKS[number % len(TASKS)], number // len(TASKS)
    date = f"2022-03-{1 + run // PER_DATE % 28:02d}_{run // PER_DATE // 28:02d}-11-12"
    return Path(task, "00", date, "raw", "traj_group0", f"traj{run % PER_DATE}")


def _one(root: Path, number: int, frames: int) -> None:
    """One trajectory of `frames` transitions, so of one picture more."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(number)
    folder = root / _place(number)
    (folder / "images0").mkdir(parents=True, exist_ok=True)
    background = _background(rng)
    noises = rng.normal(0, 4, (4, HEIGHT + 64, WIDTH + 64, 1)).astype(np.int16)
    objects = [
        (rng.integers(20, 235, 3), rng.integers(30, 110, 2), rng.uniform(0, 400, 4))
        for _ in range(12)
    ]
    for step in range(frames + 1):
        picture = background.copy()
        for colour, (high, wide), (y, x, dy, dx) in objects:
            top = int(y + (dy - 200) * step / frames) % (HEIGHT - high)
            left = int(x * 1.4 + (dx - 200) * step / frames) % (WIDTH - wide)
            patch = picture[top : top + high, left : left + wide]
            patch[:] = patch // 2 + colour // 2
        top, left = rng.integers(0, 64, 2)
        picture += noises[step % 4][top : top + HEIGHT, left : left + WIDTH]
        pixels = np.clip(picture, 0, 255).astype(np.uint8)
        data = simplejpeg.encode_jpeg(pixels, quality=QUALITY, colorsubsampling="420")
        (folder / f"images0/im_{step}.jpg").write_bytes(data)
    for name, content in _pickles(rng, frames).items():
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "lang.txt").write_text(f"put number {number} into the bowl\nconfidence: 1\n")


def _background(rng: np.random.Generator) -> np.ndarray:
    """Colour at every scale, fading as in photographs."""
    picture = np.full((HEIGHT, WIDTH, 3), 128, np.float32)
    for scale in range(1, 8):
        cells = 2**scale
        field = rng.normal(0, 90 / cells**0.7, (cells * 3 // 4 + 2, cells + 2, 3))
        size = (WIDTH, HEIGHT)
        picture += cv2.resize(field.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    return picture.astype(np.int16)


def _pickles(rng: np.random.Generator, frames: int) -> dict[str, Any]:
    state = np.cumsum(rng.normal(0, 0.01, (frames + 1, 7)), 0)
    observed = {
        "joint_effort": rng.normal(size=(frames + 1, 6)),
        "qpos": rng.normal(size=(frames + 1, 6)),
        "qvel": rng.normal(size=(frames + 1, 6)),
        "full_state": state,
        "state": state,
        "desired_state": state,
        "time_stamp": [1.6e9 + 0.2 * step for step in range(frames + 1)],
        "eef_transform": rng.normal(size=(frames + 1, 4, 4)),
        "high_bound": np.ones((frames + 1, 5)),
        "low_bound": np.zeros((frames + 1, 5)),
        "env_done": [False] * (frames + 1),
        "t_get_obs": [0.01] * (frames + 1),
    }
    policy = [
        {
            "actions": rng.normal(0, 0.02, 7),
            "new_robot_transform": np.eye(4),
            "delta_robot_transform": np.eye(4),
            "policy_type": "VRTeleopPolicy",
        }
        for _ in range(frames)
    ]
    return {"obs_dict.pkl": observed, "policy_out.pkl": policy}


if __name__ == "__main__":
    main()
