"""Pictures at another size: against Pillow, in every way, and again from the record."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deft.errors import ConfigError
from deft.spec import MODES, Feature, Resized, Spec
from deft.transforms import ResizedFrames, fit_pictures, resize, resize_as, resized_feature

SIZES = [(12, 12), (30, 20), (40, 48), (64, 97), (7, 48)]
PILLOW = {"lanczos": Image.Resampling.LANCZOS, "cubic": Image.Resampling.BICUBIC}


def noise(height: int = 40, width: int = 48, channels: int = 3, dtype: str = "uint8") -> np.ndarray:
    rng = np.random.default_rng(height * 1000 + width)
    top = 1 if dtype == "float32" else np.iinfo(dtype).max
    return (rng.random((height, width, channels)) * top).astype(dtype)


def camera(role: str = "image", dtype: str = "uint8", channels: int = 3) -> Feature:
    return Feature(name="cam", role=role, shape=(40, 48, channels), dtype=dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("filter_", PILLOW)
def test_wide_filters_give_pillows_pixels(size: tuple[int, int], filter_: str) -> None:
    picture = noise()
    wanted = Image.fromarray(picture).resize((size[1], size[0]), PILLOW[filter_])
    np.testing.assert_array_equal(resize(picture, *size, "squash", filter_), np.asarray(wanted))


@pytest.mark.parametrize("size", SIZES)
def test_other_dtypes_follow_the_same_curve(size: tuple[int, int]) -> None:
    exact = resize(noise(dtype="float32"), *size, "squash", "lanczos")
    wanted = Image.fromarray(noise(dtype="float32")[..., 0]).resize(
        (size[1], size[0]), PILLOW["lanczos"]
    )
    np.testing.assert_allclose(exact[..., 0], np.asarray(wanted), atol=1e-5)
    coarse = resize((noise(dtype="float32") * 65535).astype("uint16"), *size, "squash", "lanczos")
    assert np.abs(coarse / 65535 - exact.clip(0, 1)).max() < 1e-4


def test_shrinking_by_area_is_a_mean() -> None:
    picture = noise()
    wanted = picture.reshape(20, 2, 24, 2, 3).mean((1, 3))
    assert np.abs(resize(picture, 20, 24, "squash", "area") - wanted).max() <= 0.5


def test_nearest_makes_no_new_value() -> None:
    depth = noise(channels=1, dtype="uint16")
    assert np.isin(resize(depth, 13, 17, "squash", "nearest"), depth).all()
    np.testing.assert_array_equal(resize(depth, 20, 24, "squash", "nearest"), depth[1::2, 1::2])


def test_padding_keeps_the_aspect_between_black_bars() -> None:
    white = np.full((40, 80, 3), 255, np.uint8)
    padded = resize(white, 32, 32, "pad", "area")
    assert (padded[8:24] == 255).all()
    assert not padded[:8].any()
    assert not padded[24:].any()
    tall = resize(white.transpose(1, 0, 2), 32, 32, "pad", "lanczos")
    np.testing.assert_array_equal(tall, padded.transpose(1, 0, 2))


def test_cropping_takes_the_middle() -> None:
    picture = np.zeros((40, 80, 1), np.uint8)
    picture[:, 20:60] = 200
    assert (resize(picture, 16, 16, "crop", "area") == 200).all()
    assert (resize(picture.transpose(1, 0, 2), 16, 16, "crop", "linear") == 200).all()


@given(
    st.sampled_from(MODES),
    st.sampled_from(["area", "linear", "nearest", "lanczos", "cubic"]),
    st.tuples(*[st.integers(1, 60)] * 4),
    st.sampled_from(["uint8", "uint16", "float32"]),
)
@settings(deadline=None, max_examples=150)
def test_every_way_gives_the_size_and_dtype(
    mode: str, filter_: str, sizes: tuple[int, int, int, int], dtype: str
) -> None:
    rows, columns, height, width = sizes
    picture = noise(rows, columns, 1, dtype)
    result = resize(picture, height, width, mode, filter_)
    assert (result.shape, result.dtype) == ((height, width, 1), picture.dtype)
    assert np.isfinite(result).all()


@pytest.mark.parametrize(
    ("feature", "asked", "size", "filter_"),
    [
        (camera(), "auto", (20, 24), "area"),
        (camera(), "auto", (20, 96), "linear"),
        (camera(), "lanczos", (20, 24), "lanczos"),
        (camera("depth", "uint16", 1), "lanczos", (20, 24), "nearest"),
        (camera("saliency", "float32", 1), "lanczos", (20, 24), "area"),
        (camera("saliency", "float32", 1), "auto", (80, 24), "linear"),
    ],
)
def test_the_way_is_recorded(
    feature: Feature, asked: str, size: tuple[int, int], filter_: str
) -> None:
    result = resized_feature(feature, *size, filter_=asked)
    assert result.shape == (*size, feature.channels)
    assert result.resized == (Resized(height=40, width=48, mode="squash", filter=filter_),)
    assert Feature.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_bars_count_when_the_filter_is_chosen() -> None:
    # 40 x 48 into 60 x 24: the picture itself becomes 20 x 24, which shrinks it.
    assert resized_feature(camera(), 60, 24, "pad").resized[0].filter == "area"
    assert resized_feature(camera(), 60, 24, "squash").resized[0].filter == "linear"


def test_what_stays_as_it_is_is_not_recorded() -> None:
    assert resized_feature(camera(), 40, 48) is not None
    assert resized_feature(camera(), 40, 48) == camera()


@pytest.mark.parametrize("words", [("squish", "auto"), ("pad", "sinc")])
def test_unknown_words_are_refused(words: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="Fix:"):
        resized_feature(camera(), 8, 8, *words)
    with pytest.raises(ConfigError, match="cannot be resized"):
        resized_feature(camera("image", "int32", 1), 8, 8)
    assert resized_feature(camera("depth", "int32", 1), 8, 8).resized[0].filter == "nearest"


@pytest.mark.parametrize("mode", MODES)
def test_the_record_does_it_again(mode: str) -> None:
    once = resized_feature(camera(), 24, 24, mode, "lanczos")
    twice = resized_feature(once, 12, 16, "squash", "auto")
    recorded = noise()
    middle = resize(recorded, 24, 24, mode, "lanczos")
    wanted = resize(middle, 12, 16, "squash", "area")
    for given_ in (recorded, middle, wanted):
        np.testing.assert_array_equal(resize_as(twice, given_), wanted)
    strange = noise(9, 9)
    assert resize_as(twice, strange) is strange
    spec = Spec(features=(twice,), fps=5)
    assert fit_pictures({"cam": recorded.astype(float)}, spec)["cam"].shape == recorded.shape
    seen = {"cam": np.stack([recorded, recorded]), "word": "go", "state": np.zeros(3)}
    fitted = fit_pictures(seen, spec)
    np.testing.assert_array_equal(fitted["cam"], np.stack([wanted, wanted]))
    assert fitted["word"] == "go"
    assert fitted["state"] is seen["state"]


def test_frames_are_resized_when_asked_for() -> None:
    feature = resized_feature(camera(), 8, 8)
    pictures = [noise(), noise()[::-1]]
    frames = ResizedFrames(pictures, feature)  # pyright: ignore[reportArgumentType]
    assert len(frames) == 2
    for step, picture in enumerate(frames):
        np.testing.assert_array_equal(picture, resize(pictures[step], 8, 8, "squash", "area"))
        np.testing.assert_array_equal(frames[step], picture)
