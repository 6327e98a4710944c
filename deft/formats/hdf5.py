"""HDF5 files from outside: whatever is wrong with one becomes a FormatError that names it.

Links and data sets that lead to other files are refused, so a recording shows only itself. libhdf5
may loop for ever over metadata in which bits are flipped, so another process tries it first.
"""

import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import FormatError, need
from deft.formats.hdf5_probe import check_structure
from deft.formats.regular import check_regular, open_regular

NUMBERS = frozenset(
    {"bool", "float16", "float32", "float64"}
    | {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
)
"""Names of the dtypes that tables may have."""

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_ERRORS = (
    OSError,
    LookupError,
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)
_MAX_READ = 4 << 30
_MAX_BLOB = 64 << 20
_CHUNK_CACHE = 16 << 20


def is_hdf5(path: Path) -> bool:
    """Whether a file begins like HDF5; needs no package."""
    try:
        with open_regular(path) as file:
            # The signature may follow a user block of 512, 1024, 2048 bytes.
            head = file.read(2048 + 8)
    except OSError:
        return False
    return any(head[at : at + 8] == _SIGNATURE for at in (0, 512, 1024, 2048))


def natural(text: str) -> tuple[tuple[int, int | str], ...]:
    """A sort key that puts `demo_2` before `demo_10`."""
    parts = re.split(r"(\d+)", text)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


class Hdf5:
    """One HDF5 file, open from the first use until it is forgotten; threads take turns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._file: Any = None

    @contextmanager
    def reading(self, key: str) -> Generator[Any]:
        """The open h5py file, to this thread alone; what h5py raises becomes `FormatError`."""
        h5py = need("h5py", "hdf5")
        with self._lock:
            try:
                if self._file is None:
                    check_regular(self.path)
                    check_structure(self.path)
                    self._file = h5py.File(self.path, "r", rdcc_nbytes=_CHUNK_CACHE)
                yield self._file
            except FormatError:
                raise
            except _ERRORS as error:
                raise FormatError(
                    f"{self.path}{f', {key!r}' if key else ''}: the file cannot be read.\n"
                    f"Found: {str(error) or type(error).__name__}.\n"
                    "Fix: copy the file again, whole; if its writer was killed, try "
                    "`h5clear --status` on it."
                ) from error

    def members(self, group: str) -> dict[str, str]:
        """Names in a group in natural order, each with `group` or `table`; empty without it."""
        h5py = need("h5py", "hdf5")
        with self.reading(group) as file:
            if self._kind(file, group) != "group":
                return {}
            found: dict[str, str] = {}
            names = [_text(name) for name in file[group or "/"]]
            for name in sorted(names, key=natural):
                link = file[group or "/"].get(name, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    raise self._leads_away(f"{group}/{name}", str(link.filename))
                kind = file[group or "/"].get(name, getclass=True)
                found[name] = "group" if kind is h5py.Group else "table"
            return found

    def attributes(self, key: str, *names: str) -> dict[str, Any]:
        """Those of the named attributes that a group or table has.

        Text comes as str, numbers as Python's own, the rest as arrays.
        """
        with self.reading(key) as file:
            if not self._kind(file, key):
                return {}
            held = file[key or "/"].attrs
            return {name: _plain(held[name]) for name in names if name in held}

    def table(self, key: str) -> "Hdf5Table | None":
        """The data set at a path; None when there is none."""
        with self.reading(key) as file:
            if self._kind(file, key) != "table":
                return None
            dataset = file[key]
            if dataset.external or dataset.is_virtual:
                raise self._leads_away(key, "external or virtual storage")
            if dataset.shape is None:
                return None  # an empty dataspace holds nothing
            return Hdf5Table(self, key, dataset)

    def text(self, key: str) -> str | None:
        """A data set with one text in it; None when there is none, or it holds something else."""
        table = self.table(key)
        if table is None or table.shape not in ((), (1,)) or table.dtype.kind not in "SO":
            return None
        table.check_size()
        with self.reading(key):
            value = table.dataset[()]
            value = value if table.shape == () else value[0]
            return _text(value) if isinstance(value, bytes | str) else None

    def _kind(self, file: Any, key: str) -> str:
        """`group`, `table`, or nothing; follows no link into another file."""
        h5py = need("h5py", "hdf5")
        place = file
        for part in [each for each in key.split("/") if each]:
            if not isinstance(place, h5py.Group):
                return ""
            link = place.get(part, getlink=True, default=None)
            if link is None:
                return ""
            if isinstance(link, h5py.ExternalLink):
                raise self._leads_away(key, str(link.filename))
            place = place[part]
            if place.file.filename != file.filename:  # through a soft link to an external one
                raise self._leads_away(key, str(place.file.filename))
        if isinstance(place, h5py.Group):
            return "group"
        return "table" if isinstance(place, h5py.Dataset) else ""

    def _leads_away(self, key: str, where: str) -> FormatError:
        return FormatError(
            f"{self.path}, '{key}': its content lies elsewhere, which is not followed.\n"
            f"Found: {where}.\nFix: copy it into one file, with `h5repack` or `h5copy`, say."
        )


class Hdf5Table:
    """One data set. Safe to use from several threads."""

    def __init__(self, file: Hdf5, key: str, dataset: Any) -> None:
        self.where = f"{file.path}, '{key}'"
        self.key = key
        self.dataset = dataset
        """The h5py object; only inside `Hdf5.reading`."""
        self._file = file
        self.shape: tuple[int, ...] = tuple(int(n) for n in dataset.shape)
        self.dtype: np.dtype[Any] = dataset.dtype
        self._stored = int(dataset.id.get_storage_size())
        chunks = dataset.chunks
        self._chunk_rows = int(chunks[0]) if chunks else 1
        self._variable = need("h5py", "hdf5").check_vlen_dtype(self.dtype)

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    @property
    def is_numeric(self) -> bool:
        return self.dtype.name in NUMBERS

    @property
    def holds_blobs(self) -> bool:
        """One piece of bytes per row: fixed-length or variable bytes, or padded uint8 rows."""
        if len(self.shape) == 1:
            return self.dtype.kind in "SV" or self._variable in (np.uint8, np.int8)
        return len(self.shape) == 2 and self.dtype == np.uint8

    def rows(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """A copy of the rows from `start` up to `stop`, in the machine's byte order."""
        stop = len(self) if stop is None else stop
        if not self.is_numeric or not self.shape:
            raise FormatError(
                f"{self.where}: wanted a table of numbers.\n"
                f"Found: {self.dtype} of shape {list(self.shape)}.\nFix: save it as numbers."
            )
        self.check_written()
        size = (stop - start) * int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        # No filter of HDF5 packs closer than deflate, about 1000 to 1.
        if size > min(_MAX_READ, (self._stored << 11) + (1 << 20)) or len(self) > 1 << 31:
            raise FormatError(
                f"{self.where}: reading rows {start} to {stop} would take {size >> 20} MiB.\n"
                f"Found: shape {list(self.shape)}, {self._stored} bytes in the file.\n"
                f"Fix: store episodes that are smaller than {_MAX_READ >> 20} MiB."
            )
        with self._file.reading(self.key):
            values = np.asarray(self.dataset[start:stop])
        return values.astype(self.dtype.newbyteorder("="), copy=False)

    def number(self) -> float:
        """The one number in a table without axes."""
        self.check_written()
        with self._file.reading(self.key):
            return float(self.dataset[()])

    def rows_as(self, dtype: str) -> np.ndarray:
        """All rows in another dtype; floats beyond its range become infinite."""
        with np.errstate(over="ignore"):
            return self.rows().astype(dtype, copy=False)

    def pieces(self, start: int, stop: int) -> Generator[np.ndarray]:
        """The same rows in order, a few at a time; whole chunks where there are chunks."""
        row = max(1, int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize)
        step = max(1, _CHUNK_CACHE // row // self._chunk_rows) * self._chunk_rows
        for first in range(start // step * step, stop, step):
            yield self.rows(max(first, start), min(first + step, stop))

    def texts(self) -> list[str]:
        """Every row as text. Raises `FormatError` when the rows hold something else."""
        h5py = need("h5py", "hdf5")
        is_text = self.dtype.kind == "S" or h5py.check_string_dtype(self.dtype) is not None
        if len(self.shape) != 1 or not is_text or len(self) > 1 << 24:
            raise FormatError(
                f"{self.where}: wanted a list of texts.\n"
                f"Found: {self.dtype} of shape {list(self.shape)}.\nFix: copy the file again."
            )
        self.check_size()
        with self._file.reading(self.key):
            return [_text(value) for value in self.dataset[()].tolist()]

    def check_size(self) -> None:
        """Raise `FormatError` when one row is too large for a picture or a text."""
        row = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        if row > _MAX_BLOB:
            raise FormatError(
                f"{self.where}: one row takes {row >> 20} MiB, too large for what it should hold.\n"
                f"Found: {self.dtype} of shape {list(self.shape)}.\nFix: copy the file again."
            )

    def blob(self, row: int) -> bytes:
        """The bytes of one row, without padding zeros at the end."""
        self.check_size()
        self.check_written()
        with self._file.reading(self.key):
            value = self.dataset[row]
            data = bytes(value) if isinstance(value, bytes) else bytes(value.tobytes())
        return data.rstrip(b"\0")

    def check_written(self) -> None:
        """Raise `FormatError` when a recorder reserved it and never wrote: HDF5 reads zeros."""
        if self._stored == 0 and 0 not in self.shape:
            raise FormatError(
                f"{self.where}: was reserved, and nothing was ever written to it.\n"
                f"Found: shape {list(self.shape)}, 0 bytes in the file.\n"
                "Fix: leave this episode out, or record it again."
            )


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | str):
        return _text(value)
    if isinstance(value, np.generic | np.ndarray) and value.shape == () and value.dtype.kind != "O":
        return _text(value.item()) if value.dtype.kind == "S" else value.item()
    return value
