"""Named augmentations are trees that the config class accepts, and the help names them all."""

import pytest

from deft import nn, recipes, spec
from deft.cli import train as command
from deft.errors import ConfigError


@pytest.mark.parametrize("name", recipes.AUGMENTS)
def test_every_name_builds_its_config(name: str) -> None:
    config = spec.from_plain(nn.AugmentConfig, recipes.augment(name))
    assert config.is_off == (name == "none")


def test_what_bridge_means_is_what_bridgedata_does() -> None:
    config = spec.from_plain(nn.AugmentConfig, recipes.augment("bridge"))
    assert config.order == (
        "random_resized_crop",
        "random_brightness",
        "random_contrast",
        "random_saturation",
        "random_hue",
    )
    assert (config.scale, config.ratio) == ((0.8, 1.0), (0.9, 1.1))
    assert (config.brightness, config.hue) == (0.2, 0.1)
    assert config.contrast == config.saturation == (0.8, 1.2)
    assert not config.one_draw
    upstream = spec.from_plain(nn.AugmentConfig, recipes.augment("bridge_upstream"))
    assert (upstream.one_draw, upstream.compat) == (True, "tensorflow")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="bridge_torch"):
        recipes.augment("bridge_torhc")


def test_a_task_says_which_is_its_own_and_the_command_overrules_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = {"augment": recipes.augment("bridge")}
    monkeypatch.setitem(recipes.TASKS, "custom", lambda policy: dict(own))
    assert recipes.tree("bc", "custom")["augment"] == own["augment"]
    assert recipes.tree("bc", "custom", "crop")["augment"] == recipes.augment("crop")


def test_the_help_names_every_augmentation() -> None:
    assert f"augment={'|'.join(recipes.AUGMENTS)}\n" in (command.__doc__ or "")
