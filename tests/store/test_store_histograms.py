"""Statistics of pictures, against numpy on the very pixels."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from deft import store
from deft.spec import ArrayFrames, Episode, Feature, Spec, Stats
from deft.store.histograms import EVERY, bins_of, count, is_sampled, summary
from suites.memory_source import MemorySource, tiny_spec, with_frames


def feature(dtype: str, role: str, channels: int = 1) -> Feature:
    return Feature(name="cam", role=role, shape=(4, 6, channels), dtype=dtype)


def measured(pictures: np.ndarray, kind: Feature) -> Stats:
    bins = bins_of(kind)
    assert bins is not None
    found = summary(sum(count(each, bins) for each in pictures), kind)  # pyright: ignore
    assert found is not None
    return found


def wanted(pictures: np.ndarray, quantile: float) -> np.ndarray:
    flat = pictures.reshape(-1, pictures.shape[-1]).astype(float)
    return np.quantile(flat, quantile, axis=0, method="inverted_cdf")


@settings(deadline=None, max_examples=60)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 5), st.just(4), st.just(6), st.just(3))))
def test_eight_bits_are_exact(pictures: np.ndarray) -> None:
    found = measured(pictures, feature("uint8", "image", 3))
    flat = pictures.reshape(-1, 3).astype(float)
    assert found.count == len(pictures)
    np.testing.assert_allclose(found.mean, flat.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.std, flat.std(0), rtol=1e-9, atol=1e-9)
    assert (found.min == flat.min(0)).all()
    assert (found.max == flat.max(0)).all()
    assert (found.q01 == wanted(pictures, 0.01)).all()
    assert (found.q99 == wanted(pictures, 0.99)).all()


@settings(deadline=None, max_examples=60)
@given(arrays.arrays(np.uint16, st.tuples(st.integers(1, 5), st.just(4), st.just(6), st.just(1))))
def test_sixteen_bits_are_within_a_bin(pictures: np.ndarray) -> None:
    near(measured(pictures, feature("uint16", "depth")), pictures, 16.0)


@settings(deadline=None, max_examples=60)
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.just(4), st.just(6), st.just(1)),
        elements=st.floats(0, 1, width=32),
    )
)
def test_shares_are_within_a_bin(pictures: np.ndarray) -> None:
    near(measured(pictures, feature("float32", "saliency")), pictures, 1 / 4096)


def near(found: Stats, pictures: np.ndarray, width: float) -> None:
    flat = pictures.reshape(-1, 1).astype(float)
    half = width / 2 + 1e-9
    assert abs(found.mean[0] - flat.mean()) <= half
    assert abs(found.std[0] - flat.std()) <= half
    assert found.min[0] - 1e-9 <= flat.min() < found.min[0] + width
    assert found.max[0] - width - 1e-9 <= flat.max() <= found.max[0] + 1e-9
    for name, quantile in (("q01", 0.01), ("q99", 0.99)):
        assert abs(getattr(found, name)[0] - wanted(pictures, quantile)[0]) <= half


def test_nothing_changes_means_no_spread_at_all() -> None:
    found = measured(np.full((3, 4, 6, 3), 77, np.uint8), feature("uint8", "image", 3))
    assert found.mean.tolist() == found.q01.tolist() == found.q99.tolist() == [77.0] * 3
    assert found.std.tolist() == [0.0] * 3


def test_the_sample_is_every_eighth_good_step() -> None:
    valid = np.ones(40, bool)
    assert np.flatnonzero(is_sampled(valid)).tolist() == list(range(0, 40, EVERY))
    valid[[0, 1, 9]] = False
    assert np.flatnonzero(is_sampled(valid)).tolist() == np.flatnonzero(valid)[::EVERY].tolist()
    assert not is_sampled(np.zeros(5, bool)).any()


def test_they_are_of_what_a_reader_decodes(tmp_path: Path) -> None:
    def valid(index: int, length: int) -> np.ndarray:
        return np.arange(length) != 0

    source = MemorySource(
        (20, 9, 30), spec=tiny_spec(depth=True), splits=("train", "val", "train"), valid=valid
    )
    opened = store.open(store.write(tmp_path / "s", source, store.WriteConfig()).path)
    for name in ("image", "wrist/depth"):
        kind, column = opened.spec[name], opened.frames[name]
        rows = [1, 9, 17, 30, 38, 46, 54]  # of the two train episodes
        pictures = np.empty((len(rows), *kind.shape), kind.dtype)
        for row, out in zip(rows, pictures, strict=True):
            column.decode_into(row, out)
        same(opened.image_stats[name], measured(pictures, kind))
        task = opened.task_image_stats["push the block"][name]  # both train episodes push
        same(task, opened.image_stats[name])
    assert "image" not in opened.stats
    assert set(opened.task_image_stats) == {"push the block"}


def same(found: Stats, wanted: Stats) -> None:
    assert found.to_json() == wanted.to_json()


def test_saliency_and_unknown_ranges(tmp_path: Path) -> None:
    saliency = Feature(name="saliency", role="saliency", shape=(8, 8, 1), dtype="float32")
    metres = Feature(name="metres", role="depth", shape=(8, 8, 1), dtype="float32", unit="m")
    spec = Spec(features=(*tiny_spec().features, saliency, metres), fps=5)
    drawn = np.random.default_rng(0).random((2, 12, 8, 8, 1)).astype(np.float32)

    def change(number: int, episode: Episode) -> Episode:
        episode = with_frames(episode, "saliency", ArrayFrames(drawn[number]))
        return with_frames(episode, "metres", ArrayFrames(drawn[number] * 10))

    source = MemorySource((12, 12), spec=spec, change=change)
    config = store.WriteConfig(val_fraction=0)
    opened = store.open(store.write(tmp_path / "s", source, config).path)
    frames = opened.info["frames"]
    assert frames["saliency"]["codec"] == "png"
    assert frames["saliency"]["levels"] == 65535
    assert frames["metres"]["codec"] == "raw"
    assert "not float32 with 1" in frames["metres"]["codec_reason"]
    out = np.empty((8, 8, 1), np.float32)
    for row in range(24):
        opened.frames["saliency"].decode_into(row, out)
        assert np.abs(out - drawn[row // 12, row % 12]).max() <= 1 / 131000
        opened.frames["metres"].decode_into(row, out)
        assert (out == drawn[row // 12, row % 12] * 10).all()
    near(opened.image_stats["saliency"], drawn[:, ::EVERY], 1 / 2000)
    stats = store.files.read_json(opened.path / "stats.json")
    assert "range of depth pictures in float32 is not known" in stats["skipped"]["metres"]
    again = store.write(tmp_path / "t", store.source(opened), config).path
    shard = "frames/saliency/shard-00000.bin"
    assert (again / shard).read_bytes() == (opened.path / shard).read_bytes()


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan])
def test_saliency_beyond_its_range_is_refused(tmp_path: Path, value: float) -> None:
    saliency = Feature(name="saliency", role="saliency", shape=(8, 8, 1), dtype="float32")
    spec = Spec(features=(*tiny_spec().features, saliency), fps=5)
    drawn = np.zeros((5, 8, 8, 1), np.float32)
    drawn[3, 2, 2] = value
    source = MemorySource(
        (5,), spec=spec, change=lambda n, e: with_frames(e, "saliency", ArrayFrames(drawn))
    )
    with pytest.raises(store.files.StoreError, match=r"'saliency', frame 3 of 5: PNG keeps"):
        store.write(tmp_path / "s", source, store.WriteConfig(), strict=True)
    raw = store.WriteConfig(codecs={"saliency": "raw"}, val_fraction=0)
    opened = store.open(store.write(tmp_path / "s2", source, raw).path)
    out = np.empty((8, 8, 1), np.float32)
    opened.frames["saliency"].decode_into(3, out)
    assert np.array_equal(out, drawn[3], equal_nan=True)
