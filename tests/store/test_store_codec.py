"""Pictures to bytes and back."""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg

from deft.errors import StoreError
from deft.spec import ArrayFrames, Feature
from deft.store import WriteConfig, plan_frames
from deft.store.codec import encoded_frames, reduced
from deft.store.decoding import decode_jpeg
from suites.memory_source import DrawnFrames, picture

CAMERA = Feature(name="cam", role="image", shape=(48, 64, 3), dtype="uint8")
DEPTH = Feature(name="depth", role="depth", shape=(6, 4, 1), dtype="uint16")


@dataclass(frozen=True)
class JpegFrames:
    """Pictures that offer their JPEG; `gaps` have none."""

    jpegs: list[bytes]
    gaps: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.jpegs)

    def __getitem__(self, index: int, /) -> np.ndarray:
        return simplejpeg.decode_jpeg(self.jpegs[index])

    def __iter__(self):
        return (self[n] for n in range(len(self)))

    def encoded(self, index: int) -> bytes | None:
        return None if index in self.gaps else self.jpegs[index]


def jpegs(count: int = 3, height: int = 48) -> list[bytes]:
    return [simplejpeg.encode_jpeg(picture(1, n, height, 64), quality=70) for n in range(count)]


def test_the_loss_of_jpeg_is_bounded() -> None:
    pictures = np.stack([picture(0, n, 48, 64) for n in range(4)])
    out = np.empty((48, 64, 3), np.uint8)
    for wanted, (data, own) in zip(
        pictures,
        encoded_frames(ArrayFrames(pictures), plan_frames(CAMERA, WriteConfig()), "here"),
        strict=True,
    ):
        assert not own
        decode_jpeg(data, out, "here")
        error = out.astype(float) - wanted
        assert 10 * np.log10(255**2 / (error**2).mean()) > 33
        assert abs(error.mean()) < 1


def test_raw_keeps_every_bit() -> None:
    depths = np.arange(2 * 24, dtype=np.uint16).reshape(2, 6, 4, 1) * 900
    plan = plan_frames(DEPTH, WriteConfig(codec="raw"))
    found = [data for data, _ in encoded_frames(ArrayFrames(depths), plan, "here")]
    assert b"".join(found) == depths.tobytes()


def test_shrinking_averages_and_squashes() -> None:
    plan = plan_frames(CAMERA, WriteConfig(image_height=12, image_width=32, codec="raw"))
    shown = picture(3, 0, 48, 64)
    [(data, _)] = encoded_frames(ArrayFrames(shown[None]), plan, "here")
    found = np.frombuffer(data, np.uint8).reshape(12, 32, 3)
    means = shown.reshape(12, 4, 32, 2, 3).mean((1, 3))
    assert np.abs(found - means).max() <= 0.51
    assert (found == cv2.resize(shown, (32, 12), interpolation=cv2.INTER_AREA)).all()


def test_depth_is_never_averaged() -> None:
    plan = plan_frames(DEPTH, WriteConfig(image_height=8, image_width=8, codec="raw"))
    depths = np.random.default_rng(0).integers(0, 60000, (1, 6, 4, 1)).astype(np.uint16)
    [(data, _)] = encoded_frames(ArrayFrames(depths), plan, "here")
    found = np.frombuffer(data, np.uint16).reshape(8, 8)
    assert set(found.ravel().tolist()) <= set(depths.ravel().tolist())
    assert found[0, 0] == depths[0, 0, 0, 0]
    assert found[-1, -1] == depths[0, -1, -1, 0]


def test_jpegs_of_the_source_are_kept_as_they_are() -> None:
    own = jpegs()
    plan = plan_frames(CAMERA, WriteConfig())
    found = list(encoded_frames(JpegFrames(own, gaps={1}), plan, "here"))
    assert [is_own for _, is_own in found] == [True, False, True]
    assert found[0][0] == own[0]
    assert found[1][0] != own[1]
    smaller = plan_frames(CAMERA, WriteConfig(image_height=24, image_width=32))
    assert not any(is_own for _, is_own in encoded_frames(JpegFrames(own), smaller, "here"))


@pytest.mark.parametrize("damage", ["cut", "size"])
def test_a_bad_jpeg_of_the_source_is_named(damage: str) -> None:
    own = jpegs()
    own[2] = own[2][:-200] if damage == "cut" else jpegs(1, height=40)[0]
    with pytest.raises(StoreError, match="episode x, frame 2"):
        list(encoded_frames(JpegFrames(own), plan_frames(CAMERA, WriteConfig()), "episode x"))


@pytest.mark.parametrize("step", [0, 2])
def test_a_picture_of_another_shape_is_named(step: int) -> None:
    def draw(index: int) -> np.ndarray:
        return picture(0, index, 48 if index != step else 50, 64)

    with pytest.raises(StoreError, match=rf"frame {step} of 3.*\n.*\(50, 64, 3\)"):
        list(encoded_frames(DrawnFrames(3, draw), plan_frames(CAMERA, WriteConfig()), "here"))


@pytest.mark.parametrize(("given", "said"), [(2, "end before"), (4, "more pictures")])
def test_pictures_and_their_count_must_agree(given: int, said: str) -> None:
    class Lying(DrawnFrames):
        def __iter__(self):
            return (self.draw(n) for n in range(given))

    frames = Lying(3, lambda n: picture(0, n, 48, 64))
    with pytest.raises(StoreError, match=said):
        list(encoded_frames(frames, plan_frames(CAMERA, WriteConfig()), "here"))


@dataclass(frozen=True)
class Shrinking(JpegFrames):
    """Pictures that offer themselves at half their size."""

    def reduced(self, height: int, width: int) -> tuple[int, ArrayFrames] | None:
        halves = [cv2.resize(self[n], (32, 24)) for n in range(len(self))]
        return (2, ArrayFrames(np.stack(halves))) if height <= 24 and width <= 32 else None


def test_smaller_pictures_are_taken_where_they_will_do() -> None:
    frames = Shrinking(jpegs())

    def stored(**settings: Any) -> tuple[int, list[np.ndarray]]:
        config = WriteConfig(codec="raw", **settings)
        plan = plan_frames(CAMERA, config)
        kept = [np.frombuffer(data, np.uint8) for data, _ in encoded_frames(frames, plan, "here")]
        return reduced(frames, plan)[0], [each.reshape(plan.stored.shape) for each in kept]

    factor, found = stored(image_height=12, image_width=16)
    assert factor == 2
    for step, each in enumerate(found):
        half = cv2.resize(frames[step], (32, 24))
        wanted = cv2.resize(half, (16, 12), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(each, wanted)
    whole: dict[str, Any]
    for whole in (
        {"image_height": 12, "image_width": 16, "resize_filter": "area"},
        {"image_height": 12, "image_width": 16, "resize_filter": "lanczos"},
        {"image_height": 30, "image_width": 30},
        {"image_height": 60, "image_width": 80},
        {},
    ):
        assert stored(**whole)[0] == 1
    np.testing.assert_array_equal(stored()[1], [frames[step] for step in range(3)])


def test_smaller_pictures_of_another_size_are_refused() -> None:
    class Wrong(Shrinking):
        def reduced(self, height: int, width: int) -> tuple[int, ArrayFrames] | None:
            return 4, ArrayFrames(np.zeros((3, 24, 32, 3), np.uint8))

    plan = plan_frames(CAMERA, WriteConfig(image_height=8, image_width=8))
    with pytest.raises(StoreError, match="wanted image height 12, width 16"):
        list(encoded_frames(Wrong(jpegs()), plan, "here"))
