"""JSON from outside: every damage becomes one clear error."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deft.errors import FormatError, nearest
from deft.formats.regular import read_regular

_LIMIT = 256 << 20


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """One JSON object. Raises `FormatError` when it is damaged or something else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{where}: is not JSON.\nFound: {error}.\nFix: copy the file again, or repair it."
        ) from error
    if not isinstance(value, dict):
        raise FormatError(
            f"{where}: wanted a JSON object.\nFound: {type(value).__name__}.\n"
            "Fix: copy the file again, or repair it."
        )
    return value


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    return parse_object(_read(path), str(path))


def read_object_lines(path: Path) -> list[dict[str, Any]]:
    """One JSON object per line; empty lines are skipped."""
    lines = enumerate(_read(path).splitlines(), start=1)
    return [parse_object(line, f"{path}, line {n}") for n, line in lines if line.strip()]


def take(holder: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A value that must be there and of this type; a boolean is never taken for a number."""
    if key not in holder:
        raise FormatError(
            f"{where}: '{key}' is missing. {nearest(key, holder)}\n"
            f"Fix: write '{key}', or copy the file again."
        )
    value = holder[key]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(each.__name__ for each in kinds)
        raise FormatError(
            f"{where}: '{key}' must be {wanted}.\nFound: {str(value)[:80]!r}.\n"
            "Fix: correct it, or copy the file again."
        )
    return value


def take_sizes(value: Any, where: str) -> tuple[int, ...]:
    """Axis sizes: a list of whole numbers from 1 on, at most 16 of them."""
    if not (
        isinstance(value, list)
        and len(value) <= 16
        and all(type(n) is int and 1 <= n < 2**48 for n in value)
    ):
        raise FormatError(
            f"{where}: axis sizes must be whole numbers from 1 on.\nFound: {str(value)[:80]}.\n"
            "Fix: correct them, or copy the file again."
        )
    return tuple(value)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LIMIT:
            raise FormatError(
                f"{path}: is larger than {_LIMIT >> 20} MiB, too large for what it should hold.\n"
                "Fix: check that this is the right file."
            )
        return read_regular(path)
    except OSError as error:
        raise FormatError(
            f"{path}: cannot be read.\nFound: {error}.\n"
            "Fix: copy the recording again, whole, or correct the permissions."
        ) from error
