"""Pictures to bytes and back: resizing, JPEG, raw."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import simplejpeg

from deft.errors import StoreError
from deft.spec import Frames
from deft.store.layout import FramePlan
from deft.transforms import resize


def encoded_frames(frames: Frames, plan: FramePlan, where: str) -> Iterator[tuple[bytes, bool]]:
    """The stored bytes of every picture of one camera, in order, one in memory at a time.

    JPEGs that the source holds already are kept as they are when neither size nor codec change;
    they are decoded once to be sure that they can be.

    Args:
        frames: the pictures; may offer `encoded(index) -> bytes | None`, a JPEG that decodes to
            the same picture.
        plan: how they are kept.
        where: episode and camera, for messages.

    Yields:
        The bytes, and whether they are the source's own.

    Raises:
        StoreError: a picture is missing, surplus, of another shape or dtype, or damaged.
    """
    offered: Any = getattr(frames, "encoded", None)
    encoded: Callable[[int], bytes | None] = offered or (lambda _: None)
    own = plan.codec == "jpeg" and not plan.resize and offered is not None
    pictures = None if own else iter(frames)
    scratch = np.empty(plan.stored.shape, plan.stored.dtype)
    count = len(frames)
    for index in range(count):
        data = encoded(index) if own else None
        if data is not None and _is_plain(data):
            at = f"{where}, frame {index}"
            decode_jpeg(data, scratch, at)
            yield bytes(data), True
            continue
        picture = next(pictures, None) if pictures is not None else frames[index]
        yield _encode(_checked(picture, plan, f"{where}, frame {index} of {count}"), plan), False
    if pictures is not None and next(pictures, None) is not None:
        raise StoreError(
            f"{where}: there are more pictures than the {count} it declares.\n"
            "Fix: repair the recording or its reader; `len` and iteration must agree."
        )


def decode_jpeg(data: bytes | memoryview, out: np.ndarray, where: str) -> None:
    """Decode one JPEG into `out`, uint8 `H W 3`, contiguous.

    Raises:
        StoreError: it is damaged or of another size; `where` says which picture it is.
    """
    try:
        picture = simplejpeg.decode_jpeg(data, "RGB", buffer=out)
    except ValueError as error:
        raise StoreError(
            f"{where}: the JPEG cannot be decoded.\n"
            f"Found: {len(data)} bytes, {error}.\n"
            "Fix: convert the episode again from its recording, or leave it out."
        ) from error
    if picture.shape != out.shape:
        raise StoreError(
            f"{where}: the picture has another size than the spec says.\n"
            f"Found: height {picture.shape[0]}, width {picture.shape[1]}; wanted height "
            f"{out.shape[0]}, width {out.shape[1]}.\n"
            "Fix: convert the episode again, with `--image-size` when sizes are mixed."
        )


def _is_plain(data: bytes) -> bool:
    """True for a JPEG whose header gives a size and three-colour or grey content."""
    try:
        colour = simplejpeg.decode_jpeg_header(data)[2]
    except ValueError:
        return False
    return colour in ("YCbCr", "RGB", "Gray")


def _checked(picture: np.ndarray | None, plan: FramePlan, where: str) -> np.ndarray:
    feature = plan.source
    if picture is None:
        raise StoreError(
            f"{where}: the pictures end before it.\nFix: repair the recording, or leave it out."
        )
    if picture.shape != feature.shape or picture.dtype.name != feature.dtype:
        raise StoreError(
            f"{where}: wanted {feature.describe()}.\n"
            f"Found: {picture.dtype.name} of shape {picture.shape}.\n"
            "Fix: repair the recording or its reader."
        )
    return picture


def _encode(picture: np.ndarray, plan: FramePlan) -> bytes:
    if plan.resize:
        how, stored = plan.resize, plan.stored
        picture = resize(picture, stored.height, stored.width, how.mode, how.filter)
    picture = np.ascontiguousarray(picture)
    if plan.codec == "raw":
        return picture.tobytes()
    return simplejpeg.encode_jpeg(
        picture, quality=plan.quality, colorspace="RGB", colorsubsampling="420"
    )
