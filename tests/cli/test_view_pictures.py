"""Depth, saliency and feature maps as colours."""

import numpy as np

from deft.cli.view_pictures import colour_depth, colour_norms, lay_over


def test_depth_is_red_near_and_blue_far_on_one_scale() -> None:
    near = np.full((20, 20, 1), 500, np.uint16)
    far = np.full((20, 20, 1), 1500, np.uint16)
    far[:5] = 0
    (one, two), low, high = colour_depth([near, far])
    assert (low, high) == (500, 1500)
    assert one[0, 0, 0] > 100 > one[0, 0, 2]
    assert two[10, 0, 2] > two[10, 0, 0]
    assert not two[:5].any()
    assert one.shape == (20, 20, 3)
    assert one.dtype == np.uint8


def test_depth_that_measured_nothing_is_black() -> None:
    (one,), _, _ = colour_depth([np.zeros((4, 4, 1), np.uint16)])
    assert not one.any()


def test_saliency_lies_over_the_picture_at_its_size() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[..., 1] = 90
    for scale, dtype in ((255, np.uint8), (1.0, np.float32)):
        strength = np.zeros((10, 15, 1), dtype)
        strength[2:5, 3:6] = scale
        shown = lay_over(picture, strength)
        assert shown.shape == picture.shape
        red, green, blue = shown[14, 18].tolist()
        assert red > green > blue - 20
        assert shown[35, 55].tolist() == [30, 30, 30]


def test_norms_are_cells_of_whole_pixels() -> None:
    maps = np.zeros((2, 3, 4, 8), np.float16)
    maps[1, 2, 3] = 4
    one, two = colour_norms(maps)
    assert one.shape == two.shape == (96, 128, 3)
    assert len(np.unique(one.reshape(-1, 3), axis=0)) == 1
    assert two[95, 127].tolist() != two[0, 0].tolist() == one[0, 0].tolist()
    maps[0, 0, 0, 0] = np.inf
    assert colour_norms(maps)[0].dtype == np.uint8
