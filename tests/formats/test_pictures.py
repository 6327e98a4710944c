"""JPEG and PNG pictures: decoded as declared, or refused before anything is allocated."""

import struct

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import FormatError
from deft.formats.pictures import EncodedFrames, decode_picture, picture_size
from suites.formats import complaint, repeatable
from suites.memory_source import picture
from suites.recordings import jpeg, png

PIXELS = picture(1, 2, 24, 32)


def test_png_reads_back_exactly() -> None:
    depth = (PIXELS[..., :1].astype(np.uint16) * 257)[..., 0]
    for pixels, shape, dtype in (
        (PIXELS, (24, 32, 3), "uint8"),
        (PIXELS[..., 0], (24, 32, 1), "uint8"),
        (depth, (24, 32, 1), "uint16"),
    ):
        data = png(pixels)
        assert picture_size(data, "here") == (*shape, dtype)
        found = decode_picture(data, shape, dtype, "here")
        np.testing.assert_array_equal(found, pixels.reshape(shape))
        assert found.flags.c_contiguous


def test_jpeg_is_rgb_or_grey() -> None:
    found = decode_picture(jpeg(PIXELS), (24, 32, 3), "uint8", "here")
    assert np.abs(found.astype(float) - PIXELS).mean() < 4
    grey = simplejpeg.encode_jpeg(np.ascontiguousarray(PIXELS[..., :1]), colorspace="GRAY")
    assert decode_picture(grey, (24, 32, 1), "uint8", "here").shape == (24, 32, 1)


@pytest.mark.parametrize("data", [jpeg(PIXELS), png(PIXELS)])
@pytest.mark.parametrize("shape", [(32, 24, 3), (24, 32, 1), (48, 64, 3)])
def test_another_size_is_refused_by_name(data: bytes, shape: tuple[int, ...]) -> None:
    with pytest.raises(FormatError, match=f"height {shape[0]}, width {shape[1]}") as caught:
        decode_picture(data, shape, "uint8", "here")
    assert "Found: height 24, width 32, 3 channels" in str(caught.value)


def test_a_header_that_claims_a_huge_picture_allocates_nothing() -> None:
    data = bytearray(png(PIXELS))
    data[16:24] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    with pytest.raises(FormatError, match="height 2147483647"):
        decode_picture(bytes(data), (24, 32, 3), "uint8", "here")


@repeatable
@given(
    data=st.sampled_from([jpeg(PIXELS), png(PIXELS)]),
    place=st.integers(0, 5000),
    change=st.integers(0, 255),
    size=st.integers(0, 5000),
)
def test_damage_gives_a_picture_or_a_clear_error(
    data: bytes, place: int, change: int, size: int
) -> None:
    damaged = bytearray(data)
    damaged[place % len(data)] ^= change
    for each in (bytes(damaged), bytes(damaged[: size % len(data)])):
        said = complaint(lambda d=each: decode_picture(d, (24, 32, 3), "uint8", "here"))
        assert said == "" or (said.startswith("here") and "Fix: " in said)


def test_frames_offer_jpegs_only() -> None:
    blobs = [jpeg(PIXELS), png(PIXELS)]
    frames = EncodedFrames(blobs, (24, 32, 3), "uint8", "here")
    assert frames.encoded(0) == blobs[0]
    assert frames.encoded(1) is None
    assert len(list(frames)) == len(frames) == 2
    with pytest.raises(FormatError, match="here, step 1: the picture cannot be decoded"):
        EncodedFrames([blobs[0], b""], (24, 32, 3), "uint8", "here")[1]


def test_jpegs_come_at_a_fraction_of_their_size() -> None:
    shown = [picture(1, step, 104, 152) for step in range(3)]
    blobs = [jpeg(shown[0]), jpeg(shown[1]), png(shown[2])]
    frames = EncodedFrames(blobs, (104, 152, 3), "uint8", "here")
    assert frames.reduced(53, 75) is None  # a half is 52 high
    for size, wanted in (((52, 76), 2), ((26, 38), 4), ((20, 39), 2), ((13, 19), 8), ((1, 1), 8)):
        found = frames.reduced(*size)
        assert found is not None
        factor, smaller = found
        assert factor == wanted
        assert len(smaller) == len(list(smaller)) == 3
        height, width = 104 // factor, 152 // factor
        assert height >= size[0]
        assert width >= size[1]
        for step, each in enumerate(smaller):
            assert each.shape == (height, width, 3)
            mean = cv2.resize(frames[step], (width, height), interpolation=cv2.INTER_AREA)
            assert np.abs(each.astype(float) - mean).mean() < (0.01 if step == 2 else 1.5)
    with pytest.raises(IndexError):
        smaller[3]


def test_sizes_that_do_not_divide_evenly_come_whole() -> None:
    blob = jpeg(picture(1, 0, 100, 148))
    frames = EncodedFrames([blob], (100, 148, 3), "uint8", "here")
    found = frames.reduced(4, 4)
    assert found is not None
    assert found[0] == 4
    frames = EncodedFrames([jpeg(picture(1, 0, 101, 150))], (101, 150, 3), "uint8", "here")
    assert frames.reduced(4, 4) is None


def test_other_pictures_come_whole() -> None:
    depth = png((PIXELS[..., 0].astype(np.uint16)) * 200)
    for blobs, channels, dtype in (
        ([depth], 1, "uint16"),
        ([png(PIXELS)], 3, "uint8"),
        ([], 3, "uint8"),
    ):
        assert EncodedFrames(blobs, (24, 32, channels), dtype, "here").reduced(4, 4) is None


@pytest.mark.parametrize("change", ["size", "cut", "inside"])
def test_smaller_pictures_are_checked_alike(change: str) -> None:
    data = jpeg(picture(1, 0, 64, 96))
    if change == "size":
        data = jpeg(picture(1, 0, 64, 64))
    elif change == "cut":
        data = data[:-300]
    else:
        data = data[:300] + b"\xff\xd9"
    frames = EncodedFrames([data], (64, 96, 3), "uint8", "here")
    found = frames.reduced(16, 24)
    assert found is not None
    with pytest.raises(FormatError, match=r"here, step 0: .*(?s:.)*Fix: "):
        found[1][0]
