"""Which features of the data a policy takes, and how they are normalised."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from deft.errors import ConfigError, SpecError, nearest
from deft.nn import ActionHeadConfig, NormalizeConfig, ObsEncoderConfig
from deft.spec import GOAL, Feature, Horizons, Spec, Stats

OBSERVED_ROLES = ("image", "state", "other")
"""Roles that `bc` and `flow` observe; `other` only when it is named."""


def contract(config: Any, data_spec: Spec, observations: Sequence[str] | None = None) -> Spec:
    """The spec of a policy trained on such data.

    Args:
        config: of the policy; its horizons go into the result.
        data_spec: what the data holds.
        observations: names of the features to observe; None takes every image and state.

    Returns:
        The observed features, the one action and the horizons; fps and embodiment of the data.

    Raises:
        SpecError: there is no action or more than one, nothing to observe, an unknown name, or a
            feature that such a policy cannot use.
    """
    action = data_spec.action()
    if len(action.shape) != 1 or not action.dtype.startswith("float"):
        raise SpecError(
            f"'{action.name}' cannot be predicted: {action.describe()}.\n"
            "Fix: give the action as a vector of floats per step."
        )
    if observations is None:
        chosen = data_spec.role("image", "state")
    else:
        chosen = tuple(_observed(data_spec, name) for name in observations)
    if not chosen:
        raise SpecError(
            f"There is nothing to observe among {', '.join(data_spec.names)}.\n"
            "Fix: use data with an image or a state, or name features in `data.observations`."
        )
    for feature in chosen:
        _check(feature)
    _check_saliency(config, data_spec, chosen)
    asked = (*_goals(config, chosen), *_language(config, data_spec))
    horizons = Horizons(
        obs_horizon=config.obs_horizon,
        pred_horizon=config.pred_horizon,
        action_horizon=config.action_horizon,
    )
    return replace(data_spec, features=(*chosen, *asked, action), horizons=horizons)


def takes(config: Any) -> frozenset[str]:
    """What a policy of this config is given beside observations: `goal`, `language`, `next`."""
    return getattr(type(config), "takes", frozenset())


def one_action(pred_horizon: int) -> None:
    """Raises `ConfigError` for a chunk where single actions are judged."""
    if pred_horizon != 1:
        raise ConfigError(
            f"pred_horizon is {pred_horizon}; a critic judges single actions.\n"
            "Fix: set policy.pred_horizon=1 and policy.action_horizon=1, or use a policy that "
            "clones behaviour."
        )


def check_rows(config: Any, rows: int) -> None:
    """Raises `ConfigError` for rows by themselves where goals of other rows are the negatives.

    Args:
        config: of the policy.
        rows: windows that are computed together.
    """
    contrasts = "next" in takes(config) and getattr(config, "negatives", 1.0) > 0
    if contrasts and rows < 2:
        raise ConfigError(
            f"Rows of a batch are computed {rows} at a time, and this policy takes goals of other "
            "rows as negatives.\n"
            "Fix: set train.batch_size so that every piece on every process has 2 rows or more."
        )


def check_squashed(head: ActionHeadConfig, mode: str) -> None:
    """Raises `ConfigError` where squashed actions would have to go beyond -1 and 1."""
    if head.tanh and mode == "mean_std":
        raise ConfigError(
            "head.tanh squashes actions into -1 to 1, and normalised by mean and deviation they "
            "go beyond.\n"
            "Fix: set policy.normalize.action=bounds, or policy.head.tanh=false."
        )


def bridge_encoder() -> ObsEncoderConfig:
    """BridgeData V2's `resnetv1-34-bridge` with average pooling."""
    return ObsEncoderConfig(
        image="resnetv1-34-bridge", pool="average", image_features=0, ticks="stacked"
    )


def bridge_film_encoder() -> ObsEncoderConfig:
    """The same, modulated by the sentence."""
    return replace(bridge_encoder(), image="resnetv1-34-bridge-film")


def normalizer_modes(
    wanted: Mapping[str, str | NormalizeConfig], features: Sequence[Feature], default: str
) -> dict[str, str]:
    """A normaliser mode for each feature.

    Args:
        wanted: by feature name, from the config.
        features: all features that are normalised.
        default: mode of those that `wanted` leaves out.

    Raises:
        ConfigError: `wanted` names a feature that is not there.
    """
    names = [feature.name for feature in features]
    modes = dict.fromkeys(names, default)
    for name, how in wanted.items():
        if name not in names:
            raise ConfigError(
                f"`normalize` names '{name}', which is not normalised here. "
                f"{nearest(name, names)}\n"
                "Fix: correct the name, or leave it out; pictures are always 0 to 1."
            )
        modes[name] = how if isinstance(how, str) else how.mode or default
    return modes


