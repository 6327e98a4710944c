"""A reader of pickles that can build plain data and numpy arrays, and can do nothing else.

Python's own unpickler calls what a file names. This one is an interpreter of the opcodes, protocols
0 to 5: a name becomes a `pickled.Name`, and only the few names of numpy and of containers lead to
a value. Memory stays in proportion to the file; with `lazy=True` large arrays even stay on disk.
Source: the opcode descriptions in CPython's `pickletools`; numpy's `.npy` format, NEP 1.
"""

import ast
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from deft.errors import FormatError
from deft.formats.pickled import (
    Name,
    Pending,
    Place,
    UnfitError,
    build,
    check_finished,
    check_key,
    fill,
    refuse,
)
from deft.formats.regular import open_regular
from deft.formats.tape import Tape

_LIMIT = 8 << 30
"""Bytes of a file that is read into memory."""
_LEFT_IN_FILE = 1024
"""Bytes from which on `lazy` leaves an array in its file."""
_MAX_STEPS = 1 << 26
_MAX_CONTAINERS = 1 << 23
_MAX_WHOLE = 256
"""Bytes of a whole number."""
_NPY = b"\x93NUMPY"
_MARK = object()
_STOP = ord(".")


def load(source: Path | str | bytes | BinaryIO, where: str = "", *, lazy: bool = False) -> Any:
    """The content of one pickle: numbers, text, bytes, containers, numpy arrays and scalars.

    Arrays are read-only. OrderedDict and defaultdict come as dict, deque as list, bytearray as
    bytes. Text that Python 2 wrote as bytes comes as text, read as Latin-1.

    Args:
        source: a file, its path or its bytes.
        where: what it is, for messages; the path when it is empty.
        lazy: leave arrays and bytes of 1 KiB or more in the file, as `Place`; needs a path.

    Raises:
        FormatError: it is damaged, too large, or asks for anything that is not plain data; the
            message names the class or function it asks for, which is never looked up.
    """
    with _opened(source) as file:
        return _Machine(Tape(file, where or _describe(source), lazy), _path(source, lazy)).run()


def load_npy(path: Path | str, *, lazy: bool = False) -> Any:
    """The array in a `.npy` file, also one of objects.

    Args:
        path: the file.
        lazy: leave numeric arrays of 1 KiB or more in the file, as `Place`.

    Returns:
        A read-only array; the objects in it are as `load` gives them.

    Raises:
        FormatError: as `load` does.
    """
    path = Path(path)
    with _opened(path) as file:
        tape = Tape(file, str(path), lazy)
        shape, dtype, order = _npy_header(tape)
        if dtype.kind != "O":
            return _numeric(tape, shape, dtype, order, _path(path, lazy))
        array = _Machine(tape, _path(path, lazy)).run()
        if not isinstance(array, np.ndarray) or array.size != np.prod(shape, dtype=object):
            raise tape.damaged(f"its header says shape {shape}, the pickle holds something else")
        return array.reshape(shape)


def _opened(source: Path | str | bytes | BinaryIO) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not isinstance(source, Path | str):
        return io.BytesIO(source.read(_LIMIT))
    try:
        return open_regular(Path(source), 0)
    except OSError as error:
        raise FormatError(
            f"{source}: cannot be read.\nFound: {error}.\n"
            "Fix: copy the recording again, whole, or correct the permissions."
        ) from error


def _describe(source: Path | str | bytes | BinaryIO) -> str:
    return str(source) if isinstance(source, Path | str) else "a pickle"


