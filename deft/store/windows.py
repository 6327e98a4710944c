"""What training draws: observed ticks and the actions from now on, as rows of the store."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deft.errors import StoreError, nearest
from deft.spec import Horizons
from deft.store.reader import Store
from deft.store.selection import Label, select


@dataclass(frozen=True)
class WindowRows:
    """Some windows, as rows of the store's tables and pictures."""

    obs: np.ndarray
    """int64 `B To`, oldest first, the last is now."""
    action: np.ndarray
    """int64 `B Tp`, row 0 is now; with `past_actions` `B To-1+Tp`, now is row To-1."""
    action_valid: np.ndarray
    """bool like `action`; False where the row only pads, or its step must not be learned from."""
    episode: np.ndarray
    """int64 `B`, number of the episode."""
    step: np.ndarray
    """int64 `B`, step within the episode that is now."""


class Windows:
    """One window for each step that may be learned from.

    A window never leaves its episode: before the start the first step repeats, after the end the
    last. Steps marked as not valid at either end of an episode count as outside it; one in the
    middle is never now, its action is masked, and it may be seen as history.

    Args:
        store: an open store.
        horizons: obs_horizon and pred_horizon are used.
        split: `train`, `val`, another name that the store has, or None for every episode.
        include: names or patterns of tasks, of folders in the source, or of episodes; none
            takes all.
        past_actions: also give the actions of the To-1 ticks observed before now.
        drop_n_last: no window starts in this many last steps of an episode.
        labeled: only episodes that say what is done in them.

    Raises:
        StoreError: a pattern fits no episode, or no window is left.
    """

    def __init__(
        self,
        store: Store,
        horizons: Horizons,
        *,
        split: str | None,
        include: Sequence[str] = (),
        past_actions: bool = False,
        drop_n_last: int = 0,
        labeled: bool = False,
    ) -> None:
        self.store = store
        self.horizons = horizons
        self.past_actions = past_actions
        self._observed = np.arange(1 - horizons.obs_horizon, 1)
        first = 1 - horizons.obs_horizon if past_actions else 0
        self._commanded = np.arange(first, horizons.pred_horizon)
        self._masked = bool((store.episodes.valid < store.episodes.length).any())
        self._valid = np.asarray(store.valid)
        chosen = self._choose(split, include, labeled)
        self._low, self._high = self._bounds()
        runs = self._runs(chosen, max(0, drop_n_last))
        if len(runs) == 0:
            raise StoreError(
                f"{store.path}: no window is left in split '{split}'.\n"
                f"Found: {len(chosen)} episodes, the longest with "
                f"{store.episodes.length[chosen].max()} steps, drop_n_last {drop_n_last}.\n"
                "Fix: lower drop_n_last, or choose other episodes."
            )
        self._run_episode, self._run_row = runs[:, 0], runs[:, 1]
        self._run_end = np.cumsum(runs[:, 2])

    def __len__(self) -> int:
        return int(self._run_end[-1])

    def rows(self, positions: np.ndarray) -> WindowRows:
        """The windows at these positions, int64 `B` in `range(len(self))`.

        Raises:
            StoreError: a position is outside the range.
        """
        if len(positions) and (positions.min() < 0 or positions.max() >= len(self)):
            raise StoreError(
                f"{self.store.path}: window {positions.max()} of {len(self)}.\n"
                f"Fix: give positions from 0 to {len(self) - 1}."
            )
        run = np.searchsorted(self._run_end, positions, "right")
        before = np.where(run > 0, self._run_end[run - 1], 0)
        now = self._run_row[run] + positions - before
        episode = self._run_episode[run]
        low, high = self._low[episode][:, None], self._high[episode][:, None] - 1  # B 1
        obs = np.clip(now[:, None] + self._observed, low, high)  # B To
        wanted = now[:, None] + self._commanded
        action = np.clip(wanted, low, high)  # B Tp
        action_valid = wanted == action
        if self._masked:
            action_valid &= self._valid[action]
        return WindowRows(
            obs, action, action_valid, episode, now - self.store.episodes.start[episode]
        )

    def groups(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The episodes that have windows: number of the episode, position of its first window, and
        how many it has; int64 each, positions ascending."""
        counts = np.diff(self._run_end, prepend=0)
        owners, at = np.unique(self._run_episode, return_index=True)
        return owners, (self._run_end - counts)[at], np.add.reduceat(counts, at)

    def before(self, rows: np.ndarray) -> np.ndarray:
        """How many windows have their now before each of these rows, int64 `B` to int64 `B`."""
        run = np.searchsorted(self._run_row, rows, "right") - 1
        counts = np.diff(self._run_end, prepend=0)
        inside = np.minimum(rows - self._run_row[run], counts[run])
        return np.where(run < 0, 0, self._run_end[run] - counts[run] + inside)

    def _choose(self, split: str | None, include: Sequence[str], labeled: bool) -> np.ndarray:
        """Numbers of the episodes that are drawn from."""
        store, index = self.store, self.store.episodes
        fits = np.ones(len(index), np.bool_)
        if include:
            columns = zip(index.ids, index.task.tolist(), index.source, strict=True)
            labels = [Label(id_, store.tasks[task], source) for id_, task, source in columns]
            fits = select(labels, include, str(store.path))
        if split is not None:
            fits = fits & (index.split == split)
        if labeled and fits.any():
            fits &= store.labeled
            if not fits.any():
                raise StoreError(
                    f"{store.path}: no episode in split '{split}' says what is done in it.\n"
                    "Fix: add instructions, or take windows without them too."
                )
        chosen = np.flatnonzero(fits)
        if len(chosen) == 0:
            names = sorted(set(index.split.tolist()))
            raise StoreError(
                f"{store.path}: no episode is in split '{split}'"
                f"{' and fits ' + ', '.join(include) if include else ''}.\n"
                f"Found: splits {', '.join(names)}. {nearest(str(split), names)}\n"
                "Fix: convert with `--val-fraction` above 0, or choose other episodes."
            )
        return chosen

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """First row and row after the last of each episode, without invalid steps at its ends."""
        index = self.store.episodes
        low, high = index.start.copy(), index.start + index.length
        for episode in np.flatnonzero(index.valid < index.length).tolist():
            start, end = int(low[episode]), int(high[episode])
            good = np.flatnonzero(self._valid[start:end])
            if len(good):
                low[episode], high[episode] = start + good[0], start + good[-1] + 1
        return low, high

    def _runs(self, chosen: np.ndarray, drop: int) -> np.ndarray:
        """Unbroken runs of steps that can be now: int64 rows of (episode, first row, count)."""
        low, high = self._low[chosen], self._high[chosen]
        good = self.store.episodes.valid[chosen]
        whole = good == high - low
        lengths = high - low - drop
        is_run = whole & (lengths > 0)
        runs = [np.stack([chosen[is_run], low[is_run], lengths[is_run]], 1)]
        for n in np.flatnonzero(~whole & (good > 0)).tolist():
            steps = self._valid[low[n] : max(low[n], high[n] - drop)]
            marks = np.diff(np.concatenate([[0], steps.view(np.int8), [0]]))
            begins, ends = np.flatnonzero(marks == 1), np.flatnonzero(marks == -1)
            owner = np.full(len(begins), chosen[n])
            runs.append(np.stack([owner, low[n] + begins, ends - begins], 1))
        found = np.concatenate(runs).astype(np.int64)
        return found[np.argsort(found[:, 1])]
