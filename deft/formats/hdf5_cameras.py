"""Cameras in HDF5 files: raw pictures, JPEG or PNG bytes, and depth in millimetres."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deft.errors import FormatError
from deft.formats.hdf5 import Hdf5Table
from deft.formats.pictures import EncodedFrames, picture_size
from deft.spec import Feature, Frames

Kind = Literal["raw", "encoded", "depth"]


@dataclass(frozen=True)
class Camera:
    """One data set with pictures, and the feature it becomes."""

    feature: Feature
    kind: Kind
    swapped: bool = False
    """Red and blue have changed places in the encoded files."""

    def frames(self, table: Hdf5Table, length: int) -> Frames:
        """The first `length` pictures, read one at a time."""
        if self.kind == "raw":
            return RawFrames(table, length, self.feature.shape)
        if self.kind == "depth":
            return DepthFrames(RawFrames(table, length, self.feature.shape))
        frames = EncodedFrames(
            _Blobs(table, length), self.feature.shape, self.feature.dtype, table.where
        )
        return SwappedFrames(frames) if self.swapped else frames


def find_camera(name: str, table: Hdf5Table, *, swapped: bool = False) -> Camera | None:
    """What camera a data set is; None when it holds no pictures.

    Raw pictures are uint8 `T H W 1` or `T H W 3`. Encoded ones are one JPEG or PNG per row: as
    fixed-length bytes, as variable-length uint8, or as rows of uint8 padded with zeros; their
    size comes from the first one. 16-bit PNG is depth in millimetres, as depth cameras make it.

    Args:
        name: of the feature.
        table: the data set, with at least one row.
        swapped: the encoded files were made by OpenCV from RGB arrays, which it takes for BGR.

    Raises:
        FormatError: the first encoded picture is damaged, or nothing was ever written.
    """
    table.check_written()
    if len(table.shape) == 4 and table.dtype == np.uint8 and table.shape[3] in (1, 3):
        return Camera(Feature(name=name, role="image", shape=table.shape[1:], dtype="uint8"), "raw")
    if not table.holds_blobs or not len(table):
        return None
    first = table.blob(0)
    height, width, channels, dtype = picture_size(first, f"{table.where}, step 0")
    is_depth = dtype == "uint16" and channels == 1
    if not is_depth and (dtype != "uint8" or channels not in (1, 3)):
        raise FormatError(
            f"{table.where}, step 0: wanted 8-bit grey or colour, or 16-bit depth.\n"
            f"Found: {channels} channels, {dtype}.\nFix: save the pictures as one of these."
        )
    feature = Feature(
        name=name,
        role="depth" if is_depth else "image",
        shape=(height, width, channels),
        dtype=dtype,
        unit="mm" if is_depth else "",
    )
    return Camera(feature, "encoded", swapped and channels == 3)


def find_depth(name: str, table: Hdf5Table) -> Camera | None:
    """A camera's depth, `T H W` or `T H W 1` in millimetres, given as uint16; None if it is none.

    Depth kept as floats is rounded to whole millimetres as it is read, and refused where that
    does not fit.
    """
    axes = len(table.shape)
    is_map = axes == 3 or (axes == 4 and table.shape[3] == 1)
    if not is_map or not (table.dtype.kind == "f" or table.dtype == np.uint16):
        return None
    table.check_written()
    shape = (*table.shape[1:3], 1)
    feature = Feature(name=name, role="depth", shape=shape, dtype="uint16", unit="mm")
    return Camera(feature, "depth")


@dataclass(frozen=True)
class RawFrames:
    """Rows of a data set as pictures; satisfies `spec.Frames`."""

    table: Hdf5Table
    length: int
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int, /) -> np.ndarray:
        step = range(self.length)[index]
        return self.table.rows(step, step + 1)[0].reshape(self.shape)

    def __iter__(self) -> Iterator[np.ndarray]:
        for rows in self.table.pieces(0, self.length):
            yield from rows.reshape(-1, *self.shape)


@dataclass(frozen=True)
class SwappedFrames:
    """Pictures with red and blue put back in place; satisfies `spec.Frames`.

    It offers no `encoded`: the JPEG that lies in the file shows the wrong colours.
    """

    frames: Frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int, /) -> np.ndarray:
        return np.ascontiguousarray(self.frames[index][..., ::-1])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (np.ascontiguousarray(picture[..., ::-1]) for picture in self.frames)


@dataclass(frozen=True)
class DepthFrames:
    """Depth as whole millimetres; satisfies `spec.Frames`."""

    frames: RawFrames
    scale: float = 1.0
    """Millimetres in one unit of the file's floats; integers are millimetres."""

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int, /) -> np.ndarray:
        return self._millimetres(self.frames[index], range(len(self.frames))[index])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self._millimetres(depth, step) for step, depth in enumerate(self.frames))

    def _millimetres(self, depth: np.ndarray, step: int) -> np.ndarray:
        if depth.dtype == np.uint16:
            return depth
        low, high = float(depth.min()) * self.scale, float(depth.max()) * self.scale
        if not (low > -0.5 and high < 65535.5):  # false for NaN as well
            raise FormatError(
                f"{self.frames.table.where}, step {step}: depth must be 0 to 65535 millimetres.\n"
                f"Found: {low:g} to {high:g}.\nFix: leave the depth out, or repair it."
            )
        return np.rint(depth * self.scale).astype(np.uint16)


@dataclass(frozen=True)
class _Blobs(Sequence[bytes]):
    """Encoded pictures, read when asked for."""

    table: Hdf5Table
    length: int

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int, /) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.table.blob(range(self.length)[index])
