"""`out.tfrecord` as BridgeData's converter and as Deft write it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deft import formats
from deft.formats import Recording
from deft.formats.example import Example
from deft.formats.tensor_proto import Tensor
from deft.formats.tfrecord import read_record, scan_records
from deft.spec import ArrayFrames, Episode, Feature, Spec
from suites.bridge_trees import (
    DATED,
    check_recorded,
    converted_example,
    tensor,
    write_records,
    write_trajectory,
)
from suites.formats import FormatChecks, complaint, repeatable, same
from suites.memory_source import MemorySource, tiny_spec, with_frames
from suites.recordings import chunk, demonstration, encode_example, frame
from suites.writers import WriterChecks, write_all

TASK = "rss/kitchen/put_x/00"


class TestBridgeTfrecord(FormatChecks):
    format = "bridge_tfrecord"
    cameras = ("image_0",)

    @classmethod
    def write(cls, folder: Path) -> Path:
        made = [converted_example(number, length) for number, length in enumerate(cls.lengths)]
        write_records(folder / TASK / "train/out.tfrecord", made[:2])
        write_records(folder / TASK / "val/out.tfrecord", made[2:])
        return folder

    def test_every_episode_holds_what_was_recorded(self, recording: Recording) -> None:
        for number in range(3):
            check_recorded(recording.read(number), number)

    def test_ids_splits_and_tasks(self, recording: Recording) -> None:
        assert [info.id for info in recording.episodes] == [
            f"{TASK}/train/0",
            f"{TASK}/train/1",
            f"{TASK}/val/0",
        ]
        assert [info.split for info in recording.episodes] == ["train", "train", "val"]
        assert {info.task for info in recording.episodes} == {"put the carrot on the plate"}


class TestBridgeTfrecordWriter(WriterChecks):
    format = "bridge_tfrecord"


def findings(recording: Recording) -> dict[str, str]:
    return {each.episode: each.what for each in recording.problems}


def test_gaze_and_other_keys(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((5, 20, 24, 1)).astype(np.float32)
    values = converted_example(0, 5)
    for key, held in (("gaze", maps), ("time_stamp", np.arange(5) * 0.2)):
        values[f"observations/{key}"] = [tensor(held[:-1])]
        values[f"next_observations/{key}"] = [tensor(held[1:])]
    recording = formats.open(write_records(tmp_path / "out.tfrecord", [values]))
    assert recording.spec["saliency"].role == "saliency"
    assert recording.spec.fps == 5
    episode = recording.read(0)
    np.testing.assert_array_equal(np.stack(list(episode.frames["saliency"])), maps)
    np.testing.assert_allclose(episode.arrays["time_stamp"], np.arange(5) * 0.2)


def test_language(tmp_path: Path) -> None:
    lines = [tensor(["", "one", "two"]), tensor(np.zeros(0, np.float32)), tensor(["only"])]
    made = [converted_example(n, 4) | {"language": [each]} for n, each in enumerate(lines)]
    made.append({k: v for k, v in converted_example(3, 4).items() if k != "language"})
    path = write_records(tmp_path / "out.tfrecord", made)
    assert [info.task for info in formats.open(path).episodes] == ["one", "", "only", ""]
    every = formats.open(path, options={"language": "all"})
    assert every.episodes[0].task == "one\ntwo"


def test_next_observations_that_do_not_follow_are_reported(tmp_path: Path) -> None:
    values = converted_example(0, 5)
    values["next_observations/state"] = values["observations/state"]
    path = write_records(tmp_path / "out.tfrecord", [values])
    recording = formats.open(path)
    assert "do not follow" in findings(recording)["0"]
    assert recording.episodes[0].length == 4
    assert len(recording.read(0)) == 4
    less = {k: v for k, v in converted_example(0, 5).items() if not k.startswith("next")}
    recording = formats.open(write_records(path, [less]))
    assert (recording.episodes[0].length, recording.problems) == (4, ())


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "'actions' is missing": lambda made: made.pop("actions"),
    "must hold bytes": lambda made: made.update(actions=np.zeros(3, np.float32)),
    "holds no tensor": lambda made: made.update(actions=[]),
    "dtype number 0": lambda made: made.update(actions=[b""]),
    "bytes of content": lambda made: made.update(
        actions=[made["actions"][0].replace(b"\x12\x02\x08\x04", b"\x12\x02\x08\x05")]
    ),
    "text, wanted numbers": lambda made: made.update(actions=[tensor(["a"])]),
    "is a single number": lambda made: made.update(actions=[tensor(np.zeros((), np.float32))]),
    "lengths disagree": lambda made: made.update(actions=[tensor(np.zeros((3, 2), np.float32))]),
    "'state' is not finite": lambda made: [
        made.update({f"{w}observations/state": [tensor(np.full((4, 3), np.nan, np.float32))]})
        for w in ("", "next_")
    ],
    "is no UTF-8": lambda made: made.update(language=[b"\x08\x07" + chunk(8, b"\xff")]),
    "instead of text": lambda made: made.update(deft=[tensor(["x" * (2 << 20)])]),
    "a text of more than 1 MiB": lambda made: made.update(language=[tensor(["x" * (2 << 20)])]),
}


@pytest.mark.parametrize("said", CHANGES)
def test_what_cannot_be_used_is_left_out_by_name(tmp_path: Path, said: str) -> None:
    made: list[dict[str, Any]] = [dict(converted_example(number, 5)) for number in range(3)]
    CHANGES[said](made[1])
    recording = formats.open(write_records(tmp_path / "train/out.tfrecord", made))
    assert [info.id for info in recording.episodes] == ["train/0", "train/2"]
    wanted = "a text of more than 1 MiB" if said == "instead of text" else said
    assert wanted in findings(recording)["train/1"]


def test_pictures_are_verified_when_they_are_read(tmp_path: Path) -> None:
    path = write_records(tmp_path / "out.tfrecord", [converted_example(0, 5)])
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    path.write_bytes(data)
    recording = formats.open(path)
    said = complaint(lambda: recording.read(0))
    assert str(path) in said
    assert "does not match its checksum" in said


# --- writing ------------------------------------------------------------------------------------


def raw(folder: Path) -> Recording:
    for number, length in enumerate((6, 4)):
        write_trajectory(
            folder / DATED / f"raw/traj_group0/traj{number}",
            number,
            length,
            cameras=("images0", "images2"),
        )
    return formats.open(folder)


def convert(source: Recording, path: Path, **options: Any) -> Recording:
    with formats.write(path, "bridge_tfrecord", source.spec, options) as writer:
        for number in range(len(source.episodes)):
            writer.add(source.read(number))
        writer.finish([info.id for info in source.episodes])
    return formats.open(path)


def test_the_records_are_what_bridgedatas_loader_wants(tmp_path: Path) -> None:
    source = raw(tmp_path / "raw")
    convert(source, tmp_path / "out", train_proportion=1.0)
    places = scan_records(tmp_path / "out/bridge_data_v2/kitchen/put_x/00/train/out.tfrecord")
    data = read_record(places[0])
    example = Example.parse(lambda start, stop: data[start:stop], len(data), "here")
    made = demonstration(0, 6)

    def found(key: str) -> Tensor:
        ((start, stop),) = example.blobs(key)
        return Tensor.parse(example.fetch, start, stop, key)

    pictures = np.stack(list(source.read(0).frames["image_0"]))
    wanted: dict[str, np.ndarray] = {
        "observations/images0": pictures[:5],
        "next_observations/images0": pictures[1:],
        "observations/state": made["state"][:5],
        "next_observations/state": made["state"][1:],
        "actions": made["action"][:5],
        "terminals": np.zeros(5, np.bool_),
        "truncates": np.arange(5) == 4,
    }
    for key, array in wanted.items():
        assert found(key).numbers().dtype == array.dtype
        np.testing.assert_array_equal(found(key).numbers(), array)
    assert found("language").texts() == ["put the carrot on the plate"]
    assert not any("images2" in key for key in example.spans)


@pytest.mark.parametrize("packed", [False, True])
def test_all_cameras_are_kept_on_request(tmp_path: Path, packed: bool) -> None:
    source = raw(tmp_path / "raw")
    recording = convert(source, tmp_path / "out", all_cameras=True, gzip=packed)
    assert recording.spec == source.spec
    for number in range(2):
        read = recording.read(number)
        assert same(replace(read, split=""), source.read(number))
        assert read.valid is not None
        assert not read.valid[-1]
    files = [file.name for file in (tmp_path / "out").rglob("out.*")]
    assert set(files) == {"out.tfrecord.gz" if packed else "out.tfrecord"}


def test_equal_episodes_give_equal_packed_files(tmp_path: Path) -> None:
    source = raw(tmp_path / "raw")
    for name in ("a", "b"):
        convert(source, tmp_path / name, gzip=True)
    one, other = (
        [file.read_bytes() for file in sorted((tmp_path / name).rglob("out.*"))]
        for name in ("a", "b")
    )
    assert one == other


def test_every_kind_of_feature_comes_back(tmp_path: Path) -> None:
    extra = (
        Feature(name="map", role="saliency", shape=(6, 7, 1), dtype="float32"),
        Feature(name="flag", role="other", shape=(), dtype="float32"),
        Feature(name="half", role="feature_map", shape=(3, 4), dtype="float16"),
        Feature(name="said", role="language", shape=(), dtype="str"),
    )
    spec = Spec(features=(*tiny_spec(depth=True).features, *extra), fps=12.5, embodiment="arm")

    def with_maps(index: int, episode: Episode) -> Episode:
        maps = np.random.default_rng(index).random((len(episode), 6, 7, 1), np.float32)
        return with_frames(episode, "map", ArrayFrames(maps))

    source = MemorySource(spec=spec, splits=("train", "val"), change=with_maps)
    path = write_all(tmp_path / "written", source, "bridge_tfrecord", {"all_cameras": True})
    recording = formats.open(path)
    assert recording.spec == spec
    for number in range(4):
        assert same(recording.read(number), source.read(number))


# --- damage -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage") / "train/out.tfrecord"


SMALL = {
    **{k: v for k, v in converted_example(0, 3).items() if not k.endswith("images0")},
    "observations/images0": [tensor(np.zeros((2, 4, 4, 3), np.uint8))],
    "next_observations/images0": [tensor(np.zeros((2, 4, 4, 3), np.uint8))],
}


def read_everything(path: Path) -> None:
    recording = formats.open(path, "bridge_tfrecord")
    for number in range(len(recording.episodes)):
        for frames in recording.read(number).frames.values():
            list(frames)


@settings(repeatable, max_examples=100)
@given(st.data())
def test_a_changed_message_gives_an_episode_or_a_clear_error(
    scratch: Path, data: st.DataObject
) -> None:
    """With checksums that hold, so that what is behind them is reached."""
    content = bytearray(encode_example(SMALL))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    scratch.parent.mkdir(exist_ok=True)
    scratch.write_bytes(frame(bytes(content)))
    said = complaint(lambda: read_everything(scratch))
    assert said == "" or str(scratch) in said


@settings(repeatable, max_examples=60)
@given(st.data())
def test_a_damaged_file_gives_episodes_or_a_clear_error(scratch: Path, data: st.DataObject) -> None:
    whole = bytearray(write_records(scratch, [SMALL, SMALL]).read_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    scratch.write_bytes(whole[: len(whole) - data.draw(st.sampled_from([0, 0, 1, 50]))])
    said = complaint(lambda: read_everything(scratch))
    assert said == "" or str(scratch) in said


def test_a_file_that_is_cut_short_is_used_up_to_there(tmp_path: Path) -> None:
    examples = [converted_example(number, 4) for number in range(3)]
    file = write_records(tmp_path / "task" / "train" / "out.tfrecord", examples)
    file.write_bytes(file.read_bytes()[:-5])
    recording = formats.open(tmp_path)
    assert len(recording.episodes) == 2
    assert recording.episodes[1].id.endswith("1")
    (found,) = [each for each in recording.problems if each.severity == "error"]
    assert found.episode.endswith("2")
    assert "the file ends inside" in found.what
    assert found.effect == "left out"
