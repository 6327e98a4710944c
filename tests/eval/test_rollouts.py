"""Episodes: keys, horizons, ends, videos, and errors that say where."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from deft import eval as evaluation
from deft.errors import ConfigError, ShapeError, SpecError
from deft.spec import ActionChunk, Feature, Observation, Spec
from deft.transforms import resize_as, resized_feature
from suites.actors import REACH_SPEC, ReachActor, ReachEnv

SEEDS = range(100_000, 100_006)


def untimed(results: list[evaluation.EpisodeResult]) -> list[evaluation.EpisodeResult]:
    return [replace(result, seconds=0.0, inference_ms_p50=0.0) for result in results]


def test_a_good_actor_succeeds_on_every_seed() -> None:
    env = ReachEnv()
    results = evaluation.rollouts(lambda: env, ReachActor(), SEEDS)
    assert [result.seed for result in results] == list(SEEDS) == env.resets
    assert env.is_closed
    for result in results:
        goal = float(np.random.default_rng(result.seed).uniform(0.3, 1.0))
        assert result.success
        assert result.steps == int(np.ceil(round((goal - 0.02) / 0.1, 6)))
        assert -0.02 < result.max_reward <= 0
        assert result.sum_reward < result.max_reward
        assert result.clipped_steps == 0
        assert result.seconds > 0
        assert result.inference_ms_p50 > 0


def test_an_idle_actor_runs_to_the_limit() -> None:
    hold = evaluation.HoldActor(REACH_SPEC, np.zeros(1, np.float32))
    results = evaluation.rollouts(ReachEnv, hold, SEEDS, max_steps=7)
    assert [(result.success, result.steps) for result in results] == [(False, 7)] * 6


def test_actions_out_of_range_are_counted() -> None:
    hold = evaluation.HoldActor(REACH_SPEC, np.full(1, -5, np.float32))
    assert evaluation.rollouts(ReachEnv, hold, [1], max_steps=3)[0].clipped_steps == 3


@pytest.mark.parametrize("action_horizon", [1, 2, 3, None])
def test_requests_carry_seed_and_tick_in_their_key(action_horizon: int | None) -> None:
    actor = ReachActor(gain=0.0)
    evaluation.rollouts(ReachEnv, actor, [7, 2_000_000], action_horizon=action_horizon, max_steps=6)
    every = action_horizon or 2
    ticks = range(0, 6, every)
    assert actor.asked == [s * evaluation.KEYS_PER_SEED + t for s in (7, 2_000_000) for t in ticks]
    assert actor.resets == 2


def test_history_holds_the_last_ticks() -> None:
    actor = ReachActor()
    evaluation.rollouts(ReachEnv, actor, [5], action_horizon=1, max_steps=3)
    xs = [[round(float(x), 4) for x in seen["state"][:, 0]] for seen in actor.seen]
    assert xs == [[0.0, 0.0], [0.0, 0.1], [0.1, 0.2]]


def test_pictures_of_the_recorded_size_are_resized_as_recorded() -> None:
    pictures = [f for f in REACH_SPEC.features if f.name == "image"]
    small = resized_feature(pictures[0], 4, 4, "pad")
    others = tuple(f for f in REACH_SPEC.features if f.name != "image")
    actor = ReachActor()
    actor.spec = replace(actor.spec, features=(*others, small))
    env = ReachEnv(replace(REACH_SPEC, features=(*others, *pictures)))
    evaluation.rollouts(lambda: env, actor, [5], max_steps=2)
    wanted = resize_as(small, env.reset(5)["image"])
    np.testing.assert_array_equal(actor.seen[0]["image"], [wanted, wanted])
    assert not wanted[-1].any()


def test_results_depend_on_the_seed_alone() -> None:
    actor = ReachActor(noise=0.05)
    forwards = evaluation.rollouts(ReachEnv, actor, SEEDS)
    backwards = evaluation.rollouts(ReachEnv, actor, SEEDS[::-1])
    assert untimed(forwards) == untimed(backwards)[::-1]
    assert len({result.sum_reward for result in forwards}) == 6


def test_text_inputs_get_the_task() -> None:
    text = Feature(name="language", role="language", shape=(), dtype="str")
    actor = ReachActor()
    actor.spec = replace(actor.spec, features=(*actor.spec.features, text))
    evaluation.rollouts(ReachEnv, actor, [1], max_steps=2)
    assert actor.seen[0]["language"] == "reach the goal"


def test_videos_show_the_whole_episode(tmp_path: Path) -> None:
    results = evaluation.rollouts(
        ReachEnv, ReachActor(), [3, 4, 5], video_seeds=[3, 5], video_folder=tmp_path / "v"
    )
    assert sorted(each.name for each in (tmp_path / "v").iterdir()) == ["seed-3.mp4", "seed-5.mp4"]
    with av.open(str(tmp_path / "v" / "seed-3.mp4")) as container:
        assert container.streams.video[0].average_rate == 10
        assert len(list(container.decode(video=0))) == results[0].steps + 1


def test_episodes_are_told_one_by_one() -> None:
    env = ReachEnv()
    told: list[tuple[int, int]] = []
    evaluation.rollouts(
        lambda: env, ReachActor(), SEEDS, on_episode=lambda r: told.append((r.seed, env.resets[-1]))
    )
    assert told == [(seed, seed) for seed in SEEDS]


def test_a_misfit_lists_every_difference() -> None:
    names = ("goal", "x")
    other = Spec(features=(replace(REACH_SPEC["state"], names=names), REACH_SPEC["action"]), fps=20)
    env = ReachEnv(spec=other)
    with pytest.raises(SpecError, match="3 difference") as caught:
        evaluation.rollouts(lambda: env, ReachActor(), SEEDS)
    for piece in ("reorder by name to x, goal", "image feature is missing", "20 Hz"):
        assert piece in str(caught.value)
    assert env.resets == []
    assert env.is_closed


def test_a_broken_simulator_names_seed_and_tick(tmp_path: Path) -> None:
    env = ReachEnv()
    env.fail_at = 2
    with pytest.raises(evaluation.RolloutError, match="Seed 8, tick 2: RuntimeError: the sim"):
        evaluation.rollouts(lambda: env, ReachActor(), [8], video_seeds=[8], video_folder=tmp_path)
    assert env.is_closed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("actions", "said"),
    [
        (np.full((4, 1), np.nan, np.float32), "not finite"),
        (np.zeros((4, 2), np.float32), r"\(any, 1\)"),
    ],
)
def test_a_broken_actor_names_seed_and_tick(actions: np.ndarray, said: str) -> None:
    class Broken(ReachActor):
        def _chunk(self, observation: Observation, key: int) -> ActionChunk:
            return ActionChunk(actions) if key % 1000 == 4 else super()._chunk(observation, key)

    with pytest.raises(evaluation.RolloutError, match=f"Seed 9, tick 4: ShapeError.*{said}") as e:
        evaluation.rollouts(ReachEnv, Broken(gain=0.1), [9])
    assert isinstance(e.value.__cause__, ShapeError)


@pytest.mark.parametrize("seeds", [[], [1, 1], [-1], [2**62]])
def test_wrong_seeds_are_refused(seeds: list[int]) -> None:
    with pytest.raises(ConfigError, match="Seeds must be"):
        evaluation.rollouts(ReachEnv, ReachActor(), seeds)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="predicts 4 actions"):
        evaluation.rollouts(ReachEnv, ReachActor(), [1], action_horizon=5)
    with pytest.raises(ConfigError, match="allows 30 steps"):
        evaluation.rollouts(ReachEnv, ReachActor(), [1], max_steps=31)
    with pytest.raises(ConfigError, match="Videos need a folder"):
        evaluation.rollouts(ReachEnv, ReachActor(), [1], video_seeds=[1])
