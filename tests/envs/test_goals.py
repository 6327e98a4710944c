"""Environments that show a goal."""

import numpy as np
import pytest

from deft import envs
from deft.errors import EnvError

pytestmark = pytest.mark.sim

NAME = "metaworld/reach-v3"


def goal_env(offset: int = 0) -> envs.GoalEnv:
    env = envs.make(NAME, ("state", "proprio"), max_steps=150)
    return envs.GoalEnv(env, envs.expert(NAME), ["proprio"], offset)


def test_the_goal_is_where_the_expert_ends() -> None:
    env = goal_env()
    seen = env.reset(7)
    assert seen.keys() == {"state", "proprio", "goal.proprio"}
    place = seen["state"][18:21]  # type: ignore[index]
    hand = seen["goal.proprio"][:3]  # type: ignore[index]
    assert np.linalg.norm(place - hand) < 0.05
    again = env.reset(7)
    assert all(np.array_equal(seen[name], again[name]) for name in seen)
    later = env.step(np.zeros(4, np.float32)).observation
    assert np.array_equal(later["goal.proprio"], seen["goal.proprio"])
    goal = env.spec["goal.proprio"]
    assert (goal.role, goal.shape) == ("goal", env.spec["proprio"].shape)
    env.close()


def test_an_offset_shows_the_goal_of_another_episode() -> None:
    own, other = goal_env(), goal_env(offset=3)
    assert np.array_equal(own.reset(10)["goal.proprio"], other.reset(7)["goal.proprio"])
    plain, odd = own.reset(7), other.reset(7)
    assert np.array_equal(plain["state"], odd["state"])
    assert not np.array_equal(plain["goal.proprio"], odd["goal.proprio"])
    own.close()
    other.close()


def test_goals_of_what_is_not_seen_are_refused() -> None:
    env = envs.make(NAME, ("proprio",))
    with pytest.raises(EnvError, match="image"):
        envs.GoalEnv(env, envs.expert(NAME), ["image"])
    env.close()
