"""Diffusion Policy's replay buffer: zarr, all episodes joined along time.

`data/<key>` holds one array per feature, `meta/episode_ends` where each episode ends (exclusive).
Source: real-stanford/diffusion_policy, `common/replay_buffer.py`; Chi et al. 2023,
arXiv:2303.04137.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deft.errors import FormatError
from deft.formats import zarr_notes
from deft.formats.recording import Recording, table_dtype
from deft.formats.zarr_array import ZarrArray, array_names, attributes
from deft.formats.zarr_buffer import (
    Column,
    ToPictures,
    channels_last,
    gather,
    has_ends,
    noted_column,
    open_storage,
    read_ends,
    valid_array,
)
from deft.formats.zarr_storage import Storage
from deft.spec import Feature, Problem

MARK = "a folder or zip with the zarr arrays `data/…` and `meta/episode_ends`"

_STATE_PREFIXES = ("state", "agent_pos", "robot_", "joint", "gripper", "eef", "ee_")
_PUSHT = {"action": (2,), "state": (5,), "keypoint": (9, 2), "n_contacts": (1,)}


@dataclass(frozen=True, kw_only=True)
class ReplayZarrOptions:
    """What is read of a replay buffer."""

    depth_unit: str = ""
    """Unit of depth maps, as in `mm`, where the array's own attribute `unit` does not say it."""


def probe(path: Path) -> bool:
    """Whether this is a replay buffer; looks at names only."""
    return has_ends(path)


def open_replay_zarr(path: Path, fps: float, options: ReplayZarrOptions) -> Recording:
    """Open a replay buffer, of zarr version 2 or 3.

    Pictures kept as float32 or integers must be whole numbers from 0 to 255; they are checked as
    they are read, and given as uint8. uint16 pictures of one channel are depth. The format holds
    neither tick rate nor units; a buffer that Deft wrote says them in notes of its own.

    Raises:
        FormatError: an array is missing, or no episode can be used.
    """
    storage = open_storage(path)
    ends = read_ends(storage)
    notes = zarr_notes.read(storage, len(ends))
    names = [name for name in array_names(storage, "data") if name != notes.valid]
    columns, problems = read_columns(storage, names, notes.columns, options.depth_unit)
    if not any(column.feature.role == "action" for column in columns):
        raise FormatError(
            f"{path}: there is no `data/action`.\n"
            f"Found: {', '.join(column.feature.name for column in columns) or 'no arrays'}.\n"
            "Fix: name the array of commands `action`."
        )
    spec = notes.contract([column.feature for column in columns], fps)
    valid = valid_array(storage, notes, array_names(storage, "data"))
    return gather("replay_zarr", path, columns, notes, ends, spec, problems=problems, valid=valid)


def read_columns(
    storage: Storage,
    names: Sequence[str],
    noted: Mapping[str, zarr_notes.Column],
    depth_unit: str = "",
) -> tuple[list[Column], list[Problem]]:
    """Every array of `data`, in the order of Deft's notes, else of their names."""
    columns: list[Column] = []
    problems: list[Problem] = []
    rank = {key: number for number, key in enumerate(noted)}
    for key in sorted(names, key=lambda name: (rank.get(name, len(rank)), name)):
        column = noted_column(storage, key, noted[key]) if key in noted else None
        if column is None:
            if key in noted:
                what = f"'{key}' is no longer what Deft wrote"
                problems.append(Problem(episode="", what=what, effect="read as it is"))
            column = _column(storage, key, depth_unit)
        if key == "actions" and "action" not in names and key not in noted:
            what = "commands are called 'actions'"
            problems.append(Problem(episode="", what=what, effect="read as 'action'"))
            feature = replace(column.feature, name="action", role="action", dtype="float32")
            column = Column(feature, column.array)
        columns.append(column)
    return (columns if noted else _name_pusht(columns)), problems


def _column(storage: Storage, key: str, depth_unit: str) -> Column:
    """Decide by shape and name what an array is."""
    array = ZarrArray(storage, f"data/{key}")
    shape, dtype = array.layout.shape[1:], array.layout.dtype
    if len(shape) == 3 and (is_first := _channel_axis(shape)) is not None:
        height, width, channels = (*shape[1:], shape[0]) if is_first else shape
        is_depth = channels == 1 and dtype.name == "uint16"
        if not is_depth:
            array = ZarrArray(storage, f"data/{key}", ToPictures(array.where, is_first))
        elif is_first:
            array = ZarrArray(storage, f"data/{key}", channels_last)
        feature = Feature(
            name="image" if key == "img" else key,
            role="depth" if is_depth else "image",
            shape=(height, width, channels),
            dtype="uint16" if is_depth else "uint8",
            unit=_unit(storage, key, depth_unit) if is_depth else "",
        )
        return Column(feature, array)
    if len(shape) == 2 and dtype.name == "uint16" and "depth" in key and min(shape) >= 8:
        array = ZarrArray(storage, f"data/{key}", lambda slab, _: slab[..., None])
        unit = _unit(storage, key, depth_unit)
        feature = Feature(name=key, role="depth", shape=(*shape, 1), dtype="uint16", unit=unit)
        return Column(feature, array)
    role = "other"
    if key == "action":
        role = "action"
    elif len(shape) == 1 and dtype.kind == "f" and key.startswith(_STATE_PREFIXES):
        role = "state"
    elif key in ("point_cloud", "pointcloud"):
        role = "point_cloud"
    elif "feature" in key and dtype.kind == "f" and len(shape) in (1, 3):
        role = "feature_map"
    name = table_dtype(dtype, role, array.where)
    return Column(Feature(name=key, role=role, shape=shape, dtype=name), array)


def _unit(storage: Storage, key: str, given: str) -> str:
    said = attributes(storage, f"data/{key}").get("unit")
    return said if isinstance(said, str) and said else given


def _channel_axis(shape: tuple[int, ...]) -> bool | None:
    """True: channels first, False: channels last, None: no picture, or it could be either."""
    last = shape[2] in (1, 3) and min(shape[:2]) >= 8
    first = shape[0] in (1, 3) and min(shape[1:]) >= 8
    return first if first != last else None


def _name_pusht(columns: list[Column]) -> list[Column]:
    """Element names and unit of the Push-T demonstrations, known by their arrays and shapes."""
    shapes = {column.feature.name: column.feature.shape for column in columns}
    if any(shapes.get(name) != shape for name, shape in _PUSHT.items()):
        return columns
    names = {
        "action": (("x", "y"), "px"),
        "state": (("agent.x", "agent.y", "block.x", "block.y", "block.angle"), ""),
    }
    named: list[Column] = []
    for column in columns:
        if column.feature.name in names:
            elements, unit = names[column.feature.name]
            column = Column(replace(column.feature, names=elements, unit=unit), column.array)
        named.append(column)
    return named
