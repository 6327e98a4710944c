"""Checkpoints of Flax without Flax or JAX: nested names to numpy arrays.

Two layouts hold everything in one msgpack file: `flax.training.checkpoints` (the file itself) and
Orbax's aggregate (a folder with a file `checkpoint`). Arrays are msgpack extensions of type 1, a
packed (shape, dtype name, bytes); numpy scalars type 3; large arrays come in pieces.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import FormatError, need
from deft.formats.regular import read_regular

_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
_PIECES = "__msgpack_chunked_array__"
_PLACEHOLDER = "PLACEHOLDER://"
_LIMIT = 16 << 30
_DTYPES = frozenset(
    {"bool", "float16", "float32", "float64"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)


def read_flax(path: str | Path) -> dict[str, Any]:
    """All of a checkpoint: dicts by name, numpy arrays (bfloat16 as float32) and plain values.

    Args:
        path: a file of `flax.training.checkpoints`, or Orbax's folder of one step.

    Raises:
        FormatError: there is no such checkpoint, it is damaged, or its arrays lie elsewhere in
            pieces per device.
        MissingPackageError: the package `msgpack` is not installed.
    """
    path = Path(path)
    file = _file(path)
    msgpack = need("msgpack", "client")
    size = file.stat().st_size
    if size > _LIMIT:
        raise FormatError(
            f"{file}: has {size / 1e9:.0f} GB, more than a checkpoint should.\n"
            "Fix: give the checkpoint of one step."
        )
    try:
        tree = msgpack.unpackb(
            read_regular(file),
            ext_hook=lambda code, data: _extension(msgpack, code, data),
            raw=False,
            strict_map_key=False,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise FormatError(
            f"{file}: is no whole Flax checkpoint.\nFound: {error}.\n"
            "Fix: copy it again; for Orbax give the folder of one step, as in checkpoint_1000."
        ) from error
    if not isinstance(tree, dict):
        raise FormatError(
            f"{file}: wanted a tree of names.\nFound: {type(tree).__name__}.\n"
            "Fix: give a checkpoint that Flax saved."
        )
    return _whole(tree, str(file), "")


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves by their path, as in `modules_actor/Dense_0/kernel`."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= {f"{name}/{rest}": leaf for rest, leaf in flatten(value).items()}
        else:
            leaves[str(name)] = value
    return leaves


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    if (path / "checkpoint").is_file():
        return path / "checkpoint"
    if not path.exists():
        raise FormatError(f"{path}: there is no such file or folder.\nFix: correct the path.")
    inside = sorted(entry.name for entry in path.iterdir())
    if any(
        name.startswith(("manifest.ocdbt", "ocdbt", "_METADATA", "_sharding")) for name in inside
    ):
        raise _sharded(str(path), "arrays in Orbax's sharded layout")
    steps = [name for name in inside if name.startswith("checkpoint_")]
    hint = f"Fix: give one step, as in {path / steps[-1]}." if steps else "Fix: correct the path."
    raise FormatError(
        f"{path}: holds no Flax checkpoint.\nFound: {', '.join(inside[:8]) or 'nothing'}.\n{hint}"
    )


def _extension(msgpack: Any, code: int, data: bytes) -> Any:
    if code in (_ARRAY, _SCALAR):
        shape, dtype, raw = msgpack.unpackb(data, raw=False)
        name = dtype.decode() if isinstance(dtype, bytes) else dtype
        if name == "bfloat16":
            # The upper half of a float32.
            wide = np.frombuffer(raw, "<u2").astype("<u4") << 16
            return wide.view("<f4").reshape(shape)
        if name not in _DTYPES:
            raise ValueError(f"an array of dtype {name}")
        if len(raw) != math.prod(shape) * np.dtype(name).itemsize:
            raise ValueError(f"an array {tuple(shape)} of {name} with {len(raw)} bytes")
        return np.frombuffer(raw, name).reshape(shape)
    if code == _COMPLEX:
        return complex(*msgpack.unpackb(data))
    raise ValueError(f"an extension of type {code}")


def _whole(value: Any, file: str, where: str) -> Any:
    """Arrays joined that were cut for msgpack's limit; placeholders refused."""
    if isinstance(value, str) and value.startswith(_PLACEHOLDER):
        raise _sharded(file, f"'{where}' lies in {value.removeprefix(_PLACEHOLDER)}")
    if not isinstance(value, dict):
        return value
    if value.get(_PIECES):
        shape = [value["shape"][str(i)] for i in range(len(value["shape"]))]
        pieces = [value["chunks"][str(i)] for i in range(len(value["chunks"]))]
        return np.concatenate(pieces).reshape(shape)
    return {str(k): _whole(v, file, f"{where}/{k}" if where else str(k)) for k, v in value.items()}


def _sharded(where: str, found: str) -> FormatError:
    return FormatError(
        f"{where}: the checkpoint's arrays are sharded.\nFound: {found}.\n"
        "Fix: restore it once in JAX and save it whole with "
        "`flax.training.checkpoints.save_checkpoint` and `orbax_checkpointer=None`."
    )
