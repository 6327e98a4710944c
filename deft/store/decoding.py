"""One picture to bytes and back, and the sum by which its bytes are known again."""

import zlib

import cv2
import numpy as np
import simplejpeg

from deft.errors import StoreError

_AGAIN = "Fix: convert the episode again from its recording, or leave it out."


def checksum(data: bytes | np.ndarray, codec: str) -> int:
    """What is kept of each picture to know its bytes by, below 2^64.

    Raw pictures, of which many are read, have the sum of their 64-bit words (the rest of an odd
    size as one word more): no single changed byte leaves it alone, and it costs a fifth of a copy.
    Others have their CRC-32, a fiftieth of decoding them.

    Args:
        data: the bytes; an array must be uint8 and contiguous.
        codec: how they are kept.
    """
    if codec != "raw":
        return zlib.crc32(data if isinstance(data, bytes) else data.data)
    flat = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    whole = len(flat) // 8 * 8
    total = int(np.add.reduce(flat[:whole].view("<u8"), dtype=np.uint64))
    return (total + int.from_bytes(flat[whole:].tobytes(), "little")) % 2**64


def decode(data: bytes, out: np.ndarray, codec: str, levels: int, where: str) -> None:
    """Decode one stored picture.

    Args:
        data: its bytes.
        out: `H W C`, contiguous, of the dtype that readers see.
        codec: `jpeg`, `png` or `raw`.
        levels: when above 0, whole numbers 0 to `levels` stand for float32 from 0 to 1.
        where: which picture it is, for messages.

    Raises:
        StoreError: it is damaged, or of another size or dtype.
    """
    if codec == "jpeg":
        decode_jpeg(data, out, where)
    elif codec == "raw":
        flat = out.reshape(-1).view(np.uint8)
        if len(data) != len(flat):
            raise StoreError(f"{where}: {len(data)} bytes, wanted {len(flat)}.\n{_AGAIN}")
        flat[:] = np.frombuffer(data, np.uint8)
    else:
        _decode_png(data, out, levels, where)


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


def _decode_png(data: bytes, out: np.ndarray, levels: int, where: str) -> None:
    held = np.frombuffer(data, np.uint8)
    picture = cv2.imdecode(held, cv2.IMREAD_UNCHANGED) if len(held) else None
    wanted = np.dtype(np.uint16) if levels else out.dtype
    found = None if picture is None else picture.reshape(*picture.shape[:2], -1)
    if found is None or found.shape != out.shape or found.dtype != wanted:
        said = "nothing" if found is None else f"{found.dtype} of shape {found.shape}"
        raise StoreError(
            f"{where}: the PNG cannot be decoded, or is another one.\n"
            f"Found: {said} in {len(data)} bytes; wanted {wanted} of shape {out.shape}.\n{_AGAIN}"
        )
    if levels:
        np.multiply(found, np.float32(1 / levels), out=out, dtype=np.float32)
    elif found.shape[2] == 3:
        cv2.cvtColor(found, cv2.COLOR_BGR2RGB, dst=out)
    elif found.shape[2] == 4:
        cv2.cvtColor(found, cv2.COLOR_BGRA2RGBA, dst=out)
    else:
        out[:] = found


def encode_png(picture: np.ndarray, levels: int, where: str) -> bytes:
    """A PNG of `H W C`, uint8 or uint16 with 1, 3 or 4 channels.

    With `levels`, of float32 with one channel, rounded to the nearest of 0 to `levels`. Raises
    `StoreError` when one of these is not from 0 to 1; `where` says which picture it is.
    """
    if levels:
        low, high = float(picture.min()), float(picture.max())
        if not (low >= 0 and high <= 1):
            raise StoreError(
                f"{where}: PNG keeps numbers from 0 to 1.\nFound: {low:g} to {high:g}.\n"
                "Fix: scale them, or give this camera the codec `raw` in `codecs`."
            )
        picture = np.rint(picture * np.float32(levels)).astype(np.uint16)
    if picture.shape[2] == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    elif picture.shape[2] == 4:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA)
    # cv2's own settings: the fastest level with run lengths, close to the best in size.
    is_done, data = cv2.imencode(".png", picture)
    assert is_done  # shapes and dtypes were checked when the codec was chosen
    return data.tobytes()
