"""Columns of one parquet file as dense numpy arrays."""

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import FormatError, nearest
from deft.formats.regular import check_regular

_LIMIT = 4 << 30
_KINDS = {
    "f": "floating-point numbers",
    "i": "whole numbers",
    "u": "whole numbers",
    "b": "booleans",
}


class ParquetTable:
    """One parquet file, of which columns are read by ranges of rows; safe to share by threads.

    Raises:
        FormatError: the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet

        self.path = path
        with _reading(path):
            check_regular(path)
            self._metadata = pyarrow.parquet.read_metadata(path)
            self.names: list[str] = self._metadata.schema.to_arrow_schema().names
            groups = [self._metadata.row_group(n) for n in range(self._metadata.num_row_groups)]
        self._ends = list(accumulate(group.num_rows for group in groups))
        self._sizes = [group.total_byte_size for group in groups]

    @property
    def length(self) -> int:
        """Number of rows."""
        return self._metadata.num_rows

    def read(self, keys: Sequence[str], rows: range | None = None) -> dict[str, Any]:
        """The named columns, each as one pyarrow array.

        Only the row groups that hold the rows are read.

        Raises:
            FormatError: the file is damaged, the groups are too large, or a column is not there.
        """
        self.require(keys)
        rows = range(self.length) if rows is None else rows
        groups = self.groups(rows)
        if not groups:
            groups = range(min(1, len(self._ends)))
        size = sum(self._sizes[n] for n in groups)
        if size > _LIMIT:
            raise FormatError(
                f"{self.path}: the table would take {size >> 20} MiB of memory.\n"
                f"Fix: store episodes that are smaller than {_LIMIT >> 20} MiB."
            )
        with self._open() as file:
            table = file.read_row_groups(list(groups), list(keys), use_threads=False)
        begin = rows.start - self._begin(groups)
        table = table.slice(begin, len(rows))
        return {key: table.column(key).combine_chunks() for key in keys}

    def batches(self, key: str, rows: range, size: int) -> Iterator[Any]:
        """One column as pyarrow arrays of up to `size` rows, without holding more than that.

        Raises:
            FormatError: see `read`.
        """
        self.require([key])
        groups = self.groups(rows)
        at = self._begin(groups)
        with self._open(buffer_size=1 << 18) as file:
            batches = file.iter_batches(size, list(groups), [key], use_threads=False)
            for batch in batches:
                column = batch.column(key)
                begin, end = max(rows.start - at, 0), min(rows.stop - at, len(column))
                if begin < end:
                    yield column.slice(begin, end - begin)
                at += len(column)
                if at >= rows.stop:
                    return

    def groups(self, rows: range) -> range:
        """The row groups that hold these rows."""
        if not rows:
            return range(0)
        return range(bisect_right(self._ends, rows.start), bisect_left(self._ends, rows.stop) + 1)

    def rows_of(self, groups: range) -> range:
        """All rows of these row groups."""
        return range(self._begin(groups), self._ends[groups[-1]]) if groups else range(0)

    def _begin(self, groups: range) -> int:
        return self._ends[groups.start - 1] if groups.start else 0

    def require(self, keys: Sequence[str]) -> None:
        """Raise `FormatError` when a column is not there."""
        for key in keys:
            if key not in self.names:
                raise FormatError(
                    f"{self.path}: there is no column '{key}'. {nearest(key, self.names)}\n"
                    "Fix: write the column, or take the feature out of meta/info.json."
                )

    @contextmanager
    def _open(self, **options: Any) -> Generator[Any]:
        import pyarrow.parquet

        with (
            _reading(self.path),
            pyarrow.parquet.ParquetFile(
                self.path, metadata=self._metadata, page_checksum_verification=True, **options
            ) as file,
        ):
            yield file


@contextmanager
def _reading(path: Path) -> Generator[None]:
    import pyarrow

    try:
        yield
    except (OSError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise FormatError(
            f"{path}: the table cannot be read.\nFound: {error}.\n"
            "Fix: copy the file again, or leave this episode out."
        ) from error


def dense(column: Any, shape: tuple[int, ...], dtype: str, where: str) -> np.ndarray:
    """A numeric column as `T *shape` in the declared dtype; a shape of (1,) may be plain numbers.

    Raises:
        FormatError: a value is missing, rows differ in length, or the numbers are of another kind.
    """
    import pyarrow
    from pyarrow import compute

    rows, types = len(column), pyarrow.types
    if shape == (1,) and not _is_list(column.type):
        axes: tuple[int, ...] = ()
    else:
        axes = shape
    for size in axes:
        if not _is_list(column.type):
            raise _mismatch(where, f"{len(shape)} axes {list(shape)}", str(column.type))
        _refuse_nulls(column, where)
        lengths = np.unique(
            compute.call_function("list_value_length", [column]).to_numpy(zero_copy_only=False)
        )
        if any(length != size for length in lengths):
            raise _mismatch(where, f"{size} values", " or ".join(map(str, lengths[:5])))
        column = column.flatten()
    _refuse_nulls(column, where)
    kind = column.type
    if not (types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)):
        raise _mismatch(where, dtype, str(kind))
    values = column.to_numpy(zero_copy_only=False)
    wanted = np.dtype(dtype)
    if _KINDS[values.dtype.kind] != _KINDS[wanted.kind]:
        raise _mismatch(where, dtype, values.dtype.name)
    if values.dtype.kind in "iu" and rows:
        limits = np.iinfo(wanted)
        if int(values.min()) < limits.min or int(values.max()) > limits.max:
            raise _mismatch(where, dtype, f"values from {values.min()} to {values.max()}")
    with np.errstate(over="ignore"):
        return values.astype(wanted).reshape(rows, *shape)


def pictures(column: Any, where: str) -> list[tuple[bytes | None, str]]:
    """A column of encoded pictures: the bytes of each, or None and where its file lies."""
    import pyarrow

    types = pyarrow.types
    paths = [""] * len(column)
    if types.is_struct(column.type):
        names = {field.name for field in column.type}
        _refuse_nulls(column, where)
        if "path" in names and types.is_string(column.type.field("path").type):
            paths = [path or "" for path in column.field("path").to_pylist()]
        if "bytes" in names:
            column = column.field("bytes")
    if types.is_string(column.type):
        return [(None, path or "") for path in column.to_pylist()]
    is_bytes = (types.is_binary, types.is_large_binary, types.is_null)
    if not any(is_kind(column.type) for is_kind in is_bytes):
        raise _mismatch(where, "pictures as bytes", str(column.type))
    return list(zip(column.to_pylist(), paths, strict=True))


def texts(column: Any, where: str) -> list[str]:
    """A column of words, null as none."""
    import pyarrow

    types = pyarrow.types
    if not (types.is_string(column.type) or types.is_large_string(column.type)):
        raise _mismatch(where, "text", str(column.type))
    return [text or "" for text in column.to_pylist()]


def _is_list(kind: Any) -> bool:
    import pyarrow

    types = pyarrow.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _refuse_nulls(column: Any, where: str) -> None:
    if column.null_count:
        raise _mismatch(where, "a value in every row", f"{column.null_count} without")


def _mismatch(where: str, wanted: str, found: str) -> FormatError:
    return FormatError(
        f"{where}: wanted {wanted}.\nFound: {found}.\n"
        "Fix: correct the feature in meta/info.json, or write the table again."
    )
