"""The description of an array in zarr version 2, without the zarr package.

Source: the zarr storage specification, version 2.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from deft.errors import FormatError
from deft.formats.codecs import check_compressor, unpack
from deft.formats.jsonfile import parse_object, take, take_sizes
from deft.formats.zarr_layout import Layout, Names, fill_value


def parse(data: bytes, where: str) -> Layout:
    """The layout in a `.zarray`.

    Raises:
        FormatError: it is damaged, too large or of a kind that is not supported.
    """
    meta = parse_object(data, where)
    if take(meta, "zarr_format", int, where) != 2:
        raise FormatError(
            f"{where}: wanted zarr version 2.\nFound: version {meta['zarr_format']}.\n"
            "Fix: copy the file again, or write the array again."
        )
    shape = take_sizes(meta.get("shape"), f"{where}, 'shape'")
    chunks = take_sizes(meta.get("chunks"), f"{where}, 'chunks'")
    for key, allowed in (("order", ("C", "F")), ("dimension_separator", (".", "/", None))):
        if meta.get(key) not in allowed:
            raise FormatError(
                f"{where}: '{key}' must be one of {allowed}.\nFound: {meta.get(key)!r}.\n"
                "Fix: save the array again with the defaults of zarr version 2."
            )
    if meta.get("filters"):
        raise FormatError(
            f"{where}: filters are not supported.\nFound: {str(meta['filters'])[:80]}.\n"
            "Fix: save the array again with `filters=None`."
        )
    dtype = _dtype(meta.get("dtype"), where)
    return Layout(
        where=where,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill=fill_value(meta.get("fill_value"), dtype, where),
        names=Names(separator=meta.get("dimension_separator") or "."),
        codec=_Codec(chunks, dtype, meta["order"], check_compressor(meta.get("compressor"), where)),
    )


@dataclass(frozen=True)
class _Codec:
    """Satisfies `ChunkCodec`."""

    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Literal["C", "F"]
    compressor: Mapping[str, Any] | None

    @property
    def limit(self) -> int:
        # Packing can make data larger, but no codec makes it twice as large.
        return 2 * math.prod(self.chunks) * self.dtype.itemsize + 4096

    def decode(self, data: bytes, where: str) -> np.ndarray:
        size = math.prod(self.chunks) * self.dtype.itemsize
        content = unpack(data, self.compressor, size, where)
        return np.frombuffer(content, self.dtype).reshape(self.chunks, order=self.order)


def _dtype(text: Any, where: str) -> np.dtype[Any]:
    if not isinstance(text, str) or not re.fullmatch(r"[<>|](b1|u1|[iu][1248]|f[248])", text):
        raise FormatError(
            f"{where}: only numbers and booleans are supported.\nFound: dtype {str(text)[:80]!r}.\n"
            "Fix: save the array again as one of bool, int, uint or float."
        )
    return np.dtype(text)
