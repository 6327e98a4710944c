"""Features of a store that are kept in a file elsewhere."""

from pathlib import Path

import numpy as np
import pytest

from deft import store
from deft.errors import StoreError
from deft.spec import Feature, Horizons
from suites.memory_source import MemorySource

MAP = Feature(name="dino", role="feature_map", shape=(2, 3, 4), dtype="float16")
LENGTHS = (5, 9, 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return store.write(tmp_path / "a/s", MemorySource(LENGTHS), store.WriteConfig()).path


def values(steps: int = 18) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(steps, 2, 3, 4)).astype(np.float16)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a/features").mkdir(parents=True)
    np.save(tmp_path / "a/features/dino.npy", values())
    return tmp_path / "a/features/dino.npy"


def test_it_is_a_table_like_any_other(path: Path, file: Path) -> None:
    before = store.open(path)
    made = store.add_reference(path, MAP, file, {"model": "a small one"})
    opened = store.open(path)
    assert made.about["file"] == "../features/dino.npy"
    assert opened.spec["dino"] == MAP
    assert opened.digest not in (before.digest, made.digest)
    assert opened.tables["dino"].dtype == np.float16
    assert isinstance(opened.tables["dino"], np.memmap)
    assert (opened.tables["dino"] == values()).all()
    assert "dino" not in opened.stats
    assert store.check(opened) == []
    horizons = Horizons(obs_horizon=2, pred_horizon=3, action_horizon=1)
    windows = store.Windows(opened, horizons, split="train")
    sampler = store.Sampler(len(windows), 4, seed=0)
    with store.Loader(opened, windows, sampler, observations=["dino"], steps=1) as loader:
        batch = next(loader)
        rows = opened.episodes.start[batch.episode] + batch.step
        assert (batch.obs["dino"][:, -1] == values()[rows]).all()
    episode = store.source(opened).read(1)
    assert (episode.arrays["dino"] == values()[5:14]).all()


def test_both_can_be_moved_together(path: Path, file: Path, tmp_path: Path) -> None:
    store.add_reference(path, MAP, file)
    (tmp_path / "a").rename(tmp_path / "b")
    assert (store.open(tmp_path / "b/s").tables["dino"] == values()).all()


def test_what_has_changed_is_named(path: Path, file: Path) -> None:
    store.add_reference(path, MAP, file)
    opened = store.open(path)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert "dino.npy, which holds 'dino': changed" in store.check(opened)[0].what
    file.write_bytes(data[:-1])
    with pytest.raises(StoreError, match=r"'dino' is kept in .*dino\.npy, which has changed"):
        store.open(path)
    file.unlink()
    with pytest.raises(StoreError, match=r"which is missing(.|\n)*remove_reference"):
        store.open(path)
    store.remove_reference(path, "dino")
    assert "dino" not in store.open(path).spec
    with pytest.raises(StoreError, match="no reference 'dino'"):
        store.remove_reference(path, "dino")


def test_what_cannot_be_referred_to_is_refused(path: Path, file: Path, tmp_path: Path) -> None:
    picture = Feature(name="x", role="image", shape=(2, 3, 3), dtype="uint8")
    wrong = Feature(name="dino", role="feature_map", shape=(2, 3, 4), dtype="float32")
    (tmp_path / "maps.zarr").mkdir()
    few = tmp_path / "few.npy"
    np.save(few, values(17))
    state = Feature(name="state", role="state", shape=(2, 3, 4), dtype="float16")
    for feature, where, said in (
        (picture, file, "no picture"),
        (state, file, "does not have"),
        (wrong, file, "wanted float32"),
        (MAP, few, "wrong contents"),
        (MAP, tmp_path / "maps.zarr", r"only a \.npy"),
        (MAP, tmp_path / "no.npy", "cannot be read"),
    ):
        with pytest.raises(StoreError, match=said):
            store.add_reference(path, feature, where)
    assert store.open(path).references == ()


def test_a_store_that_refers_elsewhere_does_not_grow(path: Path, file: Path) -> None:
    store.add_reference(path, MAP, file)
    with pytest.raises(StoreError, match=r"dino lie in files elsewhere(.|\n)*remove_reference"):
        store.append(path, MemorySource((*LENGTHS, 6)))
    store.remove_reference(path, "dino")
    assert store.append(path, MemorySource((*LENGTHS, 6))).added == 1


def test_a_damaged_note_is_named(path: Path, file: Path) -> None:
    store.add_reference(path, MAP, file)
    note = path / "references/dino.json"
    note.write_text(note.read_text().replace("dino.npy", "other.npy"))
    with pytest.raises(StoreError, match=r"references/dino\.json: damaged"):
        store.open(path)
