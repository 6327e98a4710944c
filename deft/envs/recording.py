"""Demonstrations: episodes of the scripted expert, played by any number of processes."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import numpy as np

from deft.envs.env import TEST_SEEDS_FROM, Env, Expert
from deft.envs.registry import expert, make
from deft.errors import DeftError, EnvError
from deft.spec import ArrayFrames, Episode, Observation, Spec

_NOISE_STREAM = 0xD397  # keeps the noise of a seed apart from the scene of the same seed


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """What is recorded; with a seed it decides every number of an episode."""

    env: str
    """One of `ENVS`."""
    observations: tuple[str, ...] | None = None
    """Features to observe; None takes all."""
    image_height: int = 96
    image_width: int = 96
    max_steps: int | None = None
    """Ticks after which an episode is given up; None takes the task's own."""
    hold_steps: int | None = None
    """Ticks to go on after the first success; None takes what the expert proposes."""
    noise: float = 0.0
    """Standard deviation of the Gaussian noise on the actions that are run, in halves of the action
    range. The expert's clean advice is what is recorded, so the episodes show how to come back
    from a disturbance (Laskey et al. 2017, arXiv:1703.09327)."""
    executed: bool = False
    """Record the actions that are run, noise and all, instead of the advice: with much noise, bad
    demonstrations for those who learn from them."""

    def __post_init__(self) -> None:
        if self.noise < 0:
            raise EnvError(f"noise is {self.noise}.\nFix: set it to 0 or more.")
        if self.hold_steps is not None and self.hold_steps < 0:
            raise EnvError(f"hold_steps is {self.hold_steps}.\nFix: set it to 0 or more.")


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """One episode of the expert."""

    seed: int
    success: bool | None
    """The task was solved at some tick; None when the episode was kept earlier, solved or not."""
    episode: Episode | None
    """None when an earlier call has it already."""


def spec_of(plan: Demonstrations) -> Spec:
    """The contract of the episodes to come. Raises what `make` raises."""
    env = _make(plan)
    env.close()
    return env.spec


def episode_id(env: str, seed: int) -> str:
    """As in `metaworld/drawer-open-v3/seed-000012`."""
    return f"{env}/seed-{seed:06d}"


def record(env: Env, actor: Expert, seed: int, plan: Demonstrations) -> Demonstration:
    """Play one episode and keep what was seen and advised.

    Row t holds the observation before action t and the expert's advice for it, or with
    `plan.executed` the action that was run. The episode ends
    `hold_steps` ticks after the first success, or after `max_steps`.

    Args:
        env: made with the features of `plan`.
        actor: the expert of `env`.
        seed: of the scene and of the noise.
        plan: what to record.

    Raises:
        EnvError: whatever the environment says, with the seed.
    """
    random = np.random.default_rng([_NOISE_STREAM, seed])
    low, high = env.action_range
    hold = actor.hold_steps if plan.hold_steps is None else plan.hold_steps
    seen: list[Observation] = []
    kept: list[np.ndarray] = []
    solved_at: int | None = None
    observation = env.reset(seed)
    actor.reset(env)
    while len(seen) < env.max_steps:
        if solved_at is not None and len(seen) - solved_at >= hold:
            break
        action = actor.act()
        seen.append(observation)
        advice = action
        if plan.noise:
            spread = plan.noise * (high - low) / 2
            action = action + random.normal(0, spread).astype(np.float32)
        kept.append(np.clip(action, low, high) if plan.executed else advice)
        step = env.step(action)
        observation = step.observation
        if step.success and solved_at is None:
            solved_at = len(seen)
    episode = _as_episode(env, seed, seen, np.stack(kept))
    return Demonstration(seed=seed, success=solved_at is not None, episode=episode)


def _as_episode(env: Env, seed: int, seen: list[Observation], actions: np.ndarray) -> Episode:
    columns = {
        feature.name: actions
        if feature.role == "action"
        else np.stack([observation[feature.name] for observation in seen])
        for feature in env.spec.features
    }
    frames = {f.name for f in env.spec.features if f.is_frame}
    return Episode(
        spec=env.spec,
        id=episode_id(env.name, seed),
        arrays={name: column for name, column in columns.items() if name not in frames},
        frames={name: ArrayFrames(columns[name]) for name in frames},
        task=env.task,
        source=f"{env.name}, scripted expert, seed {seed}",
    )


