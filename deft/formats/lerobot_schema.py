"""What a LeRobot data set will look like: keys, `info.json`, arrow columns."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deft.errors import FormatError
from deft.formats.lerobot_features import BOOKKEEPING
from deft.spec import Feature, Spec

_FRAME_DTYPES = ("uint8", "uint16")


@dataclass(frozen=True)
class Column:
    """One feature as LeRobot will hold it."""

    feature: Feature
    key: str
    kind: str
    """`table`, `image` (PNG in the table) or `video`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """LeRobot has no scalars."""
        return self.feature.shape or (1,)

    def entry(self, video: Mapping[str, Any] | None) -> dict[str, Any]:
        """The feature in `info.json`; `video` is what is known of its files."""
        feature = self.feature
        names: Any = list(feature.names) or None
        entry: dict[str, Any] = {"dtype": feature.dtype, "shape": list(self.shape)}
        if feature.is_frame:
            entry["dtype"] = self.kind
            names = ["height", "width", "channels"]
        entry["names"] = names
        if self.kind == "video":
            entry["info"] = dict(video or {})
        elif feature.role == "depth":
            entry["info"] = {"is_depth_map": True}
        return entry


def plan_columns(spec: Spec, pictures: str, where: str) -> list[Column]:
    """How every feature of a contract is held.

    Args:
        spec: the contract.
        pictures: `video`, or `image` to keep cameras lossless too.
        where: for messages.

    Raises:
        FormatError: LeRobot cannot hold a feature, or the ticks per second.
    """
    if spec.fps <= 0 or spec.fps != int(spec.fps):
        raise FormatError(
            f"{where}: LeRobot needs a whole number of ticks per second.\n"
            f"Found: {spec.fps:g}.\n"
            "Fix: say it with `--fps` when the recording does not, or resample it."
        )
    columns: list[Column] = []
    for feature in spec.features:
        if feature.dtype == "str":
            continue  # the instruction is kept as LeRobot's task
        kind = "table"
        if feature.is_frame:
            _check_frames(feature, where)
            is_colour = feature.role == "image" and (feature.channels, feature.dtype) == (
                3,
                "uint8",
            )
            kind = pictures if is_colour else "image"
        elif len(feature.shape) > 5:
            raise FormatError(
                f"{where}: LeRobot holds up to 5 axes per step.\n"
                f"Found: '{feature.name}' with {len(feature.shape)}.\nFix: reshape it."
            )
        columns.append(Column(feature, _key(feature, spec, [c.key for c in columns]), kind))
    if not any(each.kind == "table" for each in columns):
        raise FormatError(
            f"{where}: LeRobot needs numbers for every step, as in an action.\n"
            f"Found: {', '.join(spec.names) or 'no feature'}.\nFix: keep one."
        )
    return columns


def _check_frames(feature: Feature, where: str) -> None:
    channels = (1, 3) if feature.dtype == "uint8" else (1,)
    if feature.dtype not in _FRAME_DTYPES or feature.channels not in channels:
        raise FormatError(
            f"{where}: LeRobot cannot hold '{feature.name}' without loss.\n"
            f"Found: {feature.describe()}.\n"
            "Fix: leave it out, or keep it as uint8 with 1 or 3 channels or uint16 with 1; our own "
            "store and zarr hold it as it is."
        )


def _key(feature: Feature, spec: Spec, taken: Sequence[str]) -> str:
    """LeRobot's name: its policies look for what they need by the first words of it."""
    name = feature.name.replace("/", ".")
    same = [each for each in spec.role(feature.role) if each.dtype != "str"]
    is_only = len(same) == 1
    if feature.is_frame:
        key = f"observation.images.{name}"
    elif feature.role == "state":
        key = "observation.state" if is_only or name == "state" else f"observation.{name}"
    elif feature.role == "action":
        rest = name.removeprefix("action").lstrip("._") or name
        key = "action" if is_only or name == "action" else f"action.{rest}"
    elif feature.role == "reward" and (is_only or name == "reward"):
        key = "next.reward"
    elif name == "done":
        key = "next.done"
    else:
        key = name
    used = {*taken, *BOOKKEEPING}
    number = 2
    candidate = key
    while candidate in used or candidate == "task":
        candidate, number = f"{key}_{number}", number + 1
    return candidate


def info_features(
    columns: Sequence[Column], videos: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """`features` of `info.json`, with the columns that LeRobot adds."""
    features = {each.key: each.entry(videos.get(each.key)) for each in columns}
    for name in BOOKKEEPING:
        dtype = "float32" if name == "timestamp" else "int64"
        features[name] = {"dtype": dtype, "shape": [1], "names": None}
    return features


def arrow_schema(columns: Sequence[Column], bookkeeping: bool) -> Any:
    """The arrow schema of a table, with the notes by which `datasets` knows pictures and arrays.

    Args:
        columns: of the data set; videos are passed over.
        bookkeeping: whether the columns that LeRobot adds are there.
    """
    import pyarrow

    fields: list[Any] = []
    hints: dict[str, Any] = {}
    for each in columns:
        if each.kind == "video":
            continue
        fields.append(pyarrow.field(each.key, _arrow_type(each)))
        hints[each.key] = _hint(each)
    for name in BOOKKEEPING if bookkeeping else ():
        dtype = "float32" if name == "timestamp" else "int64"
        fields.append(pyarrow.field(name, getattr(pyarrow, dtype)()))
        hints[name] = {"dtype": dtype, "_type": "Value"}
    text = json.dumps({"info": {"features": hints}})
    return pyarrow.schema(fields, metadata={"huggingface": text})


def _arrow_type(column: Column) -> Any:
    import pyarrow

    if column.kind == "image":
        return pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    kind = pyarrow.from_numpy_dtype(np.dtype(column.feature.dtype))
    if column.shape == (1,):
        return kind
    if len(column.shape) == 1:
        return pyarrow.list_(kind, column.shape[0])
    for _ in column.shape:
        kind = pyarrow.list_(kind)
    return kind


def _hint(column: Column) -> dict[str, Any]:
    shape, dtype = column.shape, column.feature.dtype
    if column.kind == "image":
        return {"_type": "Image"}
    if shape == (1,):
        return {"dtype": dtype, "_type": "Value"}
    if len(shape) == 1:
        value = {"dtype": dtype, "_type": "Value"}
        return {"feature": value, "length": shape[0], "_type": "Sequence"}
    return {"shape": list(shape), "dtype": dtype, "_type": f"Array{len(shape)}D"}


def arrow_array(values: np.ndarray, column: Column) -> Any:
    """Numbers `T ...` of one feature as arrow holds them."""
    import pyarrow

    array = pyarrow.array(np.ascontiguousarray(values).reshape(-1))
    if column.shape == (1,):
        return array
    if len(column.shape) == 1:
        return pyarrow.FixedSizeListArray.from_arrays(array, column.shape[0])
    for size in reversed(column.shape):
        offsets = np.arange(0, len(array) + 1, size, dtype=np.int32)
        array = pyarrow.ListArray.from_arrays(offsets, array)
    return array
