"""LeRobot data sets of v3: many episodes in a table and a video."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet
import pytest

from deft import formats
from deft.errors import FormatError
from deft.formats import lerobot_tables, video
from deft.formats.video import Clip, VideoFrames
from suites.formats import FormatChecks
from suites.memory_source import picture
from suites.recordings import TASKS, demonstration, write_lerobot_v3, write_parquet, write_video

KEY = "observation.images.top"


class TestVideos(FormatChecks):
    format = "lerobot"
    picture_error = 5.0
    cameras = ("top",)

    @classmethod
    def write(cls, folder: Path) -> Path:
        return write_lerobot_v3(folder / "robot", cls.lengths)


class TestPicturesInTables(FormatChecks):
    format = "lerobot"
    picture_error = 3.0
    cameras = ("top",)

    @classmethod
    def write(cls, folder: Path) -> Path:
        return write_lerobot_v3(folder / "robot", cls.lengths, camera="image")


class TestOneRowGroup(FormatChecks):
    """As LeRobot's converter writes tables, with pandas."""

    format = "lerobot"
    picture_error = 3.0
    cameras = ("top",)

    @classmethod
    def write(cls, folder: Path) -> Path:
        path = folder / "robot"
        return write_lerobot_v3(path, cls.lengths, camera="image", per_file=9, one_group=True)


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    return write_lerobot_v3(tmp_path / "robot", (4, 6, 5))


def rows(robot: Path) -> list[dict[str, Any]]:
    return pyarrow.parquet.read_table(episodes_file(robot)).to_pylist()


def episodes_file(robot: Path) -> Path:
    return robot / "meta/episodes/chunk-000/file-000.parquet"


def rewrite(robot: Path, changed: list[dict[str, Any]]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(changed), episodes_file(robot))


def test_rows_are_found_by_their_episode_index(robot: Path) -> None:
    """An edited data set may count from anywhere, and keep episodes in any order."""
    file = robot / "data/chunk-000/file-000.parquet"
    table = pyarrow.parquet.read_table(file)
    write_parquet(file, {name: table.slice(4).column(name).to_pylist()
                         + table.slice(0, 4).column(name).to_pylist()
                         for name in table.schema.names})  # fmt: skip
    changed = [
        row | {"dataset_from_index": 900, "dataset_to_index": 900 + row["length"]}
        for row in rows(robot)
    ]
    rewrite(robot, changed)
    recording = formats.open(robot)
    for number, length in enumerate((4, 6, 5)):
        found = recording.read(number).arrays["action"]
        np.testing.assert_array_equal(
            found, demonstration(number, length)["action"].astype(found.dtype)
        )


def test_a_missing_file_leaves_its_episodes_out(robot: Path) -> None:
    (robot / "data/chunk-000/file-001.parquet").unlink()
    recording = formats.open(robot)
    assert [info.id for info in recording.episodes] == ["episode_000000", "episode_000001"]
    (problem,) = recording.problems
    assert problem.what == "the manifest lists 3 episodes, 1 have no table (2)"
    (robot / f"videos/{KEY}/chunk-000/file-000.mp4").write_bytes(b"")
    with pytest.raises(FormatError, match=r"no usable episode(.|\n)*the file is empty"):
        formats.open(robot)


def test_lengths_that_disagree_are_refused_when_read(robot: Path) -> None:
    rewrite(
        robot, [row | {"length": row["length"] + (n == 1)} for n, row in enumerate(rows(robot))]
    )
    recording = formats.open(robot)
    recording.read(0)
    with pytest.raises(FormatError, match="episode 1 has 6 rows, the manifest says 7"):
        recording.read(1)


def test_scattered_rows_are_refused(robot: Path) -> None:
    file = robot / "data/chunk-000/file-000.parquet"
    columns = pyarrow.parquet.read_table(file).to_pydict()
    columns["episode_index"][8] = 0
    write_parquet(file, columns)
    with pytest.raises(FormatError, match="no rows of episode 0, or has them scattered"):
        formats.open(robot).read(0)


@pytest.mark.parametrize("name", ["meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet"])
def test_a_damaged_or_missing_meta_file_is_named(robot: Path, name: str) -> None:
    file = robot / name
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(FormatError, match=file.name):
        formats.open(robot)
    file.unlink()
    with pytest.raises(FormatError, match=r"tasks|meta/episodes"):
        formats.open(robot)


def test_an_episode_twice_is_refused(robot: Path) -> None:
    rewrite(robot, [row | {"episode_index": 0} for row in rows(robot)])
    with pytest.raises(FormatError, match="'episode_index' is 0"):
        formats.open(robot)


def test_the_tasks_may_have_a_column_of_any_name(robot: Path) -> None:
    write_parquet(robot / "meta/tasks.parquet", {"task_index": [0, 1], "task": list(TASKS)})
    rewrite(robot, [row | {"tasks": list(TASKS)} for row in rows(robot)])
    recording = formats.open(robot)
    assert [info.task for info in recording.episodes] == [TASKS[0], TASKS[1], TASKS[0]]
    write_parquet(robot / "meta/tasks.parquet", {"task_index": [0, 1]})
    with pytest.raises(FormatError, match="no column with the instructions"):
        formats.open(robot)


