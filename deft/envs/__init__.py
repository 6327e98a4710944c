"""The door to simulators: one adapter per simulator, one protocol for all of them."""

from deft.envs.env import TEST_SEEDS_FROM, Env, Expert, Step
from deft.envs.goals import GoalEnv
from deft.envs.recording import (
    Demonstration,
    Demonstrations,
    demonstrate,
    episode_id,
    record,
    spec_of,
)
from deft.envs.registry import ENVS, expert, make

__all__ = [
    "ENVS",
    "TEST_SEEDS_FROM",
    "Demonstration",
    "Demonstrations",
    "Env",
    "Expert",
    "GoalEnv",
    "Step",
    "demonstrate",
    "episode_id",
    "expert",
    "make",
    "record",
    "spec_of",
]
