"""How far predicted actions are from recorded ones, on held-out episodes, against baselines."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deft.spec import GOAL, Actor, Feature, Horizons, Observation, check, expect
from deft.store import Store, WindowRows, Windows
from deft.transforms import resize_as

POLICY = "policy"
"""Name of the measured actor among the methods of a result."""

_BATCH = 16
_NEIGHBOURS = 20_000
_RESAMPLES = 1000
_TRACE_STEPS = 400
_STD_FLOOR = 1e-6


@dataclass(frozen=True, kw_only=True)
class ActionError:
    """One method's error over all valid rows; physical units unless said otherwise."""

    mae: np.ndarray
    """Mean absolute error per dimension, float64 `A`."""
    mse: np.ndarray
    """Mean squared error per dimension, float64 `A`."""
    normalised_mae: float
    """Mean over dimensions that vary of the absolute error over their standard deviation; NaN when
    none varies."""
    low: float | None
    """95 % interval of `normalised_mae` over episodes; None with fewer than two."""
    high: float | None
    normalised_mse: float
    normalised_mae_ahead: np.ndarray
    """`normalised_mae` of each row of the chunk, float64 `Tp`; row 0 is the action for now."""

    def to_json(self) -> dict[str, Any]:
        return {
            "mae": self.mae.tolist(),
            "mse": self.mse.tolist(),
            "normalised_mae": _or_none(self.normalised_mae),
            "normalised_mae_low": self.low,
            "normalised_mae_high": self.high,
            "normalised_mse": _or_none(self.normalised_mse),
            "normalised_mae_ahead": [_or_none(x) for x in self.normalised_mae_ahead.tolist()],
        }


@dataclass(frozen=True)
class Trace:
    """One episode, predicted piece by piece from what was recorded."""

    episode: str
    every: int
    """Ticks from one prediction to the next."""
    recorded: np.ndarray
    """float32 `T A`, at most 400 steps."""
    predicted: np.ndarray
    """float32 `T A`; NaN where no prediction begins."""


