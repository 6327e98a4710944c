"""What a store holds: its settings, its contract, how each picture is kept, who is held out."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from deft.errors import ConfigError
from deft.spec import Feature, Resized, Spec
from deft.store.choice import Codec, check_codecs, choose
from deft.transforms import resized_feature

FORMAT = "deft store"
VERSION = 2
"""What is written. Version 1 is read too: it has no sums of single pictures, no statistics of
pictures, one wording per episode, and it cannot grow."""
READABLE = (1, 2)


def is_store(path: str | Path) -> bool:
    """True for the folder of a finished store."""
    file = Path(path) / "store.json"
    if not file.is_file():  # reading a named pipe would wait for ever
        return False
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("format") == FORMAT


@dataclass(frozen=True, kw_only=True)
class WriteConfig:
    """How episodes become a store."""

    image_height: int | None = None
    """Height of stored pictures in pixels; None keeps the source's. Set both or none."""
    image_width: int | None = None
    """Width of stored pictures in pixels; None keeps the source's."""
    resize: Literal["squash", "pad", "crop"] = "squash"
    """What becomes of the aspect ratio: let it change, add black bars, or cut the middle out."""
    resize_filter: Literal["auto", "area", "linear", "nearest", "lanczos", "cubic"] = "auto"
    """Interpolation; `auto` averages the area when shrinking, and is linear when enlarging. It also
    lets JPEGs be decoded at 1/2, 1/4 or 1/8 first, where that is not below the size wanted: pixels
    differ by about 1 of 255, for half the time. `area` decodes them whole."""
    codec: Codec = "jpeg"
    """`jpeg` (lossy, 4:2:0), `raw`, `png` (lossless), or `auto`: raw where all pictures of a camera
    take at most `raw_limit_mb`, else jpeg; it is settled when the store is begun. What jpeg may
    not hold, as depth and saliency, is png; what png cannot hold is raw. store.json has the
    reason."""
    codecs: dict[str, Codec] = field(default_factory=dict)
    """The same for single cameras, as in `{"wrist": "png"}`; it must be able to hold them."""
    quality: int = 90
    """JPEG quality, 1 to 100."""
    raw_limit_mb: int = 1024
    """What `auto` keeps raw, in millions of bytes per camera. A number and not the memory of this
    machine, so that the same recording becomes the same store everywhere."""
    val_fraction: float = 0.1
    """Share of episodes held out for validation, 0 up to but not including 1."""
    split_seed: int = 0
    """Seed of the split."""
    shard_mb: int = 128
    """Size at which a new shard of pictures begins, in millions of bytes."""

    def __post_init__(self) -> None:
        check_codecs(self)
        if (self.image_height is None) != (self.image_width is None):
            raise ConfigError(
                f"image_height is {self.image_height} and image_width {self.image_width}.\n"
                "Fix: set both, or none to keep the size."
            )
        for name, low, high in (
            ("image_height", 8, 8192),
            ("image_width", 8, 8192),
            ("quality", 1, 100),
            ("raw_limit_mb", 0, 1 << 30),
            ("shard_mb", 1, 65536),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{name} is {value}.\nFix: set it between {low} and {high}.")
        if not 0 <= self.val_fraction < 1:
            raise ConfigError(
                f"val_fraction is {self.val_fraction}.\nFix: set it from 0 up to, not including, 1."
            )


@dataclass(frozen=True)
class FramePlan:
    """How the pictures of one camera are kept."""

    source: Feature
    stored: Feature
    codec: str
    quality: int
    resize: Resized | None
    """From which size and how; None when the size stays."""
    why: str
    """Why it is this codec; empty when exactly this was asked for."""
    levels: int = 0
    """When above 0, whole numbers 0 to `levels` stand for float32 from 0 to 1."""
    may_reduce: bool = False
    """Whether JPEGs may be decoded at a fraction of their size first; see `codec.reduced`."""

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"codec": self.codec}
        if self.codec == "jpeg":
            data["quality"] = self.quality
        if self.levels:
            data["levels"] = self.levels
        if self.why:
            data["codec_reason"] = self.why
        return data


def plan_frames(feature: Feature, config: WriteConfig, steps: int | None = None) -> FramePlan:
    """Size, interpolation and codec of one picture feature.

    Args:
        feature: the pictures as they come.
        config: how they are to be kept.
        steps: how many there will be, for codec `auto`; None when that is not known.

    Raises:
        ConfigError: pictures of its dtype cannot be resized or kept as asked.
    """
    height = config.image_height or feature.height
    width = config.image_width or feature.width
    stored = resized_feature(feature, height, width, config.resize, config.resize_filter)
    resize = stored.resized[-1] if stored is not feature else None
    choice = choose(stored, config, steps)
    return FramePlan(
        feature,
        stored,
        choice.codec,
        config.quality,
        resize,
        choice.why,
        choice.levels,
        may_reduce=config.resize_filter == "auto"
        and resize is not None
        and resize.filter == "area",
    )


def stored_feature(feature: Feature, config: WriteConfig) -> Feature:
    """A feature as the store keeps it: pictures resized, float64 as float32."""
    if feature.is_frame:
        return plan_frames(feature, config).stored
    if feature.dtype == "float64":
        return replace(feature, dtype="float32")
    return feature


def stored_spec(spec: Spec, config: WriteConfig) -> Spec:
    """The contract of the store that `spec` becomes.

    Text is kept as the episode's task, so language features stay and other text features go:
    an episode has no place for their values.
    """
    kept = [f for f in spec.features if f.dtype != "str" or f.role == "language"]
    return replace(spec, features=tuple(stored_feature(f, config) for f in kept), horizons=None)


def table_features(spec: Spec) -> list[Feature]:
    """The features kept in `tables/`."""
    return [f for f in spec.features if not f.is_frame and f.dtype != "str"]


def split_episodes(
    ids: Sequence[str],
    given: Sequence[str],
    config: WriteConfig,
    drawn: int = 0,
    by_source: bool = False,
) -> tuple[list[str], str]:
    """Who is held out: the split of every episode, and where it came from.

    When the source names `val` episodes, its `train` and `val` are kept. Otherwise an episode is
    held out when sha256 of (split_seed, id) falls below val_fraction, except that the first
    episode is always `train` and the second always `val` (when val_fraction is not 0): the only
    rule under which every store has something to learn from, every store of two or more has
    something held out, and no episode changes sides when others are appended. Names other than
    `train` and `val`, as in `test`, stay what they are.

    Args:
        ids: episode ids in the store's order.
        given: what the source says of each; empty when it says nothing.
        config: seed and fraction.
        drawn: how many episodes were drawn before, when these are appended; their split stays.
        by_source: keep the source's `train` even if it names no `val` among these.

    Returns:
        One split name per episode, and `source` or `hash`.
    """
    by_source = by_source or "val" in given
    splits: list[str] = []
    for id_, said in zip(ids, given, strict=True):
        if said and (by_source or said != "train"):
            splits.append(said)
            continue
        if not by_source and drawn < 2:
            held_out = drawn == 1 and config.val_fraction > 0
        else:
            held_out = share_of(config.split_seed, id_) < config.val_fraction
        drawn += 1
        splits.append("val" if held_out else "train")
    return splits, "source" if by_source else "hash"


def share_of(seed: int, id_: str) -> float:
    """Where an episode falls between 0 and 1: it is held out below the fraction."""
    digest = hashlib.sha256(f"{seed}:{id_}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
