"""Recognition by content, and what is said when nothing is recognised."""

import subprocess
import sys
from pathlib import Path

import pytest

from deft import formats, store
from deft.errors import FormatError
from suites.recordings import (
    replay_files,
    rlds_values,
    write_folder,
    write_lerobot,
    write_rlds,
    write_zip,
)


def test_names_do_not_matter(tmp_path: Path) -> None:
    zarr = write_folder(tmp_path / "lerobot", replay_files((3,)))
    zipped = write_zip(tmp_path / "features.json", replay_files((3,)))
    robot = write_lerobot(tmp_path / "replay.zarr", (3,))
    shards = write_rlds(tmp_path / "videos", {"train": [rlds_values(0, 3)]})
    found = [formats.recognise(each) for each in (zarr, zipped, robot, shards)]
    assert found == ["replay_zarr", "replay_zarr", "lerobot", "rlds"]
    assert formats.recognise(tmp_path) is None
    assert set(found) <= set(formats.FORMATS)


def test_a_folder_around_one_recording_is_opened(tmp_path: Path) -> None:
    inner = write_rlds(tmp_path / "1.0.0", {"train": [rlds_values(0, 3)]})
    (tmp_path / "README.md").write_text("about it")
    assert formats.open(str(tmp_path)).path == inner
    write_folder(tmp_path / "b", replay_files((3,)))
    with pytest.raises(FormatError, match=r"holds 2 recordings.\nFound: 1.0.0 \(rlds\), b"):
        formats.open(tmp_path)


def test_what_is_unknown_says_what_was_looked_for_and_found(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello there")
    with pytest.raises(FormatError) as caught:
        formats.open(tmp_path)
    said = str(caught.value)
    for name in formats.FORMATS:
        assert f"\n  {name}: " in said
    assert "Found: a folder with notes.txt." in said
    with pytest.raises(FormatError, match="begins with 68656c6c6f207468"):
        formats.open(tmp_path / "notes.txt")
    with pytest.raises(FormatError, match="nothing at this path"):
        formats.open(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="an empty folder"):
        formats.open(tmp_path / "empty")


def test_a_format_that_was_named_wrongly(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "a", replay_files((3,)))
    with pytest.raises(FormatError, match="Did you mean 'replay_zarr'"):
        formats.open(path, "replay-zarr")
    for name in ("lerobot", "rlds"):
        with pytest.raises(FormatError, match="Fix: "):
            formats.open(path, name)
    robot = write_lerobot(tmp_path / "b", (3,))
    with pytest.raises(FormatError, match="Fix: "):
        formats.open(robot, "replay_zarr")


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_rates_are_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(FormatError, match="fps"):
        formats.open(write_folder(tmp_path / "a", replay_files((3,))), fps=fps)


def test_importing_the_room_loads_nothing_heavy() -> None:
    code = (
        "import sys, deft.formats\n"
        "heavy = {'torch', 'pyarrow', 'av', 'cv2', 'numcodecs', 'zarr', 'tensorflow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_and_texts_that_are_no_text_can_still_be_stored(tmp_path: Path) -> None:
    path = write_lerobot(tmp_path / "robot", (4, 3), "image")
    for file in (path / "meta/tasks.jsonl", path / "meta/episodes.jsonl"):
        file.write_text(file.read_text().replace("open", r"op\udcffen"))
    recording = formats.open(path)
    assert recording.episodes[0].task == recording.read(0).task == "op?en the drawer"
    report = store.write(tmp_path / "store", recording, store.WriteConfig())
    assert (report.episodes, report.left_out) == (2, ())
    assert "op?en the drawer" in store.open(tmp_path / "store").tasks
