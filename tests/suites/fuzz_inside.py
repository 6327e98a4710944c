"""Damage that keeps a file's container whole: wrong types, lies about sizes, and bombs."""

import contextlib
import gzip
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np

from deft.formats.tfrecord import crc32c, masked
from suites.damage import replace_dataset
from suites.recordings import chunk, varint

_MIB = 1 << 20
_GIANT = (1 << 62, 1 << 40, (1 << 31) - 1, 10**9)


def has_suffix(*suffixes: str) -> Callable[[Path], bool]:
    return lambda path: path.suffix in suffixes


# --- HDF5 ---------------------------------------------------------------------------------------


def hdf5_table(path: Path, rng: Random) -> str:
    """A data set taken away, or of another dtype, shape or kind."""
    kind = rng.choice(["drop", "dtype", "rows", "axes", "group", "nan"])
    return replace_dataset(
        path, rng.random(), kind, rng.choice(["S4", "i1", "u8", "f2", "c8", "O"])
    )


def hdf5_bomb(path: Path, rng: Random) -> str:
    """A data set that claims far more than the file can hold, or packs zeros by the thousand."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda n, held: names.append(n) if isinstance(held, h5py.Dataset) else None)
        name = rng.choice(sorted(names))
        old: Any = file[name]
        dtype, shape = old.dtype, old.shape or (1,)
        del file[name]
        kind = rng.choice(["rows", "columns", "packed", "loop", "outside", "wide"])
        if kind == "rows":
            shape = (rng.choice(_GIANT), *shape[1:])
            file.create_dataset(name, shape, dtype, chunks=(1, *shape[1:]))
        elif kind == "columns":
            shape = (*shape[:-1], rng.choice(_GIANT))
            file.create_dataset(name, shape, dtype, chunks=(1,) * (len(shape) - 1) + (64,))
        elif kind == "packed" and dtype.kind in "fiu":
            zeros = np.zeros((64 * _MIB // max(1, dtype.itemsize),), dtype)
            file.create_dataset(name, data=zeros, chunks=(len(zeros) // 8,), compression="gzip")
        elif kind == "loop":
            file[name] = h5py.SoftLink("/" + name.split("/")[0])
        elif kind == "outside":
            file[name] = h5py.ExternalLink("/etc/passwd", "/x")
        else:
            file.create_dataset(name, shape[:1], "S1000000", chunks=(1,))
    return f"{name}: {kind} {shape}"


def hdf5_attribute(path: Path, rng: Random) -> str:
    """An attribute of another type, or gone."""
    found: list[tuple[str, str]] = []
    with h5py.File(path, "r+") as file:
        found += [("/", key) for key in file.attrs]
        file.visititems(lambda name, held: found.extend((name, key) for key in held.attrs))
        if not found:
            return ""
        name, key = rng.choice(sorted(found))
        del file[name].attrs[key]
        value = rng.choice([None, -1, 1 << 62, "text", "{" * 50_000, np.zeros(9), b"\xff", 1e308])
        if value is not None:
            file[name].attrs[key] = value
    return f"{name} {key} = {str(value)[:30]}"


# --- parquet ------------------------------------------------------------------------------------


def parquet_table(path: Path, rng: Random) -> str:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError):  # damaged already
        return ""
    name = rng.choice(table.column_names)
    at = table.column_names.index(name)
    rows = len(table)
    kind = rng.choice(["drop", "type", "fewer", "more", "null", "nan", "values", "ragged", "bytes"])
    if kind == "drop":
        table = table.drop_columns([name])
    elif kind == "fewer":
        table = table.slice(0, rng.randrange(rows or 1))
    elif kind == "more":
        table = pyarrow.concat_tables([table, table])
    else:
        others: dict[str, Any] = {
            "type": ["text"] * rows,
            "null": pyarrow.nulls(rows),
            "nan": np.full(rows, np.nan, np.float32),
            "values": np.full(rows, rng.choice([-1, 1 << 40, -(1 << 60)])),
            "ragged": [[1.0] * (i % 3) for i in range(rows)],
            "bytes": [{"bytes": b"\xff\xd8\xff" + bytes(9), "path": "../../x"}] * rows,
        }
        table = table.set_column(at, name, pyarrow.array(others[kind]))
    pyarrow.parquet.write_table(table, path)
    return f"column {name}: {kind}"


# --- numpy and pickle ---------------------------------------------------------------------------


def npy_header(path: Path, rng: Random) -> str:
    """A header that promises another shape, dtype or order than the file holds."""
    shape = rng.choice(
        [(rng.choice(_GIANT),), (1 << 32, 1 << 32), (0,), (), (-1,), (3, 1 << 40), (1,) * 40]
    )
    descr = rng.choice(["'<f4'", "'|O'", "'<f8'", "'|S1000000'", "[('a', '<f4')]", "'<M8[ns]'"])
    text = f"{{'descr': {descr}, 'fortran_order': {rng.random() < 0.2}, 'shape': {shape}, }}"
    text = rng.choice([text, text, "(" * 5000, "{'a'", "__import__('os').getcwd()"])
    head = text.ljust(118).encode() + b"\n"
    version = rng.choice([b"\x01\x00", b"\x01\x00", b"\x09\x00"])
    body = path.read_bytes()[128:]
    path.write_bytes(b"\x93NUMPY" + version + struct.pack("<H", len(head)) + head + body)
    return f"header {text[:60]}"


class _Caller:
    """Its pickle calls a function of the reader's Python."""

    def __init__(self, call: Callable[..., Any], *words: Any) -> None:
        self._made = (call, words)

    def __reduce__(self) -> Any:
        return self._made


