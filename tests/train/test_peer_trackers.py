"""`deft train tracker=…` with the real TensorBoard and the real W&B, offline."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from suites.demonstrations import write_store
from suites.peers import peer_program
from suites.sweeps import peer_environment

pytestmark = pytest.mark.peer

READ_BOARD = """
import io, json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
found = EventAccumulator(sys.argv[1])
found.Reload()
images = {tag: found.Images(tag)[0] for tag in found.Tags()["images"]}
print(json.dumps({
    "loss": [[e.step, e.value] for e in found.Scalars("train/loss")],
    "images": {tag: [e.height, e.width, e.encoded_image_string[:4].decode("latin1")]
               for tag, e in images.items()},
}))
"""
READ_WANDB = """
import glob, json, sys
from wandb.sdk.internal.datastore import DataStore
from wandb.proto import wandb_internal_pb2
rows, ids, preempted = [], set(), 0
for path in sorted(glob.glob(sys.argv[1] + "/wandb/offline-run-*/*.wandb")):
    store = DataStore()
    store.open_for_scan(path)
    while True:
        data = store.scan_data()
        if data is None:
            break
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            ids.add(record.run.run_id)
            project, tags = record.run.project, list(record.run.tags)
        preempted += record.WhichOneof("record_type") == "preempting"
        if record.WhichOneof("record_type") == "history":
            rows.append({(i.key or "/".join(i.nested_key)): json.loads(i.value_json)
                         for i in record.history.item})
print(json.dumps({"rows": rows, "ids": sorted(ids), "project": project, "tags": tags,
                  "preempted": preempted}))
"""
SHOW = """
import sys
from pathlib import Path
import numpy as np
from deft import report, train
run, kind = Path(sys.argv[1]), sys.argv[2]
config = train.TrackerConfig(kind=kind, mode="offline")
pictures = [np.full((16, 24, 3), 40 * i, np.uint8) for i in range(5)]
film = run / "film.mp4"
film.parent.mkdir(parents=True)
film.write_bytes(report.encode_mp4(pictures, 10))
with train.tracking(config, run, {}, start_step=0) as tracker:
    tracker.write(3, {"train/loss": 1.5})
    tracker.image(3, "look", pictures[1])
    tracker.video(3, "film", film)
"""


def call(*words: Any) -> str:
    python = peer_program("trackers")
    done = subprocess.run(
        [python, *map(str, words)], capture_output=True, text=True, timeout=200, check=False,
        env=peer_environment() | {"WANDB_SILENT": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def read(script: str, *words: Any) -> Any:
    import json

    return json.loads(call("-W", "ignore", "-c", script, *words).strip().splitlines()[-1])


def train_twice(tmp_path: Path, *words: str) -> Path:
    """Ten steps, and then ten more of the same session."""
    data = write_store(tmp_path / "home")
    small = ["policy=bc", f"data.path={data}", f"runs_dir={tmp_path}/runs", "session=a",
             "data.observations=[state]", "policy.width=8", "policy.depth=1", "device=cpu",
             "train.batch_size=4", "train.log_freq=5", "train.save_freq=5", "val.offline_freq=5",
             *words]  # fmt: skip
    call("-m", "deft", "train", *small, "train.steps=10")
    call("-m", "deft", "train", *small, "train.steps=20", "resume=true")
    return tmp_path / "runs" / "custom" / "bc" / "a"


def test_tensorboard_shows_each_step_once_after_a_resume(tmp_path: Path) -> None:
    run = train_twice(tmp_path, "tracker=tensorboard")
    found = read(READ_BOARD, run / "tensorboard")
    assert [step for step, _ in found["loss"]] == [5, 10, 15, 20]


def test_wandb_goes_on_with_the_same_run(tmp_path: Path) -> None:
    words = ["tracker=wandb", "tracker.mode=offline", "tracker.project=peg", "tracker.tags=[x,y]"]
    found = read(READ_WANDB, train_twice(tmp_path, *words))
    assert len(found["ids"]) == 1
    assert (found["project"], sorted(found["tags"])) == ("peg", ["x", "y"])
    assert [r["step"] for r in found["rows"] if "train/loss" in r] == [5, 10, 15, 20]
    assert any("val/loss" in row for row in found["rows"])


def test_a_run_that_is_out_of_time_is_preempted_for_wandb(tmp_path: Path) -> None:
    data = write_store(tmp_path / "home")
    done = subprocess.run(
        [peer_program("trackers"), "-m", "deft", "train", "policy=bc", f"data.path={data}",
         f"runs_dir={tmp_path}/runs", "session=a", "data.observations=[state]", "device=cpu",
         "policy.width=8", "policy.depth=1", "train.batch_size=4", "train.max_minutes=0.001",
         "tracker=wandb", "tracker.mode=offline"],
        capture_output=True, text=True, timeout=200, check=False,
        env=peer_environment() | {"WANDB_SILENT": "true"},
    )  # fmt: skip
    assert done.returncode == 3, done.stderr[-3000:]
    assert read(READ_WANDB, tmp_path / "runs/custom/bc/a")["preempted"] == 1


def test_pictures_and_videos_are_shown(tmp_path: Path) -> None:
    call("-c", SHOW, tmp_path / "board", "tensorboard")
    images = read(READ_BOARD, tmp_path / "board" / "tensorboard")["images"]
    assert images == {"look": [16, 24, "\x89PNG"], "film": [16, 24, "GIF8"]}
    call("-c", SHOW, tmp_path / "remote", "wandb")
    rows = read(READ_WANDB, tmp_path / "remote")["rows"]
    keys = {key for row in rows for key in row}
    assert {"train/loss", "step"} <= keys
    media = sorted(p.suffix for p in (tmp_path / "remote/wandb").rglob("media/**/*") if p.is_file())
    assert media == [".mp4", ".png"]


def test_wandb_that_refuses_says_how_to_go_on(tmp_path: Path) -> None:
    python = peer_program("trackers")
    data = write_store(tmp_path / "home")
    done = subprocess.run(
        [python, "-m", "deft", "train", "policy=bc", f"data.path={data}", "tracker=wandb",
         f"runs_dir={tmp_path}/runs", "session=a", "data.observations=[state]", "device=cpu"],
        capture_output=True, text=True, timeout=200, check=False, stdin=subprocess.DEVNULL,
        env=peer_environment() | {"HOME": str(tmp_path), "WANDB_BASE_URL": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "tracker.mode=offline" in done.stderr
    assert "Traceback" not in done.stderr
