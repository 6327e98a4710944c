"""Batches: right contents, in order, whatever the threads do; and a clean end."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deft import store
from deft.errors import ConfigError, StoreError
from deft.spec import Feature, Horizons, Spec
from suites.memory_source import MemorySource, tiny_spec

HORIZONS = Horizons(obs_horizon=3, pred_horizon=4)
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module", params=["jpeg", "raw"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> store.Store:
    spec = tiny_spec(depth=True)
    spec = Spec(
        features=(*spec.features, Feature(name="task", role="language", shape=(), dtype="str")),
        fps=10,
    )
    config = store.WriteConfig(codec=request.param, val_fraction=0.3)
    source = MemorySource((7, 4, 9, 12, 3, 8), spec=spec)
    return store.open(store.write(tmp_path_factory.mktemp("s") / "s", source, config).path)


@contextmanager
def no_threads_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [t for t in set(threading.enumerate()) - before if t.name.startswith("deft-loader")]
    deadline = time.monotonic() + 10
    for thread in left:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not any(thread.is_alive() for thread in left)


def loader(opened: store.Store, **options: Any) -> store.Loader:
    split = options.pop("split", "train")
    past = options.pop("past_actions", False)
    windows = store.Windows(opened, HORIZONS, split=split, past_actions=past)
    sampler = options.pop("sampler", None) or store.Sampler(len(windows), 8, seed=5)
    given: dict[str, Any] = {"observations": ["image", "state", "wrist/depth"], "steps": 12}
    return store.Loader(opened, windows, sampler, **(given | options))


def copied(batch: store.Batch) -> dict[str, np.ndarray]:
    flat = {f"obs {k}": v for k, v in batch.obs.items()}
    flat |= {f"goal {k}": v for k, v in batch.goal.items()}
    flat |= {f"next {k}": v for k, v in batch.next_obs.items()}
    flat |= {k: v for k, v in vars(batch).items() if isinstance(v, np.ndarray)}
    return {name: array.copy() for name, array in flat.items()}


def all_of(opened: store.Store, **options: Any) -> list[dict[str, np.ndarray]]:
    with no_threads_left(), loader(opened, **options) as batches:
        return [copied(batch) for batch in batches]


def same(one: list[dict[str, np.ndarray]], other: list[dict[str, np.ndarray]]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys()
        and all(np.array_equal(a[k], b[k], equal_nan=a[k].dtype.kind == "f") for k in a)
        for a, b in zip(one, other, strict=True)
    )


def test_a_batch_holds_what_the_windows_say(opened: store.Store) -> None:
    windows = store.Windows(opened, HORIZONS, split="train")
    sampler = store.Sampler(len(windows), 8, seed=5)
    for number, batch in enumerate(all_of(opened, goals="uniform")):
        positions, draws = sampler.batch(number)
        rows = windows.rows(positions)
        assert (batch["draws"] == draws).all()
        assert (batch["obs state"] == opened.tables["state"][rows.obs]).all()
        assert (batch["action"] == opened.tables["action"][rows.action]).all()
        assert (batch["action_valid"] == rows.action_valid).all()
        assert (batch["episode"] == rows.episode).all()
        assert (batch["step"] == rows.step).all()
        assert (batch["task"] == opened.episodes.task[rows.episode]).all()
        length = opened.episodes.length[rows.episode]
        wanted = store.goals.draw(store.GoalConfig(), rows.step, length, draws, seed=5)
        at = opened.episodes.start[rows.episode] + wanted.step
        assert (batch["goal_reached"] == wanted.reached).all()
        assert (batch["goal state"][:, 0] == opened.tables["state"][at]).all()
        for name in ("image", "wrist/depth"):
            column = opened.frames[name]
            out = np.empty(column.feature.shape, column.feature.dtype)
            for b in range(8):
                for t in range(3):
                    column.decode_into(int(rows.obs[b, t]), out)
                    assert (batch[f"obs {name}"][b, t] == out).all()
                column.decode_into(int(at[b]), out)
                assert (batch[f"goal {name}"][b, 0] == out).all()


def test_threads_and_prefetch_change_nothing(opened: store.Store) -> None:
    wanted = all_of(opened, threads=1, prefetch=1)
    assert len(wanted) == 12
    for threads, prefetch in ((1, 5), (2, 1), (5, 3), (16, 8)):
        assert same(all_of(opened, threads=threads, prefetch=prefetch), wanted)


def test_resuming_in_the_middle_is_exact(opened: store.Store) -> None:
    wanted = all_of(opened)
    assert same(all_of(opened, start_step=5, steps=7), wanted[5:])


def test_ranks_together_make_the_batch(opened: store.Store) -> None:
    n = len(store.Windows(opened, HORIZONS, split="train"))
    wanted = all_of(opened, steps=4)
    ranks = [
        all_of(opened, steps=4, sampler=store.Sampler(n, 8, 5, rank=rank, world_size=2))
        for rank in range(2)
    ]
    for whole, *parts in zip(wanted, *ranks, strict=True):
        for name in whole:
            both = np.concatenate([part[name] for part in parts])
            assert np.array_equal(whole[name], both, equal_nan=both.dtype.kind == "f")


def test_validation_is_one_pass_with_a_short_end(opened: store.Store) -> None:
    n = len(store.Windows(opened, HORIZONS, split="val"))
    sampler = store.Sampler(n, 8, 0, shuffle=False)
    batches = all_of(opened, split="val", sampler=sampler, steps=None)
    assert [len(b["draws"]) for b in batches] == [8] * (n // 8) + [n % 8] * (n % 8 > 0)
    assert np.concatenate([b["draws"] for b in batches]).tolist() == list(range(n))
    assert all((opened.episodes.split[b["episode"]] == "val").all() for b in batches)


def test_past_actions_come_before_the_chunk(opened: store.Store) -> None:
    with_past = all_of(opened, past_actions=True, steps=3)
    without = all_of(opened, steps=3)
    for one, other in zip(with_past, without, strict=True):
        assert one["action"].shape == (8, 6, 2)
        assert (one["action"][:, 2:] == other["action"]).all()


def test_next_observations_are_a_step_later(opened: store.Store) -> None:
    index = opened.episodes
    for batch in all_of(opened, next_observations=True, goals="uniform", steps=6):
        start, length = index.start[batch["episode"]], index.length[batch["episode"]]
        ticks = batch["step"][:, None] + np.arange(-2, 1)
        # BridgeData's: the history of transitions repeats the first, each gives its next frame.
        later = np.minimum(np.maximum(ticks, 0) + 1, (length - 1)[:, None]) + start[:, None]
        assert (batch["next state"] == opened.tables["state"][later]).all()
        column = opened.frames["image"]
        out = np.empty(column.feature.shape, np.uint8)
        for b in range(8):
            for t in range(3):
                column.decode_into(int(later[b, t]), out)
                assert (batch["next image"][b, t] == out).all()


def test_each_picture_of_a_sample_is_decoded_once(
    opened: store.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    stored, raw = store.FrameColumn.stored, store.FrameColumn.read_raw

    def counted(self: store.FrameColumn, wanted: np.ndarray, *args: Any) -> Any:
        rows.extend(wanted.tolist())
        return (raw if self.codec == "raw" else stored)(self, wanted, *args)

    monkeypatch.setattr(store.FrameColumn, "stored", counted)
    monkeypatch.setattr(store.FrameColumn, "read_raw", counted)
    options = {"observations": ["image"], "next_observations": True, "goals": "last"}
    n = len(store.Windows(opened, HORIZONS, split="train"))
    sampler = store.Sampler(n, 1, 5)
    all_of(opened, sampler=sampler, steps=30, **options)
    assert len(rows) < 30 * 5.1  # 3 ticks, one more, the goal; fewer where they repeat


def test_rewards_and_distances(opened: store.Store) -> None:
    for batch in all_of(opened, goals=store.GoalConfig(reached_proportion=0.5), steps=6):
        assert (batch["reward"] == np.where(batch["goal_reached"], 0, -1)).all()
        assert (batch["goal_reached"] == (batch["goal_distance"] <= 1)).all()
        assert (batch["mask"] == 1).all()
    for goals in (None, store.GoalConfig(strategy="delta", delta=(0, 4))):
        batch = all_of(opened, goals=goals, steps=1)[0]
        assert np.isnan(batch["reward"]).all()
        assert (batch["goal_distance"] < 4).all()


def test_goals_may_hold_fewer_features(opened: store.Store) -> None:
    batch = all_of(opened, goals="last", goal_features=["state"], steps=1)[0]
    assert "goal state" in batch
    assert "goal image" not in batch


def test_augmentation_varies_each_sample_once_after_its_pictures(opened: store.Store) -> None:
    plain = all_of(opened, goals="last")

    def vary(batch: store.Batch) -> Callable[[slice], None]:
        keys = batch.draws.copy()
        rows: list[int] = []

        def change(some: slice) -> None:
            chosen = range(len(keys))[some]
            assert not set(chosen) & set(rows)
            rows.extend(chosen)
            for row in chosen:
                batch.obs["image"][row] += np.uint8(keys[row] % 251)
                batch.goal["image"][row] ^= np.uint8(255)

        return change

    varied = all_of(opened, goals="last", vary=vary, threads=3)
    for one, other in zip(plain, varied, strict=True):
        added = (one["draws"] % 251).astype(np.uint8)[:, None, None, None, None]
        assert (other["obs image"] == one["obs image"] + added).all()
        assert (other["goal image"] == one["goal image"] ^ 255).all()
        assert (other["obs wrist/depth"] == one["obs wrist/depth"]).all()


def test_time_for_augmentation_is_told(opened: store.Store) -> None:
    def vary(batch: store.Batch) -> Callable[[slice], None]:
        return lambda some: time.sleep(0.002)

    with loader(opened, vary=vary, threads=1) as batches:
        for _ in batches:
            pass
        shares = batches.timings()
    assert shares["augment"] > shares["plan"]


def test_every_step_comes_once_per_epoch(opened: store.Store) -> None:
    n = len(store.Windows(opened, HORIZONS, split="train"))
    seen: list[tuple[int, int]] = []
    for batch in all_of(opened, observations=["state"], steps=-(-2 * n // 8)):
        seen += zip(batch["episode"].tolist(), batch["step"].tolist(), strict=True)
    train = np.flatnonzero(opened.episodes.split == "train").tolist()
    wanted = sorted((e, t) for e in train for t in range(opened.episodes.length[e]))
    assert sorted(seen[:n]) == wanted
    assert sorted(seen[n : 2 * n]) == wanted


def test_numbers_alone_need_no_pictures(opened: store.Store) -> None:
    batches = all_of(opened, observations=["state", "counter"])
    assert batches[0]["obs counter"].shape == (8, 3)
    assert batches[0]["obs counter"].dtype == np.int64
    assert len(batches) == 12


def test_the_last_batches_stay_untouched(opened: store.Store) -> None:
    for keep in (1, 3):
        with loader(opened, keep=keep, prefetch=2, threads=3) as batches:
            held: list[tuple[store.Batch, dict[str, np.ndarray]]] = []
            for batch in batches:
                held = [*held, (batch, copied(batch))][-keep:]
                time.sleep(0.002)
                for each, before in held:
                    assert same([copied(each)], [before])


def test_the_ring_is_all_the_memory_there_is(opened: store.Store) -> None:
    made: list[tuple[tuple[int, ...], str]] = []

    def allocate(shape: tuple[int, ...], dtype: str) -> np.ndarray:
        made.append((shape, dtype))
        return np.empty(shape, dtype)

    with loader(opened, allocate=allocate, prefetch=2, keep=1, steps=9) as batches:
        addresses = {batch.obs["image"].ctypes.data for batch in batches}
    assert len(addresses) == 3
    assert made.count(((8, 3, 24, 32, 3), "uint8")) == 3


def test_threads_wait_when_nobody_takes(opened: store.Store) -> None:
    begun: list[int] = []

    class Watched(store.Sampler):
        def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
            begun.append(step)
            return super().batch(step)

    n = len(store.Windows(opened, HORIZONS, split="train"))
    with loader(opened, sampler=Watched(n, 8, 5), prefetch=2, steps=None) as batches:
        for taken, wanted in ((0, [0, 1, 2]), (2, [0, 1, 2, 3])):
            for _ in range(taken):
                next(batches)
            deadline = time.monotonic() + 30
            while begun != wanted and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.2)  # for one that should not come
            assert begun == wanted
        while batches.ready < 2:
            assert time.monotonic() < deadline


def test_what_a_thread_raises_comes_out_in_its_turn(tmp_path: Path) -> None:
    source = MemorySource((7, 9, 5))
    config = store.WriteConfig(val_fraction=0)
    opened = store.open(store.write(tmp_path / "s", source, config).path)
    offset = int(np.load(tmp_path / "s/frames/image/offsets.npy")[9])
    with (tmp_path / "s/frames/image/shard-00000.bin").open("r+b") as file:
        file.seek(offset)
        file.write(bytes(50))
    windows = store.Windows(opened, Horizons(), split="train")
    sampler = store.Sampler(len(windows), 4, 0, shuffle=False)
    with (
        no_threads_left(),
        store.Loader(opened, windows, sampler, observations=["image"], threads=3) as batches,
    ):
        assert next(batches).draws.tolist() == [0, 1, 2, 3]
        assert next(batches).draws.tolist() == [4, 5, 6, 7]
        with pytest.raises(StoreError, match=r"episode 'carrot/episode_001', frame 2"):
            next(batches)
        with pytest.raises(StopIteration):
            next(batches)


def test_a_fault_in_planning_comes_out_too(opened: store.Store) -> None:
    class Faulty(store.Sampler):
        def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
            if step == 1:
                raise ZeroDivisionError("a defect")
            return super().batch(step)

    n = len(store.Windows(opened, HORIZONS, split="train"))
    with no_threads_left(), loader(opened, sampler=Faulty(n, 8, 5)) as batches:
        next(batches)
        with pytest.raises(ZeroDivisionError):
            next(batches)


def test_leaving_and_losing_a_loader_end_its_threads(opened: store.Store) -> None:
    def stumble(batches: store.Loader) -> None:
        with batches:
            next(batches)
            raise KeyError("something in the loop")

    with no_threads_left(), pytest.raises(KeyError):
        stumble(loader(opened, steps=None))
    with no_threads_left():
        lost = loader(opened, steps=None)
        next(lost)
        del lost
        gc.collect()
    with no_threads_left():
        closed = loader(opened, steps=None)
        closed.close()
        closed.close()
        with pytest.raises(StopIteration):
            next(closed)


def test_timings_are_shares(opened: store.Store) -> None:
    with loader(opened, threads=2) as batches:
        for _ in batches:
            time.sleep(0.005)
        shares = batches.timings()
        again = batches.timings()
    assert set(shares) == {"wait", "plan", "read", "decode", "augment", "copy"}
    assert all(0 <= share <= 1 for share in shares.values())
    assert shares["read"] > 0
    assert shares["copy"] > 0
    assert shares["augment"] == 0
    assert again["read"] == 0, "each call tells what came since the last"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"observations": ["imgae"]}, "Did you mean 'image'"),
        ({"observations": ["task"]}, "is text"),
        ({"goals": "unifrom"}, "Did you mean 'uniform'"),
        ({"threads": 0}, "threads is 0"),
        ({"prefetch": 0}, "prefetch is 0"),
        ({"keep": 0}, "keep is 0"),
    ],
)
def test_wrong_use_is_named_before_any_thread_starts(
    opened: store.Store, options: dict[str, Any], said: str
) -> None:
    with no_threads_left(), pytest.raises(ConfigError, match=said):
        loader(opened, **options)


SCRIPT = """
import sys
from deft import spec, store
opened = store.open(sys.argv[1])
windows = store.Windows(opened, spec.Horizons(), split="train")
loader = store.Loader(opened, windows, store.Sampler(len(windows), 4, 0), observations=["image"])
next(loader)
print("ready", flush=True)
if sys.argv[2] == "wait":
    for batch in loader:
        pass