def demonstrate(
    plan: Demonstrations,
    episodes: int,
    *,
    first_seed: int = 0,
    max_tries: int | None = None,
    keep_failures: bool = False,
    workers: int = 0,
    has: Callable[[str], bool] = lambda _: False,
) -> Iterator[Demonstration]:
    """Play seeds upwards from the first until enough episodes are good.

    Which seeds are played, and what each of them gives, depends on nothing but the arguments
    above `workers`: a seed is begun only while the episodes that are good and those that are being
    played are together too few, so what comes out is always exactly the first good ones. Only the
    order of arrival varies.

    Args:
        plan: what is recorded.
        episodes: good ones wanted.
        first_seed: seed to begin with.
        max_tries: seeds to play at most; None takes 3 per wanted episode and 10 more.
        keep_failures: unsolved episodes count as good.
        workers: processes that play; 0 plays in this one. They are started afresh (spawn), so a
            script that calls this needs the usual `if __name__ == "__main__":`.
        has: tells whether the good episode of an id is there from an earlier call; it counts, and
            is not played again.

    Yields:
        Every played or skipped seed, as it comes in.

    Raises:
        EnvError: too many seeds failed, a worker died, or an argument is out of range.
        DeftError: whatever else the environment says.
    """
    tries = 3 * episodes + 10 if max_tries is None else max_tries
    _check_counts(episodes, tries, first_seed, workers)
    seeds = iter(range(first_seed, first_seed + tries))
    good = failed = playing = 0
    with closing(_Processes(plan, workers) if workers else _Here(plan)) as player:
        while good < episodes:
            seed = None
            if good + playing < episodes and playing < max(workers, 1):
                seed = next(seeds, None)
            if seed is not None and has(episode_id(plan.env, seed)):
                good += 1
                yield Demonstration(
                    seed=seed, success=None if keep_failures else True, episode=None
                )
            elif seed is not None:
                player.begin(seed)
                playing += 1
            elif playing:
                demonstration = player.wait()
                playing -= 1
                is_good = keep_failures or bool(demonstration.success)
                good, failed = good + is_good, failed + (not is_good)
                yield demonstration
            else:
                raise EnvError(
                    f"{plan.env}: the expert solved only {good} of {good + failed} seeds from "
                    f"{first_seed} on, and {episodes} good episodes are wanted.\n"
                    "Fix: allow more `max_tries`, less `noise` or more `max_steps`, or ask for "
                    "fewer episodes."
                )


class _Here:
    """Plays in this process, one seed at a time."""

    def __init__(self, plan: Demonstrations) -> None:
        self._plan = plan
        self._env = _make(plan)
        self._expert = expert(plan.env)
        self._seeds: list[int] = []

    def begin(self, seed: int) -> None:
        self._seeds.append(seed)

    def wait(self) -> Demonstration:
        return record(self._env, self._expert, self._seeds.pop(0), self._plan)

    def close(self) -> None:
        self._env.close()


class _Processes:
    """Plays in worker processes, one seed each; they end when this process does."""

    def __init__(self, plan: Demonstrations, workers: int) -> None:
        # Not forked: a copy of a process with threads or an open graphics context can hang.
        context = multiprocessing.get_context("spawn")
        self._idle: list[Connection] = []
        self._busy: dict[Connection, int] = {}
        self._processes: list[BaseProcess] = []
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, plan), daemon=True)
            process.start()
            theirs.close()  # so that a dead worker is seen as an end of file
            self._processes.append(process)
            self._idle.append(ours)

    def begin(self, seed: int) -> None:
        connection = self._idle.pop()
        self._busy[connection] = seed
        self._send(connection, seed)

    def wait(self) -> Demonstration:
        connection = next(each for each in wait(list(self._busy)) if isinstance(each, Connection))
        try:
            answer = connection.recv()
        except (EOFError, OSError) as error:
            raise _died(self._busy[connection]) from error
        if isinstance(answer, DeftError):
            raise answer
        assert isinstance(answer, Demonstration)
        del self._busy[connection]
        self._idle.append(connection)
        return answer

    def close(self) -> None:
        for connection in (*self._idle, *self._busy):
            connection.close()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()

    def _send(self, connection: Connection, seed: int) -> None:
        try:
            connection.send(seed)
        except OSError as error:
            raise _died(seed) from error


def _serve(connection: Connection, plan: Demonstrations) -> None:
    """A worker's life: seeds in, demonstrations out, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to handle
    try:
        player: _Here | None = None
        while True:
            seed = connection.recv()
            try:
                player = player or _Here(plan)
                player.begin(seed)
                connection.send(player.wait())
            except DeftError as error:
                connection.send(error)
    except (EOFError, OSError):
        return


def _died(seed: int) -> EnvError:
    return EnvError(
        f"The worker process that played seed {seed} died.\n"
        "Found: its own message, if any, is above; without one it was killed, perhaps for memory.\n"
        "Fix: run the same command again, it goes on where it was; use fewer `workers`."
    )


def _make(plan: Demonstrations) -> Env:
    return make(
        plan.env,
        observations=plan.observations,
        image_height=plan.image_height,
        image_width=plan.image_width,
        max_steps=plan.max_steps,
    )


def _check_counts(episodes: int, tries: int, first_seed: int, workers: int) -> None:
    for name, value, least in (
        ("episodes", episodes, 1),
        ("max_tries", tries, episodes),
        ("first_seed", first_seed, 0),
        ("workers", workers, 0),
    ):
        if value < least:
            raise EnvError(f"{name} is {value}.\nFix: set it to {least} or more.")
    if first_seed + tries > TEST_SEEDS_FROM:
        raise EnvError(
            f"Seeds {first_seed} to {first_seed + tries - 1} may be played, and those from "
            f"{TEST_SEEDS_FROM} on are for evaluation.\n"
            "Fix: begin with a smaller seed, or ask for fewer episodes or tries."
        )