def pickle_bomb(path: Path, rng: Random) -> str:
    """A pickle that calls functions, or promises or builds more than there is memory for."""
    import os

    marker = str(path.parent / "ESCAPED")
    bombs: dict[str, bytes] = {
        "calls": pickle.dumps(_Caller(os.mkdir, marker)),
        "opens": pickle.dumps(_Caller(open, marker, "w")),
        "array": pickle.dumps(_Caller(np.zeros, (1 << 40,))),
        "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
        "text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
        "deep": b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b".",
        "laughs": b"\x80\x04]q\x00(h\x00h\x00e" + b"".join(
            b"]q" + bytes([n]) + b"(" + b"h" + bytes([n - 1]) + b"h" + bytes([n - 1]) + b"e"
            for n in range(1, 200)
        ) + b".",
        "long": b"\x80\x04\x8b" + struct.pack("<i", 1 << 30) + b"\x01.",
        "memo": b"\x80\x04Nr" + struct.pack("<I", (1 << 31) - 2) + b".",
        "tuples": b"\x80\x04)" + b"\x86" * 100_000 + b".",
        "other": pickle.dumps({"observations": [], "actions": None, "obs": np.zeros(3)}),
        "none": pickle.dumps(None),
        "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 50) + b"N.",
    }  # fmt: skip
    kind = rng.choice(sorted(bombs))
    data = bombs[kind]
    if path.suffix == ".npy":
        head = b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }".ljust(117) + b"\n"
        data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data
    path.write_bytes(data)
    return f"pickle bomb '{kind}'"


# --- zip ----------------------------------------------------------------------------------------


def zip_bomb(path: Path, rng: Random) -> str:
    """A member that unpacks to far more than is there, lies about its size, or is not there."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(sorted(members))
    kind = rng.choice(["zeros", "size", "gone", "twice", "many", "up", "method"])
    with zipfile.ZipFile(path, "w") as archive, contextlib.suppress(KeyError):
        for key, data in members.items():
            if key != name:
                archive.writestr(key, data)
            elif kind == "zeros":
                archive.writestr(key, bytes(200 * _MIB), zipfile.ZIP_DEFLATED)
            elif kind == "twice":
                with contextlib.suppress(UserWarning):
                    archive.writestr(key, data)
                    archive.writestr(key, b"other")
            elif kind in ("size", "method"):
                archive.writestr(key, data)
        if kind == "many":
            for number in range(20_000):
                archive.writestr(f"data/action/{number}.7", b"")
        if kind == "up":
            archive.writestr("../../up", b"x")
    if kind in ("size", "method"):
        data = bytearray(path.read_bytes())
        at = data.rfind(b"PK\x01\x02")
        field = 24 if kind == "size" else 10
        data[at + field : at + field + 2] = b"\xff\x7f"
        path.write_bytes(data)
    return f"{name}: {kind}"


# --- TFRecord -----------------------------------------------------------------------------------


def tfrecord_sealed(path: Path, rng: Random) -> str:
    """Damage inside a record whose checksums are then made good again."""
    records = _records(path.read_bytes())
    if not records:
        return ""
    number = rng.randrange(len(records))
    data = bytearray(records[number])
    kind = rng.choice(["flip", "flip", "flip", "cut", "word", "insert", "giant", "empty", "swap"])
    at = rng.choice([rng.randrange(len(data)), rng.randrange(min(200, len(data)))])
    if kind == "flip":
        data[at] ^= rng.randrange(1, 256)
    elif kind == "cut":
        del data[at:]
    elif kind == "word":
        data[at : at + 5] = b"\xff\xff\xff\xff\x0f"
    elif kind == "insert":
        data[at:at] = rng.randbytes(9)
    elif kind == "empty":
        data.clear()
    elif kind == "swap":
        data = bytearray(_example_of_giants())
    else:
        data = data.replace(b"\x12\x02\x08\x03", b"\x12\x06\x08" + varint(1 << 27), 1)
    records[number] = bytes(data)
    path.write_bytes(b"".join(map(sealed, records)))
    return f"record {number}, {kind} at {at}, checksums made good"


def tfrecord_lengths(path: Path, rng: Random) -> str:
    """A length with a good checksum that no file could hold."""
    length = struct.pack("<Q", rng.choice([0, 1, *_GIANT, (1 << 64) - 1, (1 << 64) - 16]))
    head = length + struct.pack("<I", masked(crc32c(length)))
    path.write_bytes(rng.choice([head, head + path.read_bytes()[12:], path.read_bytes() + head]))
    return f"a record of {int.from_bytes(length, 'little')} bytes"


def gzip_bomb(path: Path, rng: Random) -> str:
    """The same records packed, or a gigabyte of zeros in a megabyte."""
    data = path.read_bytes()
    kind = rng.choice(["records", "zeros", "cut", "flip", "nested", "record of zeros"])
    if kind == "zeros":
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        parts = [packer.compress(bytes(16 * _MIB)) for _ in range(64)]
        packed = b"".join([*parts, packer.flush()])
    elif kind == "record of zeros":
        packed = gzip.compress(sealed(bytes(300 * _MIB), check=False), 1)
    else:
        packed = gzip.compress(data)
        if kind == "cut":
            packed = packed[: rng.randrange(len(packed))]
        elif kind == "flip":
            at = rng.randrange(len(packed))
            packed = packed[:at] + bytes([packed[at] ^ 0x55]) + packed[at + 1 :]
        elif kind == "nested":
            packed = gzip.compress(packed)
    path.write_bytes(packed)
    return f"gzip, {kind}"


def _records(data: bytes) -> list[bytes]:
    found: list[bytes] = []
    at = 0
    while at + 16 <= len(data):
        (size,) = struct.unpack("<Q", data[at : at + 8])
        if size > len(data):
            break
        found.append(data[at + 12 : at + 12 + size])
        at += 16 + size
    return [each for each in found if each]


def sealed(data: bytes, check: bool = True) -> bytes:
    """A TFRecord; `check` says whether the data's checksum is right."""
    length = struct.pack("<Q", len(data))
    mark = masked(crc32c(data)) if check else 7
    return length + struct.pack("<I", masked(crc32c(length))) + data + struct.pack("<I", mark)


