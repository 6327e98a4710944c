"""What every executor of augmentation must do, whatever it runs on."""

import numpy as np
import pytest
import torch

from deft import nn, spec
from deft.nn.augment_plan import ITEMS
from suites.augment_reference import Reference

SEED = 3
HEIGHT, WIDTH = 20, 28


def feature(name, role, channels, dtype):
    return spec.Feature(name=name, role=role, shape=(HEIGHT, WIDTH, channels), dtype=dtype)


FEATURES = (
    feature("front", "image", 3, "uint8"),
    feature("wrist", "image", 3, "uint8"),
    feature("gaze", "saliency", 1, "float32"),
    feature("mask", "saliency", 1, "uint8"),
    feature("depth", "depth", 1, "uint16"),
    spec.Feature(name="state", role="state", shape=(4,), dtype="float32"),
)


def made_up(rows, ticks=2, seed=0):
    """Arrays `B To ...` by name: noise, so that any misplaced pixel shows."""
    rng = np.random.default_rng(seed)
    found = {}
    for each in FEATURES:
        shape = (rows, ticks, *each.shape)
        if each.dtype == "float32":
            found[each.name] = rng.random(shape, dtype=np.float32)
        else:
            high = 256 if each.dtype == "uint8" else 65_536
            found[each.name] = rng.integers(0, high, shape).astype(each.dtype)
    return found


def shares_of(draws, group="augment"):
    rows = torch.as_tensor(draws, dtype=torch.int64)
    return nn.Draws(SEED, rows).uniform(group, 8).double().numpy()


def levels_apart(a, b):
    return np.abs(a.astype(np.int64) - b.astype(np.int64))


