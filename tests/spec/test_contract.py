"""Features and specs as plain data, and how two contracts differ."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import SpecError
from deft.spec import DTYPES, Feature, Horizons, Resized, Spec, check, compare

CAMERA = Feature(name="cam", role="image", shape=(240, 320, 3), dtype="uint8")
STATE = Feature(name="state", role="state", shape=(2,), dtype="float32", unit="m", names=("x", "y"))
ACTION = Feature(name="action", role="action", shape=(2,), dtype="float32", names=("x", "y"))
SPEC = Spec(features=(CAMERA, STATE, ACTION), fps=10.0, embodiment="widowx")


def with_feature(feature: Feature) -> Spec:
    kept = tuple(f for f in SPEC.features if f.name != feature.name)
    return replace(SPEC, features=(*kept, feature))


names = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8)
vectors = st.builds(
    lambda name, elements, dtype, unit: Feature(
        name=name,
        role="state",
        shape=(len(elements),),
        dtype=dtype,
        unit=unit,
        names=tuple(elements),
    ),
    names,
    st.lists(names, min_size=1, max_size=5, unique=True),
    st.sampled_from([d for d in DTYPES if d != "str"]),
    st.sampled_from(["", "m", "rad"]),
)
pictures = st.builds(
    lambda name, height, width: Feature(
        name=name, role="image", shape=(height, width, 3), dtype="uint8"
    ),
    names,
    st.integers(1, 999),
    st.integers(1, 999),
)
specs = st.builds(
    lambda features, fps: Spec(features=tuple(features), fps=fps),
    st.lists(st.one_of(vectors, pictures), max_size=4, unique_by=lambda f: f.name),
    st.floats(0, 1000),
)


@given(specs)
def test_json_and_back_is_the_same(spec: Spec) -> None:
    again = Spec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.digest() == spec.digest()
    assert compare(spec, again) == []


def test_horizons_survive_json() -> None:
    spec = replace(SPEC, horizons=Horizons(obs_horizon=2, pred_horizon=16, action_horizon=8))
    assert Spec.from_json(spec.to_json()) == spec
    assert spec.digest() != SPEC.digest()


def test_a_whole_number_of_ticks_keeps_its_digest_through_json() -> None:
    spec = replace(SPEC, fps=30)
    assert Spec.from_json(spec.to_json()).digest() == spec.digest()


def test_order_of_features_leaves_the_digest_alone() -> None:
    assert replace(SPEC, features=SPEC.features[::-1]).digest() == SPEC.digest()


def test_image_sizes_are_written_by_name() -> None:
    written = CAMERA.to_json()
    assert (written["height"], written["width"]) == (240, 320)
    assert "shape" not in written


def test_resizing_is_written_only_where_there_was_any() -> None:
    assert "resized" not in CAMERA.to_json()
    resized = replace(CAMERA, resized=(Resized(height=480, width=640, mode="pad"),))
    assert Feature.from_json(json.loads(json.dumps(resized.to_json()))) == resized
    assert with_feature(resized).digest() != SPEC.digest()


def test_a_recorded_size_fits_and_another_way_of_resizing_does_not() -> None:
    want = with_feature(replace(CAMERA, resized=(Resized(height=480, width=640),)))
    assert compare(with_feature(replace(CAMERA, shape=(480, 640, 3))), want) == []
    assert len(compare(with_feature(replace(CAMERA, shape=(480, 641, 3))), want)) == 1
    assert compare(SPEC, want) == []
    padded = with_feature(replace(CAMERA, resized=(Resized(height=9, width=9, mode="pad"),)))
    found = compare(padded, want)
    assert [each.what for each in found] == ["way of resizing"]
    assert "--resize squash" in str(found[0])


@pytest.mark.parametrize(
    "wrong", [{"height": 0}, {"width": 2.5}, {"mode": "squish"}, {"filter": "sinc"}]
)
def test_a_resizing_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="Fix"):
        replace(Resized(height=4, width=4), **wrong)


@pytest.mark.parametrize(
    ("have", "word"),
    [
        (replace(CAMERA, shape=(320, 240, 3)), "swapped"),
        (replace(CAMERA, shape=(480, 640, 3)), "resize to height 240, width 320"),
        (replace(CAMERA, dtype="float32"), "convert it to uint8"),
        (replace(STATE, names=("y", "x")), "reorder by name"),
        (replace(STATE, unit="mm"), "convert it to 'm'"),
        (replace(STATE, shape=(3,), names=()), "give 2 values: x, y"),
        (replace(ACTION, role="state"), "declare it as 'action'"),
    ],
)
def test_a_difference_names_its_repair(have: Feature, word: str) -> None:
    found = compare(with_feature(have), SPEC)
    assert len(found) == 1
    assert found[0].feature == have.name
    assert word in str(found[0])


def test_all_differences_are_told_at_once() -> None:
    have = Spec(
        features=(replace(CAMERA, name="camera"), replace(STATE, dtype="float64")),
        fps=30.0,
        embodiment="franka",
    )
    with pytest.raises(SpecError) as caught:
        check(have, SPEC, "robot against policy")
    text = str(caught.value)
    assert "robot against policy: 5 difference(s)" in text
    for word in ("Did you mean 'camera'", "float64", "action", "30 Hz", "franka"):
        assert word in text


def test_more_features_and_unknown_units_are_no_difference() -> None:
    want = Spec(features=(replace(STATE, unit="", names=()),), fps=0.0)
    assert compare(SPEC, want) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"role": "picture"},
        {"dtype": "float"},
        {"shape": (0,)},
        {"names": ("x",)},
        {"names": ("x", "x")},
        {"name": ""},
        {"role": "image"},
        {"resized": (Resized(height=4, width=4),)},
    ],
)
def test_a_feature_that_makes_no_sense_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="Fix"):
        replace(STATE, **broken)


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"features": 3},
        {"features": [{"name": "a"}], "fps": 1},
        {"features": [], "fps": "ten"},
        {"features": [], "fps": float("nan")},
        {"features": [], "fpss": 1},
        {"features": [{"name": "a", "role": "state", "dtype": "float32", "shape": [1.5]}]},
        {"features": [{**CAMERA.to_json(), "resized": 3}], "fps": 1},
        {"features": [{**CAMERA.to_json(), "resized": [{"height": 4}]}], "fps": 1},
        {"features": [], "horizons": {"pred": 1}},
        {"features": [], "horizons": {"pred_horizon": 1, "action_horizon": 2}},
    ],
)
def test_json_that_is_no_spec_is_refused(data: object) -> None:
    with pytest.raises(SpecError):
        Spec.from_json(data)


def test_one_action_is_needed() -> None:
    assert SPEC.action() == ACTION
    with pytest.raises(SpecError, match="found 0"):
        SPEC.select(["state"]).action()
    with pytest.raises(SpecError, match="Did you mean 'state'"):
        SPEC.select(["stat"])


def test_two_arms_name_what_makes_one_action_of_them() -> None:
    arm = Feature(name="action_left", role="action", shape=(7,), dtype="float32")
    apart = Spec(features=(arm, replace(arm, name="action_right")), fps=10)
    with pytest.raises(SpecError, match=r"action_left, action_right[^$]*fuse_arms=true"):
        apart.action()
    with pytest.raises(SpecError, match=r"use_right_arm=false"):
        apart.action()
    with pytest.raises(SpecError, match=r"none[^$]*--map"):
        Spec(features=(), fps=10).action()
