"""What a pickle may hold: plain data and numpy arrays, each checked while it is put together.

Nothing here calls what a pickle names. A name is looked up in one table; behind every entry stands
a function of this file that builds the value from checked parts.
"""

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from deft.errors import FormatError
from deft.formats.regular import open_regular

_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|c(8|16)|[SUV][1-9]\d{0,8}|O8?")
_KEY_PARTS = 64
_MAX_DEPTH = 64
_LEAVES = frozenset((int, float, bool, type(None), str, bytes, complex))


class UnfitError(ValueError):
    """A pickle holds something that is not taken; the caller adds file and place."""


@dataclass(frozen=True, slots=True)
class Place:
    """An array that was left in its file, to be read when it is asked for."""

    path: Path
    offset: int
    """Of its first byte."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: str = "C"

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> np.ndarray:
        """The array, a copy of its own. Raises `FormatError` when the file has become shorter."""
        try:
            with open_regular(self.path, 0) as file:
                file.seek(self.offset)
                raw = cast(io.RawIOBase, file)  # without a buffer it is one
                flat = np.empty(self.nbytes, np.uint8)
                view, held = flat.data, 0
                while held < len(view) and (count := raw.readinto(view[held:])):
                    held += count
        except OSError as error:
            raise FormatError(
                f"{self.path}: cannot be read.\nFound: {error}.\n"
                "Fix: check the disk and the permissions, or copy the file again."
            ) from error
        if held < self.nbytes:
            raise FormatError(
                f"{self.path}: the file has become shorter since it was opened.\n"
                f"Found: {held} of {self.nbytes} bytes at byte {self.offset}.\n"
                "Fix: copy the file again."
            )
        return flat.view(self.dtype).reshape(self.shape, order=self.order)  # pyright: ignore


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a pickle asks for; never the thing itself."""

    module: str
    name: str

    def __str__(self) -> str:
        text = f"{self.module}.{self.name}"
        return text if text.isprintable() and len(text) <= 120 else f"{text[:120]!r}"


@dataclass(slots=True)
class Pending:
    """An object between being made and being given its content."""

    kind: str
    """`array` or `dtype`."""
    dtype: np.dtype[Any] | None = None
    memo: int = -1
    """Under which number it is remembered; -1 when it is not."""


def build(name: Name, args: Any) -> Any:
    """What calling `name` with `args` would give; a `Pending` for what is filled in later.

    Raises:
        UnfitError: `name` is not in the table of plain data, or its arguments are not as expected.
    """
    maker = _MAKERS.get((name.module, name.name))
    if maker is None:
        raise refuse(name)
    if not isinstance(args, tuple):
        raise UnfitError(f"arguments of {name} that are no tuple")
    return maker(*args)


def refuse(name: Name) -> UnfitError:
    return UnfitError(
        f"it asks for {name}, which is neither a number, text, a container nor numpy data"
    )


def fill(pending: Pending, state: Any) -> Any:
    """The finished array or dtype."""
    if pending.kind == "array":
        # version, shape, dtype, Fortran order, data
        match state:
            case (_, shape, dtype, bool() | 0 | 1 as is_fortran, data):
                return make_array(data, dtype, shape, "F" if is_fortran else "C")
            case _:
                raise UnfitError("an array without shape, dtype and data")
    # version, byte order, subarray, names, fields, itemsize, alignment, flags
    match state:
        case (int(), "<" | ">" | "=" | "|" as order, None, None, None, *_) if pending.dtype:
            return pending.dtype.newbyteorder(order)
        case _:
            raise UnfitError(
                "a dtype with fields or metadata; save each field as an array of its own"
            )


def make_array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray | Place:
    """An array around its bytes, or around its list of objects; never larger than those are."""
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if not (
        isinstance(dtype, np.dtype)
        and len(sizes) <= 32
        and all(type(n) is int and 0 <= n < 2**48 for n in sizes)
    ):
        raise UnfitError(f"an array of shape {str(shape)[:80]} and dtype {str(dtype)[:80]}")
    count = math.prod(sizes)
    if dtype.kind == "O":
        if not isinstance(data, list) or len(data) != count:
            raise UnfitError(f"an object array of shape {sizes} with another number of objects")
        objects = np.empty(count, object)
        for place, each in enumerate(data):
            objects[place] = each
        return objects.reshape(sizes)
    if isinstance(data, Place):
        found = data.nbytes
    else:
        data = _octets(data)
        found = len(data)
    if found != count * dtype.itemsize:
        raise UnfitError(f"an array of shape {sizes} and dtype {dtype} with {found} bytes of data")
    if isinstance(data, Place):
        return replace(data, shape=sizes, dtype=dtype, order=order)
    return np.frombuffer(data, dtype, count).reshape(sizes, order=order)  # pyright: ignore


def check_key(key: Any) -> None:
    """Raise `UnfitError` unless hashing this key costs little: text, numbers and small tuples."""
    todo, budget = [key], _KEY_PARTS
    while todo:
        part = todo.pop()
        budget -= 1
        if isinstance(part, tuple) and budget >= len(part):
            todo += part
        elif budget < 0 or not (
            type(part) in _LEAVES or (isinstance(part, np.generic) and part.ndim == 0)
        ):
            raise UnfitError(f"a dictionary key or set element of type {type(part).__name__}")