def test_statistics_are_not_needed(robot: Path) -> None:
    assert not (robot / "meta/stats.json").exists()
    assert formats.open(robot).problems == ()


def test_a_column_in_the_wrong_form_is_named(robot: Path) -> None:
    rewrite(robot, [row | {"length": "long"} for row in rows(robot)])
    with pytest.raises(FormatError, match="'length': wanted"):
        formats.open(robot)


def test_a_row_group_of_many_episodes_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot = write_lerobot_v3(tmp_path / "robot", (5,) * 8, per_file=8, one_group=True)
    reads: list[Any] = []
    whole = lerobot_tables.ParquetTable.read

    def counted(self: Any, keys: Any, rows: Any = None) -> Any:
        reads.append(keys)
        return whole(self, keys, rows)

    monkeypatch.setattr(lerobot_tables.ParquetTable, "read", counted)
    recording = formats.open(robot)
    for number in range(8):
        found = recording.read(number).arrays["state"]
        np.testing.assert_array_equal(found, demonstration(number, 5)["state"])
    assert len(reads) - sum(keys == ["episode_index"] for keys in reads) < 12  # most are of meta/


# --- clips --------------------------------------------------------------------------------------

RATE, LENGTHS = 10, (7, 3, 11, 1, 9)


@pytest.fixture(scope="module", params=[1, 2, 5, 60])
def joined(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """One video of several episodes; long ones have no key frame where an episode begins."""
    path = tmp_path_factory.mktemp("joined") / "file-000.mp4"
    pictures = [
        picture(n, step, 32, 48) for n, count in enumerate(LENGTHS) for step in range(count)
    ]
    write_video(path, np.stack(pictures), RATE, gop=request.param)
    return path


def test_a_clip_is_what_lies_between_its_times(joined: Path) -> None:
    whole = list(VideoFrames(joined, sum(LENGTHS), 32, 48))
    begin = 0
    for count in LENGTHS:
        wanted = whole[begin : begin + count]
        # Times as float32 in a table, some a little early, some a little late.
        for off in (0.0, 0.01, -0.01):
            clip = Clip(joined, float(np.float32(begin / RATE)) + off, (begin + count) / RATE + off)
            frames = VideoFrames(clip, count, 32, 48)
            assert all(map(np.array_equal, frames, wanted))
            for step in np.random.default_rng(0).permutation(count).tolist():
                np.testing.assert_array_equal(frames[step], wanted[step])
        begin += count


def test_a_clip_never_reaches_into_the_next_episode(joined: Path) -> None:
    clip = Clip(joined, 0.7, 1.0)
    for frames in (VideoFrames(clip, 4, 32, 48), VideoFrames(clip, 8, 32, 48)):
        with pytest.raises(FormatError, match="3 frames"):
            list(frames)
        with pytest.raises(FormatError, match="3 frames"):
            frames[3]
    with pytest.raises(FormatError, match="0 frames"):
        list(VideoFrames(Clip(joined, 50.0, 51.0), 5, 32, 48))


def test_reading_episodes_in_turn_decodes_every_frame_about_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.mp4"
    write_video(path, np.stack([picture(0, step, 32, 48) for step in range(300)]), RATE, gop=5)
    decoded: list[int] = []
    opened = video._open

    class Counting:
        def __init__(self, container: Any) -> None:
            self._container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def __enter__(self) -> "Counting":
            return self

        def __exit__(self, *_: object) -> None:
            self._container.close()

        def decode(self, **which: int) -> Any:
            for frame in self._container.decode(**which):
                decoded.append(frame.pts)
                yield frame

    monkeypatch.setattr(video, "_open", lambda path: Counting(opened(path)))
    for number in range(30):
        clip = Clip(path, number, number + 1)
        assert len(list(VideoFrames(clip, 10, 32, 48))) == 10
    assert 300 <= len(decoded) <= 300 + 30 * 5


def test_other_codecs_are_read(tmp_path: Path) -> None:
    """AV1 and HEVC as LeRobot writes them, H.264 everywhere else."""
    for name, options in (
        ("libsvtav1", {"crf": "20", "preset": "11", "g": "2"}),
        ("libx265", {"crf": "10", "g": "2", "x265-params": "log-level=none"}),
    ):
        path = tmp_path / f"{name}.mp4"
        pictures = [picture(1, step, 64, 64) for step in range(14)]
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(name, rate=RATE, options=options)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            for pixels in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode(None))
        frames = VideoFrames(Clip(path, 0.5, 1.0), 5, 64, 64)
        for step, frame in enumerate(frames):
            assert np.abs(frame.astype(float) - pictures[5 + step]).mean() < 4
            np.testing.assert_array_equal(frames[step], frame)


def test_opening_reads_only_meta(robot: Path) -> None:
    for file in (robot / "data").rglob("*.parquet"):
        data = bytearray(file.read_bytes())
        data[4:200] = bytes(196)
        file.write_bytes(data)
    recording = formats.open(robot)
    assert len(recording.episodes) == 3
    assert json.loads((robot / "meta/info.json").read_text())["codebase_version"] == "v3.0"
    with pytest.raises(FormatError, match="file-000"):
        recording.read(0)
