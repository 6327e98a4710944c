"""Demonstrations, over a made-up environment; `tests/cli/test_collect.py` uses real ones."""

import numpy as np
import pytest

from deft import envs
from deft.envs import Demonstrations, Step, recording
from deft.errors import EnvError
from deft.spec import Feature, Observation, Spec

LAZY = frozenset({1, 4, 5})
"""Seeds that the expert does not solve."""


class Counter:
    """Solved when five actions have been run; the picture shows how many."""

    name = "counter"
    task = "count to five"
    max_steps = 9
    action_range = (np.array([-2], np.float32), np.array([6], np.float32))
    spec = Spec(
        features=(
            Feature(name="count", role="state", shape=(1,), dtype="float32"),
            Feature(name="image", role="image", shape=(4, 4, 3), dtype="uint8"),
            Feature(name="action", role="action", shape=(1,), dtype="float32"),
        ),
        fps=2.0,
    )

    def __init__(self) -> None:
        self.run: list[float] = []
        self.is_closed = False

    def reset(self, seed: int) -> Observation:
        self.seed = seed
        self.run.clear()
        return self._observe()

    def step(self, action: np.ndarray) -> Step:
        self.run.append(float(action[0]))
        success = len(self.run) == 5 and self.seed not in LAZY  # and lost again afterwards
        return Step(observation=self._observe(), reward=0, terminated=success, success=success)

    def render(self) -> np.ndarray:
        return self._observe()["image"]

    def close(self) -> None:
        self.is_closed = True

    def _observe(self) -> Observation:
        count = len(self.run)
        return {
            "count": np.array([count], np.float32),
            "image": np.full((4, 4, 3), count, np.uint8),
        }


class CountingExpert:
    """Advises the number of actions that were run."""

    hold_steps = 2

    def reset(self, env: envs.Env) -> None:
        assert isinstance(env, Counter)
        self.env = env

    def act(self) -> np.ndarray:
        return np.array([len(self.env.run)], np.float32)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """What `demonstrate` makes."""
    counter = Counter()
    monkeypatch.setattr(recording, "make", lambda *_, **__: counter)
    monkeypatch.setattr(recording, "expert", lambda _: CountingExpert())
    return counter


PLAN = Demonstrations(env="counter")


def test_a_row_is_what_was_seen_and_what_was_advised_for_it() -> None:
    played = envs.record(Counter(), CountingExpert(), 12, PLAN)
    episode = played.episode
    assert episode is not None
    assert (played.seed, played.success) == (12, True)
    assert (episode.id, episode.task) == ("counter/seed-000012", "count to five")
    assert len(episode) == 5 + CountingExpert.hold_steps
    for column in (
        episode.arrays["count"][:, 0],
        episode.arrays["action"][:, 0],
        np.stack(list(episode.frames["image"]))[:, 0, 0, 0],
    ):
        assert column.tolist() == list(range(7))


@pytest.mark.parametrize(("hold_steps", "length"), [(0, 5), (3, 8), (99, 9)])
def test_an_episode_goes_on_for_a_while_after_success(hold_steps: int, length: int) -> None:
    plan = Demonstrations(env="counter", hold_steps=hold_steps)
    episode = envs.record(Counter(), CountingExpert(), 0, plan).episode
    assert episode is not None
    assert len(episode) == length


def test_an_unsolved_episode_lasts_to_the_end() -> None:
    played = envs.record(Counter(), CountingExpert(), min(LAZY), PLAN)
    assert played.episode is not None
    assert (played.success, len(played.episode)) == (False, Counter.max_steps)


def test_noise_disturbs_what_is_run_and_not_what_is_recorded() -> None:
    plan = Demonstrations(env="counter", noise=0.5, hold_steps=99)
    env = Counter()
    disturbances: list[float] = []
    for seed in range(100, 200):
        episode = envs.record(env, CountingExpert(), seed, plan).episode
        assert episode is not None
        advised = episode.arrays["action"][:, 0]
        assert advised.tolist() == list(range(9))
        disturbances += (np.array(env.run) - advised).tolist()
    # Half of the range is 4, so the standard deviation is 2.
    assert np.std(disturbances) == pytest.approx(2, rel=0.1)
    assert np.mean(disturbances) == pytest.approx(0, abs=0.2)
    run = list(env.run)
    envs.record(env, CountingExpert(), 199, plan)
    assert env.run == run