def _example_of_giants() -> bytes:
    """A tf.train.Example with a TensorProto that claims 2^40 pixels."""
    dims = b"".join(chunk(2, b"\x08" + varint(n)) for n in (1 << 20, 1 << 20, 3))
    tensor = b"\x08\x04" + chunk(2, dims) + chunk(4, b"x")
    entries = b"".join(
        chunk(1, chunk(1, key) + chunk(2, chunk(1, chunk(1, tensor))))
        for key in (b"observations/images0", b"observations/state", b"actions")
    )
    return chunk(1, entries)


# --- pictures -----------------------------------------------------------------------------------


def picture_size(path: Path, rng: Random) -> str:
    """A picture that claims to be huge, is of another size or kind, or black."""
    from PIL import Image

    kind = rng.choice(["huge", "other size", "grey", "palette", "alpha", "one pixel", "text"])
    if kind == "huge":
        data = bytearray(path.read_bytes())
        if data.startswith(b"\x89PNG"):
            data[16:24] = struct.pack(">II", 60_000, 60_000)
            data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        else:
            at = data.find(b"\xff\xc0")
            data[at + 5 : at + 9] = struct.pack(">HH", 65_000, 65_000)
        path.write_bytes(data)
        return "claims to be huge"
    size = {"one pixel": (1, 1), "other size": (47, 31)}.get(kind, (48, 32))
    mode = {"grey": "L", "palette": "P", "alpha": "RGBA"}.get(kind, "RGB")
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG" if mode in ("P", "RGBA") else "JPEG")
    path.write_bytes(b"not a picture" if kind == "text" else file.getvalue())
    return f"another picture: {kind}"


INSIDE: dict[str, tuple[Callable[[Path], bool], Callable[[Path, Random], str]]] = {
    "hdf5 table": (has_suffix(".hdf5", ".h5"), hdf5_table),
    "hdf5 bomb": (has_suffix(".hdf5", ".h5"), hdf5_bomb),
    "hdf5 attribute": (has_suffix(".hdf5", ".h5"), hdf5_attribute),
    "parquet table": (has_suffix(".parquet"), parquet_table),
    "npy header": (has_suffix(".npy"), npy_header),
    "pickle bomb": (lambda path: path.suffix == ".pkl" or path.name == "out.npy", pickle_bomb),
    "zip bomb": (has_suffix(".zip"), zip_bomb),
    "tfrecord sealed": (lambda path: ".tfrecord" in path.name, tfrecord_sealed),
    "tfrecord lengths": (lambda path: ".tfrecord" in path.name, tfrecord_lengths),
    "gzip bomb": (lambda path: ".tfrecord" in path.name, gzip_bomb),
    "picture size": (has_suffix(".jpg", ".jpeg", ".png"), picture_size),
}
"""Kinds of damage by name: which files each fits, and what it does."""