def _path(source: Path | str | bytes | BinaryIO, lazy: bool) -> Path | None:
    return Path(source) if lazy and isinstance(source, Path | str) else None


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(self, tape: Tape, path: Path | None) -> None:
        if path is None and tape.size > _LIMIT:
            raise tape.damaged(f"{tape.size >> 20} MiB, more than {_LIMIT >> 20}")
        self._tape, self._path = tape, path
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._begun = 0

    def run(self) -> Any:
        """The value that the program leaves behind."""
        byte = self._tape.byte
        acts = {ord(opcode): act for opcode, act in self._acts().items()}
        try:
            for _ in range(_MAX_STEPS):
                opcode = byte()
                act = acts.get(opcode)
                if act is not None:
                    act()
                elif opcode == _STOP:
                    value = self._pop()
                    check_finished(value)
                    return value
                else:
                    found = f"the opcode {bytes([opcode])!r}, which is unknown or makes objects"
                    raise UnfitError(found)
        except FormatError:
            raise
        except (UnfitError, ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            found = (
                str(error) if isinstance(error, UnfitError) else f"{type(error).__name__}: {error}"
            )
            raise self._tape.damaged(found[:400]) from error
        raise self._tape.damaged(f"more than {_MAX_STEPS} steps")

    def _acts(self) -> dict[bytes, Callable[[], None]]:
        push, pop, whole, byte = self._push, self._pop, self._whole, self._tape.byte
        acts: dict[bytes, Callable[[], None]] = {
            b"\x80": lambda: self._tape.skip(1),  # PROTO
            b"\x95": lambda: self._tape.skip(8),  # FRAME
            b"(": lambda: push(_MARK),
            b"0": self._drop,
            b"1": self._drop_since_mark,
            b"2": lambda: push(self._top()),
            b"N": lambda: push(None),
            b"\x88": lambda: push(True),
            b"\x89": lambda: push(False),
            b"F": lambda: push(float(self._text_line())),
            b"G": lambda: push(struct.unpack(">d", self._tape.take(8))[0]),
            b"I": self._int_line,
            b"L": lambda: push(int(self._text_line().rstrip("L"))),
            b"S": self._quoted,
            b"V": lambda: push(self._tape.line().decode("raw-unicode-escape")),
            b")": lambda: push(()),
            b"]": lambda: self._begin([]),
            b"}": lambda: self._begin({}),
            b"\x8f": lambda: self._begin(set()),
            b"l": lambda: push(self._since_mark()),
            b"t": lambda: push(tuple(self._since_mark())),
            b"\x85": lambda: push((pop(),)),
            b"\x86": lambda: self._tuple(2),
            b"\x87": lambda: self._tuple(3),
            b"d": lambda: push(self._update({}, self._since_mark())),
            b"\x91": lambda: push(frozenset(self._keys(self._since_mark()))),
            b"a": lambda: self._append([pop()]),
            b"e": lambda: self._append(self._since_mark()),
            b"s": lambda: self._set_items([pop(), pop()][::-1]),
            b"u": lambda: self._set_items(self._since_mark()),
            b"\x90": self._add_items,
            b"p": lambda: self._remember(int(self._text_line())),
            b"q": lambda: self._remember(byte()),
            b"r": lambda: self._remember(whole(4)),
            b"\x94": lambda: self._remember(len(self._memo)),
            b"g": lambda: self._recall(int(self._text_line())),
            b"h": lambda: self._recall(byte()),
            b"j": lambda: self._recall(whole(4)),
            b"c": lambda: push(Name(self._text_line(), self._text_line())),
            b"\x93": self._stack_name,
            b"i": self._refuse_instance,
            b"R": self._reduce,
            b"\x81": self._reduce,  # NEWOBJ: containers of these names are made the same way
            b"b": self._fill,
        }
        return acts | self._sized_acts()

    def _sized_acts(self) -> dict[bytes, Callable[[], None]]:
        """Numbers, text and bytes: opcodes that are followed by a size or by so many bytes."""
        push, whole, acts = self._push, self._whole, dict[bytes, Callable[[], None]]()
        byte = self._tape.byte
        acts[b"K"] = lambda: push(byte())
        numbers = {b"J": (4, True), b"M": (2, False)}
        for opcode, (size, signed) in numbers.items():
            acts[opcode] = lambda size=size, signed=signed: push(whole(size, signed))
        for opcode, size in ((b"\x8a", 1), (b"\x8b", 4)):
            acts[opcode] = lambda size=size: push(self._long(whole(size)))
        for opcode, size in ((b"\x8c", 1), (b"X", 4), (b"\x8d", 8)):
            acts[opcode] = lambda size=size: push(
                self._tape.take(whole(size)).decode("utf-8", "surrogatepass")
            )
        for opcode, size in ((b"U", 1), (b"T", 4)):  # bytes of Python 2, mostly text
            acts[opcode] = lambda size=size: push(self._tape.take(whole(size)).decode("latin-1"))
        for opcode, size in ((b"C", 1), (b"B", 4), (b"\x8e", 8), (b"\x96", 8)):
            acts[opcode] = lambda size=size: self._bytes(whole(size))
        return acts

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _begin(self, container: Any) -> None:
        # One byte of a file is enough to make one, and that takes up to 216 bytes of memory.
        self._begun += 1
        if self._begun > _MAX_CONTAINERS:
            raise UnfitError(f"more than {_MAX_CONTAINERS} lists, dictionaries and sets")
        self._stack.append(container)

    def _drop(self) -> None:
        self._pop()

    def _drop_since_mark(self) -> None:
        self._since_mark()

    def _pop(self) -> Any:
        if not self._stack:
            raise UnfitError("an empty stack")
        return self._stack.pop()

    def _top(self) -> Any:
        """The value on top; one that is not finished must not be shared."""
        value = self._stack[-1]
        if isinstance(value, Pending):
            raise UnfitError("an array that is used before it is finished")
        return value

    def _since_mark(self) -> list[Any]:
        for place in range(len(self._stack) - 1, -1, -1):
            if self._stack[place] is _MARK:
                found = self._stack[place + 1 :]
                del self._stack[place:]
                return found
        raise UnfitError("a list of values without a beginning")

    def _whole(self, size: int, signed: bool = False) -> int:
        if size == 1 and not signed:
            return self._tape.byte()
        return int.from_bytes(self._tape.take(size), "little", signed=signed)

    def _long(self, size: int) -> int:
        if size > _MAX_WHOLE:
            raise UnfitError(f"a whole number of {size} bytes")
        return self._whole(size, signed=True)

    def _text_line(self) -> str:
        return self._tape.line().decode("utf-8").rstrip("\r")

    def _int_line(self) -> None:
        text = self._text_line()
        self._push({"00": False, "01": True}[text] if text in ("00", "01") else int(text))

    def _quoted(self) -> None:
        line = self._tape.line().strip()
        try:
            value = ast.literal_eval((b"b" + line).decode("ascii"))
        except (SyntaxError, RecursionError, MemoryError) as error:
            raise UnfitError("text without its quotes") from error
        if line[:1] not in (b"'", b'"') or not isinstance(value, bytes):
            raise UnfitError("text without its quotes")
        self._push(value.decode("latin-1"))

    def _bytes(self, size: int) -> None:
        if self._path is None or size < _LEFT_IN_FILE:
            self._push(self._tape.take(size))
        else:
            self._push(Place(self._path, self._tape.at, (size,), np.dtype(np.uint8)))
            self._tape.skip(size)

    def _tuple(self, count: int) -> None:
        parts = [self._pop() for _ in range(count)]
        self._push(tuple(parts[::-1]))

    def _append(self, values: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise UnfitError(f"values appended to {type(target).__name__}")
        target += values

    def _set_items(self, values: list[Any]) -> None:
        self._update(self._top(), values)

    def _update(self, target: Any, values: list[Any]) -> Any:
        if type(target) is not dict or len(values) % 2:
            raise UnfitError(f"{len(values)} keys and values for {type(target).__name__}")
        target.update(zip(self._keys(values[::2]), values[1::2], strict=True))
        return target

    def _add_items(self) -> None:
        values = self._keys(self._since_mark())
        target = self._top()
        if type(target) is not set:
            raise UnfitError(f"elements added to {type(target).__name__}")
        target.update(values)

    def _keys(self, keys: list[Any]) -> list[Any]:
        for key in keys:
            if type(key) is not str:
                check_key(key)
        return keys

    def _remember(self, number: int) -> None:
        value = self._stack[-1]
        if isinstance(value, Pending):
            if value.memo >= 0:
                raise UnfitError("an array that is remembered twice before it is finished")
            value.memo = number
        self._memo[number] = value

    def _recall(self, number: int) -> None:
        value = self._memo[number]
        self._stack.append(value)
        if isinstance(value, Pending):
            self._top()

    def _stack_name(self) -> None:
        name, module = self._pop(), self._pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise UnfitError("a class whose name is no text")
        self._push(Name(module, name))

    def _refuse_instance(self) -> None:
        raise refuse(Name(self._text_line(), self._text_line()))

    def _reduce(self) -> None:
        args, name = self._pop(), self._pop()
        if not isinstance(name, Name):
            raise UnfitError(f"a call of {type(name).__name__}")
        self._push(build(name, args))

    def _fill(self) -> None:
        state, target = self._pop(), self._pop()
        if not isinstance(target, Pending):
            raise UnfitError(f"attributes set on {type(target).__name__}")
        value = fill(target, state)
        if self._memo.get(target.memo) is target:
            self._memo[target.memo] = value
        self._push(value)


def _npy_header(tape: Tape) -> tuple[tuple[int, ...], np.dtype[Any], str]:
    start = tape.take(min(8, tape.size))
    if not start.startswith(_NPY) or len(start) < 8 or start[6] not in (1, 2, 3):
        raise tape.damaged(f"a file that begins with {start[:8].hex() or 'nothing'}, no .npy")
    size = int.from_bytes(tape.take(2 if start[6] == 1 else 4), "little")
    if size > 1 << 16:
        raise tape.damaged(f"a .npy header of {size} bytes")
    try:
        header = ast.literal_eval(tape.take(size).decode("utf-8").strip())
        match header:
            case {"shape": tuple(shape), "descr": str(descr), "fortran_order": bool(is_fortran)}:
                dtype = np.dtype(descr)
            case _:
                raise ValueError("shape, descr or fortran_order is missing, or has fields")
        if dtype.kind not in "biufcSUO" or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"shape {shape}, dtype {descr}")
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise tape.damaged(f"a .npy header that cannot be read: {str(error)[:200]}") from error
    return shape, dtype, "F" if is_fortran else "C"


def _numeric(
    tape: Tape, shape: tuple[int, ...], dtype: np.dtype[Any], order: str, path: Path | None
) -> np.ndarray | Place:
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size > tape.size - tape.at or len(shape) > 32:
        raise tape.damaged(f"shape {shape} of {dtype}, but {tape.size - tape.at} bytes")
    if path is not None and size >= _LEFT_IN_FILE:
        return Place(path, tape.at, shape, dtype, order)
    if size > _LIMIT:
        raise tape.damaged(f"{size >> 20} MiB, more than {_LIMIT >> 20}")
    return np.frombuffer(tape.take(size), dtype).reshape(shape, order=order)  # pyright: ignore
