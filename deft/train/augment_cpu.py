"""Augmentation in the loader's threads with OpenCV, picture by picture, in place."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from deft import nn, store
from deft.nn import augment_plan
from deft.spec import Feature


class ThreadAugment:
    """Varies the pictures of the loader's batches where they lie, in the threads that decode.

    Give it as the loader's `vary`. It does what `nn.Augment` does with the same draws; see there
    for what moves along and how far the two differ.

    Args:
        config: what to do.
        features: what the batch's observations are; others are left alone.
        seed: of the run; with `Batch.draws` the key of all draws.

    Raises:
        ConfigError: as `nn.Augment`.
    """

    def __init__(self, config: nn.AugmentConfig, features: Sequence[Feature], seed: int) -> None:
        self.config = config
        self.roles = augment_plan.varied_roles(config, features)
        self._seed = seed

    def __call__(self, batch: store.Batch) -> Callable[[slice], None]:
        """Draw for a batch whose `draws` are set.

        Returns:
            What varies a range of the batch's rows; call it once per row, when the row's
            pictures are there, in any thread.
        """
        # A copy: the ring's array belongs to a later batch by the time torch lets go of it.
        draws = nn.Draws(self._seed, torch.from_numpy(batch.draws.copy()))
        work: list[tuple[_Plan, str, np.ndarray]] = []
        for group in ("obs", "goal", "next_obs"):
            held: Mapping[str, np.ndarray] = getattr(batch, group, {})
            shown = {name: role for name, role in self.roles.items() if name in held}
            if not shown:
                continue
            changes = augment_plan.draw_changes(self.config, draws, group)
            plans: dict[tuple[int, ...], _Plan] = {}
            for name, role in shown.items():
                pictures = held[name]
                size = pictures.shape[-3:-1]
                if size not in plans:
                    plans[size] = _Plan.of(self.config, changes, *size)
                work.append((plans[size], role, pictures))

        def apply(rows: slice) -> None:
            for plan, role, pictures in work:
                for row in range(*rows.indices(len(pictures))):
                    shown = pictures[row]
                    ticks = shown[None] if shown.ndim == 3 else shown  # To H W C
                    plan.change(row, role, ticks)

        return apply


@dataclass(frozen=True)
class _Plan:
    """The changes of one batch for pictures of one size, as numbers for OpenCV."""

    config: nn.AugmentConfig
    tops: list[int]
    heights: list[int]
    lefts: list[int]
    widths: list[int]
    down: augment_plan.Boxes
    across: augment_plan.Boxes
    changes: dict[str, list[float]]
    linear: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    """float64 `B 3 3`, `B 3`, `B 3 3`, as `augment_plan.Colour`."""

    @staticmethod
    def of(
        config: nn.AugmentConfig, changes: augment_plan.Changes, height: int, width: int
    ) -> "_Plan":
        down, across = augment_plan.boxes(config, changes, height, width)
        linear = None
        if config.compat == "deft" and config.colours:
            colour = augment_plan.colour(config, changes)
            linear = (colour.matrix.numpy(), colour.shift.numpy(), colour.by_mean.numpy())
        names = ("brightness", "contrast", "saturation", "hue")
        return _Plan(
            config,
            down.first.tolist(),
            down.count.tolist(),
            across.first.tolist(),
            across.count.tolist(),
            down,
            across,
            {name: getattr(changes, name).tolist() for name in names},
            linear,
        )

    def change(self, row: int, role: str, ticks: np.ndarray) -> None:
        """Vary the pictures `To H W C` of one row in place."""
        if role == "image":
            if self.config.compat == "deft":
                self._vary(row, ticks)
            else:
                for picture in ticks:
                    self._step_by_step(row, picture)
        elif self.config.crops and role == "depth":
            y, x = (
                augment_plan.nearest_places(self.down)[row],
                augment_plan.nearest_places(self.across)[row],
            )
            for picture in ticks:
                picture[:] = picture[y.numpy()][:, x.numpy()]
        elif self.config.crops:
            for picture in ticks:
                # OpenCV drops an axis of one channel.
                moved = self._crop(row, picture, np.empty(picture.shape, picture.dtype))
                picture[:] = moved.reshape(picture.shape)

    def _vary(self, row: int, ticks: np.ndarray) -> None:
        """`compat="deft"`: one bilinear pass from the picture to scratch, one matrix back."""
        scratch = _scratch(ticks.shape[1:])
        linear = self._linear(row)
        for picture in ticks:
            mean = cv2.sumElems(picture) if linear and self.config.measures_first else None
            moved = self._crop(row, picture, scratch) if self.config.crops else picture
            if linear is None:
                if moved is not picture:
                    np.copyto(picture, moved.reshape(picture.shape))
                continue
            if moved is picture:
                np.copyto(scratch, picture)
            matrix, shift, by_mean = linear
            sums = cv2.sumElems(scratch) if mean is None else mean
            matrix[:, 3] = shift + by_mean @ sums[:3]
            cv2.transform(scratch, matrix, dst=picture)

    def _linear(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Colours of one row: float64 `3 4` to fill in, `3`, and `3 3` for sums of pixels."""
        if self.linear is None:
            return None
        matrix, shift, by_mean = self.linear
        pixels = self.down.places.shape[1] * self.across.places.shape[1]
        whole = np.empty((3, 4))
        whole[:, :3] = matrix[row]
        return whole, shift[row], by_mean[row] / pixels

    def _crop(self, row: int, picture: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Bilinear into `out`; `H W C`, or `H W` of one channel."""
        height, width = picture.shape[:2]
        if self.config.compat == "tensorflow":
            moved = _lerp(picture, self.down.places[row].numpy(), self.across.places[row].numpy())
            out[:] = moved + 0.5 if out.dtype == np.uint8 else moved  # conversion truncates
            return out
        top, left = self.tops[row], self.lefts[row]
        box = picture[top : top + self.heights[row], left : left + self.widths[row]]
        return cv2.resize(box, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)

    def _step_by_step(self, row: int, picture: np.ndarray) -> None:
        """The other tool sets' formulae one after another on floats, clipped after each."""
        x = picture.astype(np.float32) / 255.0
        for item in self.config.order:
            if item == "random_resized_crop":
                x = self._crop(row, x, np.empty_like(x))
            else:
                x = np.clip(self._coloured(row, item, x), 0, 1)
        # See `nn.augment.vary` for what is added.
        more = 1e-3 if self.config.compat == "tensorflow" else 0.5
        picture[:] = np.minimum(x * 255.0 + more, 255.0)

    def _coloured(self, row: int, item: str, x: np.ndarray) -> np.ndarray:
        is_port = self.config.compat == "torchvision"
        amount = np.float32(self.changes[item.removeprefix("random_")][row])
        if item == "random_brightness":
            return x * amount if is_port else x + amount
        if item == "random_contrast":
            mean = _grey(x).mean() if is_port else x.mean((0, 1))
            return mean + amount * (x - mean)
        if item == "random_saturation" and is_port:
            grey = _grey(x)[..., None]
            return grey + amount * (x - grey)
        hsv = cv2.cvtColor(x, cv2.COLOR_RGB2HSV)  # 0 to 360, 0 to 1, 0 to 1
        if item == "random_saturation":
            hsv[..., 1] = np.minimum(hsv[..., 1] * amount, 1)
        else:
            hsv[..., 0] = (hsv[..., 0] + 360 * amount) % 360
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _grey(x: np.ndarray) -> np.ndarray:
    """Luma, `H W`."""
    return x @ np.asarray(augment_plan.LUMA, np.float32)


def _lerp(picture: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Bilinear at any places, float32 `H W C`; OpenCV's own rounds places to 1/32 pixel."""
    tall, wide = picture.shape[:2]
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    down = (y - top).astype(np.float32)[:, None, None]  # H 1 1
    right = (x - left).astype(np.float32)[:, None]  # W 1
    upper = picture[top].astype(np.float32)  # H W C
    rows = upper + down * (picture[np.minimum(top + 1, tall - 1)] - upper)
    first = rows[:, left]
    return first + right * (rows[:, np.minimum(left + 1, wide - 1)] - first)


_held = threading.local()
"""Each thread's scratch pictures, by shape: a fresh array per picture costs its page faults."""


def _scratch(shape: tuple[int, ...]) -> np.ndarray:
    """A uint8 array of this thread, contents of any kind."""
    arrays: dict[tuple[int, ...], np.ndarray] | None = getattr(_held, "arrays", None)
    if arrays is None:
        arrays = _held.arrays = {}
    if shape not in arrays:
        arrays[shape] = np.empty(shape, np.uint8)
    return arrays[shape]