def test_what_is_run_may_be_recorded_instead() -> None:
    plan = Demonstrations(env="counter", noise=2.0, executed=True, hold_steps=99)
    env = Counter()
    episode = envs.record(env, CountingExpert(), 3, plan).episode
    assert episode is not None
    low, high = Counter.action_range
    recorded = episode.arrays["action"][:, 0]
    np.testing.assert_array_equal(recorded, np.clip(np.float32(env.run), low, high))
    assert recorded.tolist() != list(range(9))


def test_seeds_are_played_until_enough_are_solved(counter: Counter) -> None:
    played = list(envs.demonstrate(PLAN, 4))
    assert [(each.seed, each.success) for each in played] == [
        (seed, seed not in LAZY) for seed in range(7)
    ]
    assert counter.is_closed


def test_failures_can_be_kept(counter: Counter) -> None:
    played = list(envs.demonstrate(PLAN, 4, keep_failures=True))
    assert [each.seed for each in played] == [0, 1, 2, 3]


def test_what_is_there_already_is_not_played_again(counter: Counter) -> None:
    done = {"counter/seed-000002", "counter/seed-000003"}
    played = list(envs.demonstrate(PLAN, 4, has=done.__contains__))
    assert [each.seed for each in played] == list(range(7))
    assert [each.seed for each in played if each.episode is None] == [2, 3]
    assert all(each.success for each in played if each.episode is None)


def test_the_first_seed_can_be_chosen(counter: Counter) -> None:
    assert [each.seed for each in envs.demonstrate(PLAN, 2, first_seed=4)] == [4, 5, 6, 7]


def test_too_many_failures_end_it_with_the_rate(counter: Counter) -> None:
    with pytest.raises(EnvError, match="solved only 3 of 6 seeds from 0 on, and 4 good"):
        list(envs.demonstrate(PLAN, 4, max_tries=6))
    assert counter.is_closed


def test_stopping_early_closes_the_environment(counter: Counter) -> None:
    playing = envs.demonstrate(PLAN, 4)
    next(playing)
    playing.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert counter.is_closed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"episodes": 0}, "episodes is 0"),
        ({"episodes": 5, "max_tries": 4}, "max_tries is 4"),
        ({"episodes": 1, "first_seed": -1}, "first_seed is -1"),
        ({"episodes": 1, "workers": -1}, "workers is -1"),
        ({"episodes": 1, "first_seed": envs.TEST_SEEDS_FROM - 5}, "are for evaluation"),
    ],
)
def test_counts_that_make_no_sense_are_refused(arguments: dict[str, int], says: str) -> None:
    with pytest.raises(EnvError, match=says):
        list(envs.demonstrate(PLAN, **arguments))  # pyright: ignore[reportArgumentType]


def test_plans_that_make_no_sense_are_refused() -> None:
    with pytest.raises(EnvError, match="noise is -1"):
        Demonstrations(env="counter", noise=-1)
    with pytest.raises(EnvError, match="hold_steps is -1"):
        Demonstrations(env="counter", hold_steps=-1)


@pytest.mark.sim
def test_workers_change_nothing_but_the_order() -> None:
    plan = Demonstrations(env="pusht", observations=("state",), max_steps=15)

    def collect(workers: int) -> dict[int, bytes]:
        played = envs.demonstrate(plan, 3, keep_failures=True, workers=workers)
        episodes = {each.seed: each.episode for each in played}
        return {seed: episodes[seed].arrays["action"].tobytes() for seed in sorted(episodes)}  # pyright: ignore[reportOptionalMemberAccess]

    assert collect(2) == collect(0)


@pytest.mark.sim
def test_an_error_in_a_worker_arrives_here() -> None:
    plan = Demonstrations(env="pusht", observations=("stat",))
    with pytest.raises(EnvError, match=r"cannot observe 'stat'\. Did you mean 'state'"):
        list(envs.demonstrate(plan, 1, workers=1))
