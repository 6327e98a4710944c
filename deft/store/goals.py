"""Goals for goal-conditioned policies: a later step of the same episode."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deft.errors import ConfigError, nearest
from deft.store.keyed import below, share

_STREAM = 0x60A1
"""Keeps the draws of goals apart from every other use of the same seed."""


@dataclass(frozen=True, kw_only=True)
class GoalConfig:
    """Which later step is the goal."""

    strategy: str = "uniform"
    """One of `goals.STRATEGIES`; each says there what it draws."""
    reached_proportion: float = 0.0
    """Share of goals that are the very next step, 0 to 1; not used by `delta` and `last`."""
    discount: float = 0.98
    """`geometric` only: a step further away is this much less likely, above 0 up to 1."""
    delta: tuple[int, int] = (0, 24)
    """`delta` only: nearest goal, and the first that is too far, in ticks from now."""

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise ConfigError(
                f"There is no goal strategy '{self.strategy}'. {nearest(self.strategy, STRATEGIES)}"
                "\nFix: set `strategy` to one of these."
            )
        low, high = self.delta
        for name, value, fits, wanted in (
            ("reached_proportion", self.reached_proportion, 0 <= self.reached_proportion <= 1, "0"),
            ("discount", self.discount, 0 < self.discount <= 1, "above 0"),
        ):
            if not fits:
                raise ConfigError(f"goals: {name} is {value}.\nFix: choose from {wanted} to 1.")
        if not 0 <= low < high:
            raise ConfigError(
                f"goals: delta is {low} to {high}.\n"
                "Fix: give two numbers from 0 on, the first less than the second."
            )

    @staticmethod
    def of(given: "GoalConfig | str | None") -> "GoalConfig | None":
        """What a strategy's name stands for: that one with the other settings as they are here."""
        return GoalConfig(strategy=given) if isinstance(given, str) else given

    @property
    def drop_n_last(self) -> int:
        """Last steps of an episode that have no goal, and so no window."""
        return self.delta[0] if self.strategy == "delta" else 0

    @property
    def has_rewards(self) -> bool:
        """False for `delta`, whose goals say how far they are, but not what reaching them is."""
        return self.strategy != "delta"


@dataclass(frozen=True)
class GoalRows:
    """One goal per sample."""

    step: np.ndarray
    """int64 `B`, step of the goal within the episode."""
    reached: np.ndarray
    """bool `B`, True when the action for now leads right to the goal (reward 0, otherwise -1)."""


def draw(
    config: GoalConfig, step: np.ndarray, length: np.ndarray, draws: np.ndarray, seed: int
) -> GoalRows:
    """The goals of some samples; each depends on seed and draw only.

    Args:
        config: which goals.
        step: int64 `B`, the step that is now.
        length: int64 `B`, steps of its episode, those that are only seen included.
        draws: int64 `B`, from the sampler.
        seed: of the goals.
    """
    goal = STRATEGIES[config.strategy](config, step, length, draws, seed)
    # In every strategy the next step is the goal exactly where the goal is reached; the last
    # step is its own.
    return GoalRows(goal, goal - step <= 1)


def _uniform(
    config: GoalConfig, step: np.ndarray, length: np.ndarray, draws: np.ndarray, seed: int
) -> np.ndarray:
    """With now at step i of N, uniform over i+2 to N-1: the next step is the goal that is reached
    at once, and only that. It is i+1 with probability `reached_proportion`, and where nothing lies
    beyond; at the last step it is that step."""
    far = step + 2 + below(_beyond(step, length), draws, seed, _STREAM)
    return _or_next(config, far, step, length, draws, seed)


def _geometric(
    config: GoalConfig, step: np.ndarray, length: np.ndarray, draws: np.ndarray, seed: int
) -> np.ndarray:
    """As `uniform`, but i+1+k is `discount`^k as likely, cut off at the end of the episode."""
    count = _beyond(step, length)
    if config.discount == 1.0:
        return _uniform(config, step, length, draws, seed)
    # The inverse of 1 - discount^k, scaled to reach 1 at the last k.
    drawn = share(draws, seed, _STREAM) * -np.expm1(count * np.log(config.discount))
    k = 1 + np.floor(np.log1p(-drawn) / np.log(config.discount)).astype(np.int64)
    return _or_next(config, step + 1 + np.minimum(k, count), step, length, draws, seed)


def _last_state_upweighted(
    config: GoalConfig, step: np.ndarray, length: np.ndarray, draws: np.ndarray, seed: int
) -> np.ndarray:
    """As `uniform`, but from i+2 to i+N-1, and what lies beyond the end is the last step: that is
    the goal with probability (i+1)/(N-2)."""
    offset = 1 + below(np.maximum(length - 2, 1), draws, seed, _STREAM)
    far = np.minimum(step + 1 + offset, length - 1)
    return _or_next(config, far, step, length, draws, seed)


def _delta(
    config: GoalConfig, step: np.ndarray, length: np.ndarray, draws: np.ndarray, seed: int
) -> np.ndarray:
    """Uniform over i+a to i+b-1, cut off at the end of the episode; 0 for a allows now itself.
    The last a steps of an episode have no goal, see `GoalConfig.drop_n_last`."""
    low, high = config.delta
    end = np.minimum(length, step + high)
    goal = step + low + below(np.maximum(end - step - low, 1), draws, seed, _STREAM)
    return np.minimum(goal, length - 1)


def _last(
    config: GoalConfig, step: np.ndarray, length: np.ndarray, draws: np.ndarray, seed: int
) -> np.ndarray:
    """The last step of the episode, always."""
    return length - 1


def _beyond(step: np.ndarray, length: np.ndarray) -> np.ndarray:
    """How many steps lie beyond the next, at least 1."""
    return np.maximum(length - 2 - step, 1)


def _or_next(
    config: GoalConfig,
    far: np.ndarray,
    step: np.ndarray,
    length: np.ndarray,
    draws: np.ndarray,
    seed: int,
) -> np.ndarray:
    """The far goal, or the next step where that is drawn or nothing lies beyond it."""
    is_next = share(draws, seed, _STREAM, 1) < config.reached_proportion
    is_next |= step >= length - 2
    return np.where(is_next, np.minimum(step + 1, length - 1), far)


Strategy = Callable[[GoalConfig, np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]

STRATEGIES: dict[str, Strategy] = {
    "uniform": _uniform,
    "last_state_upweighted": _last_state_upweighted,
    "geometric": _geometric,
    "delta": _delta,
    "last": _last,
}
"""Every strategy by name: (config, step, length, draws, seed) to steps of goals, int64 `B`.

Source: BridgeData V2, goal relabelling, with its frame T as the last step of the episode; `last`
is ours. An episode of two steps, with which `last_state_upweighted` fails there, has its last step
as the goal that is reached."""
