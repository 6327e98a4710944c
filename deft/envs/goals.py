"""Environments that also show how the scene looks when the task is solved."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deft.envs.env import Env, Expert, Step
from deft.errors import EnvError
from deft.spec import GOAL, Observation, Spec

MOST_TRIES = 20
"""Seeds that are tried for a goal before the expert counts as unable."""


class GoalEnv:
    """An `Env` whose observations hold a goal: what was seen at the end of a demonstration.

    The scripted expert plays the episode of the same seed beforehand, in the same simulator. A
    seed that it does not solve takes the goal of the next one that it does.

    Args:
        env: the environment to wrap; owned from now on.
        expert: of that environment.
        goals: features whose last value is shown as `goal.<name>`.
        offset: 0 shows the goal of the seed itself; n shows that of the seed n further on, which
            is the goal of another episode: a control for policies that should heed their goals.

    Raises:
        EnvError: a goal for a feature that the environment does not observe.
    """

    def __init__(self, env: Env, expert: Expert, goals: Sequence[str], offset: int = 0) -> None:
        unseen = [name for name in goals if name not in env.spec]
        if unseen or not goals:
            raise EnvError(
                f"{env.name}: goals for {', '.join(unseen) or 'nothing'}.\n"
                f"Found: {', '.join(env.spec.names)}.\nFix: name features that are observed."
            )
        self._env = env
        self._expert = expert
        self._goals = tuple(goals)
        self._offset = offset
        self._goal: Observation = {}

    @property
    def name(self) -> str:
        return self._env.name

    @property
    def task(self) -> str:
        return self._env.task

    @property
    def spec(self) -> Spec:
        spec = self._env.spec
        goals = (replace(spec[name], name=GOAL + name, role="goal") for name in self._goals)
        return replace(spec, features=(*spec.features, *goals))

    @property
    def max_steps(self) -> int:
        return self._env.max_steps

    @property
    def action_range(self) -> tuple[np.ndarray, np.ndarray]:
        return self._env.action_range

    def reset(self, seed: int) -> Observation:
        self._goal = self._find(seed + self._offset)
        return self._env.reset(seed) | self._goal

    def step(self, action: np.ndarray) -> Step:
        step = self._env.step(action)
        return replace(step, observation=step.observation | self._goal)

    def render(self) -> np.ndarray:
        return self._env.render()

    def close(self) -> None:
        self._env.close()

    def _find(self, seed: int) -> Observation:
        for each in range(seed, seed + MOST_TRIES):
            found = self._solved(each)
            if found is not None:
                return {GOAL + name: found[name] for name in self._goals}
        raise EnvError(
            f"{self.name}: the expert solves none of the seeds {seed} to {seed + MOST_TRIES - 1}, "
            "so there is no goal to show.\nFix: choose other seeds, or a task that it can do."
        )

    def _solved(self, seed: int) -> Observation | None:
        """What is seen when the expert has solved the episode and held on; None if it does not."""
        self._env.reset(seed)
        self._expert.reset(self._env)
        solved_at: int | None = None
        for tick in range(self._env.max_steps):
            step = self._env.step(self._expert.act())
            if step.success and solved_at is None:
                solved_at = tick
            if solved_at is not None and tick - solved_at >= self._expert.hold_steps:
                return step.observation
        return None
