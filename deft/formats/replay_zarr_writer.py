"""Writes Diffusion Policy's replay buffers: zarr version 2, a folder or a zip file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deft.errors import FormatError
from deft.formats.writing import Workspace
from deft.formats.zarr_notes import Column
from deft.formats.zarr_stage import Staged
from deft.formats.zarr_writer import (
    Dialect,
    ZarrWriter,
    array_name,
    put_buffer,
    refuse_names,
    two_megabytes,
)
from deft.formats.zarr_writing import DEFAULT, DISK, new_target, put_group
from deft.spec import Feature, Spec

_COMPRESSORS = {"disk": DISK, "default": DEFAULT, "none": None}


@dataclass(frozen=True, kw_only=True)
class ReplayZarrWriteOptions:
    """How a replay buffer is written."""

    zip: bool = False
    """One zip file instead of a folder, as `zarr.ZipStore` opens it."""
    compressor: Literal["disk", "default", "none"] = "disk"
    """As Diffusion Policy calls them; `disk`: zstd 5, bits shuffled; `default`: lz4 5."""
    channels_first: bool = False
    """Pictures as `C H W`, as RoboTwin's own training has them; else `H W C`."""


def replay_zarr_writer(
    workspace: Workspace, spec: Spec, options: ReplayZarrWriteOptions
) -> ZarrWriter:
    """A writer of replay buffers.

    Every feature becomes `data/<name>` in its own dtype, the only action `data/action`, and
    `meta/episode_ends` says where episodes end. Everything else (units, element names, roles,
    tick rate, ids, tasks, splits) lies in the attributes of `meta`. Chunks hold whole steps,
    about 2 MB of them.

    Raises:
        FormatError: the spec has no action, or a name that zarr cannot hold.
    """
    columns = {
        key: Column(feature, options.channels_first and feature.is_frame)
        for key, feature in _keys(workspace.path, spec).items()
    }
    refuse_names(workspace.path, columns)

    def pack(path: Path, episodes: Sequence[Staged]) -> None:
        with new_target(path, as_zip=options.zip) as target:
            put_group(target)
            put_buffer(target, spec, dialect, episodes)

    dialect = Dialect(
        columns=columns,
        compressor=_COMPRESSORS[options.compressor],
        rows=lambda feature, lengths: two_megabytes(feature, sum(lengths)),
        pack=pack,
    )
    return ZarrWriter(workspace, spec, dialect)


def _keys(path: Path, spec: Spec) -> dict[str, Feature]:
    """Features by the name of their array."""
    actions = spec.role("action")
    if not actions:
        raise FormatError(
            f"{path}: a replay buffer needs an action.\nFound: {', '.join(spec.names)}.\n"
            "Fix: give one feature the role `action`; feature maps alone are a `feature_zarr`."
        )
    keys: dict[str, Feature] = {}
    for feature in spec.features:
        if feature.dtype == "str":
            continue
        key = "action" if (feature,) == actions else array_name(feature)
        while key in keys or (key == "action" and feature.role != "action"):
            key += "_"
        keys[key] = feature
    return keys
