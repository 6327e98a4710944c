"""Which codec a camera gets, and the reason that is kept."""

import re

import pytest

from deft.errors import ConfigError
from deft.spec import Feature, Spec
from deft.store import WriteConfig, plan_frames
from deft.store.choice import check_names


def feature(dtype: str = "uint8", channels: int = 3, role: str = "image") -> Feature:
    return Feature(name="cam", role=role, shape=(100, 100, channels), dtype=dtype)


PLAIN = feature()
DEPTH = feature("uint16", 1, "depth")
SALIENCY = feature("float32", 1, "saliency")


@pytest.mark.parametrize(
    ("asked", "camera", "codec", "why"),
    [
        ("jpeg", PLAIN, "jpeg", ""),
        ("png", PLAIN, "png", ""),
        ("raw", PLAIN, "raw", ""),
        ("jpeg", DEPTH, "png", "not uint16 with 1"),
        ("jpeg", feature("uint8", 1), "png", "not uint8 with 1"),
        ("jpeg", feature("uint8", 4), "png", "not uint8 with 4"),
        ("jpeg", feature("uint8", 2), "raw", "not uint8 with 2"),
        ("jpeg", feature("uint8", 3, "saliency"), "png", "saliency is kept as it is"),
        ("jpeg", SALIENCY, "png", "not float32 with 1"),
        ("png", feature("float32", 1, "depth"), "raw", "png holds .* not float32 with 1"),
        ("png", feature("float32", 3, "saliency"), "raw", "not float32 with 3"),
        ("raw", SALIENCY, "raw", ""),
    ],
)
def test_what_a_codec_cannot_hold_gets_another(
    asked: str, camera: Feature, codec: str, why: str
) -> None:
    plan = plan_frames(camera, WriteConfig(codec=asked))  # pyright: ignore[reportArgumentType]
    assert plan.codec == codec
    said = plan.to_json().get("codec_reason", "")
    assert re.search(why, said) if why else said == ""
    assert plan.levels == (65535 if codec == "png" and camera is SALIENCY else 0)


@pytest.mark.parametrize(
    ("camera", "steps", "codec", "why"),
    [
        (PLAIN, 100, "raw", "raw takes 3 MB, within 3 MB"),
        (PLAIN, 101, "jpeg", "raw would take 4 MB, more than 3 MB"),
        (PLAIN, None, "jpeg", "not known"),
        (DEPTH, 150, "raw", "raw takes 3 MB"),
        (DEPTH, 151, "png", "would take 4 MB, .*; jpeg holds uint8"),
        (feature("float32", 1, "depth"), 1000, "raw", "would take 40 MB, .*; jpeg holds"),
    ],
)
def test_auto_says_why(camera: Feature, steps: int | None, codec: str, why: str) -> None:
    plan = plan_frames(camera, WriteConfig(codec="auto", raw_limit_mb=3), steps)
    assert plan.codec == codec
    assert re.search(why, plan.to_json()["codec_reason"])


def test_one_camera_may_differ() -> None:
    config = WriteConfig(codecs={"cam": "png"})
    assert plan_frames(PLAIN, config).codec == "png"
    assert plan_frames(PLAIN, config).to_json() == {"codec": "png"}
    other = Feature(name="other", role="image", shape=(9, 9, 3), dtype="uint8")
    assert plan_frames(other, config).codec == "jpeg"
    auto = WriteConfig(codec="png", codecs={"cam": "auto"}, raw_limit_mb=3)
    assert plan_frames(PLAIN, auto, 100).codec == "raw"
    assert plan_frames(other, auto, 100).codec == "png"


def test_an_override_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'cam' cannot be kept(.|\n)*not uint16"):
        plan_frames(DEPTH, WriteConfig(codecs={"cam": "jpeg"}))
    with pytest.raises(ConfigError, match=r"'cma'\. Did you mean 'cam'"):
        check_names(Spec(features=(PLAIN,), fps=1), WriteConfig(codecs={"cma": "png"}))
