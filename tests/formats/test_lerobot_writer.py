"""Writing LeRobot data sets: what every writer does, what LeRobot looks for, round trips."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet
import pytest

from deft import formats
from deft.errors import DeftError, FormatError
from deft.formats.video_encoding import VideoSettings, encode, join
from deft.spec import Episode, Feature, Source, Spec
from suites.formats import same
from suites.memory_source import MemorySource, picture, tiny_spec
from suites.writers import WriterChecks, writable_spec, write_all

VERSIONS = ("lerobot_v21", "lerobot_v30")


class TestV21(WriterChecks):
    format = "lerobot_v21"
    read_as = "lerobot"
    lossless = False


class TestV30(WriterChecks):
    format = "lerobot_v30"
    read_as = "lerobot"
    lossless = False


def every_kind() -> Spec:
    """Names with slashes, float64 commands, scalars, depth, grids, two arms, text."""
    tiny = tiny_spec(depth=True)
    more = (
        Feature(name="state2", role="state", shape=(2,), dtype="float32", unit="rad"),
        Feature(name="action.right", role="action", shape=(2,), dtype="float32"),
        Feature(name="reward", role="reward", shape=(), dtype="float32"),
        Feature(name="done", role="other", shape=(), dtype="int64"),
        Feature(name="index", role="other", shape=(2,), dtype="float64"),
        Feature(name="points", role="point_cloud", shape=(6, 3), dtype="float16"),
        Feature(name="map", role="feature_map", shape=(4, 4, 2), dtype="float32"),
        Feature(name="grey", role="saliency", shape=(24, 32, 1), dtype="uint16"),
        Feature(name="said", role="language", shape=(), dtype="str"),
    )
    return Spec(features=(*tiny.features, *more), fps=12, embodiment="arm")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_kind_of_feature_comes_back(version: str, tmp_path: Path) -> None:
    def with_flags(index: int, length: int) -> np.ndarray:
        return np.arange(length) % 3 != index

    source = MemorySource(
        spec=every_kind(), valid=with_flags, splits=("train", "val", "extra/1", "")
    )
    path = write_all(tmp_path / "robot", source, version, {"pictures": "image"})
    recording = formats.open(path)
    assert recording.spec == source.spec
    assert list(recording.episodes) == source.episodes
    for number in range(4):
        read, made = recording.read(number), source.read(number)
        assert same(read, made)
        assert read.source == made.source
        valid = np.ones(len(read), bool) if read.valid is None else read.valid
        np.testing.assert_array_equal(valid, made.valid)
    info = json.loads((path / "meta/info.json").read_text())
    assert set(info["features"]) == {
        "observation.images.image", "observation.images.wrist.depth", "observation.state",
        "observation.state2", "action", "action.right", "counter", "next.reward", "next.done",
        "index_2", "points", "map", "observation.images.grey",
        "timestamp", "frame_index", "episode_index", "index", "task_index",
    }  # fmt: skip


def test_files_of_v30_are_shared_up_to_their_size(tmp_path: Path) -> None:
    features = (*writable_spec().features,
                Feature(name="noise", role="other", shape=(400, 100), dtype="float32"))  # fmt: skip
    source = MemorySource((9, 9, 9, 9, 9), spec=replace(writable_spec(), features=features))
    path = write_all(tmp_path / "robot", source, "lerobot_v30", {"data_file_mb": 3})
    tables = sorted(file.name for file in (path / "data").rglob("*.parquet"))
    assert tables == ["file-000.parquet", "file-001.parquet", "file-002.parquet"]
    (list_of_episodes,) = (path / "meta/episodes").rglob("*.parquet")
    rows = pyarrow.parquet.read_table(list_of_episodes).to_pylist()
    assert [row["data/file_index"] for row in rows] == [0, 0, 1, 1, 2]
    assert [row["dataset_from_index"] for row in rows] == [0, 9, 18, 27, 36]
    key = "videos/observation.images.image/"
    assert [row[key + "file_index"] for row in rows] == [0] * 5
    assert [row[key + "from_timestamp"] for row in rows] == [0, 0.9, 1.8, 2.7, 3.6]
    assert [row[key + "to_timestamp"] for row in rows] == [0.9, 1.8, 2.7, 3.6, 4.5]
    with pyarrow.parquet.ParquetFile(path / "data/chunk-000/file-000.parquet") as file:
        assert file.num_row_groups == 2
    (video,) = (path / "videos").rglob("*.mp4")
    with av.open(str(video)) as container:
        stamps = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    np.testing.assert_allclose(stamps, np.arange(45) / 10, atol=1e-6)
    recording = formats.open(path)
    for number in range(5):
        np.testing.assert_array_equal(
            recording.read(number).arrays["noise"], source.read(number).arrays["noise"]
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_statistics_are_those_of_the_steps(version: str, tmp_path: Path) -> None:
    source = MemorySource((40, 30, 50), spec=writable_spec())
    path = write_all(tmp_path / "robot", source, version)
    episodes = [source.read(n) for n in range(3)]
    if version == "lerobot_v21":
        lines = (path / "meta/episodes_stats.jsonl").read_text().splitlines()
        stats = [json.loads(line)["stats"] for line in lines]
        groups = [[episode] for episode in episodes]
    else:
        stats = [json.loads((path / "meta/stats.json").read_text())]
        groups = [episodes]
    for found, group in zip(stats, groups, strict=True):
        values = np.concatenate([episode.arrays["state"] for episode in group])
        pictures = np.concatenate([list(episode.frames["image"]) for episode in group]) / 255
        state, image = found["observation.state"], found["observation.images.image"]
        for name in ("min", "max", "mean", "std"):
            np.testing.assert_allclose(state[name], getattr(values, name)(0), rtol=1e-5)
            wanted = getattr(pictures, name)((0, 1, 2))
            np.testing.assert_allclose(np.ravel(image[name]), wanted, atol=1e-6)
        assert (state["count"], image["count"]) == ([len(values)], [len(values)])
        assert found["index"]["count"] == [len(values)]
        if version == "lerobot_v30":
            span = values.max(0) - values.min(0)
            for name, share in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q99", 0.99)):
                low = np.quantile(values, share, axis=0, method="lower") - span / 1000
                high = np.quantile(values, share, axis=0, method="higher") + span / 1000
                assert ((low <= state[name]) & (state[name] <= high)).all()


def test_splits_that_are_ranges_are_said_to_lerobot(tmp_path: Path) -> None:
    source = MemorySource(spec=writable_spec(), splits=("train", "val"))
    with formats.write(tmp_path / "a", "lerobot_v21", source.spec) as writer:
        for number in range(4):
            writer.add(source.read(number))
        writer.finish([source.episodes[n].id for n in (0, 2, 1, 3)])
    info = json.loads((tmp_path / "a/meta/info.json").read_text())
    assert info["splits"] == {"train": "0:2", "val": "2:4"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_data_set_changed_by_others_is_read_as_theirs(version: str, tmp_path: Path) -> None:
    source = MemorySource(spec=writable_spec(), splits=("val",))
    path = write_all(tmp_path / "robot", source, version)
    (path / "meta/deft.json").write_text("{")
    recording = formats.open(path)
    assert recording.episodes[0].id == "episode_000000"
    assert recording.spec["state"].unit == ""
    file = path / "meta/info.json"
    info = json.loads(file.read_text())
    write_all(tmp_path / "other", source, version)
    (path / "meta/deft.json").write_bytes((tmp_path / "other/meta/deft.json").read_bytes())
    del info["features"]["observation.state"]
    file.write_text(json.dumps(info))
    recording = formats.open(path)
    (problem,) = recording.problems
    assert "features have changed since Deft wrote this" in problem.what
    assert recording.episodes[0].id == "episode_000000"


@pytest.mark.parametrize("version", VERSIONS)
def test_what_lerobot_cannot_hold_is_refused(version: str, tmp_path: Path) -> None:
    spec, path = writable_spec(), tmp_path / "robot"
    maps = Feature(name="gaze", role="saliency", shape=(8, 8, 1), dtype="float32")
    for changed, message in (
        (replace(spec, fps=0), "whole number of ticks(.|\n)*--fps"),
        (replace(spec, fps=12.5), "whole number of ticks"),
        (replace(spec, features=(*spec.features, maps)), "cannot hold 'gaze' without loss"),
        (replace(spec, features=spec.features[:1]), "needs numbers for every step"),
    ):
        with pytest.raises(FormatError, match=message):
            formats.write(path, version, changed)
    for option in ({"pictures": "gif"}, {"codec": "mjpeg"}, {"crf": 70}, {"gop": 0}):
        with pytest.raises(FormatError, match=next(iter(option))):
            formats.write(path, version, spec, option)
    odd = Feature(name="image", role="image", shape=(25, 33, 3), dtype="uint8")
    odd_source = MemorySource(spec=replace(spec, features=(odd, *spec.features[1:])))
    with (
        formats.write(path, version, odd_source.spec, {"codec": "h264"}) as writer,
        pytest.raises(FormatError, match="even"),
    ):
        writer.add(odd_source.read(0))
    with pytest.raises(FormatError, match="data_file_mb"):
        formats.write(path, "lerobot_v30", spec, {"data_file_mb": 0})


def test_an_odd_size_is_kept_with_full_colour(tmp_path: Path) -> None:
    odd = Feature(name="image", role="image", shape=(25, 33, 3), dtype="uint8")
    source = MemorySource(
        spec=replace(writable_spec(), features=(odd, *writable_spec().features[1:]))
    )
    options = {"codec": "h264", "pixel_format": "yuv444p", "crf": 10}
    path = write_all(tmp_path / "robot", source, "lerobot_v30", options)
    info = json.loads((path / "meta/info.json").read_text())
    assert info["features"]["observation.images.image"]["info"]["video.pix_fmt"] == "yuv444p"
    assert psnr(formats.open(path), source, "image") > 40


@pytest.mark.parametrize("codec", ["av1", "h264"])
@pytest.mark.parametrize("gop", [1, 2, 30])
def test_episodes_of_a_joined_video_are_found_again(codec: str, gop: int, tmp_path: Path) -> None:
    source = MemorySource((13, 1, 9, 7), spec=writable_spec())
    options = {"codec": codec, "gop": gop}
    alone = formats.open(write_all(tmp_path / "alone", source, "lerobot_v21", options))
    shared = formats.open(write_all(tmp_path / "shared", source, "lerobot_v30", options))
    for number in range(4):
        wanted = list(alone.read(number).frames["image"])
        frames = shared.read(number).frames["image"]
        assert all(map(np.array_equal, frames, wanted))
        for step in np.random.default_rng(0).permutation(len(wanted)).tolist():
            np.testing.assert_array_equal(frames[step], wanted[step])


def test_the_same_pictures_give_the_same_video(tmp_path: Path) -> None:
    """x264 with its usual settings depends on what memory held before."""
    rng = np.random.default_rng(0)
    pictures = [picture(0, step, 64, 64) for step in range(20)]
    for codec in ("h264", "av1"):
        settings = VideoSettings(codec=codec, crf=0, gop=2, pixel_format="yuv420p")
        found: set[bytes] = set()
        for _ in range(4):
            litter = [rng.integers(0, 255, rng.integers(1, 200_000), np.uint8) for _ in range(50)]
            litter.clear()
            encode(tmp_path / "a.mp4", pictures, 10, settings)
            found.add((tmp_path / "a.mp4").read_bytes())
        assert len(found) == 1


def test_joining_copies_frames(tmp_path: Path) -> None:
    settings = VideoSettings(codec="h264", crf=20, gop=5, pixel_format="yuv420p")
    parts = [(tmp_path / f"{number}.mp4", length) for number, length in enumerate((7, 3, 11))]
    for number, (path, length) in enumerate(parts):
        encode(path, [picture(number, step, 32, 48) for step in range(length)], 30, settings)
    join(tmp_path / "all.mp4", parts, 30)

    def frames(path: Path) -> Iterator[np.ndarray]:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")

    apart = [frame for path, _ in parts for frame in frames(path)]
    assert all(map(np.array_equal, frames(tmp_path / "all.mp4"), apart))


def psnr(read: Source, made: Source, camera: str) -> float:
    """Peak signal-to-noise ratio of all pictures of a camera, in decibels."""
    squares, count = 0.0, 0
    for number in range(len(made.episodes)):
        pairs = zip(read.read(number).frames[camera], made.read(number).frames[camera], strict=True)
        for one, other in pairs:
            squares += float(np.square(one.astype(float) - other).sum())
            count += one.size
    return 10 * np.log10(255**2 * count / squares) if squares else np.inf


def copy(source: Source, path: Path, format_: str, options: dict[str, Any]) -> formats.Recording:
    with formats.write(path, format_, source.spec, options) as writer:
        for number in range(len(source.episodes)):
            writer.add(source.read(number))
        writer.finish([info.id for info in source.episodes])
    return formats.open(path)


def same_numbers(one: Episode, other: Episode) -> bool:
    return (one.id, one.task, one.split) == (other.id, other.task, other.split) and all(
        np.array_equal(one.arrays[key], other.arrays[key]) for key in other.arrays
    )


class _Few:
    """The first episodes of a source, cut to some steps, with a rate."""

    def __init__(self, source: Source, episodes: int, steps: int) -> None:
        self._source, self._steps = source, steps
        self.spec = source.spec if source.spec.fps else replace(source.spec, fps=10.0)
        self.name, self.problems = source.name, ()
        self.episodes = [
            replace(info, length=min(info.length, steps)) for info in source.episodes[:episodes]
        ]

    def read(self, index: int) -> Episode:
        episode = self._source.read(index)
        frames: dict[str, Any] = {}
        for name, held in episode.frames.items():
            frames[name] = [frame for frame, _ in zip(held, range(self._steps), strict=False)]
        return replace(
            episode,
            spec=self.spec,
            arrays={name: values[: self._steps] for name, values in episode.arrays.items()},
            frames=frames,
            valid=None if episode.valid is None else episode.valid[: self._steps],
        )


@pytest.mark.data
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "episodes", "steps", "decibel"),
    [
        ("g1_pick_bottle_lerobot_v21", 3, 60, 40),
        ("bridge_rlds_sample", 6, 30, 32),
        ("pusht_cchi_v7", 20, 200, 35),
    ],
)
def test_real_recordings_come_back(
    real_data: Path,
    tmp_path: Path,
    version: str,
    name: str,
    episodes: int,
    steps: int,
    decibel: float,
) -> None:
    path = real_data / name
    if name == "pusht_cchi_v7":
        path = path / "pusht_cchi_v7_replay.zarr.zip"
    source = _Few(formats.open(path), episodes, steps)
    lossy = copy(source, tmp_path / "video", version, {})
    lossless = copy(source, tmp_path / "image", version, {"pictures": "image"})
    assert lossy.spec == lossless.spec == source.spec
    cameras = [feature.name for feature in source.spec.features if feature.is_frame]
    for number in range(len(source.episodes)):
        made = source.read(number)
        assert same_numbers(lossy.read(number), made)
        assert same(lossless.read(number), made)
    for camera in cameras:
        found = psnr(lossy, source, camera)
        print(f"{name}, {camera}, {version}: {found:.1f} dB")
        assert found > decibel


def test_an_encoder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"libx264"})
    from deft.formats.video_encoding import resolve_codec

    assert resolve_codec("auto") == "h264"
    with pytest.raises(DeftError, match=r"cannot be encoded as 'av1'(.|\n)*h264"):
        resolve_codec("av1")
