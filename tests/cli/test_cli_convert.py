"""`deft convert`: from words to a store, with a report that says what became of it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deft import formats, store
from deft.cli.convert import destination, parse_episodes
from deft.cli.main import main
from deft.errors import ConfigError
from deft.spec import Resized
from deft.transforms import resize_as
from suites.bridge_trees import write_trajectory
from suites.demonstrations import SPEC, episode, write_store


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_store(tmp_path / "recording", episodes=6, length=9)


def test_it_converts_resizes_and_reports(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", str(recording), str(tmp_path / "out"), "--to", "store"]
    assert main([*words, "--image-size", "8x16", "--codec", "raw", "--workers", "2"]) == 0
    said = capsys.readouterr()
    assert "image: image height 8, width 16, 3 channels uint8, from height 32, width 32" in said.err
    assert "6 episodes" in said.out
    assert "54 steps, 54 pictures" in said.out
    assert said.out.rstrip().endswith(str(tmp_path / "out"))
    opened = store.open(tmp_path / "out")
    assert opened.spec["image"].shape == (8, 16, 3)
    assert store.check(opened) == []


def test_the_same_words_again_do_nothing(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", str(recording), str(tmp_path / "out")]
    assert main(words) == 0
    before = (tmp_path / "out/store.json").stat().st_mtime_ns
    assert main(words) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert (tmp_path / "out/store.json").stat().st_mtime_ns == before
    assert main([*words, "--quality", "70"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words, "--quality", "70", "--overwrite"]) == 0


def test_a_store_grows(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    words = ["convert", str(recording), out]
    assert main([*words, "--episodes", "0:4", "--image-size", "16x16", "--codec", "png"]) == 0
    assert main([*words, "--append"]) == 0
    assert "6 episodes" in capsys.readouterr().out
    assert main([*words, "--append", "--id-prefix", "again/", "--episodes", "2"]) == 0
    assert "7 episodes" in capsys.readouterr().out
    opened = store.open(out)
    assert opened.episodes.ids[6] == "again/episode-002"
    assert [part["episodes"] for part in opened.info["parts"]] == [4, 2, 1]
    assert opened.info["frames"]["image"]["codec"] == "png"
    assert opened.spec["image"].shape == (16, 16, 3)
    assert store.check(opened) == []
    before = (tmp_path / "out/store.json").read_bytes()
    assert main([*words, "--append"]) == 0
    assert (tmp_path / "out/store.json").read_bytes() == before
    for extra, said in (
        (["--append", "--codec", "raw"], "store's own settings, so --codec"),
        (["--append", "--overwrite"], "so --overwrite"),
        (["--append", "--to", "bridge_numpy"], "adds to stores"),
        (["--id-prefix", "x/"], "is for --append"),
    ):
        assert main([*words, *extra]) == 2
        assert said in capsys.readouterr().err
    assert main(["convert", str(recording), str(tmp_path / "no"), "--append"]) == 1
    assert "no store" in capsys.readouterr().err


def test_a_choice_of_episodes_as_json(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", str(recording), str(tmp_path / "out"), "--episodes", "1,3:5", "--json"]
    assert main([*words, "--dry-run"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["episodes"], planned["steps"]) == (3, 27)
    assert not (tmp_path / "out").exists()
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["episodes"] == 3
    assert report["digest"] == store.open(tmp_path / "out").digest
    assert report["kept_as_is"] == 27
    assert store.open(tmp_path / "out").episodes.ids == (
        "episode-001",
        "episode-003",
        "episode-004",
    )


def test_patterns_choose_tasks(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", str(recording), str(tmp_path / "out"), "--include"]
    assert main([*words, "go homw"]) == 1
    assert "Did you mean 'go home'" in capsys.readouterr().err
    assert main([*words, "go *", "--include", "episode-002"]) == 0
    assert len(store.open(tmp_path / "out").episodes) == 6


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0:3", [0, 1, 2]),
        (":2", [0, 1]),
        ("8:", [8, 9]),
        ("1,2,5", [1, 2, 5]),
        ("3,1:4", [1, 2, 3]),
    ],
)
def test_lists_of_episodes(text: str, numbers: list[int]) -> None:
    assert parse_episodes(text, 10) == numbers


@pytest.mark.parametrize("text", ["", "a", "3:1", "10", "0:11", "1,,2", "-1", "1:2:3"])
def test_lists_that_name_nothing_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="Fix:"):
        parse_episodes(text, 10)


def test_a_bare_name_goes_to_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEFT_DATA_DIR", str(tmp_path / "data"))
    assert destination("pusht") == tmp_path / "data/pusht"
    assert destination("./pusht") == tmp_path / "pusht"
    assert destination("a/pusht") == tmp_path / "a/pusht"
    assert destination("/x/pusht") == Path("/x/pusht")
    monkeypatch.delenv("DEFT_DATA_DIR")
    assert destination("pusht") == tmp_path / "pusht"


@pytest.mark.parametrize(
    "words",
    [
        ["--image-size", "240"],
        ["--val-fraction", "1"],
        ["--quality", "0"],
        ["--workers", "0"],
        ["--episodes", "7:9"],
        ["--fps", "0"],
        ["--to", "bridge"],
        ["--to", "robomimic", "--quality", "80"],
        ["--train-proportion", "0"],
        ["--train-proportion", "0.5", "--val-fraction", "0.5"],
        ["--map", "imag=cam"],
        ["--map", "image"],
        ["--cameras", "wrist"],
        ["--saliency", "boxes"],
        ["--option", "depth=3"],
        ["--write-option", "a=b"],
        ["--codec", "webp"],
    ],
)
def test_wrong_use_ends_with_2_and_leaves_nothing(
    recording: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(recording), str(tmp_path / "out"), *words]) == 2
    assert "Fix:" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recording"]


def test_ctrl_c_stops_and_the_same_command_goes_on(tmp_path: Path) -> None:
    recording = write_store(tmp_path / "recording", episodes=40, length=60)
    words = ["convert", str(recording), str(tmp_path / "out"), "--image-size", "240x320"]
    process = subprocess.Popen(
        [sys.executable, "-m", "deft", *words], stderr=subprocess.PIPE, text=True
    )
    waiting = tmp_path / "out.partial/episodes"
    deadline = time.monotonic() + 60
    while not list(waiting.glob("??/*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.splitlines()[-1]) == (130, "deft convert: interrupted")
    kept = len(list(waiting.glob("??/*")))
    assert 0 < kept < 40
    assert main(words) == 0
    assert len(store.open(tmp_path / "out").episodes) == 40


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "episodes", "steps"),
    [
        ("pusht_cchi_v7", 206, 25650),
        ("bridge_rlds_sample", 50, 500),
        ("g1_pick_bottle_lerobot_v21", 3, 778),
    ],
)
def test_real_recordings_become_sound_stores(
    real_data: Path, tmp_path: Path, name: str, episodes: int, steps: int
) -> None:
    words = ["convert", str(real_data / name), str(tmp_path / "out"), "--image-size", "48x64"]
    assert main([*words, "--workers", "2"]) == 0
    opened = store.open(tmp_path / "out")
    assert (len(opened.episodes), len(opened)) == (episodes, steps)
    assert store.check(opened) == []
    assert {"train", "val"} == set(opened.episodes.split.tolist())
    assert all(np.isfinite(stats.mean).all() for stats in opened.stats.values())
    for file in (tmp_path / "out").glob("*.json"):
        assert str(real_data) not in file.read_text()


def test_the_result_may_not_lie_in_the_source(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in recording.iterdir())
    for place in (recording, recording / "frames" / "x", recording.parent):
        assert main(["convert", str(recording), str(place), "--overwrite"]) == 2
        assert "lie in each other" in capsys.readouterr().err
    assert sorted(path.name for path in recording.iterdir()) == before


def test_the_default_name_is_the_last_two_parts_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFT_DATA_DIR", str(tmp_path / "data"))
    write_store(tmp_path / "lab/lift.zarr", episodes=3, length=4)
    assert main(["convert", str(tmp_path / "lab/lift.zarr")]) == 0
    assert store.is_store(tmp_path / "data/stores/lab/lift")
    words = ["convert", str(tmp_path / "lab/lift.zarr"), f"{tmp_path}/here/"]
    assert main([*words, "--to", "robomimic"]) == 0
    assert formats.open(tmp_path / "here/lab/lift").name == "lift"


def test_ways_of_resizing_and_renaming(recording: Path, tmp_path: Path) -> None:
    words = ["--image-size", "16x24", "--resize", "pad", "--resize-filter", "lanczos"]
    words += ["--map", "image=cam", "--map", "state="]
    assert main(["convert", str(recording), str(tmp_path / "out"), *words]) == 0
    opened = store.open(tmp_path / "out")
    assert opened.spec.names == ("cam", "action")
    step = opened.spec["cam"].resized
    assert step == (Resized(height=32, width=32, mode="pad", filter="lanczos"),)
    # What is converted again, to any format, goes on with the record.
    words = ["--to", "bridge_numpy", "--image-size", "8x8"]
    assert main(["convert", str(tmp_path / "out"), str(tmp_path / "again"), *words]) == 0
    again = formats.open(tmp_path / "again").spec["cam"]
    assert again.resized == (*step, Resized(height=16, width=24, filter="area"))
    raw = store.source(store.open(recording)).read(0).frames["image"][0]
    wanted = resize_as(opened.spec["cam"], raw).astype(int)
    stored = store.source(opened).read(0).frames["cam"][0]
    assert np.abs(stored - wanted).mean() < 6


@pytest.mark.parametrize("to", ["store", "bridge_numpy"])
def test_another_tick_rate(recording: Path, tmp_path: Path, to: str) -> None:
    words = ["convert", str(recording), str(tmp_path / "out"), "--to", to, "--fps", "5"]
    assert main(words) == 0
    path = tmp_path / "out"
    opened = store.source(store.open(path)) if to == "store" else formats.open(path)
    assert opened.spec.fps == 5
    assert {info.length for info in opened.episodes} == {5}
    recorded = store.source(store.open(recording)).read(0)
    np.testing.assert_allclose(opened.read(0).arrays["state"], recorded.arrays["state"][::2])


def test_splits_are_kept_or_drawn_anew(recording: Path, tmp_path: Path) -> None:
    was = {i.id: i.split for i in store.source(store.open(recording)).episodes}
    assert set(was.values()) == {"train", "val"}

    def splits(name: str, *words: str) -> dict[str, str]:
        assert main(["convert", str(recording), str(tmp_path / name), *words]) == 0
        path = tmp_path / name
        found = store.source(store.open(path)) if store.is_store(path) else formats.open(path)
        return {info.id: info.split for info in found.episodes}

    for to in ("store", "robomimic", "bridge_tfrecord"):
        assert splits(f"kept-{to}", "--to", to) == was
        assert splits(f"seed-{to}", "--to", to, "--split-seed", "3") == was
        drawn = [
            splits(
                f"new-{to}-{seed}", "--to", to, "--split-seed", seed, "--train-proportion", "0.5"
            )
            for seed in ("1", "2", "5")
        ]
        assert any(each != was for each in drawn)
        assert all({"train", "val"} == set(each.values()) for each in drawn)
        assert len({tuple(each.values()) for each in drawn}) > 1


def test_a_split_is_drawn_where_there_is_none(tmp_path: Path) -> None:
    with formats.write(tmp_path / "in", "robomimic", SPEC) as writer:
        for number in range(8):
            writer.add(episode(number))
        writer.finish([episode(number).id for number in range(8)])
    assert {info.split for info in formats.open(tmp_path / "in").episodes} == {""}
    for to in ("store", "bridge_numpy"):
        assert main(["convert", str(tmp_path / "in"), str(tmp_path / to), "--to", to]) == 0
    assert set(store.open(tmp_path / "store").episodes.split) == {"train", "val"}
    assert {i.split for i in formats.open(tmp_path / "bridge_numpy").episodes} == {"train", "val"}


def test_several_recordings_become_one(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    words = ["--map", "image=cam", "--fps", "5", "--image-size", "16x16"]
    assert main(["convert", str(recording), str(other), *words]) == 0
    both = ["convert", str(recording), str(other), str(tmp_path / "both")]
    capsys.readouterr()
    assert main(both) == 1
    said = capsys.readouterr().err
    assert "2 difference(s)" in said
    assert "--map cam=image" in said
    assert "--fps 10" in said
    both += ["--map", "cam=image", "--fps", "5"]
    assert main(both) == 1
    assert "--image-size" in capsys.readouterr().err
    assert main([*both, "--image-size", "16x16"]) == 0
    merged = store.open(tmp_path / "both")
    assert len(merged.episodes) == 12
    assert merged.spec["image"].shape == (16, 16, 3)
    assert len({id_.rsplit("/", 1)[0] for id_ in merged.episodes.ids}) == 2


@pytest.mark.parametrize("to", ["store", "bridge_tfrecord"])
def test_a_bad_episode_is_left_out_and_reported(
    tmp_path: Path, to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    for number in range(3):
        write_trajectory(
            raw / f"task/0{number}/2022-03-04_10-11-12/raw/traj_group0/traj0", number, 6
        )
    # Sound at both ends, so that only decoding finds out.
    broken = raw / "task/01/2022-03-04_10-11-12/raw/traj_group0/traj0/images0/im_3.jpg"
    data = bytearray(broken.read_bytes())
    data[20:40] = bytes(20)
    broken.write_bytes(bytes(data))
    words = ["convert", str(raw), str(tmp_path / "out"), "--to", to, "--image-size", "16x16"]
    assert main([*words, "--strict"]) == 1
    assert not (tmp_path / "out").exists()
    assert "cannot be decoded" in capsys.readouterr().err
    assert main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["episodes"] == 2
    (left,) = report["left_out"]
    assert "task/01" in left["id"]
    assert "cannot be decoded" in left["why"]
    manifest = tmp_path / ("out/store.json" if to == "store" else "out.conversion.json")
    assert json.loads(manifest.read_text())["left_out"][0]["id"] == left["id"]
    assert main([*words, "--json"]) == 0
    again = capsys.readouterr()
    assert "nothing to do" in again.err
    assert json.loads(again.out)["left_out"][0]["id"] == left["id"]


def test_choosing_what_not_to_take(recording: Path, tmp_path: Path) -> None:
    words = ["convert", str(recording), str(tmp_path / "out"), "--exclude", "episode-00[0-3]"]
    assert main(words) == 0
    assert store.open(tmp_path / "out").episodes.ids == ("episode-004", "episode-005")
    assert main([*words[:2], str(tmp_path / "none"), "--exclude", "*"]) == 1


def test_formats_are_listed_and_tried_without_writing(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "x", "--to", "list"]) == 0
    assert set(formats.WRITABLE) <= {
        line.split()[0] for line in capsys.readouterr().out.splitlines()
    }
    words = ["convert", str(recording), str(tmp_path / "out"), "--dry-run", "--to"]
    assert main([*words, "robomimic"]) == 0
    assert "6 of 6 episodes" in capsys.readouterr().out
    assert main([*words, "robomimic", "--map", "action="]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recording"]


def test_files_of_this_machine_cause_no_request(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        formats.hub, "fetch", lambda text: recording if text == "hf://a/b@1" else 0 / 0
    )
    assert main(["convert", str(recording), str(tmp_path / "out")]) == 0
    assert main(["convert", "hf://a/b@1", str(tmp_path / "hub")]) == 0
    assert store.open(tmp_path / "hub").episodes.ids == store.open(tmp_path / "out").episodes.ids
    assert main(["convert", "hf:/a", str(tmp_path / "no")]) == 2
