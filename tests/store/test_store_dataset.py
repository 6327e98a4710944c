"""A store for people's own loops: batches, and torch's DataLoader."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from deft import store
from deft.errors import ConfigError, StoreError
from deft.spec import Horizons
from suites.memory_source import MemorySource

HORIZONS = Horizons(obs_horizon=2, pred_horizon=3)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("s") / "s"
    config = store.WriteConfig(val_fraction=0.3)
    return store.write(folder, MemorySource((7, 4, 9, 12, 3, 8)), config).path


def test_batches_of_any_store(path: Path) -> None:
    with store.batches(path, 8, horizons=HORIZONS, seed=3, steps=4, goals="last") as loader:
        found = [batch.copy() for batch in loader]
    assert len(found) == 4
    assert found[0].obs["image"].shape == (8, 2, 24, 32, 3)
    assert set(found[0].obs) == {"image", "state"}
    assert found[0].action.shape == (8, 3, 2)
    with store.batches(store.open(path), 8, horizons=HORIZONS, seed=3, start_step=2) as loader:
        assert (next(loader).draws == found[2].draws).all()
    once = store.batches(path, 8, split="val", shuffle=False, observations=["counter"])
    with once:
        draws = np.concatenate([batch.draws.copy() for batch in once])
    assert draws.tolist() == list(range(len(draws)))
    with pytest.raises(ConfigError, match="no sampling"):
        store.batches(path, 8, sampling="by_step")
    with pytest.raises(StoreError, match="no store"):
        store.batches(path / "nowhere", 8)


def test_a_sample_is_a_row_of_a_batch(path: Path) -> None:
    dataset = store.Dataset(path, horizons=HORIZONS, goals="uniform", next_observations=True)
    with store.batches(
        path,
        len(dataset),
        horizons=HORIZONS,
        shuffle=False,
        goals="uniform",
        next_observations=True,
    ) as loader:
        whole = next(loader)
        for index in (0, 5, len(dataset) - 1, -1):
            sample = dataset[index]
            assert set(sample) == set(vars(whole))
            for name, value in sample.items():
                wanted = getattr(whole, name)
                if isinstance(value, dict):
                    for key, array in value.items():
                        assert (array == wanted[key][index]).all()
                else:
                    assert np.array_equal(value, wanted[index])
    assert set(store.Dataset(path)[0]) == set(vars(whole)) - {"goal", "next_obs"}


def test_goals_change_with_the_epoch_only(path: Path) -> None:
    dataset = store.Dataset(path, observations=["counter"], goals="uniform")
    one, again = (np.stack([s["goal"]["counter"] for s in dataset]) for _ in range(2))
    assert (one == again).all()
    dataset.set_epoch(1)
    assert (np.stack([s["goal"]["counter"] for s in dataset]) != one).mean() > 0.3


def test_the_end_is_an_index_error(path: Path) -> None:
    dataset = store.Dataset(path, observations=["state"])
    for index in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError):
            dataset[index]
    assert len(list(dataset)) == len(dataset)


def test_it_travels_as_settings(path: Path) -> None:
    dataset = store.Dataset(path, horizons=HORIZONS)
    packed = pickle.dumps(dataset)
    assert len(packed) < 2000
    assert (pickle.loads(packed)[3]["obs"]["image"] == dataset[3]["obs"]["image"]).all()


@pytest.mark.parametrize(
    ("workers", "context"),
    [(0, None), (2, "fork"), pytest.param(2, "spawn", marks=pytest.mark.slow)],
    ids=["0", "2 fork", "2 spawn"],
)
def test_torchs_dataloader_takes_it(path: Path, workers: int, context: str | None) -> None:
    torch = pytest.importorskip("torch")
    dataset = store.Dataset(path, horizons=HORIZONS, goals="uniform")
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=5, num_workers=workers, multiprocessing_context=context
    )
    found = list(loader)
    assert torch.is_tensor(found[0]["obs"]["image"])
    assert found[0]["obs"]["image"].dtype == torch.uint8
    assert found[0]["action"].shape == (5, 3, 2)
    assert torch.cat([batch["draws"] for batch in found]).tolist() == list(range(len(dataset)))
    images = torch.cat([batch["obs"]["image"] for batch in found])
    for index in (0, 7, len(dataset) - 1):
        assert (images[index].numpy() == dataset[index]["obs"]["image"]).all()