@dataclass(frozen=True, kw_only=True)
class OfflineResult:
    """Errors of the actor and of what it must beat."""

    split: str
    windows: int
    episodes: int
    rows: int
    """Valid action rows compared."""
    pred_horizon: int
    names: tuple[str, ...]
    """Action dimensions."""
    unit: str
    std: np.ndarray
    """Standard deviation of each dimension over the training episodes, float64 `A`."""
    methods: Mapping[str, ActionError]
    """`policy`, and the baselines `mean`, `repeat last` and, when there is a state, `nearest`."""
    trace: Trace
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything but the trace, as plain data."""
        plain = ("split", "windows", "episodes", "rows", "pred_horizon", "unit")
        return {key: getattr(self, key) for key in plain} | {
            "names": list(self.names),
            "std": self.std.tolist(),
            "methods": {name: error.to_json() for name, error in self.methods.items()},
            "notes": list(self.notes),
        }


def offline(
    actor: Actor,
    store: Store,
    *,
    split: str = "val",
    max_windows: int = 512,
    progress: Callable[[int, int], None] | None = None,
) -> OfflineResult:
    """Compare an actor's chunks with what was recorded.

    Windows are taken at even distances over the whole split, so the same call always measures the
    same ones. Episodes that do not say what is done in them are left out for a policy that follows
    text. Rows past the end of an episode and rows marked invalid do not count. The baselines:
    `mean` is the mean action of the training episodes; `repeat last` holds the recorded action of
    the tick before (at an episode's first tick the mean), which a policy is not shown;
    `nearest` replays what followed the training step whose state features are closest, each
    divided by its standard deviation. A policy with goals is shown the last step of the episode.

    Args:
        actor: what is measured; asked with the number of the window's step as key.
        store: recorded episodes.
        split: `val` or `train`.
        max_windows: largest number of windows.
        progress: called with windows done and in all.

    Raises:
        SpecError: store and actor do not fit; every difference is listed.
        StoreError: there is no window in the split.
    """
    # Goals are not recorded: an episode's own end is one. Text is an episode's task.
    seen = tuple(f for f in actor.spec.features if f.role != "goal" and f.dtype != "str")
    check(store.spec, replace(actor.spec, features=seen), f"{store.path} against policy")
    horizons = actor.spec.horizons or Horizons()
    follows_text = any(f.dtype == "str" for f in actor.spec.features)
    windows = Windows(store, horizons, split=split, labeled=follows_text)
    positions = _spread(len(windows), max_windows)
    chosen = windows.rows(positions)
    reader = _Reader(store, actor)
    predicted = reader.predict(chosen, progress)
    table = store.tables[actor.spec.action().name]
    recorded = np.asarray(table[chosen.action], np.float64)  # B Tp A
    valid = (
        chosen.action_valid
    )  # row 0 always is: a step that must not be learned from is never now
    predictions = {POLICY: predicted, **_baselines(store, actor, horizons, chosen, recorded.shape)}
    feature = actor.spec.action()
    stats = store.stats[feature.name]
    varies = stats.std > _STD_FLOOR * np.maximum(np.abs(stats.mean), 1.0)
    names = feature.names or tuple(str(i) for i in range(feature.size))
    return OfflineResult(
        split=split,
        windows=len(recorded),
        episodes=len(np.unique(chosen.episode)),
        rows=int(valid.sum()),
        pred_horizon=horizons.pred_horizon,
        names=names,
        unit=feature.unit,
        std=stats.std,
        methods={
            name: _error(each - recorded, valid, stats.std, varies, chosen.episode)
            for name, each in predictions.items()
        },
        trace=reader.trace(windows, int(positions[len(positions) // 2]), horizons.action_horizon),
        notes=_notes(split, names, varies),
    )


def _notes(split: str, names: tuple[str, ...], varies: np.ndarray) -> tuple[str, ...]:
    notes: list[str] = []
    if not varies.all():
        constant = ", ".join(name for name, moves in zip(names, varies, strict=True) if not moves)
        notes.append(f"Constant in training and left out of the one figure: {constant}.")
    if split == "train":
        notes.append("These episodes were trained on; they say nothing about new ones.")
    return tuple(notes)


class _Reader:
    """Observations out of a store, as the actor wants them."""

    def __init__(self, store: Store, actor: Actor) -> None:
        self._store = store
        self._actor = actor
        self._inputs = tuple(f for f in actor.spec.features if f.role != "action")
        self._action = actor.spec.action()

    def predict(
        self, rows: WindowRows, progress: Callable[[int, int], None] | None = None
    ) -> np.ndarray:
        """The actor's chunk for each window, float64 `B Tp A`."""
        horizons = self._actor.spec.horizons or Horizons()
        shape = (horizons.pred_horizon, self._action.size)
        chunks: list[np.ndarray] = []
        self._actor.reset()
        for start in range(0, len(rows.obs), _BATCH):
            some = range(start, min(start + _BATCH, len(rows.obs)))
            observations = [self._observation(rows, i) for i in some]
            keys = [int(rows.obs[i, -1]) for i in some]
            for i, chunk in zip(some, self._actor.act_many(observations, keys), strict=True):
                where = f"{self._store.path}, step {int(rows.obs[i, -1])}: predicted actions"
                chunks.append(expect(chunk.actions, shape, "float32", where, finite=True))
            if progress is not None:
                progress(some.stop, len(rows.obs))
        return np.stack(chunks).astype(np.float64)  # B Tp A

    def trace(self, windows: Windows, position: int, every: int) -> Trace:
        """The episode of one window, predicted anew at every `every` ticks."""
        index = self._store.episodes
        episode = int(windows.rows(np.array([position])).episode[0])
        reach = int(index.length[episode])
        near = np.arange(max(0, position - reach), min(len(windows), position + reach + 1))
        rows = windows.rows(near)
        inside = near[rows.episode == episode]
        now = rows.obs[rows.episode == episode, -1]
        first = int(now[0])
        # Looks are counted in steps, so that steps which cannot be now leave a gap, no shift.
        due = np.unique(np.searchsorted(now, np.arange(first, first + _TRACE_STEPS, every)))
        due = due[due < len(now)]
        table = self._store.tables[self._action.name]
        recorded = np.asarray(
            table[first : min(int(now[-1]) + 1, first + _TRACE_STEPS)], np.float32
        )
        predicted = np.full_like(recorded, np.nan)
        chunks = self.predict(windows.rows(inside[due]))
        for start, chunk in zip(now[due] - first, chunks, strict=True):
            piece = predicted[start : start + every]
            piece[:] = chunk[: len(piece)]
        return Trace(index.ids[episode], every, recorded, predicted)

    def _observation(self, rows: WindowRows, i: int) -> Observation:
        episode = int(rows.episode[i])
        return {f.name: self._value(f, rows.obs[i], episode) for f in self._inputs}

    def _value(self, feature: Feature, steps: np.ndarray, episode: int) -> Any:
        if feature.dtype == "str":
            return self._store.tasks[int(self._store.episodes.task[episode])]
        name = feature.name
        if feature.role == "goal":
            index = self._store.episodes
            steps = np.full_like(steps, index.start[episode] + index.length[episode] - 1)
            name = name.removeprefix(GOAL)
        if name in self._store.tables:
            return np.ascontiguousarray(self._store.tables[name][steps])
        column = self._store.frames[name]
        pictures = np.empty((len(steps), *column.feature.shape), feature.dtype)
        for k, step in enumerate(steps):
            column.decode_into(int(step), pictures[k])
        return resize_as(feature, pictures)


def _spread(count: int, most: int) -> np.ndarray:
    """At most `most` whole numbers from 0 to count - 1 at even distances, int64."""
    return np.unique(np.linspace(0, count - 1, min(count, max(most, 1))).round().astype(np.int64))


def _baselines(
    store: Store, actor: Actor, horizons: Horizons, rows: WindowRows, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """What needs no learning, float64 `B Tp A` each."""
    name = actor.spec.action().name
    table, mean = store.tables[name], store.stats[name].mean
    now = np.asarray(rows.obs)[:, -1]
    last = np.asarray(table[np.maximum(now - 1, 0)], np.float64)  # B A
    last = np.where((np.asarray(rows.step) > 0)[:, None], last, mean)  # B A
    found = {
        "mean": np.broadcast_to(mean, shape),
        "repeat last": np.broadcast_to(last[:, None], shape),
    }
    states = [f for f in store.spec.role("state") if not f.is_frame and f.dtype != "str"]
    if states:
        # One observed tick is enough to look up a state, whatever the policy sees.
        known = Windows(store, replace(horizons, obs_horizon=1), split="train")
        train = known.rows(_spread(len(known), _NEIGHBOURS))
        near = _nearest(
            _scaled(store, states, now), _scaled(store, states, np.asarray(train.obs)[:, -1])
        )
        found["nearest"] = np.asarray(table[np.asarray(train.action)[near]], np.float64)
    return found


def _scaled(store: Store, states: list[Feature], steps: np.ndarray) -> np.ndarray:
    """All state features of some steps side by side, each over its deviation; float32 `B D`."""
    columns: list[np.ndarray] = []
    for feature in states:
        values = np.asarray(store.tables[feature.name][steps], np.float64).reshape(len(steps), -1)
        std = store.stats[feature.name].std
        columns.append((values / np.where(std > _STD_FLOOR, std, np.inf)).astype(np.float32))
    return np.concatenate(columns, axis=1)  # B D


def _nearest(wanted: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Row of `known` closest to each row of `wanted`, int64 `B`."""
    squares = np.square(known).sum(1)
    parts = [
        np.argmin(squares - 2 * (some @ known.T), axis=1)
        for some in np.array_split(wanted, -(-len(wanted) // 64))
    ]
    return np.concatenate(parts)


def _error(
    error: np.ndarray, valid: np.ndarray, std: np.ndarray, varies: np.ndarray, episodes: np.ndarray
) -> ActionError:
    """Figures of one method from its errors, float64 `B Tp A`."""
    scaled = np.abs(error)[..., varies] / std[varies]  # B Tp D
    per_row = scaled.mean(-1) if varies.any() else np.full(valid.shape, np.nan)  # B Tp
    sums = np.where(valid, per_row, 0.0)
    counts = valid.sum(0)
    ahead = np.where(counts > 0, sums.sum(0) / np.maximum(counts, 1), np.nan)
    low, high = _interval(sums.sum(1), valid.sum(1), episodes)
    return ActionError(
        mae=np.abs(error)[valid].mean(0),
        mse=np.square(error)[valid].mean(0),
        normalised_mae=float(sums.sum() / valid.sum()),
        low=low,
        high=high,
        normalised_mse=float(np.square(scaled)[valid].mean()) if varies.any() else float("nan"),
        normalised_mae_ahead=ahead,
    )


def _interval(
    sums: np.ndarray, counts: np.ndarray, episodes: np.ndarray
) -> tuple[float | None, float | None]:
    """Bootstrap over episodes, since the windows of one episode are alike. Fixed seed."""
    _, index = np.unique(episodes, return_inverse=True)
    if index.max() == 0 or np.isnan(sums).any():
        return None, None
    total = np.bincount(index, sums)
    count = np.bincount(index, counts)
    draws = np.random.default_rng(0).integers(len(total), size=(_RESAMPLES, len(total)))
    rates = total[draws].sum(1) / np.maximum(count[draws].sum(1), 1)
    low, high = np.quantile(rates, (0.025, 0.975))
    return float(low), float(high)


def _or_none(value: float) -> float | None:
    """NaN is no JSON."""
    return None if np.isnan(value) else value
