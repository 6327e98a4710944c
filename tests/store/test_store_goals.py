"""Goals: later steps of the same episode, drawn from keys, as often as the formulae say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import ConfigError
from deft.store import goals

DRAWS = np.arange(40000)


def limit(freedom: int) -> float:
    """Chi-square that a right distribution exceeds once in 100,000 (Wilson and Hilferty 1931)."""
    ninth = 2 / (9 * max(freedom, 1))
    return max(freedom, 1) * (1 - ninth + 4.265 * ninth**0.5) ** 3


def drawn(
    step: int, length: int, strategy: str = "uniform", seed: int = 0, **options: object
) -> goals.GoalRows:
    config = goals.GoalConfig(strategy=strategy, **options)  # pyright: ignore
    count = len(DRAWS)
    return goals.draw(config, np.full(count, step), np.full(count, length), DRAWS, seed)


def wanted(
    step: int, length: int, strategy: str, p: float, discount: float, delta: tuple[int, int]
) -> dict[int, float]:
    """Probability of each goal, written down from the table of the BridgeData loader."""
    i, t = step, length - 1  # T transitions have T+1 frames
    if strategy == "last":
        return {length - 1: 1.0}
    if strategy == "delta":
        frames = range(i + delta[0], min(t + 1, i + delta[1]))
        return {frame: 1 / len(frames) for frame in frames}
    if i >= t - 1:
        return {min(i + 1, t): 1.0}
    if strategy == "uniform":
        found = {j + 1: 1.0 for j in range(i + 1, t)}
    elif strategy == "geometric":
        found = {j + 1: discount ** (j - i) for j in range(i + 1, t)}
    else:
        found = {}
        for offset in range(1, t):
            frame = min(i + offset, t - 1) + 1
            found[frame] = found.get(frame, 0.0) + 1
    total = sum(found.values())
    return {i + 1: p} | {frame: (1 - p) * weight / total for frame, weight in found.items()}


CASES = [
    (strategy, step, length, p)
    for strategy in ("uniform", "last_state_upweighted", "geometric")
    for step, length in ((0, 30), (5, 12), (9, 12), (10, 12), (11, 12), (0, 1), (0, 2), (1, 2))
    for p in (0.0, 0.1)
]
CASES += [("delta", step, 12, 0.0) for step in (0, 5, 7, 9)]
CASES += [("last", step, 12, 0.0) for step in (0, 10, 11)]


@pytest.mark.parametrize(("strategy", "step", "length", "p"), CASES)
def test_goals_are_as_likely_as_the_formulae_say(
    strategy: str, step: int, length: int, p: float
) -> None:
    options = {"reached_proportion": p, "discount": 0.8, "delta": (2, 7)}
    found = drawn(step, length, strategy, **options)
    chances = wanted(step, length, strategy, p, 0.8, (2, 7))
    expected = np.zeros(length)
    for frame, chance in chances.items():
        expected[frame] = chance * len(DRAWS)
    counts = np.bincount(found.step, minlength=length)
    assert counts[expected == 0].sum() == 0
    cells = expected > 0
    chi2 = float(((counts - expected)[cells] ** 2 / expected[cells]).sum())
    assert chi2 <= limit(int(cells.sum()) - 1)
    assert (found.reached == (found.step <= step + 1)).all()


def test_the_chi_square_sees_a_small_error() -> None:
    """Goals that include the next step, the likeliest mistake, would be found out."""
    counts = np.bincount(2 + np.floor(np.random.default_rng(0).random(40000) * 11).astype(int))
    expected = np.full(10, 40000 / 10)
    chi2 = float(((counts[3:13] - expected) ** 2 / expected).sum())
    assert chi2 > limit(9)


@given(
    st.sampled_from(sorted(goals.STRATEGIES)),
    st.integers(1, 40),
    st.data(),
    st.floats(0, 1),
    st.floats(0.05, 1),
    st.integers(0, 2**62),
)
def test_a_goal_never_leaves_its_episode(
    strategy: str, length: int, data: st.DataObject, p: float, discount: float, seed: int
) -> None:
    step = data.draw(st.integers(0, length - 1))
    low = data.draw(st.integers(0, 5))
    config = goals.GoalConfig(
        strategy=strategy,
        reached_proportion=p,
        discount=discount,
        delta=(low, low + data.draw(st.integers(1, 9))),
    )
    found = goals.draw(config, np.full(99, step), np.full(99, length), DRAWS[:99], seed)
    assert (found.step < length).all()
    assert (found.step >= min(step + (0 if strategy == "delta" else 1), length - 1)).all()


def test_a_share_of_goals_is_reached_at_once() -> None:
    found = drawn(2, 9, reached_proportion=0.3)
    assert abs(found.reached.mean() - 0.3) < 0.02
    assert (found.step[found.reached] == 3).all()
    assert (found.step[~found.reached] > 3).all()


def test_delta_goals_leave_steps_out_and_have_no_rewards() -> None:
    config = goals.GoalConfig(strategy="delta", delta=(3, 9))
    assert (config.drop_n_last, config.has_rewards) == (3, False)
    plain = goals.GoalConfig()
    assert (plain.drop_n_last, plain.has_rewards) == (0, True)


@pytest.mark.parametrize("strategy", sorted(goals.STRATEGIES))
def test_a_goal_depends_on_seed_and_draw_only(strategy: str) -> None:
    whole = drawn(2, 90, strategy)
    few = np.asarray([5, 17])
    config = goals.GoalConfig(strategy=strategy)
    alone = goals.draw(config, np.full(2, 2), np.full(2, 90), few, 0)
    assert (alone.step == whole.step[few]).all()
    if strategy != "last":
        assert (drawn(2, 90, strategy, seed=1).step != whole.step).mean() > 0.3


def test_goals_never_change_between_versions() -> None:
    """Runs that are resumed by a later version must draw the same goals."""
    found = {name: drawn(3, 60, name).step[:4].tolist() for name in goals.STRATEGIES}
    assert found == GOLDEN


GOLDEN = {
    "uniform": [36, 7, 36, 9],
    "last_state_upweighted": [38, 7, 38, 10],
    "geometric": [28, 6, 29, 8],
    "delta": [16, 3, 16, 5],
    "last": [59, 59, 59, 59],
}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"strategy": "unifrom"}, "Did you mean 'uniform'"),
        ({"reached_proportion": 1.5}, "reached_proportion is 1.5"),
        ({"discount": 0.0}, "discount is 0.0"),
        ({"delta": (4, 4)}, "delta is 4 to 4"),
    ],
)
def test_settings_are_checked(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        goals.GoalConfig(**wrong)  # pyright: ignore
