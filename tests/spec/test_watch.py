"""A camera's pictures over one episode: black, of one colour, standing still."""

from collections.abc import Sequence

import numpy as np
import pytest

from deft.spec import CameraWatch, Episode, Feature, Spec
from suites.memory_source import picture

CAMERA = Feature(name="cam", role="image", shape=(24, 32, 3), dtype="uint8")
STATE = Feature(name="state", role="state", shape=(2,), dtype="float32")
MOVING = [(step / 10, 0.0) for step in range(20)]


def found(
    pictures: Sequence[np.ndarray],
    states: Sequence[tuple[float, float]] = MOVING,
    fps: float = 0.0,
    camera: Feature = CAMERA,
) -> list[str]:
    values = np.array(states, np.float32)[: len(pictures)]
    watch = CameraWatch(camera)
    for each in pictures:
        watch.see(each)
    episode = Episode(
        spec=Spec(features=(STATE,), fps=fps), id="e", arrays={"state": values.reshape(-1, 2)}
    )
    problems = watch.findings(episode)
    assert all(each.episode == "e" and each.effect for each in problems)
    return [each.what for each in problems]


def moving(count: int = 20) -> list[np.ndarray]:
    return [picture(1, step, 24, 32) for step in range(count)]


def test_a_camera_that_works() -> None:
    assert found(moving()) == []
    assert found([]) == []


@pytest.mark.parametrize("value", [0, 12])
def test_black(value: int) -> None:
    black = np.full((24, 32, 3), value, np.uint8)
    assert found([black] * 5) == ["'cam' is black in all 5 pictures"]
    assert found([*moving(4), black, black]) == ["'cam' is black in 2 of 6 pictures"]


def test_one_colour_is_no_picture() -> None:
    # What a video decoder shows for planes of zeros, and a broken driver's grey.
    for colour in ([0, 135, 0], [128, 128, 128]):
        flat = np.zeros((24, 32, 3), np.uint8) + np.array(colour, np.uint8)
        assert found([flat] * 5) == ["'cam' shows one colour in all 5 pictures"]


def test_frozen_while_the_robot_moves() -> None:
    seen = moving()
    seen[6:] = [seen[6]] * 14
    assert found(seen) == ["'cam' stands still from step 6 to 19 of 20 while the robot moves"]
    assert found(seen, fps=20.0) == []  # 0.7 s
    assert found(seen, fps=10.0)
    resting = [(0.0, 0.0)] * 6 + [(0.1, 0.0)] * 14
    assert found(seen, resting) == []
    assert found(seen[:8]) == []


def test_a_short_episode_that_is_frozen_throughout() -> None:
    assert found([moving()[0]] * 4) == [
        "'cam' stands still from step 0 to 3 of 4 while the robot moves"
    ]


def test_a_codec_may_disturb_a_frozen_picture() -> None:
    rng = np.random.default_rng(0)
    still = moving()[0].clip(10, 240)
    noisy = [still + rng.integers(-3, 4, still.shape).astype(np.int8) for _ in range(15)]
    assert found([each.astype(np.uint8) for each in noisy])
    live = [(still + rng.normal(0, 4, still.shape)).clip(0, 255) for _ in range(15)]
    assert found([each.astype(np.uint8) for each in live]) == []


def test_something_small_that_moves_is_seen() -> None:
    pictures = [np.full((24, 32, 3), 100, np.uint8) for _ in range(15)]
    for step, each in enumerate(pictures):
        each[13, 5 + step] = 160
    assert found(pictures) == []


def test_depth_is_empty_or_frozen_to_the_bit() -> None:
    camera = Feature(name="d", role="depth", shape=(24, 32, 1), dtype="uint16")
    empty = [np.zeros((24, 32, 1), np.uint16)] * 4
    assert found(empty, camera=camera) == ["'d' is black in all 4 pictures"]
    flat = np.full((24, 32, 1), 700, np.uint16)
    live = [flat + np.arange(32, dtype=np.uint16)[None, :, None] + np.uint16(n) for n in range(12)]
    assert found(live, camera=camera) == []
    assert "stands still" in found([live[0]] * 12, camera=camera)[0]


def test_a_saliency_map_may_be_flat() -> None:
    camera = Feature(name="s", role="saliency", shape=(24, 32, 1), dtype="uint8")
    blank = np.zeros((24, 32, 1), np.uint8)
    spot = blank.copy()
    spot[4:9, 4:9] = 200
    assert found([spot, blank, blank], camera=camera) == []
    assert found([blank] * 3, camera=camera) == ["'s' is empty in all 3 pictures"]
