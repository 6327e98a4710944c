"""`TensorProto` without TensorFlow: one array as a protobuf message.

Field 1 is the dtype, 2 the shape, 4 the numbers as raw little-endian bytes, 8 texts. TensorFlow
writes single numbers and constants as lists of values instead, one field per family of dtypes;
elements behind the end of such a list are equal to its last, or 0 when it is empty.
Source: tensorflow/core/framework/tensor.proto, types.proto, tensor_shape.proto.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deft.errors import FormatError
from deft.formats.example import (
    FIXED32,
    FIXED64,
    SPAN,
    VARINT,
    Fetch,
    MessageField,
    message_fields,
    packed_varints,
)

_STRING = 7
_DTYPES = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "|u1",
    5: "<i2",
    6: "|i1",
    9: "<i8",
    10: "|b1",
    17: "<u2",
    19: "<f2",
    22: "<u4",
}
_VALUES = {1: 5, 2: 6, 3: 7, 4: 7, 5: 7, 6: 7, 9: 10, 10: 11, 17: 7, 19: 13, 22: 16}
"""Dtype number to the field that lists its values. Halves are listed by their bits."""
_MAX_REPEATED = 64 << 20
"""Bytes that a list of fewer values than elements may grow to: a few bytes can promise anything."""
_NUMBERS = {np.dtype(text): number for number, text in _DTYPES.items()}


@dataclass(frozen=True)
class Tensor:
    """A parsed message; its content is not read before it is asked for."""

    fetch: Fetch
    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic] | None
    """None for text."""
    start: int
    """Of the raw numbers, and where the message's texts are looked for."""
    stop: int

    @staticmethod
    def parse(fetch: Fetch, start: int, stop: int, where: str) -> "Tensor":
        """Raises `FormatError` when the bytes are no tensor, or hold another number of elements."""
        number, shape, content = 0, list[int](), (0, 0)
        values: list[MessageField] = []
        for field in message_fields(fetch, start, stop, where):
            if field.number == 1 and field.wire == VARINT:
                number = field.value
            elif field.number == 2 and field.wire == SPAN:
                shape = list(_sizes(fetch, field.start, field.stop, where))
            elif field.number == 4 and field.wire == SPAN:
                content = (field.start, field.stop)
            elif field.number in _VALUES.values():
                values.append(field)
        if number == _STRING:
            return Tensor(fetch, where, tuple(shape), None, start, stop)
        if number not in _DTYPES or len(shape) > 16 or any(not 0 <= n < 2**48 for n in shape):
            raise _damaged(where, f"dtype number {number}, shape {shape[:16]}")
        dtype = np.dtype(_DTYPES[number])
        if content[0] == content[1] and (values or _may_repeat(shape, dtype)):
            held = [field for field in values if field.number == _VALUES[number]]
            data = _listed(fetch, held, shape, dtype, where)
            return Tensor(lambda a, b: data[a:b], where, tuple(shape), dtype, 0, len(data))
        if content[1] - content[0] != math.prod(shape) * dtype.itemsize:
            found = f"{content[1] - content[0]} bytes of content for {dtype} of shape {shape}"
            raise _damaged(where, found)
        return Tensor(fetch, where, tuple(shape), dtype, *content)

    def numbers(self) -> np.ndarray:
        """The array, read-only."""
        return self._array(self.start, self.stop, self.shape)

    def rows(self) -> "TensorRows":
        """The parts along the first axis, each read when it is asked for."""
        if self.dtype is None or not self.shape:
            raise _damaged(self.where, f"text or a single number, shape {list(self.shape)}")
        return TensorRows(self)

    def texts(self) -> list[str]:
        """The texts; none when it holds numbers, as an empty list that was written without type."""
        if self.dtype is not None:
            return []
        found: list[str] = []
        for field in message_fields(self.fetch, self.start, self.stop, self.where):
            if field.number == 8 and field.wire == SPAN:
                if field.stop - field.start > 1 << 20:
                    raise _damaged(self.where, "a text of more than 1 MiB")
                try:
                    found.append(self.fetch(field.start, field.stop).decode())
                except UnicodeDecodeError as error:
                    raise _damaged(self.where, f"a text that is no UTF-8: {error}") from error
        return found

    def row(self, index: int) -> np.ndarray:
        """One part along the first axis."""
        size = (self.stop - self.start) // self.shape[0]
        start = self.start + index * size
        return self._array(start, start + size, self.shape[1:])

    def _array(self, start: int, stop: int, shape: tuple[int, ...]) -> np.ndarray:
        if self.dtype is None:
            raise _damaged(self.where, "text, wanted numbers")
        data = self.fetch(start, stop)
        if len(data) != stop - start:
            raise _damaged(self.where, f"{len(data)} of {stop - start} bytes")
        if self.dtype.kind == "b":
            return (np.frombuffer(data, np.uint8) != 0).reshape(shape)
        return np.frombuffer(data, self.dtype).reshape(shape)


