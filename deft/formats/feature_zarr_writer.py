"""Writes feature zarr: version 2, one zarr with all episodes or one for each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deft.errors import FormatError
from deft.formats.writing import Workspace
from deft.formats.zarr_notes import Column
from deft.formats.zarr_stage import Staged
from deft.formats.zarr_writer import Dialect, ZarrWriter, put_buffer, two_megabytes
from deft.formats.zarr_writing import FEATURES, new_target, put_group
from deft.spec import Episode, Feature, Spec

_ROWS = (8, 16)


@dataclass(frozen=True, kw_only=True)
class FeatureZarrWriteOptions:
    """How feature zarr is written."""

    layout: Literal["joined", "episodes"] = "joined"
    """`joined`: one zarr, all episodes along time; `episodes`: a folder of `episode<i>.zarr`."""
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    """Where the features come from, for the attributes of the zarr: backbone, layers, camera, …"""


def feature_zarr_writer(
    workspace: Workspace, spec: Spec, options: FeatureZarrWriteOptions
) -> ZarrWriter:
    """A writer of feature zarr.

    The one feature becomes `data/features` in its own dtype, in chunks of 8 to 16 steps.

    Args:
        workspace: where episodes wait.
        spec: one feature with role `feature_map`, `Hf Wf C` or `D` per step, and nothing else
            but text.
        options: see there.

    Raises:
        FormatError: the spec is another; and, with `add`, a value is not finite, as happens where
            float16 overflows.
    """
    held = [feature for feature in spec.features if feature.dtype != "str"]
    if len(held) != 1 or held[0].role != "feature_map":
        found = ", ".join(f"{each.name} ({each.role})" for each in held) or "nothing"
        raise FormatError(
            f"{workspace.path}: feature zarr holds one feature map and nothing else.\n"
            f"Found: {found}.\nFix: select one, as in `spec.select([name])`; `deft convert` leaves "
            "out the others with `--map NAME=`."
        )
    (feature,) = held
    about = _about(feature, spec.fps) | options.attributes

    def pack(path: Path, episodes: Sequence[Staged]) -> None:
        if options.layout == "joined":
            _put(path, episodes)
            return
        path.mkdir()
        for number, episode in enumerate(episodes):
            _put(path / f"episode{number}.zarr", [episode])

    def _put(path: Path, episodes: Sequence[Staged]) -> None:
        with new_target(path, as_zip=False) as target:
            put_group(target, attributes=about)
            put_buffer(target, spec, dialect, episodes)

    dialect = Dialect(
        columns={"features": Column(feature)},
        compressor=FEATURES,
        rows=_rows,
        pack=pack,
        check=lambda episode: _check_finite(episode, feature),
    )
    return ZarrWriter(workspace, spec, dialect)


def _rows(feature: Feature, lengths: Sequence[int]) -> int:
    rows = two_megabytes(feature, sum(lengths))
    if len(feature.shape) == 3:
        low, high = _ROWS
        rows = min(max(rows, low), high, sum(lengths))
    return rows


def _about(feature: Feature, fps: float) -> dict[str, Any]:
    about: dict[str, Any] = {"dtype": feature.dtype}
    if len(feature.shape) == 3:
        about["grid"] = list(feature.shape[:2])
    return about | ({"fps": fps} if fps else {})


def _check_finite(episode: Episode, feature: Feature) -> None:
    values = episode.arrays[feature.name]
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    at = tuple(int(n) for n in np.argwhere(~np.isfinite(values))[0])
    limit = np.finfo(values.dtype).max
    raise FormatError(
        f"Episode '{episode.id}', '{feature.name}', step {at[0]}: is not finite.\n"
        f"Found: {values[at]} at {at[1:]}; {values.dtype} ends at {limit:g}.\n"
        "Fix: write wider numbers (float32), or scale the features."
    )
