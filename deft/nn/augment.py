"""Augmentation of whole batches with torch, on the training device."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from deft.nn.augment_plan import (
    LUMA,
    AugmentConfig,
    Boxes,
    Changes,
    Colour,
    boxes,
    colour,
    draw_changes,
    nearest_places,
    varied_roles,
)
from deft.nn.draws import Draws
from deft.nn.inputs import Batch
from deft.spec import Feature


class Augment:
    """Varies the pictures of a batch, each row by draws of its own.

    Cameras get geometry and colour; saliency maps (bilinear) and depth maps (nearest) move along,
    if they are among `features`. All ticks, cameras and the goal of a row share one draw, and
    the same row gets the same in any batch, on any rank and from the executor in the loader's
    threads: they differ by rounding only, at most 2 levels of 255 with `compat="deft"`.

    With `compat="deft"` every picture is passed over six times: to float, crop, mean, colour
    matrix, clip, to bytes.

    Args:
        config: what to do.
        features: what is varied; others are left alone. With any saliency feature among them,
            `Batch.saliency` moves along.

    Raises:
        ConfigError: colours are to change, and a camera has not 3 channels.
    """

    def __init__(self, config: AugmentConfig, features: Sequence[Feature]) -> None:
        self.config = config
        self.roles = varied_roles(config, features)

    @torch.no_grad()
    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """The batch with varied pictures, uint8 `B To H W C` as before; the input keeps its own."""
        if self.config.is_off:
            return batch
        device = draws.rows.device.type
        # In half precision the matrix product would lose levels.
        with torch.autocast(device, enabled=False):
            groups = {
                name: self._group(held, draw_changes(self.config, draws, name))
                for name in ("obs", "goal", "next_obs")
                if (held := getattr(batch, name))
            }
        if batch.saliency and self.config.crops and "saliency" in self.roles.values():
            changes = draw_changes(self.config, draws)
            groups["saliency"] = {
                camera: self._feature(maps[..., None], "saliency", changes, None)[..., 0]
                for camera, maps in batch.saliency.items()  # B To H W each
            }
        return replace(batch, **groups)

    def _group(self, held: Mapping[str, Tensor], changes: Changes) -> dict[str, Tensor]:
        linear = None
        if self.config.compat == "deft" and self.config.colours:
            linear = colour(self.config, changes)
        found = dict(held)
        for name, role in self.roles.items():
            if name in held:
                pictures = held[name]
                if pictures.ndim == 4:  # a goal has no To axis
                    varied = self._feature(pictures[:, None], role, changes, linear)[:, 0]
                else:
                    varied = self._feature(pictures, role, changes, linear)
                found[name] = varied
        return found

    def _feature(
        self, pictures: Tensor, role: str, changes: Changes, linear: Colour | None
    ) -> Tensor:
        if role == "image":
            return vary(self.config, pictures, changes, linear)
        if not self.config.crops:
            return pictures
        down, across = boxes(self.config, changes, *pictures.shape[2:4])
        if role == "depth":
            return nearest_pixels(pictures, down, across)
        floats = _planes(pictures)
        moved = rearrange(
            _crop(floats, down, across), "B (T C) H W -> B T H W C", C=pictures.shape[-1]
        )
        if pictures.dtype == torch.uint8:
            moved = moved + 0.5  # conversion truncates
        return moved.to(pictures.dtype)


def vary(
    config: AugmentConfig,
    pictures: UInt8[Tensor, "B T H W C"],
    changes: Changes,
    linear: Colour | None,
) -> UInt8[Tensor, "B T H W C"]:
    """Pictures of one camera, cropped and coloured; `linear` with `compat="deft"` and colours."""
    ticks = pictures.shape[1]
    floats = _planes(pictures)
    down, across = boxes(config, changes, *pictures.shape[2:4])
    if config.compat != "deft":
        levels = _step_by_step(config, floats, changes, down, across)
        # TensorFlow's pipeline truncates; the others are rounded. A little is added, or a level
        # that rounding errors have moved below itself would fall by one.
        more = 1e-3 if config.compat == "tensorflow" else 0.5
        levels = (levels * 255.0).add_(more)
    else:
        before = _means(floats, ticks) if linear is not None and config.measures_first else None
        if config.crops:
            floats = _crop(floats, down, across)
        if linear is None:
            levels = floats.add_(0.5)
        else:
            means = _means(floats, ticks) if before is None else before  # B T 3
            levels = _mix(floats, means, linear)
    levels = levels.clamp_(0, 255)
    split = rearrange(levels, "B (T C) H W -> B T H W C", T=ticks)
    return torch.empty_like(pictures, memory_format=torch.contiguous_format).copy_(split)


def nearest_pixels(pictures: Tensor, down: Boxes, across: Boxes) -> Tensor:
    """Crop without mixing values, `B T H W C` of any dtype; for depth."""
    rows = torch.arange(len(pictures), device=pictures.device)[:, None, None]  # B 1 1
    y = nearest_places(down)[:, :, None]  # B H 1
    x = nearest_places(across)[:, None, :]  # B 1 W
    return pictures.movedim(1, 3)[rows, y, x].movedim(3, 1)  # B T H W C


def _crop(floats: Float[Tensor, "B D H W"], down: Boxes, across: Boxes) -> Float[Tensor, "B D H W"]:
    """Bilinear; ticks and channels share one grid, so it is made once."""
    height, width = floats.shape[-2:]
    y = down.places / (0.5 * (height - 1)) - 1 if height > 1 else down.places  # B H
    x = across.places / (0.5 * (width - 1)) - 1 if width > 1 else across.places  # B W
    grid = torch.stack(
        (x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)), -1
    ).float()  # B H W 2
    return F.grid_sample(floats, grid, padding_mode="border", align_corners=True)


def _planes(pictures: Tensor) -> Float[Tensor, "B D H W"]:
    """`B T H W C` of any dtype as floats, ticks and channels in one axis; in a single pass."""
    split = pictures.permute(0, 1, 4, 2, 3)  # B T C H W
    floats = split.to(torch.float32, memory_format=torch.contiguous_format)
    return floats.flatten(1, 2)  # B T*C H W


def _means(floats: Float[Tensor, "B D H W"], ticks: int) -> Float[Tensor, "B T C"]:
    return rearrange(floats.mean((-2, -1)), "B (T C) -> B T C", T=ticks)


def _mix(
    floats: Float[Tensor, "B D H W"], means: Float[Tensor, "B T C"], linear: Colour
) -> Float[Tensor, "B D H W"]:
    """The colour matrix on every pixel, half a level added for rounding down later."""
    rows, ticks, _ = means.shape
    offset = linear.shift[:, None] + means.double() @ linear.by_mean.mT + 0.5  # B T 3
    matrix = linear.matrix.float()[:, None].expand(-1, ticks, -1, -1)  # B T 3 3
    mixed = torch.baddbmm(
        offset.float().view(rows * ticks, 3, 1),
        matrix.reshape(rows * ticks, 3, 3),
        floats.view(rows * ticks, 3, -1),
    )  # B*T 3 H*W
    return mixed.view_as(floats)


def _step_by_step(
    config: AugmentConfig, floats: Tensor, changes: Changes, down: Boxes, across: Boxes
) -> Float[Tensor, "B D H W"]:
    """The other tool sets' formulae one after another, clipped after each; 0 to 1 comes out."""
    x = floats / 255.0  # B T*C H W
    for item in config.order:
        if item == "random_resized_crop":
            x = _crop(x, down, across)
            continue
        channels = x.unflatten(1, (-1, 3))  # B T 3 H W
        x = _coloured(config.compat, item, channels, changes).flatten(1, 2).clamp(0, 1)
    return x


