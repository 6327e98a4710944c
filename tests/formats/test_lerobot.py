"""LeRobot data sets of v2: videos or pictures in tables, quirks, and what is wrong with them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from deft import formats
from deft.errors import FormatError
from suites.formats import FormatChecks
from suites.recordings import (
    HEIGHT,
    TASKS,
    WIDTH,
    demonstration,
    lerobot_columns,
    png,
    write_lerobot,
    write_parquet,
    write_video,
)


class TestVideos(FormatChecks):
    format = "lerobot"
    picture_error = 5.0
    cameras = ("top",)

    @classmethod
    def write(cls, folder: Path) -> Path:
        return write_lerobot(folder / "robot", cls.lengths)


class TestPicturesInTables(FormatChecks):
    format = "lerobot"
    picture_error = 3.0
    cameras = ("top",)

    @classmethod
    def write(cls, folder: Path) -> Path:
        return write_lerobot(folder / "robot", cls.lengths, camera="image")


class TestVersion20(FormatChecks):
    """As 2.1, with statistics in one file; none of either are needed."""

    format = "lerobot"
    picture_error = 5.0
    cameras = ("top",)

    @classmethod
    def write(cls, folder: Path) -> Path:
        path = write_lerobot(folder / "robot", cls.lengths)
        edit_info(path, lambda info: info.update(codebase_version="v2.0"))
        return path


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    return write_lerobot(tmp_path / "robot", (4, 6, 5))


def edit_info(robot: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = robot / "meta" / "info.json"
    info = json.loads(file.read_text())
    change(info)
    file.write_text(json.dumps(info))


def table(robot: Path, number: int) -> Path:
    return robot / f"data/chunk-{number // 2:03d}/episode_{number:06d}.parquet"


def video(robot: Path, number: int) -> Path:
    key = "observation.images.top"
    return robot / f"videos/chunk-{number // 2:03d}/{key}/episode_{number:06d}.mp4"


def test_the_contract_comes_from_info(robot: Path) -> None:
    recording = formats.open(robot)
    spec = recording.spec
    assert (spec.fps, spec.embodiment) == (10.0, "testbot")
    found = {f.name: (f.role, f.shape, f.dtype, f.names) for f in spec.features}
    assert found == {
        "state": ("state", (3,), "float32", ("a", "b", "c")),
        "action": ("action", (2,), "float32", ("m0", "m1")),
        "top": ("image", (HEIGHT, WIDTH, 3), "uint8", ()),
        "reward": ("reward", (1,), "float32", ()),
    }
    assert [info.task for info in recording.episodes] == [TASKS[0], TASKS[1], TASKS[0]]
    assert [info.id for info in recording.episodes] == [f"episode_{n:06d}" for n in range(3)]
    assert recording.read(2).source == "data/chunk-001/episode_000002.parquet"


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["x", "y"], ("x", "y")),
        ([["x", "y"]], ("x", "y")),
        ({"axes": ["x", "y"]}, ("x", "y")),
        ({"y": 1, "x": 0}, ("x", "y")),
        ({"left": ["x"], "right": ["x"]}, ("left.x", "right.x")),
        (None, ()),
    ],
)
def test_element_names_come_in_many_forms(robot: Path, names: Any, wanted: tuple[str, ...]) -> None:
    edit_info(robot, lambda info: info["features"]["action"].update(names=names))
    recording = formats.open(robot)
    assert recording.spec["action"].names == wanted
    assert not recording.problems


@pytest.mark.parametrize("names", [["x"], ["x", "x"]])
def test_element_names_that_do_not_fit_are_left_out(robot: Path, names: list[str]) -> None:
    edit_info(robot, lambda info: info["features"]["action"].update(names=names))
    recording = formats.open(robot)
    assert recording.spec["action"].names == ()
    (problem,) = recording.problems
    assert "'action'" in problem.what


def test_episodes_that_are_not_there_are_a_finding(robot: Path) -> None:
    table(robot, 1).unlink()
    recording = formats.open(robot)
    assert [info.id for info in recording.episodes] == ["episode_000000", "episode_000002"]
    (problem,) = recording.problems
    assert problem.what == "the manifest lists 3 episodes, 1 have no table (1)"
    np.testing.assert_array_equal(recording.read(1).arrays["action"], demonstration(2, 5)["action"])


def test_a_damaged_episode_is_left_out_with_its_reason(robot: Path) -> None:
    data = table(robot, 0).read_bytes()
    table(robot, 0).write_bytes(data[: len(data) // 2])
    video(robot, 1).write_bytes(video(robot, 1).read_bytes()[:200])
    recording = formats.open(robot)
    assert [info.id for info in recording.episodes] == ["episode_000002"]
    assert [(each.episode, each.severity) for each in recording.problems] == [
        ("episode_000000", "error"),
        ("episode_000001", "error"),
    ]
    assert str(table(robot, 0)) in recording.problems[0].what
    assert str(video(robot, 1)) in recording.problems[1].what
    assert all("Fix: " in each.what for each in recording.problems)


def test_nothing_usable_is_refused(robot: Path) -> None:
    for number in range(3):
        video(robot, number).unlink()
    with pytest.raises(FormatError, match="no usable episode") as caught:
        formats.open(robot)
    assert "episode_000000.mp4" in str(caught.value)


def test_lengths_that_disagree(robot: Path) -> None:
    lines = (robot / "meta/episodes.jsonl").read_text().replace('"length": 4', '"length": 9')
    (robot / "meta/episodes.jsonl").write_text(lines)
    write_video(video(robot, 1), demonstration(1, 8)["image"])
    write_video(video(robot, 2), demonstration(2, 3)["image"])
    recording = formats.open(robot)
    (problem,) = recording.problems
    assert (problem.episode, problem.severity) == ("episode_000000", "warning")
    assert problem.what == "has 4 rows, the manifest says 9"
    assert [info.length for info in recording.episodes] == [4, 6, 5]
    frames = recording.read(1).frames["top"]
    assert len(list(frames)) == len(frames) == 6
    with pytest.raises(FormatError, match="3 frames, the table has 5 rows"):
        list(recording.read(2).frames["top"])


def rewrite(robot: Path, number: int, length: int, **changes: Any) -> None:
    write_parquet(table(robot, number), lerobot_columns(number, length) | changes)


def told(robot: Path, *tasks: list[str]) -> None:
    """Write what the manifest says of the instructions of each episode."""
    (robot / "meta/episodes.jsonl").write_text(
        "".join(
            json.dumps({"episode_index": number, "tasks": each, "length": length}) + "\n"
            for number, (each, length) in enumerate(zip(tasks, (4, 6, 5), strict=True))
        )
    )


def test_instructions_come_from_the_table_where_the_manifest_leaves_doubt(robot: Path) -> None:
    rewrite(robot, 0, 4, task_index=np.array([1, 1, 0, 0]))
    rewrite(robot, 1, 6, task_index=np.full(6, 7))
    told(robot, list(TASKS), [], ["something else"])
    recording = formats.open(robot)
    assert [info.task for info in recording.episodes] == [TASKS[1], "", TASKS[0]]
    found = [(each.episode[-1:], each.what) for each in recording.problems]
    assert ("0", "has 2 instructions") in found
    assert ("1", "task_index 7 is not in meta/tasks.jsonl") in found


def test_tables_are_not_read_before_they_are_asked_for(robot: Path) -> None:
    """The first pages of every table are destroyed; only reading finds that."""
    for number in range(3):
        data = bytearray(table(robot, number).read_bytes())
        data[4:200] = bytes(196)
        table(robot, number).write_bytes(data)
    recording = formats.open(robot)
    assert len(recording.episodes) == 3
    assert recording.problems == ()
    for number in range(3):
        with pytest.raises(FormatError, match=table(robot, number).name):
            recording.read(number)


def test_what_is_not_finite_is_refused(robot: Path) -> None:
    holed = demonstration(0, 4)["state"]
    holed[2, 1] = np.nan
    rewrite(robot, 0, 4, **{"observation.state": list(holed)})
    with pytest.raises(FormatError, match="'state': step 2, element 1 is nan"):
        formats.open(robot).read(0)


@pytest.mark.parametrize(
    "changes",
    [
        {"action": [[1.0, 2.0], [3.0], [4.0, 5.0], [6.0, 7.0]]},
        {"action": [[1.0, 2.0], None, [4.0, 5.0], [6.0, 7.0]]},
        {"action": [[1.0, 2.0], [3.0, None], [4.0, 5.0], [6.0, 7.0]]},
        {"action": [[1, 2]] * 4},
        {"action": [1.0] * 4},
        {"action": [["a", "b"]] * 4},
    ],
)
def test_a_column_of_another_form_is_refused(robot: Path, changes: dict[str, Any]) -> None:
    rewrite(robot, 0, 4, **changes)
    with pytest.raises(FormatError, match=r"episode_000000\.parquet, 'action': wanted"):
        formats.open(robot).read(0)


def test_a_column_whose_name_is_damaged_leaves_the_episode_out(robot: Path) -> None:
    table(robot, 0).write_bytes(
        table(robot, 0).read_bytes().replace(b"next.rew", b"next\xb1\xff\xb1\xff")
    )
    (problem,) = formats.open(robot).problems
    assert "the table cannot be read" in problem.what


def test_a_missing_column_is_named(robot: Path) -> None:
    columns = lerobot_columns(0, 4)
    write_parquet(table(robot, 0), {"actions": columns.pop("action"), **columns})
    (problem,) = formats.open(robot).problems
    assert "no column 'action'. Did you mean 'actions'" in problem.what


@pytest.mark.parametrize("damage", ["cut", "empty", "unfinished", "missing"])
def test_a_video_that_is_not_whole_is_found_without_decoding(robot: Path, damage: str) -> None:
    whole = video(robot, 1).read_bytes()
    content = {"cut": whole[:-50], "empty": b"", "unfinished": whole.replace(b"moov", b"free")}
    if damage in content:
        video(robot, 1).write_bytes(content[damage])
    else:
        video(robot, 1).unlink()
    recording = formats.open(robot)
    (problem,) = recording.problems
    assert (problem.episode, problem.severity) == ("episode_000001", "error")
    assert str(video(robot, 1)) in problem.what
    assert len(recording.episodes) == 2


@pytest.mark.parametrize("key", ["actions", "observation.states", "states", "state"])
def test_other_names_of_action_and_state_are_understood(robot: Path, key: str) -> None:
    proper = "action" if key == "actions" else "observation.state"

    def rename(info: dict[str, Any]) -> None:
        info["features"] = {
            key if each == proper else each: entry for each, entry in info["features"].items()
        }

    edit_info(robot, rename)
    for number, length in enumerate((4, 6, 5)):
        columns = lerobot_columns(number, length)
        write_parquet(table(robot, number), {key: columns.pop(proper), **columns})
    recording = formats.open(robot)
    name = proper.split(".")[-1]
    assert recording.spec[name].role == name
    np.testing.assert_array_equal(recording.read(1).arrays[name], demonstration(1, 6)[name])
    assert len(recording.problems) == (key != "state")
    assert all(f"'{key}'" in each.what for each in recording.problems)


def test_an_action_under_a_name_of_its_own_must_be_named(robot: Path) -> None:
    def rename(info: dict[str, Any]) -> None:
        info["features"]["joint_target"] = info["features"].pop("action")

    edit_info(robot, rename)
    for number, length in enumerate((4, 6, 5)):
        columns = lerobot_columns(number, length)
        write_parquet(table(robot, number), {"joint_target": columns.pop("action"), **columns})
    with pytest.raises(FormatError, match=r"`--map joint_target=action`"):
        formats.open(robot)
    pairs = ["joint_target=action", "top=front", "next.reward="]
    recording = formats.open(robot, options={"map": pairs})
    assert recording.spec.action().names == ("m0", "m1")
    assert set(recording.spec.names) == {"action", "front", "state"}
    np.testing.assert_array_equal(recording.read(1).arrays["action"], demonstration(1, 6)["action"])
    for wrong in ("nothing=action", "joint_target", "=x"):
        with pytest.raises(FormatError, match="--map"):
            formats.open(robot, options={"map": [wrong]})


def move_videos(robot: Path, place: str) -> None:
    for number in range(3):
        target = robot / place.format(chunk=number // 2, number=number)
        target.parent.mkdir(parents=True, exist_ok=True)
        video(robot, number).rename(target)


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("video/chunk-{chunk:03d}/observation.images.top/episode_{number:06d}.mp4", "video"),
        ("videos/chunk-{chunk:03d}/top/episode_{number:06d}.mp4", "videos"),
        ("videos/observation.images.top/episode_{number:06d}.mp4", "videos/observation.images.top"),
        ("videos/observation.images.top_episode_{number:06d}.mp4", "videos"),
    ],
)
def test_videos_at_other_places_are_found(robot: Path, place: str, shown: str) -> None:
    move_videos(robot, place)
    recording = formats.open(robot)
    (problem,) = recording.problems
    assert problem.what.startswith(f"videos lie in '{shown}")
    for number, length in enumerate((4, 6, 5)):
        assert len(list(recording.read(number).frames["top"])) == length


def save_pictures(robot: Path, number: int, length: int) -> Path:
    folder = robot / f"images/observation.images.top/episode_{number:06d}"
    folder.mkdir(parents=True)
    for step, pixels in enumerate(demonstration(number, length)["image"]):
        (folder / f"frame_{step:06d}.png").write_bytes(png(pixels))
    return folder


@pytest.mark.parametrize("camera", ["video", "image"])
def test_folders_of_pictures_are_read(tmp_path: Path, camera: str) -> None:
    """As a recording has them before its videos are encoded, and as v2 may keep them for good."""
    robot = write_lerobot(tmp_path / "robot", (4, 6, 5))
    edit_info(robot, lambda info: info["features"]["observation.images.top"].update(dtype=camera))
    for number, length in enumerate((4, 6, 5)):
        video(robot, number).unlink()
        save_pictures(robot, number, length)
    recording = formats.open(robot)
    assert recording.problems == ()
    for number, length in enumerate((4, 6, 5)):
        frames = recording.read(number).frames["top"]
        wanted = demonstration(number, length)["image"]
        np.testing.assert_array_equal(np.stack(list(frames)), wanted)
        np.testing.assert_array_equal(frames[2], wanted[2])
    folder = robot / "images/observation.images.top/episode_000001"
    (folder / "frame_000003.png").unlink()
    with pytest.raises(FormatError, match="5 pictures, 6 steps"):
        recording.read(1)


def test_a_table_may_name_its_pictures(tmp_path: Path) -> None:
    robot = write_lerobot(tmp_path / "robot", (4, 6, 5), camera="image")
    folders = [save_pictures(robot, number, length) for number, length in enumerate((4, 6, 5))]
    key = "observation.images.top"
    for number, length in enumerate((4, 6, 5)):
        paths = [f"/home/ana/rec/{folders[number].name}/frame_{n:06d}.png" for n in range(length)]
        rewrite(robot, number, length, **{key: [{"bytes": None, "path": path} for path in paths]})
    rewrite(robot, 1, 6, **{key: [{"bytes": None, "path": "/elsewhere/a.png"}] * 6})
    (folders[1] / "frame_000002.png").unlink()
    recording = formats.open(robot)
    for number in (0, 2):
        frames = list(recording.read(number).frames["top"])
        wanted = demonstration(number, len(frames))["image"]
        np.testing.assert_array_equal(np.stack(frames), wanted)
    with pytest.raises(FormatError, match=r"step 2: neither the table nor a file"):
        list(recording.read(1).frames["top"])


def add_depth(robot: Path, blobs: Callable[[np.ndarray], bytes], **info: Any) -> None:
    entry = {
        "dtype": "image",
        "shape": [HEIGHT, WIDTH, 1],
        "names": ["height", "width", "channels"],
    }
    edit_info(
        robot,
        lambda all_: all_["features"].update(
            {"observation.images.depth": {**entry, "info": {"is_depth_map": True, **info}}}
        ),
    )
    for number, length in enumerate((4, 6, 5)):
        pictures = [{"bytes": blobs(depth_map(number, n)), "path": None} for n in range(length)]
        rewrite(robot, number, length, **{"observation.images.depth": pictures})


def depth_map(number: int, step: int) -> np.ndarray:
    rng = np.random.default_rng((number, step))
    return rng.integers(300, 9000, (HEIGHT, WIDTH, 1)).astype(np.uint16)


@pytest.mark.parametrize("kind", [".png", ".tiff"])
def test_depth_is_a_role_with_a_unit(robot: Path, kind: str) -> None:
    add_depth(robot, lambda depth: cv2.imencode(kind, depth)[1].tobytes())
    recording = formats.open(robot)
    depth = recording.spec["depth"]
    assert (depth.role, depth.dtype, depth.unit) == ("depth", "uint16", "mm")
    for number, length in enumerate((4, 6, 5)):
        wanted = np.stack([depth_map(number, step) for step in range(length)])
        np.testing.assert_array_equal(list(recording.read(number).frames["depth"]), wanted)


@pytest.mark.parametrize("use_log", [True, False])
def test_depth_as_video_is_read_when_its_codes_are_explained(robot: Path, use_log: bool) -> None:
    def metres(codes: np.ndarray) -> np.ndarray:
        if not use_log:
            return 0.01 + codes / 4095 * (10 - 0.01)
        low, high = np.log(0.01 + 3.5), np.log(10 + 3.5)
        return np.exp(low + codes / 4095 * (high - low)) - 3.5

    codes = {
        number: np.stack([depth_map(number, step)[..., 0] % 4096 for step in range(length)])
        for number, length in enumerate((4, 6, 5))
    }
    for number, planes in codes.items():
        path = robot / str(video(robot, number)).replace("images.top", "images.depth")
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "gray12le"
            for plane in planes:
                frame = av.VideoFrame(WIDTH, HEIGHT, "gray12le")
                line = frame.planes[0].line_size // 2
                padded = np.zeros((HEIGHT, line), "<u2")
                padded[:, :WIDTH] = plane
                frame.planes[0].update(padded.tobytes())
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    meaning = {"depth_min": 0.01, "depth_max": 10.0, "shift": 3.5, "use_log": use_log}
    info = {"is_depth_map": True, "video.pix_fmt": "gray12le", **meaning}
    entry = {"dtype": "video", "shape": [HEIGHT, WIDTH, 1], "names": None, "info": info}
    edit_info(robot, lambda all_: all_["features"].update({"observation.images.depth": entry}))
    recording = formats.open(robot)
    assert recording.spec["depth"].unit == "mm"
    for number, planes in codes.items():
        found = np.stack(list(recording.read(number).frames["depth"]))[..., 0]
        assert found.dtype == np.uint16
        assert np.abs(found - 1000 * metres(planes.astype(float))).max() <= 0.51
    del info["use_log"]
    edit_info(robot, lambda all_: all_["features"].update({"observation.images.depth": entry}))
    (problem,) = formats.open(robot).problems
    assert "'observation.images.depth' (video) is of a kind that is not supported" in problem.what


def test_other_wordings_of_the_task_are_kept(robot: Path) -> None:
    text = {"dtype": "string", "shape": [1], "names": None}
    edit_info(
        robot,
        lambda info: info["features"].update(
            {
                "language_instruction_2": text,
                "language_instruction_3": text,
                "language_persistent": {"dtype": "language", "shape": [1], "names": None},
            }
        ),
    )
    rows = [
        {"role": "user", "content": "pull it", "style": "task_aug", "timestamp": 0.0},
        {"role": "assistant", "content": "reach", "style": "subtask", "timestamp": 0.0},
    ]
    for number, length in enumerate((4, 6, 5)):
        third = ["reach", *["grasp"] * (length - 1)] if number == 1 else [""] * length
        rewrite(robot, number, length, language_instruction_2=[f"way {number}"] * length,
                language_instruction_3=third, language_persistent=[rows] * length)  # fmt: skip
    recording = formats.open(robot)
    assert [info.instructions for info in recording.episodes] == [
        (TASKS[0], "way 0", "pull it"),
        (TASKS[1], "way 1", "pull it"),
        (TASKS[0], "way 2", "pull it"),
    ]
    (problem,) = recording.problems
    assert (problem.episode, problem.effect) == ("episode_000001", "left out")
    assert "'language_instruction_3' changes" in problem.what


def test_known_quirks_are_read_and_reported(robot: Path) -> None:
    (robot / "videos").rename(robot / "video")

    def rename(info: dict[str, Any]) -> None:
        info["features"]["actions"] = info["features"].pop("action")
        info["features"]["note"] = {"dtype": "string", "shape": [1], "names": None}
        info["splits"] = {"train": "0:2", "val": "2:3"}

    edit_info(robot, rename)
    for number, length in enumerate((4, 6, 5)):
        columns = lerobot_columns(number, length)
        write_parquet(table(robot, number), {"actions": columns.pop("action"), **columns})
    recording = formats.open(robot)
    assert sorted(problem.what for problem in recording.problems) == [
        "'note' (string) is of a kind that is not supported",
        "commands are called 'actions'",
        "videos lie in 'video', not in 'videos'",
    ]
    assert recording.spec.action().name == "action"
    assert [info.split for info in recording.episodes] == ["train", "train", "val"]
    assert len(list(recording.read(0).frames["top"])) == 4


def set_version(version: str) -> Callable[[dict[str, Any]], object]:
    return lambda info: info.update(codebase_version=version)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_version("v1.6"), "v1.6, wanted v2.0, v2.1(.|\n)*LeRobot's own script"),
        (set_version("v9"), "v9, wanted v2.0"),
        (lambda info: info.update(codebase_version=2), "must be str"),
        (lambda info: info.pop("fps"), "'fps' is missing"),
        (lambda info: info.update(fps=True), "'fps' must be"),
        (lambda info: info.update(fps=0), "'fps' is 0"),
        (lambda info: info.update(chunks_size=0), "'chunks_size' is 0"),
        (lambda info: info["features"].pop("action"), "no feature 'action'"),
        (lambda info: info.update(features=[1]), "'features' must be dict"),
        (lambda info: info["features"].update(action=3), "must be an object"),
        (lambda info: info["features"]["action"].update(shape="2"), "axis sizes"),
        (lambda info: info.update(data_path="../../{episode_index}"), "leads out of the data set"),
        (lambda info: info.update(data_path="/etc/passwd"), "leads out of the data set"),
        (lambda info: info.update(data_path="{episode_index.real}"), "no usable episode"),
        (lambda info: info.update(data_path="{nothing}"), "unknown field '{nothing}'"),
        (lambda info: info.pop("video_path"), "'video_path' is missing"),
        (
            lambda info: info["features"]["observation.images.top"].update(shape=[4, 5]),
            "height, width and 1 or 3 channels",
        ),
        (
            lambda info: info["features"]["observation.images.top"].update(shape=[16, 16, 3]),
            "should be height 16, width 16",
        ),
        (lambda info: info.update(splits={"a": "0:1", "b": "all"}), "split 'b'"),
    ],
)
def test_meta_that_cannot_be_read_is_refused(
    robot: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_info(robot, change)
    with pytest.raises(FormatError, match=message) as caught:
        formats.open(robot)
    assert "Fix: " in str(caught.value)


@pytest.mark.parametrize("name", ["info.json", "episodes.jsonl", "tasks.jsonl"])
def test_a_damaged_meta_file_is_named(robot: Path, name: str) -> None:
    file = robot / "meta" / name
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(FormatError, match=name):
        formats.open(robot)
    if name != "info.json":
        file.unlink()
        with pytest.raises(FormatError, match=name):
            formats.open(robot)


def test_channels_first_shapes_are_turned_by_their_names(robot: Path) -> None:
    entry = {"shape": [3, HEIGHT, WIDTH], "names": ["channels", "height", "width"]}
    edit_info(robot, lambda info: info["features"]["observation.images.top"].update(entry))
    top = formats.open(robot).spec["top"]
    assert (top.height, top.width, top.channels) == (HEIGHT, WIDTH, 3)


def test_the_rate_in_the_files_cannot_be_overruled(robot: Path) -> None:
    assert formats.open(robot, fps=10).spec.fps == 10
    with pytest.raises(FormatError, match="fps is 10"):
        formats.open(robot, fps=30)


@pytest.mark.data
def test_bottle_demonstrations(real_data: Path) -> None:
    recording = formats.open(real_data / "g1_pick_bottle_lerobot_v21")
    assert [(info.id, info.length) for info in recording.episodes] == [
        ("episode_000029", 221),
        ("episode_000030", 277),
        ("episode_000059", 280),
    ]
    assert {info.task for info in recording.episodes} == {"Pick up the yellow bottle on the table."}
    assert (recording.spec.fps, recording.spec.embodiment) == (30, "Unitree_G1_Inspire")
    assert recording.spec["state"].names[0] == "kLeftShoulderPitch"
    assert recording.spec["action"].names[25] == "kRightHandThumbRotation"
    (problem,) = recording.problems
    assert "lists 100 episodes, 97 have no table" in problem.what
    stats_file = recording.path / "meta/episodes_stats.jsonl"
    stats = {
        line["episode_index"]: line["stats"]
        for line in map(json.loads, stats_file.read_text().splitlines())
    }
    for number, index in enumerate((29, 30, 59)):
        episode = recording.read(number)
        for name, key in (("state", "observation.state"), ("action", "action")):
            wanted = stats[index][key]
            np.testing.assert_allclose(episode.arrays[name].mean(0), wanted["mean"], atol=1e-5)
            np.testing.assert_array_equal(episode.arrays[name].min(0), np.float32(wanted["min"]))
    frames = recording.read(0).frames["cam_high"]
    in_order = list(frames)
    assert len(in_order) == 221
    assert in_order[0].shape == (480, 640, 3)
    for step in (220, 0, 101, 100, 7):
        np.testing.assert_array_equal(frames[step], in_order[step])
    # The published means are of frames drawn at random, in 0..1.
    mean = np.mean([frame.mean((0, 1)) for frame in in_order[::10]], 0) / 255
    published = np.ravel(stats[29]["observation.images.cam_high"]["mean"])
    np.testing.assert_allclose(mean, published, atol=0.01)