@dataclass(frozen=True)
class TensorRows(Sequence[np.ndarray]):
    """See `Tensor.rows`."""

    tensor: Tensor

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.tensor.row(range(len(self))[index])


def encode_numbers(shape: Sequence[int], dtype: np.dtype[np.generic]) -> bytes:
    """The message up to its raw numbers, which have to follow: dtype, shape, and their length.

    Raises:
        FormatError: the format has no such dtype.
    """
    if dtype not in _NUMBERS:
        raise FormatError(
            f"A TensorProto cannot hold {dtype}.\n"
            f"Fix: convert it to one of {', '.join(str(each) for each in _NUMBERS)}."
        )
    size = math.prod(shape) * dtype.itemsize
    head = _head(_NUMBERS[dtype], shape)
    return head + span_head(4, size)


def encode_texts(texts: Sequence[str]) -> bytes:
    """A vector of texts."""
    return _head(_STRING, [len(texts)]) + b"".join(
        span(8, text.encode("utf-8", "surrogatepass")) for text in texts
    )


def span(number: int, data: bytes) -> bytes:
    """A field that holds bytes."""
    return span_head(number, len(data)) + data


def span_head(number: int, size: int) -> bytes:
    """What stands before so many bytes: the tag and their number."""
    return tag(number, SPAN) + varint(size)


def tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def varint(value: int) -> bytes:
    """A base-128 number."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _head(number: int, shape: Sequence[int]) -> bytes:
    sizes = b"".join(span(2, tag(1, VARINT) + varint(n)) for n in shape)
    return tag(1, VARINT) + varint(number) + span(2, sizes)


def _may_repeat(shape: Sequence[int], dtype: np.dtype[np.generic]) -> bool:
    return math.prod(shape) * dtype.itemsize <= _MAX_REPEATED


def _listed(
    fetch: Fetch,
    fields: Sequence[MessageField],
    shape: Sequence[int],
    dtype: np.dtype[np.generic],
    where: str,
) -> bytes:
    """Raw numbers from the lists of values, packed or one by one."""
    parts = [_values(fetch, field, dtype, where) for field in fields]
    found = np.concatenate([*parts, np.empty(0, dtype)], dtype=dtype)
    count = math.prod(shape)
    if len(found) > count or (len(found) < count and not _may_repeat(shape, dtype)):
        raise _damaged(where, f"{len(found)} values for {dtype} of shape {list(shape)}")
    rest = np.full(count - len(found), found[-1] if len(found) else 0, dtype)
    return np.concatenate([found, rest]).tobytes()


def _values(
    fetch: Fetch, field: MessageField, dtype: np.dtype[np.generic], where: str
) -> np.ndarray:
    """The values of one field of a list."""
    is_wide = dtype.kind == "f" and dtype.itemsize > 2
    if is_wide and field.wire in (SPAN, FIXED64 if dtype.itemsize == 8 else FIXED32):
        data = fetch(field.start, field.stop)
        if len(data) % dtype.itemsize == 0 and len(data) == field.stop - field.start:
            return np.frombuffer(data, dtype)
    elif not is_wide and field.wire in (SPAN, VARINT):
        bits = np.array([field.value], np.uint64)
        if field.wire == SPAN:
            bits = packed_varints(fetch(field.start, field.stop), where)
        # Negative numbers are written as 64 bits; the lower ones hold them in any width.
        if dtype.kind == "f":
            return bits.astype(np.uint16).view(dtype)
        return (bits != 0) if dtype.kind == "b" else bits.view(np.int64).astype(dtype)
    raise _damaged(where, f"field {field.number} holds no {dtype}")


def _sizes(fetch: Fetch, start: int, stop: int, where: str) -> Iterator[int]:
    for dimension in message_fields(fetch, start, stop, where):
        if dimension.number == 2 and dimension.wire == SPAN:
            size = 0  # a size of 0 is not written
            for field in message_fields(fetch, dimension.start, dimension.stop, where):
                if field.number == 1 and field.wire == VARINT:
                    size = struct.unpack("<q", struct.pack("<Q", field.value))[0]
            yield size


def _damaged(where: str, found: str) -> FormatError:
    return FormatError(
        f"{where}: is no tensor as BridgeData writes it.\nFound: {found}.\n"
        "Fix: copy the file again, or convert the recording again."
    )
