"""Pictures that lie encoded in a recording: JPEG, PNG, TIFF, decoded one at a time."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from deft.errors import FormatError
from deft.formats.regular import read_regular

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
_TIFF_KINDS = {3: "H", 4: "I"}
_LIMIT = 256 << 20


class PictureFiles(Sequence[bytes]):
    """The encoded pictures of an episode that lie as files of their own, read when asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int, /) -> bytes: ...

    @overload
    def __getitem__(self, index: slice, /) -> "PictureFiles": ...

    def __getitem__(self, index: int | slice, /) -> "bytes | PictureFiles":
        if isinstance(index, slice):
            return PictureFiles(self._paths[index])
        return read_picture_file(self._paths[index])


def read_picture_file(path: Path) -> bytes:
    """The bytes of one picture. Raises `FormatError` when it cannot be read or is no picture."""
    try:
        size = path.stat().st_size
        if size > _LIMIT:
            raise _damaged(str(path), f"{size >> 20} MiB")
        return read_regular(path)
    except OSError as error:
        raise _damaged(str(path), str(error)) from error


@dataclass(frozen=True)
class EncodedFrames:
    """The pictures of one camera in one episode; satisfies `spec.Frames`."""

    blobs: Sequence[bytes]
    """One JPEG, PNG or TIFF file per step."""
    shape: tuple[int, ...]
    """`H W C` that every picture must have."""
    dtype: str
    where: str
    """File, record and key, for messages."""

    def __len__(self) -> int:
        return len(self.blobs)

    def __getitem__(self, index: int, /) -> np.ndarray:
        step = range(len(self.blobs))[index]
        return decode_picture(
            self.blobs[step], self.shape, self.dtype, f"{self.where}, step {step}"
        )

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[step] for step in range(len(self.blobs)))

    def encoded(self, index: int) -> bytes | None:
        """The JPEG file of one step as the recording holds it; None when it is no JPEG."""
        blob = bytes(self.blobs[index])
        return blob if blob.startswith(_JPEG) else None

    def reduced(self, height: int, width: int) -> "tuple[int, ReducedFrames] | None":
        """The pictures at the smallest of 1/2, 1/4 and 1/8 that is not below this size.

        A JPEG is decoded so for less: its transform is inverted at that scale, much like a mean
        over blocks of pixels. Only where sides divide evenly; a block at the edge that is half
        empty would stretch the picture.

        Returns:
            2, 4 or 8, and the pictures; None when they are no JPEGs, or must not shrink so far.
        """
        if self.dtype != "uint8" or not len(self.blobs) or self.encoded(0) is None:
            return None
        for factor in (8, 4, 2):
            down, across = self.shape[0] / factor, self.shape[1] / factor
            if down >= height and across >= width and down % 1 == across % 1 == 0:
                return factor, ReducedFrames(self, factor)
        return None


@dataclass(frozen=True)
class ReducedFrames:
    """Pictures at a fraction of their size; satisfies `spec.Frames`."""

    frames: EncodedFrames
    factor: int
    """2, 4 or 8."""

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int, /) -> np.ndarray:
        step, whole = range(len(self))[index], self.frames
        where = f"{whole.where}, step {step}"
        return decode_reduced(whole.blobs[step], whole.shape, self.factor, where)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[step] for step in range(len(self)))


def picture_size(data: bytes, where: str) -> tuple[int, int, int, str]:
    """Height, width, channels and dtype of a JPEG, PNG or TIFF, from its header.

    Raises:
        FormatError: it is neither, or the header is damaged.
    """
    if data.startswith(_JPEG):
        import simplejpeg

        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError as error:
            raise _damaged(where, f"a JPEG whose header is damaged: {error}") from error
        return int(height), int(width), 1 if space == "Gray" else 3, "uint8"
    if data.startswith(_PNG) and len(data) >= 33 and data[12:16] == b"IHDR":
        width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
        channels = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(colour, 0)
        return height, width, channels, "uint16" if depth == 16 else "uint8"
    if data[:4] in _TIFF:
        return _tiff_size(data, where)
    raise _damaged(where, f"{len(data)} bytes that begin with {data[:4].hex() or 'nothing'}")


