"""`deft view --rerun` with the real Rerun: what is written is read back by Rerun itself."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from deft import formats, store
from suites.memory_source import MemorySource
from suites.peers import peer_program, run_peer
from suites.recordings import TASKS, demonstration, write_lerobot
from suites.views import rich_spec, rich_store

pytestmark = pytest.mark.peer

READ = """
import base64, json, sys
import rerun
recording = rerun.dataframe.load_recording(sys.argv[1])
table = recording.view(index="step", contents="/**").select().read_all()
found = {}
for name in table.column_names:
    if not name.startswith("/"):
        continue
    values = []
    for value in table.column(name).to_pylist():
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, list):
            value = base64.b64encode(bytes(value)).decode()
        elif isinstance(value, (bytes, bytearray)):
            value = base64.b64encode(value).decode()
        if value is not None and not isinstance(value, dict):
            values.append(value)
    found[name] = values
times = table.column("time").cast("int64").to_pylist() if "time" in table.column_names else []
print(json.dumps({
    "application": recording.application_id(), "id": recording.recording_id(),
    "steps": table.column("step").to_pylist(), "seconds": [each / 1e9 for each in times],
    "columns": found,
}))
"""


def view(*words: object) -> "subprocess.CompletedProcess[str]":
    python = peer_program("rerun")
    command = [str(python), "-m", "deft", "view", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def blob(text: str) -> bytes:
    import base64

    return base64.b64decode(text)


def test_every_feature_is_there_step_by_step(tmp_path: Path) -> None:
    path = write_lerobot(tmp_path / "robot", (6, 4), "image")
    done = view(path, "--rerun", tmp_path / "look.rrd")
    assert done.returncode == 0, done.stderr
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ""] == ["look.rrd"]
    read = run_peer(peer_program("rerun"), READ, tmp_path / "look.rrd")
    assert (read["application"], read["id"]) == ("deft", "robot")
    assert read["steps"] == list(range(6))
    assert read["seconds"] == pytest.approx([step / 10 for step in range(6)])
    columns = read["columns"]
    recording = formats.open(path)
    for number, length in enumerate((6, 4)):
        made, root = demonstration(number, length), f"/{recording.episodes[number].id}"
        for role, names in (("state", "abc"), ("action", ("m0", "m1"))):
            for element, name in enumerate(names):
                line = columns[f"{root}/{role}/{role}/{name}:Scalars:scalars"]
                np.testing.assert_array_equal(np.asarray(line, np.float32), made[role][:, element])
        assert set(columns[f"{root}/task:TextDocument:text"]) == {TASKS[number]}
        pictures = columns[f"{root}/cameras/top:EncodedImage:blob"]
        own = recording.read(number).frames["top"]
        assert len(pictures) == length
        for step, encoded in enumerate(pictures):
            np.testing.assert_array_equal(simplejpeg.decode_jpeg(blob(encoded)), own[step])


def test_depth_and_saliency_of_a_store(tmp_path: Path) -> None:
    path = rich_store(tmp_path / "store", (5,))
    done = view(path, "--rerun", tmp_path / "look.rrd", "--episodes", 1)
    assert done.returncode == 0, done.stderr
    columns = run_peer(peer_program("rerun"), READ, tmp_path / "look.rrd")["columns"]
    root = "/block_episode_000/cameras"
    assert set(columns[f"{root}/wrist_depth:DepthImage:meter"]) == {1000.0}
    depth = columns[f"{root}/wrist_depth:DepthImage:buffer"]
    own = store.source(store.open(path)).read(0).frames
    for step, data in enumerate(depth):
        picture = np.frombuffer(blob(data), "<u2").reshape(rich_spec()["wrist/depth"].shape)
        np.testing.assert_array_equal(picture, own["wrist/depth"][step])
    overlaid = columns[f"{root}/saliency:EncodedImage:blob"]
    assert len(overlaid) == 5
    shape = simplejpeg.decode_jpeg(blob(overlaid[0])).shape
    assert shape == rich_spec()["image"].shape


def test_an_episode_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store.write(path, MemorySource((4, 5)), store.WriteConfig())
    shard = next(each for each in path.rglob("shard-*"))
    data = bytearray(shard.read_bytes())
    data[:400] = bytes(400)
    shard.write_bytes(data)
    done = view(path, "--rerun", tmp_path / "look.rrd")
    assert done.returncode == 0
    assert "not shown" in done.stderr
    columns = run_peer(peer_program("rerun"), READ, tmp_path / "look.rrd")["columns"]
    assert len(columns["/carrot_episode_001/cameras/image:EncodedImage:blob"]) == 5
    assert len(columns["/block_episode_000/state/state/x:Scalars:scalars"]) == 4
