"""BridgeData's raw tree to `out.npy` in the straightforward way: PIL and numpy, a file at a time.

    python bench/plain_convert.py RAW OUT --im-size 128 --workers 1

What `convert.py` compares with. It does what BridgeData's own script is described to do: a process
works on one task folder at a time, every picture is opened with PIL and resized with LANCZOS to a
square, and each split becomes one pickled array of lists of dictionaries.
"""

import argparse
import glob
import os
import pickle
import random
from datetime import datetime
from functools import partial
from multiprocessing import Pool

import numpy as np
from PIL import Image


def pictures(folder: str, size: int) -> list[np.ndarray]:
    count = len(glob.glob(os.path.join(folder, "im_*.jpg")))
    found = []
    for step in range(count):
        image = Image.open(os.path.join(folder, f"im_{step}.jpg"))
        found.append(np.asarray(image.resize((size, size), Image.Resampling.LANCZOS)))
    return found


def trajectory(folder: str, size: int, is_late: bool) -> dict[str, object]:
    # Plain unpickling is part of what is measured; this only ever opens what bridge_tree.py made.
    with open(os.path.join(folder, "obs_dict.pkl"), "rb") as file:
        observed = pickle.load(file)
    with open(os.path.join(folder, "policy_out.pkl"), "rb") as file:
        policy = pickle.load(file)
    names = sorted(n for n in os.listdir(folder) if "images" in n and "depth" not in n)
    columns = {name: pictures(os.path.join(folder, name), size) for name in names}
    columns["state"] = list(observed["full_state"])
    columns["time_stamp"] = list(observed["time_stamp"])
    frames = [dict(zip(columns, row)) for row in zip(*columns.values())]  # noqa: B905
    actions = [each["actions"] if isinstance(each, dict) else each for each in policy]
    seen, after = frames[:-1], frames[1:]
    if is_late:
        seen, after, actions = seen[1:], after[1:], actions[:-1]
    lines = [""]
    if os.path.exists(os.path.join(folder, "lang.txt")):
        with open(os.path.join(folder, "lang.txt")) as file:
            lines = [line.strip() for line in file if "confidence" not in line]
    assert len(seen) == len(after) == len(actions)
    return {
        "observations": seen,
        "next_observations": after,
        "actions": actions,
        "terminals": [0] * len(actions),
        "language": lines,
    }


def task(folder: str, root: str, out: str, size: int) -> int:
    train: list[dict[str, object]] = []
    val: list[dict[str, object]] = []
    for dated in sorted(glob.glob(os.path.join(folder, "*"))):
        date = datetime.strptime(os.path.basename(dated), "%Y-%m-%d_%H-%M-%S")
        folders = glob.glob(os.path.join(dated, "raw", "traj_group*", "traj*"))
        random.shuffle(folders)
        for number, each in enumerate(folders):
            made = trajectory(each, size, date < datetime(2021, 7, 23))
            (train if number < int(len(folders) * 0.9) else val).append(made)
    for name, held in (("train", train), ("val", val)):
        place = os.path.join(out, os.path.relpath(folder, root), name)
        os.makedirs(place, exist_ok=True)
        array = np.empty(len(held), object)
        array[:] = held
        np.save(os.path.join(place, "out.npy"), array, allow_pickle=True)
    return len(train) + len(val)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("raw")
    parser.add_argument("out")
    parser.add_argument("--im-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    folders = sorted(
        {os.path.dirname(path) for path in glob.glob(os.path.join(options.raw, "*/*/*/*/*/raw"))}
    )
    tasks = sorted({os.path.dirname(path) for path in folders})
    convert = partial(task, root=options.raw, out=options.out, size=options.im_size)
    with Pool(options.workers) as pool:
        done = pool.map(convert, tasks, chunksize=1)
    print(sum(done))


if __name__ == "__main__":
    main()