"""


@pytest.mark.parametrize("how", ["wait", "leave"])
def test_ctrl_c_and_a_forgotten_loader_end_the_process(opened: store.Store, how: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(opened.path), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    if how == "wait":
        os.kill(process.pid, signal.SIGINT)
    try:
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()  # one that did not end would go on loading for ever
    if how == "wait":
        assert said.rstrip().endswith("KeyboardInterrupt")
    else:
        assert (process.returncode, said) == (0, "")


BUSY = """
import sys, threading
import cv2
import numpy as np
from deft import spec, store

opened = store.open(sys.argv[1])
windows = store.Windows(opened, spec.Horizons(), split="train")
large = np.zeros((300, 300, 3), np.uint8)
busy = threading.Event()

def vary(batch):
    def change(rows):
        busy.set()
        for _ in range(200):
            cv2.resize(large, (200, 200))
    return change

loader = store.Loader(
    opened,
    windows,
    store.Sampler(len(windows), 16, 0),
    observations=["image"],
    vary=vary,
    threads=4,
)
busy.wait()
if sys.argv[2] == "lose":
    del loader
"""


@pytest.mark.parametrize("how", ["leave", "lose"])
def test_a_process_may_end_while_threads_are_inside_opencv(opened: store.Store, how: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", BUSY, str(opened.path), how],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
