"""`tf.train.Example` without TensorFlow or protobuf: a bounds-checked parser.

The message is `Example{1: Features{1: map<string, Feature>}}`; a `Feature` holds one of
`BytesList` (1), `FloatList` (2) and `Int64List` (3), each with its values in field 1.
Nothing is copied before it is asked for, so an index can be made by reading a few bytes of each
record. Source: tensorflow/core/example/feature.proto and the protobuf encoding guide.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from deft.errors import FormatError, nearest

Fetch = Callable[[int, int], bytes]
"""Bytes from `start` up to `stop`, both counted from the start of the record."""

_KINDS = {1: "bytes", 2: "float", 3: "int64"}
VARINT, FIXED64, SPAN, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class MessageField:
    """One field of a protobuf message: its number, wire type, and where its content lies."""

    number: int
    wire: int
    start: int
    stop: int
    value: int = 0


@dataclass(frozen=True)
class Example:
    """One parsed message: which keys there are, and where their values lie."""

    fetch: Fetch
    where: str
    spans: dict[str, tuple[str, int, int]]
    """Key to kind (`bytes`, `float`, `int64`) and the place of its list."""

    @staticmethod
    def parse(fetch: Fetch, size: int, where: str) -> "Example":
        """Find every key. Raises `FormatError` when the bytes are no Example."""
        spans: dict[str, tuple[str, int, int]] = {}
        for features in _spans(fetch, 0, size, 1, where):
            for entry in _spans(fetch, features.start, features.stop, 1, where):
                key, span = _entry(fetch, entry, where)
                if span is not None:
                    spans[key] = span
        return Example(fetch, where, spans)

    def numbers(self, key: str) -> np.ndarray:
        """All values of a float or int64 list, flat: float32 or int64."""
        kind, start, stop = self._span(key)
        if kind == "bytes":
            raise self._wrong(key, "numbers", kind)
        return self._floats(start, stop) if kind == "float" else self._ints(start, stop)

    def blobs(self, key: str) -> Iterator[tuple[int, int]]:
        """The places of the values of a bytes list, in order."""
        kind, start, stop = self._span(key)
        if kind != "bytes":
            raise self._wrong(key, "bytes", kind)
        for field in _spans(self.fetch, start, stop, 1, f"{self.where}, '{key}'"):
            yield field.start, field.stop

    def first_blob(self, key: str) -> bytes | None:
        """The first value of a bytes list; None when the list is empty."""
        for start, stop in self.blobs(key):
            return self.fetch(start, stop)
        return None

    def _span(self, key: str) -> tuple[str, int, int]:
        if key not in self.spans:
            raise FormatError(
                f"{self.where}: '{key}' is missing. {nearest(key, self.spans)}\n"
                "Fix: use the features.json that was written with these records."
            )
        return self.spans[key]

    def _wrong(self, key: str, wanted: str, kind: str) -> FormatError:
        return FormatError(
            f"{self.where}: '{key}' must hold {wanted}.\nFound: a {kind} list.\n"
            "Fix: use the features.json that was written with these records."
        )

    def _floats(self, start: int, stop: int) -> np.ndarray:
        parts: list[bytes] = []
        for field in message_fields(self.fetch, start, stop, self.where):
            size = field.stop - field.start
            if field.number != 1 or field.wire not in (SPAN, FIXED32) or size % 4:
                raise _damaged(self.where, "a float list has a field that is no float")
            parts.append(self.fetch(field.start, field.stop))
        return np.frombuffer(b"".join(parts), "<f4")

    def _ints(self, start: int, stop: int) -> np.ndarray:
        parts: list[np.ndarray] = []
        for field in message_fields(self.fetch, start, stop, self.where):
            if field.number != 1 or field.wire not in (SPAN, VARINT):
                raise _damaged(self.where, "an int64 list has a field that is no integer")
            if field.wire == VARINT:
                parts.append(np.array([field.value], np.uint64))
            else:
                packed = self.fetch(field.start, field.stop)
                parts.append(packed_varints(packed, self.where))
        return np.concatenate(parts or [np.empty(0, np.uint64)]).view(np.int64)


def _entry(
    fetch: Fetch, entry: MessageField, where: str
) -> tuple[str, tuple[str, int, int] | None]:
    """Key and value of one map entry; the value is None when the feature holds no list."""
    key, span = "", None
    for field in message_fields(fetch, entry.start, entry.stop, where):
        if field.number == 1 and field.wire == SPAN:
            if field.stop - field.start > 4096:
                raise _damaged(where, "a key is longer than 4096 bytes")
            try:
                key = fetch(field.start, field.stop).decode()
            except UnicodeDecodeError as error:
                raise _damaged(where, f"a key is not UTF-8: {error}") from error
        elif field.number == 2 and field.wire == SPAN:
            for value in message_fields(fetch, field.start, field.stop, where):
                if value.number in _KINDS and value.wire == SPAN:
                    span = (_KINDS[value.number], value.start, value.stop)
    return key, span


def _spans(fetch: Fetch, start: int, stop: int, number: int, where: str) -> Iterator[MessageField]:
    """The fields with this number; each must be a span. Others are skipped, as protobuf does."""
    for field in message_fields(fetch, start, stop, where):
        if field.number == number:
            if field.wire != SPAN:
                raise _damaged(where, f"field {number} has wire type {field.wire}")
            yield field


def message_fields(fetch: Fetch, start: int, stop: int, where: str) -> Iterator[MessageField]:
    """The fields of a message in order. Raises `FormatError` where they do not fit into it."""
    at = start
    while at < stop:
        head = fetch(at, min(at + 20, stop))  # a tag and a length are at most 10 bytes each
        tag, used = _varint(head, 0, where)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise _damaged(where, f"field number 0 at byte {at}")
        if wire == VARINT:
            value, used = _varint(head, used, where)
            field = MessageField(number, wire, at, at + used, value)
        elif wire == SPAN:
            size, used = _varint(head, used, where)
            field = MessageField(number, wire, at + used, at + used + size)
        elif wire in (FIXED32, FIXED64):
            field = MessageField(number, wire, at + used, at + used + (4 if wire == FIXED32 else 8))
        else:
            raise _damaged(where, f"wire type {wire} at byte {at}")
        if field.stop > stop:
            raise _damaged(where, f"a field at byte {at} reaches {field.stop - stop} bytes too far")
        yield field
        at = field.stop


def _varint(data: bytes, at: int, where: str) -> tuple[int, int]:
    """One base-128 number and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _damaged(where, "it ends inside a number")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise _damaged(where, "a number is longer than 10 bytes")


def packed_varints(data: bytes, where: str) -> np.ndarray:
    """A packed list of base-128 numbers, uint64."""
    octets = np.frombuffer(data, np.uint8)
    if len(octets) == 0:
        return np.empty(0, np.uint64)
    stops = np.flatnonzero(octets < 0x80) + 1
    if len(stops) == 0 or stops[-1] != len(octets):
        raise _damaged(where, "a list of numbers ends inside a number")
    starts = np.concatenate([[0], stops[:-1]])
    lengths = stops - starts
    if lengths.max() > 10:
        raise _damaged(where, "a number is longer than 10 bytes")
    digits = np.arange(len(octets)) - np.repeat(starts, lengths)
    shifted = (octets & 0x7F).astype(np.uint64) << (7 * digits).astype(np.uint64)
    return np.bitwise_or.reduceat(shifted, starts)


def _damaged(where: str, what: str) -> FormatError:
    return FormatError(
        f"{where}: is no valid tf.train.Example.\nFound: {what}.\n"
        "Fix: copy the file again; if its checksums hold, it was written by something else."
    )
