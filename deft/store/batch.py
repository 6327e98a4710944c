"""What one batch holds, and how it is put together from windows, tables and pictures."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from deft.errors import ConfigError, nearest
from deft.spec import Feature
from deft.store.goals import GoalConfig, draw
from deft.store.keyed import below
from deft.store.pictures import Pictures
from deft.store.reader import Store
from deft.store.ring import Seconds
from deft.store.windows import Windows

_WORDINGS = 0x7E87
"""Keeps the draws of wordings apart from every other use of the same seed."""

Allocate = Callable[[tuple[int, ...], str], np.ndarray]


@dataclass(frozen=True)
class Batch:
    """One batch; a loader's are views of its ring, see `Loader` for how long they hold."""

    obs: dict[str, np.ndarray]
    """Pictures uint8 (depth, saliency: as stored) `B To H W C`, numbers `B To ...` in the table's
    dtype."""
    next_obs: dict[str, np.ndarray]
    """As `obs`, each tick one step later, the last step of the episode repeated; empty unless
    asked for."""
    action: np.ndarray
    """float32 `B Tp A`, physical units; with past actions `B To-1+Tp A`."""
    action_valid: np.ndarray
    """bool `B Tp`; False where a row pads or must not be learned from."""
    goal: dict[str, np.ndarray]
    """Like `obs`, with one tick: `B 1 H W C` and `B 1 ...`; empty without goals."""
    goal_reached: np.ndarray
    """bool `B`, see `goals.GoalRows`; all False without goals."""
    goal_distance: np.ndarray
    """int64 `B`, ticks from now to the goal; all 0 without goals."""
    reward: np.ndarray
    """float32 `B`, 0 where the goal is reached by the action for now, otherwise -1; NaN without
    goals and with `delta` goals, which have no rewards."""
    mask: np.ndarray
    """float32 `B`, 1 where the value of `next_obs` counts. That is everywhere: no demonstration
    ends for good, and so does BridgeData's loader."""
    task: np.ndarray
    """int64 `B`, index into `Store.tasks`."""
    text: np.ndarray
    """int64 `B`, index into `Store.texts`: one of the wordings of the task, drawn per sample."""
    episode: np.ndarray
    """int64 `B`, number of the episode."""
    step: np.ndarray
    """int64 `B`, step within the episode that is now."""
    draws: np.ndarray
    """int64 `B`, unique per sample of a run; keys for whatever is random about it."""

    def first(self, rows: int) -> "Batch":
        """The first rows only."""
        return self if rows == len(self.draws) else self.part(slice(rows))

    def part(self, some: slice) -> "Batch":
        """Some rows, as views."""
        return self.each(lambda array: array[some])

    def copy(self) -> "Batch":
        """The same in arrays of its own, which last."""
        return self.each(np.copy)

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> "Batch":
        """A batch of what `change` makes of every array."""
        found = {}
        for field in fields(self):
            held = getattr(self, field.name)
            found[field.name] = (
                {name: change(array) for name, array in held.items()}
                if isinstance(held, Mapping)
                else change(held)
            )
        return Batch(**found)


Vary = Callable[[Batch], Callable[[slice], None]]
"""Augmentation. Called with a batch whose `draws` are set and whose pictures are not there yet;
what it returns is called in the loader's threads, once for every range of rows whose pictures are
there, and changes them in place."""


@dataclass(frozen=True)
class Camera:
    """Pictures of one feature to decode for one batch: what goes where."""

    pictures: Pictures
    rows: np.ndarray
    """int64 `B K`, rows of the store."""
    outs: tuple[np.ndarray, ...]
    """Arrays `B T H W C` whose ticks, one array after the other, are the K of `rows`."""


@dataclass(frozen=True)
class Filling:
    """What is still to be done about the pictures of a batch."""

    cameras: list[Camera]
    vary: Callable[[slice], None] | None


