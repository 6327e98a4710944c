import threading
from dataclasses import fields

import numpy as np
import pytest
import torch

from deft import nn, store
from deft.errors import ConfigError
from deft.nn.augment_plan import ITEMS
from deft.train.augment_cpu import ThreadAugment
from suites.augment import FEATURES, SEED, AugmentChecks, feature, made_up


def batch_of(draws, obs, goal=None, next_obs=None):
    """A batch with copies of these pictures; whatever else it has is of no account."""
    rows = len(draws)
    given = {"obs": obs, "goal": goal or {}, "next_obs": next_obs or {}}
    held = {
        name: {key: array.copy() for key, array in each.items()} for name, each in given.items()
    }
    rest = {each.name: np.zeros(rows) for each in fields(store.Batch)}
    return store.Batch(**rest | held | {"draws": np.asarray(draws, np.int64)})


class TestThreadAugment(AugmentChecks):
    def run(self, config, draws, obs, goal=None, next_obs=None):
        batch = batch_of(draws, obs, goal, next_obs)
        apply = ThreadAugment(config, FEATURES, SEED)(batch)
        half = len(draws) // 2
        apply(slice(0, half))
        apply(slice(half, len(draws)))
        return batch.obs, batch.goal, batch.next_obs

    @pytest.mark.parametrize("compat", ["deft", "tensorflow", "torchvision"])
    @pytest.mark.parametrize("order", [ITEMS, ITEMS[::-1]], ids=["plain", "reversed"])
    def test_both_executors_agree(self, compat, order):
        config, obs = nn.AugmentConfig(order=order, compat=compat), made_up(16)
        draws = list(range(100, 116))
        here, _, _ = self.run(config, draws, obs)
        batch = nn.Batch(obs={name: torch.from_numpy(each) for name, each in obs.items()})
        there = nn.Augment(config, FEATURES)(batch, nn.Draws(SEED, torch.as_tensor(draws))).obs
        for name in ("front", "wrist"):
            apart = np.abs(here[name].astype(int) - there[name].numpy())
            # One matrix works on what the crop has rounded; step by step nothing is rounded.
            assert apart.max() <= (2 if compat == "deft" else 1)
            assert apart.mean() < (0.3 if compat == "deft" else 0.01)
        np.testing.assert_array_equal(here["depth"], there["depth"].numpy())
        np.testing.assert_allclose(here["gaze"], there["gaze"].numpy(), atol=2e-5)

    def test_rows_are_varied_in_any_order_by_any_thread(self):
        config, obs = nn.AugmentConfig(order=ITEMS), made_up(12)
        draws = list(range(12))
        wanted, _, _ = self.run(config, draws, obs)
        batch = batch_of(draws, obs)
        apply = ThreadAugment(config, FEATURES, SEED)(batch)
        threads = [
            threading.Thread(target=apply, args=(slice(start, start + 3),))
            for start in (9, 3, 0, 6)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        for name, array in wanted.items():
            np.testing.assert_array_equal(batch.obs[name], array)

    def test_draws_are_read_before_the_ring_is_used_again(self):
        config, obs = nn.AugmentConfig(order=ITEMS), made_up(3)
        wanted, _, _ = self.run(config, [1, 2, 3], obs)
        batch = batch_of([1, 2, 3], obs)
        apply = ThreadAugment(config, FEATURES, SEED)(batch)
        batch.draws[:] = 77
        apply(slice(0, 3))
        np.testing.assert_array_equal(batch.obs["front"], wanted["front"])

    def test_grey_cameras_can_be_cropped_only(self):
        grey = feature("grey", "image", 1, "uint8")
        config = nn.AugmentConfig(order=ITEMS[:1])
        picture = made_up(2)["mask"]
        batch = batch_of([1, 2], {"grey": picture})
        ThreadAugment(config, [grey], SEED)(batch)(slice(0, 2))
        there = nn.Augment(config, [grey])(
            nn.Batch(obs={"grey": torch.from_numpy(picture)}), nn.Draws(SEED, torch.tensor([1, 2]))
        )
        apart = batch.obs["grey"].astype(int) - there.obs["grey"].numpy()
        assert np.abs(apart).max() <= 1
        assert not np.array_equal(batch.obs["grey"], picture)
        with pytest.raises(ConfigError, match="1 channels"):
            ThreadAugment(nn.AugmentConfig(order=ITEMS), [grey], SEED)
