"""Moments, quantiles, and what stats.json holds."""

import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deft import store
from deft.spec import Feature, Spec, Stats
from deft.store.statistics import Moments, measure, quantiles
from suites.memory_source import MemorySource, tiny_spec, with_array


def values(dtype: str) -> st.SearchStrategy[np.ndarray]:
    """`N 3` of some dtype, with 1 to 40 rows."""
    shape = st.tuples(st.integers(1, 40), st.just(3))
    limits = {"allow_nan": False, "allow_infinity": False}
    wide = {"float16": st.floats(width=16, **limits), "float32": st.floats(-1e6, 1e6, width=32)}
    return arrays.arrays(np.dtype(dtype), shape, elements=wide.get(dtype))


@settings(deadline=None, max_examples=120)
@given(st.data(), st.sampled_from(["bool", "uint8", "int32", "int64", "float16", "float32"]))
def test_they_are_numpy_s_over_the_steps_that_count(data: st.DataObject, dtype: str) -> None:
    table = data.draw(values(dtype))
    valid = data.draw(arrays.arrays(np.bool_, len(table)))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(table)), max_size=5)) | {0, len(table)})
    spans = list(itertools.pairwise(cuts))[::2]  # every other episode is held out
    owners = data.draw(st.lists(st.sampled_from("ab"), min_size=9, max_size=9))
    groups = {g: [n for n in range(len(spans)) if owners[n] == g] for g in "ab"}
    found = measure(table, valid, spans, groups)
    agrees(found.whole, table, valid, spans)
    for name, numbers in groups.items():
        agrees(found.groups.get(name), table, valid, [spans[n] for n in numbers])


def agrees(
    found: Stats | None, table: np.ndarray, valid: np.ndarray, spans: list[tuple[int, int]]
) -> None:
    parts = [table[a:b][valid[a:b]] for a, b in spans]
    rows = np.concatenate([*parts, table[:0]]).astype(np.float64)
    if len(rows) == 0:
        assert found is None
        return
    assert found is not None
    size = np.abs(rows).max() + 1e-30
    assert found.count == len(rows)
    np.testing.assert_allclose(found.mean / size, rows.mean(0) / size, atol=1e-12)
    np.testing.assert_allclose(found.std / size, rows.std(0) / size, atol=1e-7)
    assert (found.min == rows.min(0)).all()
    assert (found.max == rows.max(0)).all()
    assert (found.q01 == np.quantile(rows, 0.01, axis=0)).all()
    assert (found.q99 == np.quantile(rows, 0.99, axis=0)).all()
    still = (rows == rows[0]).all(0)
    assert (found.std[still] == 0).all()
    assert (found.mean[still] == rows[0][still]).all()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.sampled_from([0.0, 1e6]))
def test_merged_moments_are_those_of_the_whole(lengths: list[int], offset: float) -> None:
    rng = np.random.default_rng(len(lengths))
    parts = [offset + rng.normal(0, 1, (n, 3)) for n in lengths]
    found = functools.reduce(Moments.merge, map(Moments.of, parts))
    whole = np.concatenate(parts)
    assert found.count == len(whole)
    np.testing.assert_allclose(found.mean, whole.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.std(), whole.std(0), rtol=1e-7, atol=1e-9)
    assert (found.low == whole.min(0)).all()
    assert (found.high == whole.max(0)).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_has_none_and_says_so(wrong: float) -> None:
    table = np.zeros((6, 2), np.float32)
    table[4, 1] = wrong
    valid = np.ones(6, bool)
    assert measure(table, valid, [(0, 3), (3, 6)], {}).why == "some values are not finite"
    assert measure(table, valid, [(0, 3)], {}).whole is not None  # a held-out episode may have it
    valid[4] = False
    assert measure(table, valid, [(0, 3), (3, 6)], {}).whole is not None
    assert measure(table, np.zeros(6, bool), [(0, 6)], {}).why == "no valid step in a train episode"


def test_quantiles_are_exact_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deft.store.statistics._BLOCK_BYTES", 1000)
    table = np.random.default_rng(0).normal(size=(80, 2, 3)).astype(np.float32)
    valid = np.random.default_rng(1).random(80) > 0.2
    spans = [(0, 20), (30, 75)]
    rows = np.concatenate([np.arange(a, b) for a, b in spans])
    rows = rows[valid[rows]]
    wanted = np.quantile(table.reshape(80, 6)[rows].astype(float), (0.01, 0.99), axis=0)
    assert (quantiles(table, valid, spans) == wanted).all()


def test_they_cover_the_good_steps_of_train_episodes_only(tmp_path: Path) -> None:
    def valid(index: int, length: int) -> np.ndarray:
        good = np.ones(length, bool)
        good[-1] = False
        return good

    source = MemorySource((7, 9, 5, 8), splits=("train", "val", "train", "train"), valid=valid)
    store.write(tmp_path / "s", source, store.WriteConfig())
    opened = store.open(tmp_path / "s")
    for name in ("state", "action", "counter"):
        parts = [source.read(n).arrays[name][:-1] for n in (0, 2, 3)]
        if name == "action":
            parts = [part.astype(np.float32) for part in parts]
        same(opened.stats[name], Stats.of(np.concatenate(parts)))
        block = np.concatenate(parts[:2])  # episodes 0 and 2 push, 1 and 3 lift
        same(opened.task_stats["push the block"][name], Stats.of(block))
    assert "image" not in opened.stats


def same(found: Stats, wanted: Stats) -> None:
    assert found.count == wanted.count
    for key in ("mean", "std", "min", "max", "q01", "q99"):
        np.testing.assert_allclose(getattr(found, key), getattr(wanted, key), rtol=1e-9)


def test_the_index_holds_those_of_each_episode(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    def valid(index: int, length: int) -> np.ndarray | None:
        return np.zeros(length, bool) if index == 1 else None

    source = MemorySource((7, 9), valid=valid)
    store.write(tmp_path / "s", source, store.WriteConfig())
    rows = pq.read_table(tmp_path / "s/episodes.parquet").to_pylist()
    state = source.read(0).arrays["state"].astype(float)
    np.testing.assert_allclose(rows[0]["state.mean"], state.mean(0))
    np.testing.assert_allclose(rows[0]["state.std"], state.std(0))
    assert rows[0]["state.min"] == state.min(0).tolist()
    assert rows[0]["counter.max"] == [6.0]
    assert rows[1]["state.mean"] is None


def test_what_has_none_says_why(tmp_path: Path) -> None:
    spec = Spec(
        features=(
            *tiny_spec().features,
            Feature(name="map", role="feature_map", shape=(20, 30), dtype="float16"),
            Feature(name="gaps", role="other", shape=(1,), dtype="float32"),
        ),
        fps=5,
    )
    source = MemorySource(
        (4, 4),
        spec=spec,
        change=lambda n, e: with_array(e, "gaps", np.full((len(e), 1), np.nan, np.float32)),
    )
    store.write(tmp_path / "s", source, store.WriteConfig())
    stats = store.files.read_json(tmp_path / "s/stats.json")
    assert "600 elements" in stats["skipped"]["map"]
    assert "not finite" in stats["skipped"]["gaps"]
    assert set(store.open(tmp_path / "s").stats) == {"state", "action", "counter"}


def test_too_many_tasks_have_none_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deft.store.overall.MOST_TASKS", 1)
    store.write(tmp_path / "s", MemorySource((4, 4, 4)), store.WriteConfig(val_fraction=0))
    assert store.open(tmp_path / "s").task_stats == {}
    assert "2 tasks" in store.files.read_json(tmp_path / "s/stats.json")["skipped"]["tasks"]
