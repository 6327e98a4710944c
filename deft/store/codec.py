"""Pictures of an episode to the bytes that are kept."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import simplejpeg

from deft.errors import StoreError
from deft.spec import Feature, Frames
from deft.store.decoding import decode_jpeg, encode_png
from deft.store.layout import FramePlan
from deft.transforms import resize


def reduced(frames: Frames, plan: FramePlan) -> tuple[int, Frames]:
    """The pictures to make stored ones of, and by how much they are smaller than recorded.

    Frames may offer `reduced(height, width) -> tuple[int, Frames] | None`: a factor that divides
    both sides, and pictures divided by it that are not below this size and cost less to decode.
    """
    offered: Any = getattr(frames, "reduced", None)
    found = None
    if plan.may_reduce and offered is not None:
        found = offered(plan.stored.height, plan.stored.width)
    return found or (1, frames)


def encoded_frames(
    frames: Frames,
    plan: FramePlan,
    where: str,
    see: Callable[[np.ndarray], None] = lambda _: None,
) -> Iterator[tuple[bytes, bool]]:
    """The stored bytes of every picture of one camera, in order, one in memory at a time.

    JPEGs that the source holds already are kept as they are when neither size nor codec change;
    they are decoded once to be sure that they can be.

    Args:
        frames: the pictures; may offer `encoded(index) -> bytes | None`, a JPEG that decodes to
            the same picture, and smaller ones: see `reduced`.
        plan: how they are kept.
        where: episode and camera, for messages.
        see: told every picture in order, as it was decoded; it may keep it.

    Yields:
        The bytes, and whether they are the source's own.

    Raises:
        StoreError: a picture is missing, surplus, of another shape or dtype, or damaged.
    """
    offered: Any = getattr(frames, "encoded", None)
    encoded: Callable[[int], bytes | None] = offered or (lambda _: None)
    factor, frames = reduced(frames, plan)
    height, width, channels = plan.source.shape
    wanted = replace(plan.source, shape=(height // factor, width // factor, channels))
    own = plan.codec == "jpeg" and not plan.resize and offered is not None
    pictures = None if own else iter(frames)
    count = len(frames)
    for index in range(count):
        data = encoded(index) if own else None
        if data is not None and _is_plain(data):
            at = f"{where}, frame {index}"
            picture = np.empty(plan.stored.shape, plan.stored.dtype)
            decode_jpeg(data, picture, at)
            see(picture)
            yield bytes(data), True
            continue
        picture = next(pictures, None) if pictures is not None else frames[index]
        at = f"{where}, frame {index} of {count}"
        picture = _checked(picture, wanted, at)
        see(picture)
        yield _encode(picture, plan, at), False
    if pictures is not None and next(pictures, None) is not None:
        raise StoreError(
            f"{where}: there are more pictures than the {count} it declares.\n"
            "Fix: repair the recording or its reader; `len` and iteration must agree."
        )


def _is_plain(data: bytes) -> bool:
    """True for a JPEG whose header gives a size and three-colour or grey content."""
    try:
        colour = simplejpeg.decode_jpeg_header(data)[2]
    except ValueError:
        return False
    return colour in ("YCbCr", "RGB", "Gray")


def _checked(picture: np.ndarray | None, feature: Feature, where: str) -> np.ndarray:
    if picture is None:
        raise StoreError(
            f"{where}: the pictures end before it.\nFix: repair the recording, or leave it out."
        )
    # A dtype is compared with its name: to make up its name takes ten times as long.
    if picture.shape != feature.shape or picture.dtype != feature.dtype:
        raise StoreError(
            f"{where}: wanted {feature.describe()}.\n"
            f"Found: {picture.dtype.name} of shape {picture.shape}.\n"
            "Fix: repair the recording or its reader."
        )
    return picture


def _encode(picture: np.ndarray, plan: FramePlan, where: str) -> bytes:
    if plan.resize:
        how, stored = plan.resize, plan.stored
        picture = resize(picture, stored.height, stored.width, how.mode, how.filter)
    picture = np.ascontiguousarray(picture)
    if plan.codec == "raw":
        return picture.tobytes()
    if plan.codec == "png":
        return encode_png(picture, plan.levels, where)
    return simplejpeg.encode_jpeg(
        picture, quality=plan.quality, colorspace="RGB", colorsubsampling="420"
    )
