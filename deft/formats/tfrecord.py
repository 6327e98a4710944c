"""TFRecord files without TensorFlow: framing, and CRC32C in numpy.

A record is: length (u64), masked CRC32C of these 8 bytes, data, masked CRC32C of the data; all
little-endian. Source: TensorFlow's documentation of the TFRecord file format.
"""

import functools
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deft.errors import FormatError
from deft.formats.regular import open_regular

_POLYNOMIAL = 0x82F63B78  # Castagnoli, bits reversed
_LANES = 4096  # 32-bit words that advance together; 16 KiB a row amortises numpy's call overhead


@dataclass(frozen=True)
class RecordPlace:
    """Where the data of one record lies in its file."""

    path: Path
    number: int
    offset: int
    size: int

    @property
    def where(self) -> str:
        return f"{self.path}, record {self.number}"


def scan_records(path: Path) -> list[RecordPlace]:
    """Every record of a file, by its framing alone: 12 bytes are read per record.

    Raises:
        FormatError: a length does not match its checksum, or the file ends inside a record.
    """
    places, damage = scan_sound_records(path)
    if damage is not None:
        raise damage
    return places


def scan_sound_records(path: Path) -> tuple[list[RecordPlace], FormatError | None]:
    """Every record before the first damage in a file, and that damage; see `scan_records`."""
    places: list[RecordPlace] = []
    try:
        size = path.stat().st_size
        with open_regular(path, 0) as file:
            at = 0
            while at < size:
                place = _place(path, len(places), at, size, file.read(12))
                places.append(place)
                at = file.seek(place.offset + place.size + 4)
    except OSError as error:
        return places, _unreadable(path, error)
    except FormatError as error:
        return places, error
    return places, None


def read_record(place: RecordPlace) -> bytes:
    """The data of one record, its checksum verified."""
    try:
        with open_regular(place.path, 0) as file:
            file.seek(place.offset)
            data = file.read(place.size + 4)
    except OSError as error:
        raise _unreadable(place.path, error) from error
    if len(data) != place.size + 4:
        raise FormatError(
            f"{place.where}: the file has become shorter while it was read.\n"
            f"Found: {len(data)} of {place.size + 4} bytes.\nFix: copy the file again."
        )
    (wanted,) = struct.unpack("<I", data[place.size :])
    data = data[: place.size]
    if masked(crc32c(data)) != wanted:
        raise FormatError(
            f"{place.where}: the data does not match its checksum.\n"
            f"Found: {masked(crc32c(data)):08x}, the file says {wanted:08x}.\n"
            "Fix: copy the file again; this copy is damaged."
        )
    return data


def masked(crc: int) -> int:
    """The form in which TFRecord stores a CRC32C: rotated right by 15, plus a constant."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC32C (Castagnoli) of some bytes.

    The checksum is linear over GF(2). The bytes are laid out as rows of `_LANES` words; each row
    first advances the state of every lane by one row of zeros, then is added; the lanes are folded
    in halves at the end. About 0.5-1 GB/s, and no compiled package.
    """
    if len(data) < 64:
        return _crc32c_bytewise(data)
    rows = -(-len(data) // (4 * _LANES))
    padded = np.zeros(rows * 4 * _LANES, np.uint8)
    start = len(padded) - len(data)  # leading zeros leave a zero state alone
    padded[start:] = np.frombuffer(data, np.uint8)
    padded[start : start + 4] ^= 0xFF  # the initial state of all ones
    words = padded.view("<u4").reshape(rows, _LANES)
    low, high = _wide_table()
    state = words[0]
    for row in words[1:]:
        halves = np.ascontiguousarray(state).view("<u2")
        state = low.take(halves[0::2]) ^ high.take(halves[1::2]) ^ row
    tables = _octet_tables()
    for power in range(_LANES.bit_length() - 2, -1, -1):
        half = len(state) // 2
        state = _advance(tables[power], state[:half]) ^ state[half:]
    return int(_advance(tables[0], state)[0]) ^ 0xFFFFFFFF


def _crc32c_bytewise(data: bytes) -> int:
    table = _byte_table()
    state = 0xFFFFFFFF
    for byte in data:
        state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


@functools.cache
def _byte_table() -> tuple[int, ...]:
    table: list[int] = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


@functools.cache
def _advance_matrices() -> list[np.ndarray]:
    """Matrix number k advances a state by 2**k words of zeros; column b is the image of bit b."""
    columns = np.uint32(1) << np.arange(32, dtype=np.uint32)
    table = np.array(_byte_table(), np.uint32)
    for _ in range(4):
        columns = table[columns & np.uint32(0xFF)] ^ (columns >> np.uint32(8))
    matrices = [columns]
    while len(matrices) < _LANES.bit_length():
        matrices.append(_apply(matrices[-1], matrices[-1]))
    return matrices


@functools.cache
def _wide_table() -> tuple[np.ndarray, np.ndarray]:
    """One row's advance for every low and every high half of a word."""
    halves = np.arange(1 << 16, dtype=np.uint32)
    matrix = _advance_matrices()[-1]
    return _apply(matrix, halves), _apply(matrix, halves << np.uint32(16))


@functools.cache
def _octet_tables() -> list[np.ndarray]:
    """The same matrices as tables `4 256`: the image of every value of each octet of a word."""
    octets = np.arange(256, dtype=np.uint32)
    places = [octets << np.uint32(8 * place) for place in range(4)]
    return [np.stack([_apply(m, each) for each in places]) for m in _advance_matrices()]


def _advance(tables: np.ndarray, words: np.ndarray) -> np.ndarray:
    octets = np.ascontiguousarray(words).view(np.uint8).reshape(-1, 4)
    one, two, three, four = (tables[place].take(octets[:, place]) for place in range(4))
    return one ^ two ^ three ^ four


def _apply(matrix: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Matrix times every word, over GF(2)."""
    result = np.zeros(len(words), np.uint32)
    for bit in range(32):
        result ^= ((words >> np.uint32(bit)) & np.uint32(1)) * matrix[bit]
    return result


def _place(path: Path, number: int, at: int, size: int, header: bytes) -> RecordPlace:
    if len(header) == 12:
        length, wanted = struct.unpack("<QI", header)
        if masked(crc32c(header[:8])) != wanted:
            raise FormatError(
                f"{path}, record {number} at byte {at}: its length does not match its checksum.\n"
                f"Found: length {length}.\n"
                "Fix: copy the file again; this copy is damaged, or it is no TFRecord file."
            )
        if length <= size - at - 16:
            return RecordPlace(path, number, at + 12, length)
    raise FormatError(
        f"{path}, record {number} at byte {at}: the file ends inside the record.\n"
        f"Found: {size - at} bytes are left.\nFix: copy the file again; this copy is cut short."
    )


def _unreadable(path: Path, error: OSError) -> FormatError:
    return FormatError(
        f"{path}: cannot be read.\nFound: {error}.\n"
        "Fix: check the disk and the permissions, or copy the file again."
    )
