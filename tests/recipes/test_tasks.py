"""Recipes are trees that the config classes accept, and the help text names them all."""

import pytest

from deft import nn, policies, recipes, spec, train
from deft.cli import train as command
from deft.errors import ConfigError

CASES = [(task, None) for task in recipes.TASKS] + [("bridge", "upstream"), ("custom", "upstream")]


@pytest.mark.parametrize(("task", "compat"), CASES)
@pytest.mark.parametrize("policy", policies.POLICIES)
def test_every_recipe_builds_its_configs(policy: str, task: str, compat: str | None) -> None:
    tree = recipes.tree(policy, task, compat=compat)
    settings = dict(tree["policy"])
    assert settings.pop("family") == policy
    config = spec.from_plain(policies.POLICIES[policy], settings)
    assert spec.to_plain(config) == settings
    spec.from_plain(train.DataConfig, tree["data"])
    spec.from_plain(nn.OptimConfig, tree["optim"])
    spec.from_plain(train.TrainConfig, tree["train"])
    spec.from_plain(nn.AugmentConfig, tree["augment"])


def test_upstream_is_what_the_jax_code_does() -> None:
    ours, theirs = (recipes.tree("gc_ddpm_bc", "bridge", compat=c) for c in (None, "upstream"))
    assert (ours["policy"]["clip"], theirs["policy"]["clip"]) == (None, 2.0)
    assert (ours["augment"]["one_draw"], theirs["augment"]["one_draw"]) == (False, True)
    assert (ours["train"]["grad_clip_norm"], theirs["train"]["grad_clip_norm"]) == (1.0, 0.0)
    assert (ours["optim"]["weight_decay"], theirs["optim"]["weight_decay"]) == (1e-4, 0.0)
    assert ours["policy"]["normalize"] == {}
    assert len(theirs["policy"]["normalize"]["action"]["stats"]["mean"]) == 7
    with pytest.raises(ConfigError, match="upstream"):
        recipes.tree("gc_bc", "bridge", compat="upstraem")


def test_the_help_names_every_policy_and_task() -> None:
    text = command.__doc__ or ""
    assert f"policy={'|'.join(policies.POLICIES)}\n" in text
    assert f"task={'|'.join(recipes.TASKS)}\n" in text
