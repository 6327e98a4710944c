import json
import math

import numpy as np
import pytest
import torch

from deft import nn, spec
from deft.errors import ConfigError
from deft.nn.augment_plan import ITEMS, boxes, draw_changes

MANY = nn.Draws(0, torch.arange(40_000))


def test_config_survives_json():
    config = nn.AugmentConfig(order=ITEMS, contrast=(0.5, 1.5), compat="tensorflow")
    plain = json.loads(json.dumps(spec.to_plain(config)))
    assert spec.from_plain(nn.AugmentConfig, plain) == config


def test_nothing_is_varied_unless_asked_for():
    assert nn.AugmentConfig().is_off
    assert not nn.AugmentConfig(order=("random_hue",)).is_off


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"order": ("random_crop",)}, "random_resized_crop"),
        ({"order": ("random_hue", "random_hue")}, "repeats"),
        ({"scale": (0.9, 0.8)}, "augment.scale"),
        ({"scale": (0.0, 1.0)}, "above 0"),
        ({"scale": (0.5, 1.5)}, "augment.scale"),
        ({"brightness": -0.1}, "augment.brightness"),
        ({"hue": 0.7}, "0 to 0.5"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        nn.AugmentConfig(**wrong)


def test_draws_fill_their_ranges_and_are_independent():
    changes = draw_changes(nn.AugmentConfig(order=ITEMS), MANY)
    area, ratio = changes.height * changes.width, changes.width / changes.height
    inside = (changes.height < 1) & (changes.width < 1)
    assert 0.8 <= area[inside].min() < 0.801
    assert ratio[inside].min() >= 0.9
    assert ratio[inside].max() <= 1.1
    for name, low, high in (
        ("top", 0, 1),
        ("left", 0, 1),
        ("brightness", -0.2, 0.2),
        ("contrast", 0.8, 1.2),
        ("saturation", 0.8, 1.2),
        ("hue", -0.1, 0.1),
    ):
        values = getattr(changes, name).numpy()
        counts, _ = np.histogram(values, 20, (low, high))
        assert counts.sum() == len(values)
        # Chi-square of 19 degrees of freedom: above 43.8 once in a thousand.
        assert ((counts - 2000) ** 2 / 2000).sum() < 43.8, name
    names = ("height", "top", "left", "brightness", "contrast", "saturation", "hue")
    table = np.corrcoef([getattr(changes, name).numpy() for name in names])
    assert np.abs(table - np.eye(len(names))).max() < 5 / math.sqrt(40_000)


def test_log_ratio_is_uniform():
    changes = draw_changes(nn.AugmentConfig(order=ITEMS, scale=(0.1, 0.2), ratio=(0.5, 2.0)), MANY)
    ratio = torch.log2(changes.width / changes.height).numpy()
    counts, _ = np.histogram(ratio, 20, (-1, 1))
    assert ((counts - 2000) ** 2 / 2000).sum() < 43.8


def test_leaving_an_item_out_leaves_the_others_draws_alone():
    whole = draw_changes(nn.AugmentConfig(order=ITEMS), MANY)
    part = draw_changes(nn.AugmentConfig(order=("random_hue",)), MANY)
    assert torch.equal(whole.hue, part.hue)


def test_goals_share_the_draw_unless_told_otherwise():
    same = nn.AugmentConfig(order=ITEMS)
    own = nn.AugmentConfig(order=ITEMS, augment_next_obs_goal_differently=True)
    obs = draw_changes(same, MANY)
    assert torch.equal(draw_changes(same, MANY, "goal").hue, obs.hue)
    assert torch.equal(draw_changes(own, MANY).hue, obs.hue)
    goal, later = draw_changes(own, MANY, "goal"), draw_changes(own, MANY, "next_obs")
    for a, b in ((obs, goal), (obs, later), (goal, later)):
        assert abs(np.corrcoef(a.hue.numpy(), b.hue.numpy())[0, 1]) < 0.025


def test_upstreams_single_degree_of_freedom():
    config = nn.AugmentConfig(order=ITEMS, compat="tensorflow", one_draw=True)
    changes = draw_changes(config, MANY)
    u = changes.top
    for name, low, high in (("brightness", -0.2, 0.2), ("contrast", 0.8, 1.2), ("hue", -0.1, 0.1)):
        torch.testing.assert_close(getattr(changes, name), low + (high - low) * u)
    area = (0.8 + 0.2 * u) / torch.exp(math.log(0.9) + math.log(1.1 / 0.9) * u)
    torch.testing.assert_close(changes.height, area.sqrt().clamp(max=1))


def test_boxes_lie_inside_and_reach_every_place():
    config = nn.AugmentConfig(order=ITEMS)
    down, across = boxes(config, draw_changes(config, MANY), 12, 16)
    for axis, size in ((down, 12), (across, 16)):
        assert axis.first.min() == 0
        assert (axis.first + axis.count).max() == size
        assert bool((axis.first + axis.count <= size).all())
        assert axis.places.min() >= 0
        assert axis.places.max() <= size - 1
        # At a given size of the box each place is as likely as any other.
        some = axis.first[axis.count == size - 2].numpy()
        counts = np.bincount(some, minlength=3)
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 13.8  # 2 degrees, 0.1 %


def test_tiny_pictures_keep_a_pixel():
    config = nn.AugmentConfig(order=ITEMS, scale=(0.01, 0.02))
    down, _ = boxes(config, draw_changes(config, MANY), 1, 3)
    assert int(down.count.min()) == 1