class Assembler:
    """Puts batches together: everything by vectorised indexing, but for the pictures.

    Args:
        store: an open store.
        windows: what a sample is.
        pictures: by name, where the pictures come from; every picture feature of the store.
        observations: features to give, pictures or numbers, in `Batch.obs`.
        action: name of the action feature; None takes the only one.
        goals: which later step is the goal; None for no goals.
        goal_features: which of `observations` the goal holds; None takes them all.
        next_observations: also give `Batch.next_obs`.
        vary: see `Vary`.
        seed: of the goals.

    Raises:
        ConfigError: a name is unknown, or stands for text.
        SpecError: `action` is None and there is not exactly one action feature.
    """

    def __init__(
        self,
        store: Store,
        windows: Windows,
        pictures: Mapping[str, Pictures],
        *,
        observations: Sequence[str],
        action: str | None,
        goals: GoalConfig | None,
        goal_features: Sequence[str] | None,
        next_observations: bool,
        vary: Vary | None,
        seed: int,
    ) -> None:
        self._store = store
        self._windows = windows
        self._pictures = pictures
        self._features = [_observation(store, name) for name in observations]
        self._command = store.spec.action() if action is None else store.spec[action]
        self._goals = goals
        wanted = [f.name for f in self._features] if goal_features is None else goal_features
        self._goal_features = [_observation(store, name) for name in wanted] if goals else []
        self._next_features = self._features if next_observations else []
        self._vary = vary
        self._seed = seed
        # Plain arrays: a memory map's own class costs several times as much per index.
        self._tables = {name: np.asarray(table) for name, table in store.tables.items()}

    def allocate(self, rows: int, make: Allocate) -> Batch:
        """The arrays of a batch."""
        windows = self._windows
        ticks = windows.horizons.obs_horizon
        chunk = windows.horizons.pred_horizon + (ticks - 1 if windows.past_actions else 0)

        def stacked(features: Sequence[Feature], ticks: int) -> dict[str, np.ndarray]:
            return {f.name: make((rows, ticks, *f.shape), f.dtype) for f in features}

        return Batch(
            obs=stacked(self._features, ticks),
            next_obs=stacked(self._next_features, ticks),
            action=make((rows, chunk, *self._command.shape), "float32"),
            action_valid=make((rows, chunk), "bool"),
            goal=stacked(self._goal_features, 1),
            goal_reached=make((rows,), "bool"),
            goal_distance=make((rows,), "int64"),
            reward=make((rows,), "float32"),
            mask=make((rows,), "float32"),
            task=make((rows,), "int64"),
            text=make((rows,), "int64"),
            episode=make((rows,), "int64"),
            step=make((rows,), "int64"),
            draws=make((rows,), "int64"),
        )

    def plan(
        self, batch: Batch, positions: np.ndarray, draws: np.ndarray, seconds: Seconds
    ) -> Filling:
        """Put everything but pictures into a batch; returns what `fill` has to do.

        Args:
            batch: with as many rows as there are positions.
            positions: int64 `B`, of the windows.
            draws: int64 `B`, keys of the samples.
            seconds: takes the time for copying under `copy`.
        """
        rows = self._windows.rows(positions)
        index = self._store.episodes
        batch.draws[:] = draws
        batch.episode[:] = rows.episode
        batch.step[:] = rows.step
        batch.task[:] = index.task[rows.episode]
        said = index.first_wording[rows.episode]
        count = index.first_wording[rows.episode + 1] - said
        batch.text[:] = index.wordings[said + below(count, draws, self._seed, _WORDINGS)]
        batch.action_valid[:] = rows.action_valid
        batch.mask[:] = 1.0
        start, length = index.start[rows.episode], index.length[rows.episode]
        goal = self._goal_rows(batch, rows.step, length, draws) + start
        # A history that repeats the first step repeats the one after it, as BridgeData's does.
        following = np.minimum(rows.obs + 1, (start + length - 1)[:, None])  # B To
        begun = time.perf_counter()
        self._gather(self._command.name, rows.action, batch.action)
        cameras = self._collect(
            (rows.obs, batch.obs), (following, batch.next_obs), (goal[:, None], batch.goal)
        )
        copied = time.perf_counter()
        seconds.copy += copied - begun
        if self._vary is None or not cameras:
            return Filling(cameras, None)
        vary = self._vary(batch)
        seconds.augment += time.perf_counter() - copied
        return Filling(cameras, vary)

    def announce(self, positions: np.ndarray) -> None:
        """Say which windows will be drawn before long, so that a remote store can fetch them."""
        now = self._windows.rows(positions).obs[:, -1]
        for name in {f.name for f in (*self._features, *self._goal_features)} & set(self._pictures):
            self._pictures[name].ahead(now)

    def fill(self, filling: Filling, some: slice, seconds: Seconds) -> None:
        """Decode and augment the pictures of some rows of a batch."""
        for camera in filling.cameras:
            ticks = [out[some, tick] for out in camera.outs for tick in range(out.shape[1])]
            _decode(camera.pictures, camera.rows[some], ticks, seconds)
        if filling.vary is not None:
            begun = time.perf_counter()
            filling.vary(some)
            seconds.augment += time.perf_counter() - begun

    def _goal_rows(
        self, batch: Batch, step: np.ndarray, length: np.ndarray, draws: np.ndarray
    ) -> np.ndarray:
        """Steps of the goals, int64 `B`; what is said of them goes into the batch."""
        if self._goals is None:
            batch.goal_reached[:] = False
            batch.goal_distance[:] = 0
            batch.reward[:] = np.nan
            return step
        goals = draw(self._goals, step, length, draws, self._seed)
        batch.goal_reached[:] = goals.reached
        batch.goal_distance[:] = goals.step - step
        batch.reward[:] = goals.reached
        batch.reward[:] -= 1.0 if self._goals.has_rewards else np.nan
        return goals.step

    def _collect(self, *parts: tuple[np.ndarray, dict[str, np.ndarray]]) -> list[Camera]:
        """Gather the numbers at `B T` rows now; list the pictures for later."""
        found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for rows, held in parts:
            for name, out in held.items():
                if name in self._tables:
                    self._gather(name, rows, out)
                else:
                    found.setdefault(name, []).append((rows, out))
        return [
            Camera(
                self._pictures[name],
                np.concatenate([rows for rows, _ in pairs], 1),
                tuple(out for _, out in pairs),
            )
            for name, pairs in found.items()
        ]

    def _gather(self, name: str, rows: np.ndarray, out: np.ndarray) -> None:
        table = self._tables[name]
        if table.dtype == out.dtype:
            np.take(table, rows, axis=0, out=out, mode="clip")  # the other modes copy twice
        else:
            out[:] = table[rows]