def check_finished(value: Any) -> None:
    """Raise `UnfitError` for a value that holds itself, is nested deeply, or is no plain data."""
    heights: dict[int, int] = {}
    todo: list[tuple[Any, bool]] = [(value, False)]
    while todo:
        node, is_left = todo.pop()
        inside = _children(node)
        if inside is None:
            continue
        if is_left:
            height = 1 + max((heights.get(id(each), 0) for each in inside), default=0)
            if height > _MAX_DEPTH:
                raise UnfitError(f"data nested more than {_MAX_DEPTH} deep")
            heights[id(node)] = height
        elif id(node) not in heights:
            heights[id(node)] = -1
            todo.append((node, True))
            for each in inside:
                if heights.get(id(each), 0) == -1:
                    raise UnfitError("a container that holds itself")
                if type(each) not in _LEAVES and id(each) not in heights:
                    todo.append((each, False))


def _children(node: Any) -> Sequence[Any] | None:
    """What a container holds; None for anything else that may stand in the result."""
    kind = type(node)
    if kind is dict:
        return list(node.values())
    if kind in (list, tuple):
        return node
    if kind is np.ndarray:
        return node.ravel().tolist() if node.dtype.kind == "O" else None
    if (
        kind in _LEAVES
        or kind in (set, frozenset, Place)
        or isinstance(node, np.generic | np.dtype)
    ):
        return None
    if kind is Name:
        raise refuse(node)
    raise UnfitError("an array or dtype that was begun and never finished")


def _octets(data: Any) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):  # bytes of Python 2, read as Latin-1
        try:
            return data.encode("latin-1")
        except UnicodeEncodeError:
            pass
    raise UnfitError(f"{type(data).__name__} where bytes are wanted")


def _reconstruct(kind: Any = None, *_: Any) -> Pending:
    if kind != Name("numpy", "ndarray"):
        raise refuse(kind) if isinstance(kind, Name) else UnfitError("an array of no class")
    return Pending("array")


def _dtype(text: Any = None, *_: Any) -> Pending:
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise UnfitError(f"the dtype {str(text)[:80]!r}; numbers, text and objects are taken")
    return Pending("dtype", np.dtype(text))


def _scalar(dtype: Any = None, data: Any = b"", *_: Any) -> Any:
    array = make_array(data, dtype, (1,), "C")
    if isinstance(array, Place) or array.dtype.kind == "O":
        raise UnfitError("a numpy scalar that is no number or text")
    return array[0]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Any:
    if order in ("C", "F"):
        return make_array(data, dtype, shape, order)
    array = make_array(data, dtype, shape, "C")
    if order != "K" or not isinstance(axes, tuple):
        raise UnfitError(f"an array in the memory order {str(order)[:20]!r}")
    return (array.read() if isinstance(array, Place) else array).transpose(axes)


def _encode(text: Any, codec: Any = "", *_: Any) -> bytes:
    if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
        raise UnfitError(f"bytes in the encoding {str(codec)[:20]!r}")
    return text.encode("latin-1")


def _bytes(data: Any = b"", codec: Any = "latin1", *_: Any) -> bytes | Place:
    if isinstance(data, list) and all(type(n) is int and 0 <= n < 256 for n in data):
        return bytes(data)
    if isinstance(data, str):
        return _encode(data, codec)
    return data if isinstance(data, Place) else _octets(data)


def _dict(*args: Any) -> dict[Any, Any]:
    """An OrderedDict or defaultdict; only old protocols put the pairs into the arguments."""
    pairs = next((each for each in args if isinstance(each, list)), [])
    found: dict[Any, Any] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UnfitError("a dictionary made of something else than pairs")
        check_key(pair[0])
        found[pair[0]] = pair[1]
    return found


def _list(values: Any = (), *_: Any) -> list[Any]:
    if not isinstance(values, list | tuple):
        raise UnfitError(f"a list made of {type(values).__name__}")
    return list(values)


def _set(values: Any = (), *_: Any) -> set[Any]:
    found = _list(values)
    for each in found:
        check_key(each)
    return set(found)


def _complex(real: Any = 0.0, imaginary: Any = 0.0, *_: Any) -> complex:
    if not (isinstance(real, float) and isinstance(imaginary, float)):
        raise UnfitError("a complex number made of something else than numbers")
    return complex(real, imaginary)


_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _dict,
    ("collections", "defaultdict"): _dict,
    ("collections", "deque"): _list,
}
for _package in ("numpy.core", "numpy._core"):
    _MAKERS[f"{_package}.multiarray", "_reconstruct"] = _reconstruct
    _MAKERS[f"{_package}.multiarray", "scalar"] = _scalar
    _MAKERS[f"{_package}.numeric", "_frombuffer"] = _from_buffer
for _package in ("builtins", "__builtin__"):
    _MAKERS[_package, "bytes"] = _bytes
    _MAKERS[_package, "bytearray"] = _bytes
    _MAKERS[_package, "list"] = _list
    _MAKERS[_package, "dict"] = _dict
    _MAKERS[_package, "set"] = _set
    _MAKERS[_package, "frozenset"] = lambda *args: frozenset(_set(*args))
    _MAKERS[_package, "complex"] = _complex