def _tiff_size(data: bytes, where: str) -> tuple[int, int, int, str]:
    """As `picture_size`; from the first directory of a TIFF 6.0 file, whole numbers only."""
    order = _TIFF[data[:4]]
    tags: dict[int, int] = {}
    try:
        (at,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, at)
        for number in range(count):
            place = at + 2 + 12 * number
            tag, kind, length = struct.unpack_from(order + "HHI", data, place)
            if kind not in _TIFF_KINDS:
                continue
            form = order + _TIFF_KINDS[kind]
            if length * struct.calcsize(form) > 4:  # several numbers, which lie elsewhere
                (place,) = struct.unpack_from(order + "I", data, place + 8)
                place -= 8
            tags[tag] = struct.unpack_from(form, data, place + 8)[0]
    except struct.error as error:
        raise _damaged(where, f"a TIFF whose directory is damaged: {error}") from error
    # Width, height, bits of one sample, samples per pixel, and their format: 1 is whole numbers.
    width, height, bits = tags.get(256, 0), tags.get(257, 0), tags.get(258, 1)
    channels, form = tags.get(277, 1), tags.get(339, 1)
    dtype = {8: "uint8", 16: "uint16"}.get(bits)
    if dtype is None or form != 1 or not (width and height):
        raise _damaged(where, f"a TIFF of {bits} bits, sample format {form}")
    return height, width, channels, dtype


def decode_picture(data: bytes, shape: tuple[int, ...], dtype: str, where: str) -> np.ndarray:
    """One picture, RGB (or grey, or 16-bit depth), `H W C`.

    Its size is read from the header and compared before anything is allocated.

    Raises:
        FormatError: the picture is damaged, or of another size or dtype than `shape` and `dtype`.
    """
    _check_header(data, shape, dtype, where)
    if data.startswith(_JPEG):
        import simplejpeg

        try:
            return simplejpeg.decode_jpeg(data, colorspace="GRAY" if shape[2] == 1 else "RGB")
        except ValueError as error:
            raise _damaged(where, f"a JPEG of {len(data)} bytes: {error}") from error
    import cv2

    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise _damaged(where, f"{len(data)} bytes: {error.err}") from error
    # A palette picture comes out as BGR, hence the look at the result and not at the header alone.
    if picture is None or picture.reshape(*picture.shape[:2], -1).shape != shape:
        raise _damaged(where, f"{len(data)} bytes that hold something else")
    if shape[2] == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(picture.reshape(shape))


def decode_reduced(data: bytes, shape: tuple[int, ...], factor: int, where: str) -> np.ndarray:
    """One uint8 picture at 1/`factor` of its size `H W C`, which divides evenly.

    JPEGs are inverted at that scale; other pictures are decoded whole and averaged.

    Raises:
        FormatError: as `decode_picture`.
    """
    height, width = shape[0] // factor, shape[1] // factor
    if data.startswith(_JPEG):
        import simplejpeg

        _check_header(data, shape, "uint8", where)
        space = "GRAY" if shape[2] == 1 else "RGB"
        try:
            found = simplejpeg.decode_jpeg(data, space, min_height=height, min_width=width)
        except ValueError as error:
            raise _damaged(where, f"a JPEG of {len(data)} bytes: {error}") from error
        if found.shape == (height, width, shape[2]):
            return found
    import cv2

    picture = decode_picture(data, shape, "uint8", where)
    found = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return found.reshape(height, width, shape[2])


def _check_header(data: bytes, shape: tuple[int, ...], dtype: str, where: str) -> None:
    *size, found_dtype = picture_size(data, where)
    if tuple(size) != shape or found_dtype != dtype:
        height, width, channels = shape
        raise FormatError(
            f"{where}: the picture should be height {height}, width {width}, {channels} channels, "
            f"{dtype}.\n"
            f"Found: height {size[0]}, width {size[1]}, {size[2]} channels, {found_dtype}.\n"
            "Fix: correct the declared shape, or record the camera again at one size."
        )


def _damaged(where: str, found: str) -> FormatError:
    return FormatError(
        f"{where}: the picture cannot be decoded.\nFound: {found}.\n"
        "Fix: copy the recording again, or leave this episode out."
    )
