"""Augmentation as slow and obvious as can be: one picture at a time, pixel by pixel where needed.

Shares nothing with the executors but the eight random numbers of a sample.
"""

import colorsys
import math

import numpy as np


class Reference:
    """What becomes of one sample's pictures, in float64 and without rounding.

    Args:
        config: an `AugmentConfig`.
        shares: the sample's eight numbers between 0 and 1: area, ratio, top, left, brightness,
            contrast, saturation, hue.
    """

    def __init__(self, config, shares):
        self.config = config
        self.u = [shares[0]] * 8 if config.one_draw else list(shares)

    def image(self, picture):
        """Levels, float64 `H W 3`, before rounding or truncation."""
        x = picture.astype(np.float64)
        for item in self.config.order:
            x = getattr(self, item)(x)
            if self.config.compat != "deft":
                x = np.clip(x, 0, 255)
        return np.clip(x, 0, 255)

    def saliency(self, picture):
        return self.random_resized_crop(picture.astype(np.float64))

    def depth(self, picture):
        height, width = picture.shape[:2]
        rows = [math.floor(p + 0.5) for p in self.places(0, height)]
        columns = [math.floor(p + 0.5) for p in self.places(1, width)]
        return picture[np.ix_(rows, columns)]

    def random_resized_crop(self, x):
        out = np.empty(x.shape)
        for i, y in enumerate(self.places(0, x.shape[0])):
            for j, z in enumerate(self.places(1, x.shape[1])):
                top, left = int(y), int(z)
                low, right = min(top + 1, x.shape[0] - 1), min(left + 1, x.shape[1] - 1)
                fy, fx = y - top, z - left
                upper = (1 - fx) * x[top, left] + fx * x[top, right]
                lower = (1 - fx) * x[low, left] + fx * x[low, right]
                out[i, j] = (1 - fy) * upper + fy * lower
        return out

    def places(self, axis, size):
        """Where each output pixel looks along one axis."""
        config = self.config
        area = config.scale[0] + (config.scale[1] - config.scale[0]) * self.u[0]
        ratio = config.ratio[0] * (config.ratio[1] / config.ratio[0]) ** self.u[1]
        share = min(1.0, math.sqrt(area / ratio if axis == 0 else area * ratio))
        place = self.u[2 + axis]
        if config.compat == "tensorflow":
            first = place * (1 - share) * (size - 1)
            last = first + share * (size - 1)
            return [first + (last - first) * i / (size - 1) for i in range(size)]
        count = round(share * size)
        first = int(place * (size - count + 1))
        found = []
        for i in range(size):
            inside = (i + 0.5) * count / size - 0.5
            found.append(first + min(max(inside, 0), count - 1))
        return found

    def random_brightness(self, x):
        change = (2 * self.u[4] - 1) * self.config.brightness
        return x * (1 + change) if self.config.compat == "torchvision" else x + 255 * change

    def random_contrast(self, x):
        low, high = self.config.contrast
        factor = low + (high - low) * self.u[5]
        mean = grey(x).mean() if self.config.compat == "torchvision" else x.mean((0, 1))
        return factor * x + (1 - factor) * mean

    def random_saturation(self, x):
        low, high = self.config.saturation
        factor = low + (high - low) * self.u[6]
        if self.config.compat == "tensorflow":
            return in_hsv(x, lambda h, s, v: (h, min(1, s * factor), v))
        return factor * x + (1 - factor) * grey(x)[..., None]

    def random_hue(self, x):
        turn = (2 * self.u[7] - 1) * self.config.hue
        if self.config.compat != "deft":
            return in_hsv(x, lambda h, s, v: ((h + turn) % 1, s, v))
        out = np.empty_like(x)
        for place in np.ndindex(x.shape[:2]):
            y, i, q = TO_YIQ @ x[place]
            chroma = complex(i, -q) * np.exp(2j * math.pi * turn)
            out[place] = np.linalg.solve(TO_YIQ, (y, chroma.real, -chroma.imag))
        return out


TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
)


def grey(x):
    return 0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2]


def in_hsv(x, change):
    out = np.empty_like(x)
    for place in np.ndindex(x.shape[:2]):
        hsv = colorsys.rgb_to_hsv(*(x[place] / 255))
        out[place] = [255 * value for value in colorsys.hsv_to_rgb(*change(*hsv))]
    return out
