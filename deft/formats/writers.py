"""Which formats can be written, and beginning one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft.errors import FormatError, nearest
from deft.formats import (
    bridge_numpy_writer,
    bridge_tfrecord_writer,
    feature_zarr_writer,
    lerobot_writer,
    replay_zarr_writer,
    robomimic_writer,
    vita_zarr_writer,
)
from deft.formats.bridge_writing import BridgeWriteOptions
from deft.formats.opening import recognise
from deft.formats.options import build_options, option_names
from deft.formats.writing import Workspace, Writer
from deft.spec import Spec, to_plain


@dataclass(frozen=True)
class _Entry:
    about: str
    options: type[Any]
    """Frozen dataclass with a default for every field, plain values only."""
    make: Callable[[Workspace, Spec, Any], Writer]
    """Given the workspace, the contract and an instance of `options`."""
    read_as: str = ""
    """Name in `FORMATS`, where it is another one."""


_WRITERS: dict[str, _Entry] = {
    "replay_zarr": _Entry(
        "Diffusion Policy replay buffer: zarr v2, folder or zip",
        replay_zarr_writer.ReplayZarrWriteOptions,
        replay_zarr_writer.replay_zarr_writer,
    ),
    "vita_zarr": _Entry(
        "VITA, gym-av-aloha: zarr v2 with `config.json`",
        vita_zarr_writer.VitaZarrWriteOptions,
        vita_zarr_writer.vita_zarr_writer,
    ),
    "feature_zarr": _Entry(
        "feature zarr: `T Hf Wf C` or `T D` of a vision backbone, zarr v2",
        feature_zarr_writer.FeatureZarrWriteOptions,
        feature_zarr_writer.feature_zarr_writer,
    ),
    "lerobot_v21": _Entry(
        "LeRobot v2.1: a table and videos for each episode",
        lerobot_writer.LeRobotV21WriteOptions,
        lerobot_writer.lerobot_v21_writer,
        read_as="lerobot",
    ),
    "lerobot_v30": _Entry(
        "LeRobot v3.0: tables and videos that episodes share",
        lerobot_writer.LeRobotV30WriteOptions,
        lerobot_writer.lerobot_v30_writer,
        read_as="lerobot",
    ),
    "robomimic": _Entry(
        "robomimic: one HDF5 file with all demonstrations",
        robomimic_writer.RobomimicWriteOptions,
        robomimic_writer.RobomimicWriter,
    ),
    "bridge_numpy": _Entry(
        "BridgeData as numpy: `out.npy` in `train` and `val` folders",
        BridgeWriteOptions,
        bridge_numpy_writer.bridge_numpy_writer,
    ),
    "bridge_tfrecord": _Entry(
        "BridgeData as TFRecord: `out.tfrecord` in `train` and `val` folders",
        bridge_tfrecord_writer.BridgeTfrecordWriteOptions,
        bridge_tfrecord_writer.bridge_tfrecord_writer,
    ),
}

WRITABLE = {name: entry.about for name, entry in _WRITERS.items()}
"""Every format that can be written, with one line about it."""


def write(
    path: str | Path,
    format: str,  # noqa: A002
    spec: Spec,
    options: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    origin: Mapping[str, Any] | None = None,
    join: bool = False,
) -> Writer:
    """Begin a recording, or go on with one that was interrupted.

    Args:
        path: the file or folder that will appear with `Writer.finish`.
        format: a name in `WRITABLE`.
        spec: contract of the episodes to come.
        options: settings of this format, by name; see its module.
        overwrite: replace a recording of the same format, and drop one that was begun with other
            arguments; anything else is never replaced.
        origin: what else the content depends on, plain JSON values; one that was begun with
            another is not gone on with.
        join: help a process that has begun with the same arguments and still writes: only `add`
            and `has` may be used.

    Raises:
        FormatError: the format is unknown or cannot hold the spec, `path` is taken, or a
            recording begun with other arguments waits there.
    """
    if format not in _WRITERS:
        raise FormatError(
            f"There is no format '{format}' to write. {nearest(format, WRITABLE)}\n"
            "Fix: correct the name."
        )
    entry, path = _WRITERS[format], Path(path).absolute()
    settings = build_options(entry.options, options, format)
    plan = {"format": format, "spec": spec.to_json(), "options": to_plain(settings)}
    if origin is not None:
        plan["origin"] = dict(origin)
    name = entry.read_as or format
    workspace = Workspace(
        path,
        plan,
        lambda found: overwrite and recognise(found) == name,
        may_drop=overwrite,
        join=join,
    )
    try:
        return entry.make(workspace, spec, settings)
    except BaseException:
        workspace.close()
        raise


def options_to_write(format: str) -> tuple[str, ...]:  # noqa: A002
    """Names of the options that the writer of a format takes."""
    return option_names(_WRITERS[format].options)