class AugmentChecks:
    """Subclass it and give `run`: (config, draws, obs, goal, next_obs) to the three, varied."""

    def run(self, config, draws, obs, goal=None, next_obs=None):
        raise NotImplementedError

    @pytest.mark.parametrize(
        ("compat", "levels"), [("deft", 1.6), ("tensorflow", 1.01), ("torchvision", 0.51)]
    )
    @pytest.mark.parametrize(
        "order",
        [ITEMS, ITEMS[::-1], (ITEMS[2], ITEMS[0], ITEMS[1]), *((item,) for item in ITEMS)],
        ids=lambda order: "-".join(item.removeprefix("random_")[:4] for item in order),
    )
    def test_it_does_what_the_slow_reference_does(self, compat, levels, order):
        config = nn.AugmentConfig(order=order, compat=compat)
        draws, obs = [11, 2**40 + 5], made_up(2)
        found, _, _ = self.run(config, draws, obs)
        for row, shares in enumerate(shares_of(draws)):
            slow = Reference(config, shares)
            for name in ("front", "wrist"):
                for tick in range(2):
                    wanted = slow.image(obs[name][row, tick])
                    apart = np.abs(found[name][row, tick] - wanted)
                    assert apart.max() <= levels
                    if ITEMS[0] in order:
                        # Rounding alone moves by a quarter of a level, truncation by half of one.
                        assert apart.mean() <= (0.52 if compat == "tensorflow" else 0.4)

    @pytest.mark.parametrize("compat", ["deft", "tensorflow", "torchvision"])
    def test_maps_move_with_the_picture(self, compat):
        config = nn.AugmentConfig(order=ITEMS, compat=compat)
        draws, obs = [8, 9], made_up(2)
        found, _, _ = self.run(config, draws, obs)
        for row, shares in enumerate(shares_of(draws)):
            slow = Reference(config, shares)
            for tick in range(2):
                gaze = slow.saliency(obs["gaze"][row, tick])
                np.testing.assert_allclose(found["gaze"][row, tick], gaze, atol=2e-5)
                mask = slow.saliency(obs["mask"][row, tick])
                assert np.abs(found["mask"][row, tick] - mask).max() <= 0.76
                wanted = slow.depth(obs["depth"][row, tick])
                np.testing.assert_array_equal(found["depth"][row, tick], wanted)
        assert not np.array_equal(found["depth"], obs["depth"])
        np.testing.assert_array_equal(found["state"], obs["state"])

    def test_features_that_are_not_named_are_left_alone(self):
        obs = made_up(2)
        other = {f"old.{name}": array for name, array in obs.items()}
        found, _, _ = self.run(nn.AugmentConfig(order=ITEMS), [8, 9], other)
        for name, array in other.items():
            np.testing.assert_array_equal(found[name], array)

    def test_colours_leave_maps_alone(self):
        obs = made_up(2)
        found, _, _ = self.run(nn.AugmentConfig(order=ITEMS[1:]), [8, 9], obs)
        for name in ("gaze", "mask", "depth"):
            np.testing.assert_array_equal(found[name], obs[name])

    def test_a_row_does_not_depend_on_its_batch(self):
        config, obs = nn.AugmentConfig(order=ITEMS), made_up(6)
        together, _, _ = self.run(config, [5, 1, 9, 30, 2, 7], obs)
        for row, draw in ((2, 9), (5, 7)):
            alone, _, _ = self.run(
                config, [draw], {name: array[row : row + 1] for name, array in obs.items()}
            )
            for name, array in together.items():
                # A product of another size may be summed in another order.
                assert levels_apart(alone[name][0], array[row]).max() <= (name != "depth")

    def test_one_draw_for_all_ticks_cameras_and_the_goal(self):
        picture = made_up(1, ticks=1)["front"]
        obs = {"front": np.repeat(picture, 3, 1), "wrist": np.repeat(picture, 3, 1)}
        goal, later = {"front": picture.copy()}, {"front": np.repeat(picture, 3, 1)}
        config = nn.AugmentConfig(order=ITEMS)
        groups = self.run(config, [4], obs, goal, later)
        shown = [held[name][:, tick] for held in groups for name in held for tick in (0, -1)]
        assert len(shown) == 8
        for each in shown[1:]:
            np.testing.assert_array_equal(each, shown[0])
        assert not np.array_equal(shown[0], picture[:, 0])

    def test_goal_and_next_observation_may_differ(self):
        picture = made_up(1, ticks=1)["front"]
        config = nn.AugmentConfig(order=ITEMS, augment_next_obs_goal_differently=True)
        held = [{"front": picture.copy()} for _ in range(3)]
        shown = [group["front"] for group in self.run(config, [4], *held)]
        names = ("augment", "augment.goal", "augment.next_obs")
        for name, found in zip(names, shown, strict=True):
            wanted = Reference(config, shares_of([4], name)[0]).image(picture[0, 0])
            assert np.abs(found[0, 0] - wanted).max() <= 1.6
        assert all(levels_apart(shown[0], each).max() > 20 for each in shown[1:])

    @pytest.mark.parametrize("compat", ["deft", "tensorflow", "torchvision"])
    def test_changes_of_no_size_change_nothing(self, compat):
        config = nn.AugmentConfig(
            order=ITEMS,
            scale=(1.0, 1.0),
            ratio=(1.0, 1.0),
            brightness=0.0,
            contrast=(1.0, 1.0),
            saturation=(1.0, 1.0),
            hue=0.0,
            compat=compat,
        )
        obs = made_up(3)
        found, _, _ = self.run(config, [1, 2, 3], obs)
        for name, array in obs.items():
            # Floats of 0 to 1 may be rounded by the arithmetic; whole numbers come back.
            np.testing.assert_allclose(found[name], array, atol=1e-5 if name == "gaze" else 0)

    def test_without_items_nothing_changes(self):
        obs = made_up(2)
        found, _, _ = self.run(nn.AugmentConfig(), [1, 2], obs)
        for name, array in obs.items():
            np.testing.assert_array_equal(found[name], array)

    def test_one_draw_decides_everything_as_upstream(self):
        config = nn.AugmentConfig(order=ITEMS, compat="tensorflow", one_draw=True)
        obs = {"front": made_up(1)["front"]}
        found, _, _ = self.run(config, [21], obs)
        wanted = Reference(config, shares_of([21])[0]).image(obs["front"][0, 0])
        assert np.abs(found["front"][0, 0] - wanted).max() <= 1.01
