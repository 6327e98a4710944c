"""Which format a path holds, and opening it."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deft.errors import DeftError, FormatError, MissingPackageError, nearest
from deft.formats import (
    aloha,
    bridge_numpy,
    bridge_raw,
    bridge_tfrecord,
    composite,
    feature_zarr,
    lerobot,
    replay_zarr,
    rlds,
    robomimic,
    robotwin,
    robotwin_planned,
    vita_zarr,
)
from deft.formats.bridge_trajectory import BridgeOptions
from deft.formats.hdf5 import is_hdf5
from deft.formats.options import NoOptions, build_options, option_names
from deft.formats.recording import Recording, with_clean_texts
from deft.formats.regular import open_regular
from deft.spec import findings


@dataclass(frozen=True)
class _Adapter:
    about: str
    mark: str
    """What is looked for, for messages."""
    probe: Callable[[Path], bool]
    open: Callable[..., Recording]
    """Given the path and fps; then the options, when the format has any."""
    options: type[Any] = NoOptions


_ADAPTERS = {
    "composite": _Adapter(
        "a file that names trajectories and feature maps of backbones, to be joined",
        composite.MARK,
        composite.probe,
        lambda path, fps: _open_composite(path, fps),
    ),
    # These two hold what the replay buffer is known by, hence before it.
    "vita_zarr": _Adapter(
        "VITA, gym-av-aloha: zarr with `config.json`",
        vita_zarr.MARK,
        vita_zarr.probe,
        vita_zarr.open_vita_zarr,
    ),
    "feature_zarr": _Adapter(
        "feature zarr: `T Hf Wf C` or `T D` of a vision backbone",
        feature_zarr.MARK,
        feature_zarr.probe,
        feature_zarr.open_feature_zarr,
        feature_zarr.FeatureZarrOptions,
    ),
    "replay_zarr": _Adapter(
        "Diffusion Policy replay buffer: zarr v2 or v3, folder or zip",
        replay_zarr.MARK,
        replay_zarr.probe,
        replay_zarr.open_replay_zarr,
        replay_zarr.ReplayZarrOptions,
    ),
    "lerobot": _Adapter(
        "LeRobot v2.0, v2.1, v3.0: parquet tables, videos or pictures",
        lerobot.MARK,
        lerobot.probe,
        lerobot.open_lerobot,
        lerobot.LeRobotOptions,
    ),
    "rlds": _Adapter(
        "RLDS, TFDS, Open-X: TFRecord shards with features.json",
        rlds.MARK,
        rlds.probe,
        rlds.open_rlds,
    ),
    "robomimic": _Adapter(
        "robomimic: one HDF5 file with all demonstrations",
        robomimic.MARK,
        robomimic.probe,
        robomimic.open_robomimic,
        robomimic.RobomimicOptions,
    ),
    "aloha": _Adapter(
        "ALOHA, ACT: one HDF5 file per episode",
        aloha.MARK,
        aloha.probe,
        aloha.open_aloha,
        aloha.AlohaOptions,
    ),
    "robotwin": _Adapter(
        "RoboTwin 2.0: one HDF5 file per episode, its own layout or XPolicyLab's",
        robotwin.MARK,
        robotwin.probe,
        robotwin.open_robotwin,
        robotwin.RoboTwinOptions,
    ),
    robotwin_planned.NAME: _Adapter(
        "RoboTwin 2.0's planned moves alone, listed; actions are guesses",
        robotwin_planned.MARK,
        robotwin_planned.probe,
        robotwin_planned.open_plans,
        robotwin_planned.RoboTwinPlansOptions,
    ),
    # These are looked for at any depth, hence last.
    "bridge_numpy": _Adapter(
        "BridgeData as numpy: `out.npy` in `train` and `val` folders",
        bridge_numpy.MARK,
        bridge_numpy.probe,
        bridge_numpy.open_bridge_numpy,
        BridgeOptions,
    ),
    "bridge_tfrecord": _Adapter(
        "BridgeData as TFRecord: `out.tfrecord` in `train` and `val` folders",
        bridge_tfrecord.MARK,
        bridge_tfrecord.probe,
        bridge_tfrecord.open_bridge_tfrecord,
        BridgeOptions,
    ),
    "bridge_raw": _Adapter(
        "BridgeData as recorded: folders of pictures and pickles",
        bridge_raw.MARK,
        bridge_raw.probe,
        bridge_raw.open_bridge_raw,
        bridge_raw.BridgeRawOptions,
    ),
}

FORMATS = {name: adapter.about for name, adapter in _ADAPTERS.items()}
"""Every format that can be read, with one line about it."""

_CHILDREN = 200
_WORDLESS = frozenset(
    {"aloha", "feature_zarr", "replay_zarr", "robomimic", "robotwin_plans", "vita_zarr"}
)
"""Formats in which instructions have no place, or are rare."""


def recognise(path: str | Path) -> str | None:
    """The name in `FORMATS` of what lies at a path, from the files themselves; None if unknown."""
    path = Path(path)
    for name, adapter in _ADAPTERS.items():
        if adapter.probe(path):
            return name
    return None


def open(  # noqa: A001
    path: str | Path,
    format: str | None = None,  # noqa: A002
    fps: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> Recording:
    """Open a recording.

    Args:
        path: a folder or file; also a folder around exactly one recording.
        format: a name in `FORMATS`; None recognises it.
        fps: ticks per second, for formats that do not hold it; without it the spec says 0.
        options: settings of the format by name, as in `RobomimicOptions`; unknown ones are
            refused, and text is read as the setting's type.

    Returns:
        A `spec.Source`. Tables are checked, pictures are decoded only when they are asked for.

    Raises:
        FormatError: nothing known is there, or it is damaged.
        MissingPackageError: the format needs a package that is not installed.
    """
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise FormatError(f"fps is {fps!r}.\nFix: give ticks per second above 0, or leave it out.")
    format, path = locate(path, format)  # noqa: A001
    adapter = _ADAPTERS[format]
    settings = build_options(adapter.options, options, format)
    given = () if adapter.options is NoOptions else (settings,)
    try:
        recording = adapter.open(path, fps or 0.0, *given)
    except MissingPackageError:
        raise
    except DeftError as error:  # such as a declared feature that is none
        if path.name in str(error):
            raise
        raise FormatError(f"{path}: {error}") from error
    if fps and recording.spec.fps != fps:
        raise FormatError(
            f"{path}: fps is {recording.spec.fps:g} in the recording itself.\n"
            f"Found: {fps:g} was asked for.\nFix: leave fps out."
        )
    listed = findings.of_listing(recording.episodes, holds_language=format not in _WORDLESS)
    return with_clean_texts(replace(recording, problems=(*recording.problems, *listed)))


def locate(path: str | Path, format: str | None = None) -> tuple[str, Path]:  # noqa: A002
    """Format and place of a recording, without opening it.

    Args:
        path: as `open` takes it.
        format: a name in `FORMATS`; None recognises it.

    Returns:
        The format's name, and the folder or file that is the recording.

    Raises:
        FormatError: nothing known is there, or the format has no such name.
    """
    path = Path(path)
    if not os.access(path, os.R_OK):
        raise FormatError(
            f"{path}: there is nothing at this path, or it may not be read.\n"
            "Fix: correct the path or its permissions."
        )
    if format is None:
        return _find(path)
    if format not in FORMATS:
        raise FormatError(
            f"There is no format '{format}'. {nearest(format, FORMATS)}\n"
            "Fix: correct the name, or leave it out."
        )
    return format, path


def options_of(format: str) -> tuple[str, ...]:  # noqa: A002
    """Names of the options that the reader of a format takes."""
    return option_names(_ADAPTERS[format].options)


def join(
    trajectories: str | Path,
    features: Mapping[str, str | Path],
    *,
    align: str = "hdf5",
    cameras: Sequence[str] = (),
    tasks: Sequence[str] = (),
    fps: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> Recording:
    """Join trajectories with the feature maps that backbones made of their frames.

    Tasks go by name (`<task>-<config>-<count>_<camera>` and parts of that), episodes by number.
    What has no partner is a finding with the nearest name. The same can be said in a JSON or YAML
    file with these names as keys, which `open` takes.

    Args:
        trajectories: a recording of any format, a folder of several, or RoboTwin's `_traj_data`.
        features: feature name to feature zarr, of one task or a folder of several.
        align: `hdf5`: the recording's own actions (RoboTwin's: the next frame's targets);
            `hdf5_same`, `traj_resample`, `traj_simulate`: see `RoboTwinOptions`.
        cameras: those to use; empty for all. Several become features `<name>.<camera>`.
        tasks: those to use, as either side names them; empty for all.
        fps: ticks per second, for trajectories that do not say it.
        options: of the trajectories' format, as in `use_left_arm`.

    Returns:
        A recording of format `composite`; features keep their dtype. Lengths that differ by one
        step are cut to the shorter, others leave the episode out.

    Raises:
        FormatError: a part is missing or damaged, or nothing fits together.
    """
    tree = {
        "trajectories": str(trajectories),
        "features": {name: str(path) for name, path in features.items()},
        "align": align,
        "cameras": list(cameras),
        "tasks": list(tasks),
        "options": dict(options or {}),
    }
    parts = build_options(composite.Composition, tree, "composite")
    return composite.join(parts, open, recognise, fps=fps)


def _open_composite(path: Path, fps: float) -> Recording:
    parts = composite.read_composition(path)
    return composite.join(parts, open, recognise, path=path, fps=fps or None)


def _find(path: Path) -> tuple[str, Path]:
    """Format and place of the one recording at a path, or directly inside a folder."""
    name = recognise(path)
    if name is not None:
        return name, path
    inside: list[tuple[str, Path]] = []
    if path.is_dir():
        for child in sorted(path.iterdir())[:_CHILDREN]:
            found = recognise(child)
            if found is not None:
                inside.append((found, child))
    if len(inside) == 1:
        return inside[0]
    if inside:
        names = ", ".join(f"{child.name} ({found})" for found, child in inside[:10])
        raise FormatError(
            f"{path}: holds {len(inside)} recordings.\nFound: {names}.\nFix: name one of them."
        )
    wanted = "\n".join(f"  {name}: {each.mark}" for name, each in _ADAPTERS.items())
    raise FormatError(
        f"{path}: is no recording that Deft knows. Looked for:\n{wanted}\n"
        f"Found: {_describe(path)}.\n"
        "Fix: name the recording's own folder or file, and check that it was copied whole."
    )


def _describe(path: Path) -> str:
    if path.is_dir():
        names = sorted(f"{each.name}/" if each.is_dir() else each.name for each in path.iterdir())
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        return f"a folder with {', '.join(names[:10])}{more}" if names else "an empty folder"
    try:
        with open_regular(path) as file:
            start = file.read(8)
    except OSError as error:
        return str(error)
    if start.startswith(b"PK\x03\x04"):
        return "a zip file; it is cut short, or holds something else"
    if is_hdf5(path):
        return "an HDF5 file; it is cut short, or holds something else"
    return f"a file of {path.stat().st_size} bytes that begins with {start.hex() or 'nothing'}"
