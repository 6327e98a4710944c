"""Episodes of an actor in a simulator, one seed each."""

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deft import control, report
from deft.envs import Env
from deft.errors import ConfigError, DeftError
from deft.spec import Actor, Horizons, Observation, Spec, check, expect
from deft.transforms import fit_pictures

KEYS_PER_SEED = 1_000_000
"""The draw key of a request is `seed * KEYS_PER_SEED + tick`, in process and through a server."""


class RolloutError(DeftError, RuntimeError):
    """An environment or an actor failed in the middle of an episode; names seed and tick."""


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """What came of one seed."""

    seed: int
    success: bool
    """The environment reported success at some step."""
    sum_reward: float
    max_reward: float
    steps: int
    clipped_steps: int
    """Steps whose action lay outside the environment's range and ran clipped to it."""
    seconds: float
    """Wall time of the episode."""
    inference_ms_p50: float
    """Median wall time of a request to the actor."""


def rollouts(
    make_env: Callable[[], Env],
    actor: Actor,
    seeds: Sequence[int],
    *,
    action_horizon: int | None = None,
    max_steps: int | None = None,
    video_seeds: Collection[int] = (),
    video_folder: Path | None = None,
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Let an actor run one episode per seed.

    An episode ends when the environment says `terminated` or after `max_steps`. History is stacked
    and chunks are cut here, as the actor's spec asks, so every kind of actor is treated alike;
    pictures of the size that its training data was recorded at are resized as that was.

    Args:
        make_env: builds the environment; called once, closed at the end.
        actor: what is measured.
        seeds: whole numbers from 0 on, each once; one episode each, in this order.
        action_horizon: rows of a chunk to run before asking again; None takes the actor's own.
        max_steps: steps after which an episode ends; None takes the environment's own.
        video_seeds: the seeds to film.
        video_folder: where `seed-<n>.mp4` go; needed when `video_seeds` is not empty.
        on_episode: called with every result as soon as it is there, before the next seed.

    Returns:
        One result per seed, in the order of `seeds`.

    Raises:
        SpecError: environment and actor do not fit; every difference is listed.
        ConfigError: a seed, horizon or step count makes no sense.
        RolloutError: environment or actor failed during an episode.
    """
    _check_seeds(seeds)
    if video_seeds and video_folder is None:
        raise ConfigError("Videos need a folder.\nFix: pass `video_folder`.")
    horizon = _action_horizon(actor.spec, action_horizon)
    env = make_env()
    try:
        _check_fit(env.spec, actor.spec)
        limit = env.max_steps if max_steps is None else max_steps
        if not 1 <= limit <= min(env.max_steps, KEYS_PER_SEED):
            raise ConfigError(
                f"max_steps is {limit}, and this environment allows {env.max_steps} steps.\n"
                "Fix: set it lower, or build the environment with more."
            )
        results: list[EpisodeResult] = []
        for seed in seeds:
            film = (
                video_folder / f"seed-{seed}.mp4" if seed in video_seeds and video_folder else None
            )
            result = _Rollout(env, actor, seed, horizon).run(limit, film)
            results.append(result)
            if on_episode is not None:
                on_episode(result)
        return results
    finally:
        env.close()


class _Rollout:
    """One episode: the state between its ticks."""

    def __init__(self, env: Env, actor: Actor, seed: int, action_horizon: int) -> None:
        self.env = env
        self.actor = actor
        self.seed = seed
        self.history = control.History(actor.spec)
        self.queue = control.ChunkQueue(action_horizon)
        self.texts = [f.name for f in actor.spec.features if f.dtype == "str"]
        self.inference_ms: list[float] = []

    def run(self, max_steps: int, film: Path | None) -> EpisodeResult:
        began = time.perf_counter()
        rewards: list[float] = []
        is_success = False
        clipped = tick = 0
        try:
            with ExitStack() as stack:
                video = None
                if film is not None:
                    # A simulator without a rate is filmed at 10 pictures per second.
                    video = stack.enter_context(report.VideoWriter(film, self.env.spec.fps or 10.0))
                self.actor.reset()
                observation = self.env.reset(self.seed)
                for tick in range(max_steps):
                    if video is not None:
                        video.add(self.env.render())
                    step = self.env.step(self._command(tick, observation))
                    observation = step.observation
                    rewards.append(float(step.reward))
                    is_success = is_success or bool(step.success)
                    clipped += bool(step.clipped)
                    if step.terminated:
                        break
                if video is not None:
                    video.add(self.env.render())
        except Exception as error:
            raise RolloutError(
                f"Seed {self.seed}, tick {tick}: {type(error).__name__}: {error}"
            ) from error
        return EpisodeResult(
            seed=self.seed,
            success=is_success,
            sum_reward=float(np.sum(rewards)),
            max_reward=max(rewards),
            steps=len(rewards),
            clipped_steps=clipped,
            seconds=round(time.perf_counter() - began, 4),
            inference_ms_p50=round(float(np.median(self.inference_ms)), 4),
        )

    def _command(self, tick: int, observation: Observation) -> np.ndarray:
        """The command for this tick, float32 `A`; asks the actor when none is queued."""
        observation = fit_pictures(observation, self.actor.spec)
        seen = self.history.push({**observation, **dict.fromkeys(self.texts, self.env.task)})
        if self.queue.needs_chunk:
            began = time.perf_counter()
            chunk = self.actor.act_many([seen], [self.seed * KEYS_PER_SEED + tick])[0]
            self.inference_ms.append(1e3 * (time.perf_counter() - began))
            width = self.actor.spec.action().size
            expect(chunk.actions, (None, width), "float32", "Action chunk", finite=True)
            # A request says what is seen now, so row 0 of the answer is for this tick.
            self.queue.put(replace(chunk, start_tick=tick))
        return self.queue.next(tick)


def _check_seeds(seeds: Sequence[int]) -> None:
    wrong = [seed for seed in seeds if seed < 0 or seed >= 2**63 // KEYS_PER_SEED]
    if wrong or len(set(seeds)) != len(seeds) or not seeds:
        raise ConfigError(
            f"Seeds must be whole numbers from 0 to {2**63 // KEYS_PER_SEED - 1}, each once.\n"
            f"Found: {len(seeds)} seeds, {len(set(seeds))} different, {len(wrong)} out of range.\n"
            "Fix: give a range, as in `range(100000, 100050)`."
        )


def _action_horizon(spec: Spec, wanted: int | None) -> int:
    own = spec.horizons or Horizons()
    if wanted is None:
        return own.action_horizon
    if not 1 <= wanted <= own.pred_horizon:
        raise ConfigError(
            f"action_horizon is {wanted}, and this policy predicts {own.pred_horizon} actions.\n"
            f"Fix: set it from 1 to {own.pred_horizon}."
        )
    return wanted


def _check_fit(env: Spec, actor: Spec) -> None:
    """Everything the actor asks for must be there; text is the environment's task."""
    want = replace(actor, features=tuple(f for f in actor.features if f.dtype != "str"))
    check(env, want, "Environment against policy")