def normalizer_stats(
    wanted: Mapping[str, str | NormalizeConfig], contract: Spec, stats: Mapping[str, Stats]
) -> dict[str, Stats]:
    """Statistics of the data, with those from the config in their place.

    Raises `SpecError` when values do not fit their feature.
    """
    found = dict(stats)
    for name, how in wanted.items():
        if isinstance(how, NormalizeConfig) and name in contract and name in stats:
            used = how.over(stats[name], contract[name])
            assert used is not None
            found[name] = used
    return found


def saliency_features(data_spec: Spec, cameras: Sequence[str]) -> dict[str, str]:
    """Camera to the feature with its maps: `saliency.<camera>`, or for the first camera `saliency`.

    Args:
        data_spec: what the data holds.
        cameras: names of the cameras that are seen.
    """
    found = {feature.name for feature in data_spec.role("saliency")}
    named = {camera: f"saliency.{camera}" for camera in cameras if f"saliency.{camera}" in found}
    if "saliency" in found and cameras:
        named.setdefault(min(cameras), "saliency")
    return named


def _check_saliency(config: Any, data_spec: Spec, observed: Sequence[Feature]) -> None:
    if not config.saliency.acts:
        return
    cameras = [feature.name for feature in observed if feature.role == "image"]
    if not saliency_features(data_spec, cameras):
        maps = ", ".join(f.name for f in data_spec.role("saliency")) or "no feature with that role"
        raise SpecError(
            "`policy.saliency.enabled` is true, and there are no saliency maps of an observed "
            f"camera.\nFound: {maps}; cameras {', '.join(cameras) or 'none'}.\n"
            "Fix: convert the recording with `--saliency auto`, or set "
            "policy.saliency.enabled=false."
        )


def _goals(config: Any, observed: Sequence[Feature]) -> list[Feature]:
    """The goals that a policy is shown, as features of its contract."""
    if "goal" not in takes(config):
        return []
    named: Sequence[str] | None = config.goals
    if named is None:
        pictures = [feature.name for feature in observed if feature.role == "image"]
        named = pictures or [feature.name for feature in observed if feature.role == "state"]
    by_name = {feature.name: feature for feature in observed}
    for name in named:
        if name not in by_name:
            raise SpecError(
                f"`policy.goals` names '{name}', which the policy does not observe. "
                f"{nearest(name, by_name)}\nFix: observe it too, or correct the name."
            )
    if not named:
        raise SpecError(
            f"There is nothing to take a goal of among {', '.join(by_name)}.\n"
            "Fix: observe an image or a state."
        )
    return [replace(by_name[name], name=GOAL + name, role="goal") for name in named]


def _language(config: Any, data_spec: Spec) -> list[Feature]:
    """The instruction, as text, or as a vector where the data has nothing else."""
    if "language" not in takes(config):
        return []
    vectors = [f for f in data_spec.role("language") if f.dtype != "str"]
    texts = [f for f in data_spec.role("language") if f.dtype == "str"]
    if not (vectors or texts):
        raise SpecError(
            f"This policy follows instructions, and the data has none.\n"
            f"Found: {', '.join(data_spec.names)}.\n"
            "Fix: train `policy=gc_bc`, which follows pictures of the goal, or add instructions."
        )
    # Text where there is text: whoever trains and serves finds its vector, and people can say it.
    return (texts or vectors)[:1]


def _observed(data_spec: Spec, name: str) -> Feature:
    if name in data_spec:
        return data_spec[name]
    usable = [feature.name for feature in data_spec.role(*OBSERVED_ROLES)]
    raise SpecError(
        f"`data.observations` names '{name}', which the data does not have. "
        f"{nearest(name, usable)}\nFix: correct the name, or leave it out."
    )


def _check(feature: Feature) -> None:
    if feature.role not in OBSERVED_ROLES or feature.dtype == "str":
        raise SpecError(
            f"This policy cannot observe '{feature.name}' ({feature.describe()}).\n"
            f"Fix: observe features with role {', '.join(OBSERVED_ROLES)}."
        )
    if feature.role == "image" and feature.dtype != "uint8":
        raise SpecError(
            f"Pictures must be uint8, '{feature.name}' is {feature.dtype}.\n"
            "Fix: convert the recording with `deft convert`."
        )
