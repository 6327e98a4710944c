"""The index of a part: what its columns hold, and how little waits for a group of rows."""

import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest

from deft.spec import Feature, Spec
from deft.store.index import EPISODE_STATS, Index
from deft.store.overall import Row
from deft.store.statistics import Moments

SPEC = Spec(fps=5.0, features=(Feature(name="state", role="state", shape=(60,), dtype="float32"),))


def record(values=None, wordings=()):
    moments = {} if values is None else {"state": Moments.of(values).to_json()}
    return {"moments": moments, "instructions": list(wordings)}


def row(number):
    return Row(f"traj{number}", 5 * number, 5, "lift", "train", f"traj{number}", 4)


def test_numbers_nulls_and_wordings_come_back(tmp_path):
    tables = [np.random.default_rng(n).normal(size=(5, 60)) for n in range(3)]
    with Index(tmp_path / "episodes.parquet", SPEC) as index:
        index.add(row(0), record(tables[0], ["lift", "raise"]))
        index.add(row(1), record())
        index.add(row(2), record(tables[2]))
        found = index.finish()
    table = pq.read_table(tmp_path / "episodes.parquet").to_pydict()
    assert found["bytes"] == (tmp_path / "episodes.parquet").stat().st_size
    assert table["id"] == ["traj0", "traj1", "traj2"]
    assert table["start"] == [0, 5, 10]
    assert table["instructions"] == [["lift", "raise"], [], []]
    for key in EPISODE_STATS:
        assert table[f"state.{key}"][1] is None
        for number in (0, 2):
            wanted = getattr(np, key)(tables[number], axis=0)
            np.testing.assert_allclose(table[f"state.{key}"][number], wanted, rtol=1e-12)


def test_a_feature_that_no_episode_can_measure_is_null(tmp_path):
    with Index(tmp_path / "episodes.parquet", SPEC) as index:
        index.add(row(0), record())
        index.finish()
    assert pq.read_table(tmp_path / "episodes.parquet").to_pydict()["state.mean"] == [None]


def test_rows_beyond_a_group_are_written_at_once(tmp_path):
    one = record(np.random.default_rng(0).normal(size=(5, 60)))
    with Index(tmp_path / "episodes.parquet", SPEC) as index:
        index.add(row(0), one)
        tracemalloc.start()
        try:
            for number in range(1, 201):
                index.add(row(number), one)
            held, _ = tracemalloc.get_traced_memory()
            for number in range(201, 700):
                index.add(row(number), one)
            left, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        index.finish()
    assert held / 200 < 4000, "60 numbers of 8 bytes, 4 times, and a row"
    assert left < held
    found = pq.ParquetFile(tmp_path / "episodes.parquet")
    assert [found.metadata.row_group(n).num_rows for n in range(2)] == [256, 256]
    assert found.metadata.num_rows == 700


@pytest.mark.parametrize("blocks", [1 << 10, 8 << 20])
def test_quantiles_do_not_depend_on_the_size_of_blocks(monkeypatch, blocks):
    from deft.store import statistics

    monkeypatch.setattr(statistics, "_BLOCK_BYTES", blocks)
    table = np.random.default_rng(1).normal(size=(300, 7)).astype(np.float32)
    valid = np.random.default_rng(2).random(300) < 0.9
    spans = [(0, 100), (150, 300)]
    chosen = np.concatenate([table[a:b][valid[a:b]] for a, b in spans]).astype(np.float64)
    found = statistics.quantiles(table, valid, spans)
    np.testing.assert_array_equal(found, np.quantile(chosen, (0.01, 0.99), axis=0))