def _decode(
    pictures: Pictures, rows: np.ndarray, ticks: Sequence[np.ndarray], seconds: Seconds
) -> None:
    """Pictures at `B K` rows into K arrays `B H W C`; a row that comes again, as in padding and
    in the next observation, is decoded once and copied."""
    flat = rows.ravel()
    wanted, first, again = np.unique(flat, return_index=True, return_inverse=True)
    count = rows.shape[1]
    outs = [ticks[place % count][place // count] for place in first.tolist()]
    pictures.read(wanted, outs, seconds)
    if len(wanted) < len(flat):
        begun = time.perf_counter()
        is_copy = np.ones(len(flat), np.bool_)
        is_copy[first] = False
        copies = np.flatnonzero(is_copy)
        for place, source in zip(copies.tolist(), again[copies].tolist(), strict=True):
            ticks[place % count][place // count][:] = outs[source]
        seconds.copy += time.perf_counter() - begun


def _observation(store: Store, name: str) -> Feature:
    if name not in store.spec:
        raise ConfigError(
            f"{store.path} has no feature '{name}'. {nearest(name, store.spec.names)}\n"
            "Fix: correct `observations`."
        )
    feature = store.spec[name]
    if feature.dtype == "str":
        raise ConfigError(
            f"'{name}' of {store.path} is text.\n"
            "Fix: leave it out of `observations`; `Batch.task` numbers the texts in `Store.tasks`."
        )
    return feature
