"""Any recording as a training store: converted once, found again afterwards."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft.errors import ConfigError

if TYPE_CHECKING:
    from deft import train
    from deft.spec import Spec


def as_stores(data: "train.DataConfig") -> list[str]:
    """The stores to train from, one for each of `data.paths`; addresses stay what they are."""
    from deft.cli import places

    return [
        path if places.is_address(path) else str(as_store(data, Path(path))) for path in data.paths
    ]


def as_store(data: "train.DataConfig", path: Path) -> Path:
    """The store to train from: what is at the path, or the conversion of the recording there.

    Conversions live in `<data dir>/stores`, under a name that changes with the recording and
    with the settings that shape it; one that was interrupted is continued.
    """
    from deft import store
    from deft.cli import places
    from deft.cli.sources import open_recording

    height, width = parse_image_size(data.image_size) if data.image_size else (None, None)
    if store.is_store(path):
        _check_store(store.open(path).spec, path, data, height, width)
        return path
    options, renames = _split(data.options)
    recording, source = open_recording(path, None, options, renames, fps=data.fps)
    config = store.WriteConfig(
        image_height=height, image_width=width, val_fraction=data.val_fraction
    )
    marks: list[Any] = [
        str(path),
        path.stat().st_mtime_ns,
        source.spec.digest(),
        [(each.id, each.length) for each in source.episodes],
        [data.image_size, data.val_fraction, list(data.include)],
    ]
    if data.options:
        marks.append(data.options)
    mark = hashlib.sha256(json.dumps(marks).encode()).hexdigest()[:12]
    target = places.data_dir().resolve() / "stores" / f"{recording.name}-{mark}"
    if not store.is_store(target):
        print(f"converting {path} to {target}", file=sys.stderr)
        report = store.write(
            target, source, config, workers=os.cpu_count() or 1, include=data.include
        )
        print(f"converted {report.episodes} episodes", file=sys.stderr)
        for episode, why in report.left_out:
            print(f"left out {episode}: {why}", file=sys.stderr)
    return target


def _split(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Options of the format, and the pairs of `map`, which recordings of every format take."""
    from deft.cli.sources import parse_pairs

    pairs = given.get("map", ())
    if isinstance(pairs, dict):
        pairs = [f"{old}={new}" for old, new in pairs.items()]
    elif isinstance(pairs, str):
        pairs = [pair for pair in pairs.split(",") if pair.strip()]
    options = {key: value for key, value in given.items() if key != "map"}
    return options, parse_pairs(list(pairs), "data.options.map")


def _check_store(
    spec: "Spec", path: Path, data: "train.DataConfig", height: int | None, width: int | None
) -> None:
    """Refuse settings that a finished store can no longer follow."""
    for camera in spec.role("image"):
        if height is not None and (camera.height, camera.width) != (height, width):
            raise ConfigError(
                f"data.image_size is height {height}, width {width}, but '{camera.name}' in "
                f"{path} has height {camera.height}, width {camera.width}.\n"
                "Fix: leave it out, or convert the recording again with --image-size."
            )
    if data.fps and spec.fps and data.fps != spec.fps:
        raise ConfigError(
            f"data.fps is {data.fps:g}, but {path} has {spec.fps:g} ticks per second.\n"
            "Fix: leave it out, or convert the recording again with --fps."
        )


def parse_image_size(text: str) -> tuple[int, int]:
    """`240x320` as (height, width). Raises `ConfigError` for anything else."""
    height, cross, width = text.partition("x")
    if not (cross and height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise ConfigError(f"'{text}' is no image size.\nFix: write HEIGHTxWIDTH, as in 240x320.")
    return int(height), int(width)
