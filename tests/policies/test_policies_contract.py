"""Which features of the data a policy takes."""

import json
from dataclasses import replace

import pytest
import torch

from deft.errors import ConfigError, SpecError
from deft.nn import NormalizeConfig
from deft.policies import BCConfig, FlowConfig, build, contract
from deft.spec import Feature, Horizons, Spec, from_plain, to_plain
from suites.policies import arm_spec, arm_stats


def with_features(*features: Feature) -> Spec:
    spec = arm_spec("front")
    return replace(spec, features=(*spec.features, *features))


DEPTH = Feature(name="depth", role="depth", shape=(16, 24, 1), dtype="uint16")
SPARE = Feature(name="contacts", role="other", shape=(1,), dtype="float32")


def test_pictures_and_states_are_taken_and_the_rest_is_left() -> None:
    found = contract(FlowConfig(), with_features(DEPTH, SPARE))
    assert found.names == ("front", "state", "action")
    assert found.horizons == Horizons(obs_horizon=2, pred_horizon=16, action_horizon=8)
    assert found.fps == 10.0


def test_named_features_are_taken_in_their_place() -> None:
    found = contract(BCConfig(), with_features(SPARE), ("contacts", "state"))
    assert found.names == ("contacts", "state", "action")


@pytest.mark.parametrize(
    ("spec", "names", "message"),
    [
        (arm_spec("front"), ("frnt",), "Did you mean 'front'"),
        (arm_spec(state=False), None, "nothing to observe"),
        (with_features(DEPTH), ("depth",), "cannot observe 'depth'"),
        (arm_spec().select(["state"]), None, "found 0: none"),
        (
            with_features(Feature(name="other", role="action", shape=(2,), dtype="float32")),
            None,
            "found 2: action, other",
        ),
        (
            with_features(Feature(name="big", role="image", shape=(8, 8, 3), dtype="float32")),
            ("big",),
            "must be uint8",
        ),
        (
            Spec(
                features=(
                    Feature(name="state", role="state", shape=(3,), dtype="float32"),
                    Feature(name="action", role="action", shape=(2, 2), dtype="float32"),
                ),
                fps=5.0,
            ),
            None,
            "cannot be predicted",
        ),
    ],
    ids=["typo", "blind", "depth", "no action", "two actions", "float picture", "matrix"],
)
def test_what_does_not_fit_is_named(
    spec: Spec, names: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        contract(FlowConfig(), spec, names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalize": {"stat": "bounds"}}, "Did you mean 'state'"),
        ({"normalize": {"front": "bounds"}}, "pictures are always 0 to 1"),
        ({"normalize": {"state": "minmax"}}, "by 'minmax'"),
        ({"periodic": ("wrst",)}, "Did you mean 'wrist'"),
    ],
)
def test_settings_must_name_what_there_is(settings: dict[str, object], message: str) -> None:
    config = FlowConfig(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        build(config, contract(config, arm_spec("front")), arm_stats())


def test_statistics_of_a_config_reach_the_weights() -> None:
    own = NormalizeConfig(mode="mean_std", stats={"mean": (7.0, 8.0), "std": (2.0, 4.0)})
    config = BCConfig(normalize={"action": own})
    assert from_plain(BCConfig, json.loads(json.dumps(to_plain(config)))) == config
    policy = build(config, contract(config, arm_spec()), arm_stats())
    middle = policy.normalizer.inverse("action", torch.zeros(2))
    assert torch.equal(middle, torch.tensor([7.0, 8.0]))
