"""One picture to bytes and back, and its checksum."""

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deft.errors import StoreError
from deft.store.decoding import checksum, decode, encode_png
from suites.memory_source import picture


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_keeps_every_bit(dtype: str, channels: int) -> None:
    top = np.iinfo(dtype).max
    shown = np.random.default_rng(channels).integers(0, top + 1, (12, 20, channels)).astype(dtype)
    out = np.empty_like(shown)
    decode(encode_png(shown, 0, "x"), out, "png", 0, "x")
    assert (out == shown).all()


def test_other_programs_see_its_colours() -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 200
    seen = cv2.imdecode(np.frombuffer(encode_png(red, 0, "x"), np.uint8), cv2.IMREAD_COLOR)
    assert seen is not None
    assert seen[0, 0].tolist() == [0, 0, 200]  # cv2 has blue first


def test_levels_survive_another_round() -> None:
    steps = np.arange(65536, dtype=np.float32).reshape(256, 256, 1) * np.float32(1 / 65535)
    out = np.empty_like(steps)
    decode(encode_png(steps, 65535, "x"), out, "png", 65535, "x")
    assert (out == steps).all()
    assert out.max() == 1.0


@pytest.mark.parametrize(
    ("data", "codec", "levels"),
    [
        (b"", "png", 0),
        (b"not a picture", "png", 0),
        (encode_png(np.zeros((6, 8, 3), np.uint8), 0, "")[:-30], "png", 0),
        (encode_png(np.zeros((8, 6, 3), np.uint8), 0, ""), "png", 0),
        (encode_png(np.zeros((6, 8, 1), np.uint8), 0, ""), "png", 0),
        (encode_png(np.zeros((6, 8, 3), np.uint16), 0, ""), "png", 0),
        (encode_png(np.zeros((6, 8, 3), np.uint8), 0, ""), "png", 65535),
        (bytes(6 * 8 * 3 - 1), "raw", 0),
        (b"not a picture", "jpeg", 0),
        (simplejpeg.encode_jpeg(picture(0, 0, 8, 6)), "jpeg", 0),
    ],
)
def test_what_is_no_such_picture_is_named(data: bytes, codec: str, levels: int) -> None:
    out = np.empty((6, 8, 3), np.float32 if levels else np.uint8)
    with pytest.raises(StoreError, match=r"shard 3, frame 9(.|\n)*Fix:"):
        decode(data, out, codec, levels, "shard 3, frame 9")


flat = arrays.arrays(np.uint8, st.integers(1, 70))


@given(flat, st.sampled_from(["raw", "jpeg", "png"]), st.data())
def test_no_changed_byte_leaves_the_checksum_alone(
    data: np.ndarray, codec: str, drawn: st.DataObject
) -> None:
    before = checksum(data, codec)
    assert before == checksum(data.tobytes(), codec)
    assert 0 <= before < 2**64
    at = drawn.draw(st.integers(0, len(data) - 1))
    flip = drawn.draw(st.integers(1, 255))
    other = data.copy()
    other[at] ^= flip
    assert checksum(other, codec) != before
