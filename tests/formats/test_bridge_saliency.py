"""Saliency beside BridgeData trajectories: maps, boxes, points; missing and damaged ones."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft import formats
from deft.errors import FormatError
from deft.formats import Recording
from deft.formats.saliency import PointMaps, Spread
from deft.spec import Episode
from suites.bridge_trees import DATED, OLD, converted, write_converted, write_trajectory
from suites.recordings import (
    HEIGHT,
    WIDTH,
    image_entry,
    png,
    rlds_values,
    tensor_entry,
    write_rlds,
)

LENGTH = 6
BOXES = [
    [[0.1, 0.2, 0.3, 0.4]],
    [],
    [[0.5, 0.5, 0.7, 0.9], [0.0, 0.0, 0.2, 0.2]],
    None,
    np.array([[0.4, 0.4, 0.6, 0.6]]),
    [],
]
CENTRES = [[(0.2, 0.3)], [], [(0.6, 0.7), (0.1, 0.1)], [], [(0.5, 0.5)], []]


def trajectory(folder: Path, number: int = 0, dated: str = DATED) -> Path:
    return write_trajectory(folder / dated / f"raw/traj_group0/traj{number}", number, LENGTH)


def dump(file: Path, content: Any) -> None:
    file.write_bytes(pickle.dumps(content))


def saliency(episode: Episode) -> np.ndarray:
    return np.stack(list(episode.frames["saliency"]))


def made_of(centres: list[list[tuple[float, float]]], **spread: Any) -> np.ndarray:
    points = [np.array(each, float).reshape(-1, 2) for each in centres]
    return np.stack(list(PointMaps(points, HEIGHT, WIDTH, Spread(**spread))))


def findings(recording: Recording) -> dict[str, tuple[str, str]]:
    """What is said of each episode, and what happens to it, by the name of its folder."""
    named = [each for each in recording.problems if each.episode]
    return {each.episode.rsplit("/", 1)[-1]: (each.what, each.effect) for each in named}


@pytest.mark.parametrize("name", ["filter.pkl", "no_filter.pkl"])
def test_boxes_become_maps_of_the_size_of_the_pictures(tmp_path: Path, name: str) -> None:
    dump(trajectory(tmp_path) / name, BOXES)
    recording = formats.open(tmp_path)
    assert recording.spec["saliency"].describe() == (
        f"saliency height {HEIGHT}, width {WIDTH}, 1 channels float32"
    )
    np.testing.assert_array_equal(saliency(recording.read(0)), made_of(CENTRES))
    assert recording.problems == ()


def test_how_boxes_become_maps_can_be_set(tmp_path: Path) -> None:
    dump(trajectory(tmp_path) / "filter.pkl", BOXES)
    spread = {"k": 0, "gamma": 0.2}
    found = saliency(formats.open(tmp_path, options={"spread": spread}).read(0))
    np.testing.assert_array_equal(found, made_of(CENTRES, **spread))
    assert [bool(each.any()) for each in found] == [True, False, True, False, True, False]


def test_filtered_boxes_and_maps_come_first(tmp_path: Path) -> None:
    folder = trajectory(tmp_path)
    dump(folder / "no_filter.pkl", [[]] * LENGTH)
    dump(folder / "filter.pkl", BOXES)
    np.testing.assert_array_equal(saliency(formats.open(tmp_path).read(0)), made_of(CENTRES))
    held = np.random.default_rng(0).random((LENGTH, 1, 24, 30)).astype(np.float32)
    dump(folder / "saliency_map.pkl", held)
    (folder / "fixations.csv").write_text("x,y,time\n0.5,0.5,0.0\n")
    wanted: dict[str, np.ndarray] = {
        "auto": held.reshape(LENGTH, 24, 30, 1),
        "maps": held.reshape(LENGTH, 24, 30, 1),
        "boxes": made_of(CENTRES),
        "fixations": made_of([[(0.5, 0.5)], *[[]] * 5]),
    }
    for kind, maps in wanted.items():
        recording = formats.open(tmp_path, options={"saliency": kind})
        np.testing.assert_array_equal(saliency(recording.read(0)), maps)
    assert "saliency" not in formats.open(tmp_path, options={"saliency": "none"}).spec


@pytest.mark.parametrize(
    ("head", "start"),
    [("x,y,time", 0.0), ("", 0.0), ("frame,time_s,Y,X", 1.6e9), ("time,x,y", 1.6e9)],
)
def test_points_belong_to_the_frame_nearest_in_time(
    tmp_path: Path, head: str, start: float
) -> None:
    points = [(0.2, 0.3, 0.09), (0.6, 0.7, 0.41), (0.1, 0.1, 0.39), (0.5, 0.5, 0.75)]
    # Beside the picture, with closed eyes, before and after the recording.
    points += [(1.2, 0.5, 0.2), (float("nan"), 0.5, 0.2), (0.9, 0.9, -0.2), (0.9, 0.9, 1.2)]
    lines = [head] if head else []
    for x, y, time in points:
        cells = {"x": x, "y": y, "time": start + time, "time_s": start + time, "frame": 7}
        names = head.lower().split(",") if head else ["x", "y", "time"]
        lines.append(",".join(str(cells[name]) for name in names))
    (trajectory(tmp_path) / "gaze.csv").write_text("\n".join(lines) + "\n")
    recording = formats.open(tmp_path)
    np.testing.assert_allclose(saliency(recording.read(0)), made_of(CENTRES), atol=1e-6)
    assert recording.problems == ()


def test_maps_move_with_the_pictures(tmp_path: Path) -> None:
    for number, name in enumerate(("filter.pkl", "saliency_map.pkl")):
        folder = trajectory(tmp_path, number, OLD)
        content = BOXES if name == "filter.pkl" else made_of(CENTRES)
        dump(folder / name, content)
    recording = formats.open(tmp_path)
    for number in range(2):
        found = saliency(recording.read(number))
        np.testing.assert_array_equal(found, made_of(CENTRES)[1:])


def test_a_missing_map_is_a_finding_and_zero(tmp_path: Path) -> None:
    for number in range(3):
        folder = trajectory(tmp_path, number)
        if number != 1:
            dump(folder / "filter.pkl", BOXES)
    recording = formats.open(tmp_path)
    assert len(recording.episodes) == 3
    assert saliency(recording.read(0)).any()
    assert not saliency(recording.read(1)).any()
    assert findings(recording) == {
        "traj1": ("there is no saliency map", "its maps are zero, which no loss counts")
    }


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("saliency_map.pkl", {"a": 1}, "holds no maps"),
        ("saliency_map.pkl", np.zeros((LENGTH, 3, 4, 5), np.float32), "wanted one map of numbers"),
        ("saliency_map.pkl", np.zeros((2, 1, 24, 30), np.float32), "5 maps are needed"),
        ("saliency_map.pkl", np.zeros((LENGTH, 1, 9, 9), np.float32), "in most episodes saliency"),
        ("filter.pkl", 5, "holds no list with the boxes"),
        ("filter.pkl", BOXES[:3], "boxes of 5 frames are needed"),
        ("filter.pkl", [[[1, 2, 3]]] * LENGTH, "wanted boxes x1 y1 x2 y2 from 0 to 1 in frame 0"),
        ("filter.pkl", [[], [[0, 0, 640, 480]], *[[]] * 4], "in frame 1"),
        ("filter.pkl", [[["a", 0, 0, 0]]] * LENGTH, "wanted boxes"),
        ("gaze.csv", "x,y\n0.5,0.5\n", "there is no column 'time'"),
        ("gaze.csv", "x,y,time\n0.5,oops,0\n", "wanted numbers x, y, time"),
        ("gaze.csv", "0.5,0.5\n", "wanted numbers x, y, time"),
        ("gaze.csv", "x,y,time\n320,240,0\n", "must be shares of the picture"),
        ("gaze.csv", b"x,y,time\n\xff\xfe", "cannot be read"),
    ],
)
def test_what_is_of_no_use_is_a_finding_and_zero(
    tmp_path: Path, name: str, content: Any, said: str
) -> None:
    for number in (1, 2):
        dump(trajectory(tmp_path, number) / "filter.pkl", BOXES)
    file = trajectory(tmp_path, 0) / name
    if isinstance(content, str | bytes):
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    else:
        dump(file, content)
    recording = formats.open(tmp_path)
    assert len(recording.episodes) == 3
    what, effect = findings(recording)["traj0"]
    assert said in what
    assert effect == "its maps are zero, which no loss counts"
    assert not saliency(recording.read(0)).any()


def test_maps_stay_when_cameras_are_named(tmp_path: Path) -> None:
    dump(trajectory(tmp_path) / "filter.pkl", BOXES)
    recording = formats.open(tmp_path, options={"cameras": ["image_0"]})
    assert recording.spec.names[:4] == ("action", "state", "image_0", "saliency")


def test_without_any_map_there_is_no_feature(tmp_path: Path) -> None:
    dump(trajectory(tmp_path) / "filter.pkl", 5)
    recording = formats.open(tmp_path)
    assert "saliency" not in recording.spec
    assert findings(recording)["traj0"][1] == "it has none"
    with pytest.raises(FormatError, match=r"no trajectory has saliency from 'fixations'"):
        formats.open(tmp_path, options={"saliency": "fixations"})


def test_many_episodes_without_a_map_are_one_finding(tmp_path: Path) -> None:
    for number in range(52):
        folder = write_trajectory(tmp_path / f"{DATED}/raw/traj_group0/traj{number}", 0, 2)
        if number == 0:
            dump(folder / "filter.pkl", BOXES[:2])
    said = [each.what for each in formats.open(tmp_path).problems]
    assert any(each.startswith("51 of 52 episodes have no saliency map") for each in said)


@pytest.mark.parametrize("format_", ["bridge_numpy", "bridge_tfrecord"])
def test_maps_survive_the_converted_layouts(tmp_path: Path, format_: str) -> None:
    for number in range(4):
        folder = trajectory(tmp_path / "raw", number)
        if number != 1:
            dump(folder / "filter.pkl", BOXES)
    source = formats.open(tmp_path / "raw")
    with formats.write(tmp_path / "out", format_, source.spec) as writer:
        for number in range(4):
            writer.add(source.read(number))
        writer.finish([info.id for info in source.episodes])
    recording = formats.open(tmp_path / "out")
    assert recording.spec["saliency"] == source.spec["saliency"]
    assert {info.split for info in recording.episodes} == {"train", "val"}
    for number in range(4):
        held = saliency(recording.read(number))
        np.testing.assert_array_equal(held, saliency(source.read(number)))


def test_a_converted_trajectory_without_a_map_gets_zeros(tmp_path: Path) -> None:
    made = [converted(number, LENGTH) for number in range(3)]
    for each in made[1:]:
        for step in (*each["observations"], each["next_observations"][-1]):
            step["gaze"] = np.full((8, 9, 1), 0.5, np.float32)
    recording = formats.open(write_converted(tmp_path / "train/out.npy", made))
    assert recording.spec["saliency"].shape == (8, 9, 1)
    assert [bool(saliency(recording.read(n)).any()) for n in range(3)] == [False, True, True]
    assert [(each.episode, each.what) for each in recording.problems if each.episode] == [
        ("train/0", "there is no saliency map")
    ]


def test_gaze_in_rlds_is_saliency(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((4, 6, 8)).astype(np.float32)
    values = rlds_values(0, 4)
    values["steps/observation/gaze"] = maps.reshape(-1)
    black = png(np.zeros((HEIGHT, WIDTH), np.uint8))
    path = write_rlds(tmp_path / "tensor", {"train": [values]})
    declare(path, "gaze", tensor_entry(6, 8))
    recording = formats.open(path)
    assert recording.spec["saliency"].describe() == (
        "saliency height 6, width 8, 1 channels float32"
    )
    np.testing.assert_array_equal(saliency(recording.read(0)), maps[..., None])

    values["steps/observation/saliency"] = [black] * 4
    del values["steps/observation/gaze"]
    path = write_rlds(tmp_path / "picture", {"train": [values]})
    declare(path, "saliency", image_entry(HEIGHT, WIDTH, 1, encoding="png"))
    recording = formats.open(path)
    assert recording.spec["saliency"].role == "saliency"
    assert recording.problems == ()
    assert not saliency(recording.read(0)).any()


def declare(path: Path, name: str, entry: dict[str, Any]) -> None:
    """One more feature of the observation in `features.json`."""
    file = path / "features.json"
    features = json.loads(file.read_text())
    steps = features["featuresDict"]["features"]["steps"]["sequence"]["feature"]
    observation = steps["featuresDict"]["features"]["observation"]
    observation["featuresDict"]["features"][name] = entry
    file.write_text(json.dumps(features))