def _coloured(
    compat: str, item: str, x: Float[Tensor, "B T C H W"], changes: Changes
) -> Float[Tensor, "B T C H W"]:
    def each(values: Tensor) -> Tensor:
        return values.float()[:, None, None, None, None]  # B 1 1 1 1

    luma = torch.tensor(LUMA, device=x.device)[:, None, None]  # 3 1 1
    if item == "random_brightness":
        return (
            x * each(changes.brightness)
            if compat == "torchvision"
            else x + each(changes.brightness)
        )
    if item == "random_contrast":
        grey = (x * luma).sum(-3, keepdim=True) if compat == "torchvision" else x
        mean = grey.mean((-2, -1), keepdim=True)
        return mean + each(changes.contrast) * (x - mean)
    if item == "random_saturation" and compat == "torchvision":
        grey = (x * luma).sum(-3, keepdim=True)
        return grey + each(changes.saturation) * (x - grey)
    hue, saturation, value = _to_hsv(x)
    if item == "random_saturation":
        saturation = (saturation * changes.saturation.float()[:, None, None, None]).clamp(0, 1)
    else:
        hue = hue + changes.hue.float()[:, None, None, None]
    return _from_hsv(hue, saturation, value)


def _to_hsv(x: Float[Tensor, "B T C H W"]) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in full turns, saturation and value 0 to 1, `B T H W` each. Smith 1978, HSV."""
    red, green, blue = x.unbind(-3)
    value, low = x.amax(-3), x.amin(-3)
    chroma = value - low
    safe = chroma.clamp(min=1e-12)
    sector = torch.where(
        value == red,
        ((green - blue) / safe) % 6,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return sector / 6, chroma / value.clamp(min=1e-12), value


def _from_hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Float[Tensor, "B T C H W"]:
    """The inverse of `_to_hsv`, for any hue: full turns do not count."""
    offsets = torch.tensor((5.0, 3.0, 1.0), device=hue.device)[:, None, None]  # 3 1 1
    sector = (offsets + 6 * hue[:, :, None]) % 6  # B T 3 H W
    away = torch.minimum(sector, 4 - sector).clamp(0, 1)
    return value[:, :, None] * (1 - saturation[:, :, None] * away)
