"""Which codec each camera's pictures are kept with, and why."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from deft.errors import ConfigError, nearest
from deft.spec import Feature, Spec

if TYPE_CHECKING:
    from deft.store.layout import WriteConfig

CODECS = ("auto", "jpeg", "raw", "png")
Codec = Literal["auto", "jpeg", "raw", "png"]
LEVELS = 65535
"""PNG keeps saliency of 0 to 1 as so many steps: off by at most 1/131070."""


@dataclass(frozen=True)
class Choice:
    """How the pictures of one camera are kept."""

    codec: str
    levels: int = 0
    """When above 0, whole numbers 0 to `levels` stand for float32 from 0 to 1."""
    why: str = ""
    """Why it is this codec, unless exactly this was asked for."""


def choose(stored: Feature, config: "WriteConfig", steps: int | None) -> Choice:
    """The codec of one camera.

    Args:
        stored: its pictures as they are kept.
        config: what is asked for.
        steps: how many pictures there will be; None when that is not known.

    Raises:
        ConfigError: `config.codecs` names a codec that cannot hold them.
    """
    own = config.codecs.get(stored.name, "auto")
    if own != "auto":
        why = _why_not(own, stored)
        if why:
            raise ConfigError(
                f"'{stored.name}' cannot be kept as asked: {why}.\n"
                f"Fix: give it another codec, or leave it out of `codecs`."
            )
        return _with_levels(Choice(own), stored)
    asked, why = config.codec, ""
    if asked == "auto" or stored.name in config.codecs:
        asked, why = _automatic(stored, config, steps)
    refused = _why_not(asked, stored)
    if not refused:
        return _with_levels(Choice(asked, why=why), stored)
    codec = "raw" if _why_not("png", stored) else "png"
    return _with_levels(Choice(codec, why="; ".join(filter(None, (why, refused)))), stored)


def check_codecs(config: "WriteConfig") -> None:
    """Raises `ConfigError` for a codec that there is none of."""
    for name, codec in (("codec", config.codec), *config.codecs.items()):
        if codec not in CODECS:
            raise ConfigError(
                f"The codec of '{name}' is '{codec}'. {nearest(codec, CODECS)}\n"
                f"Fix: set it to one of {', '.join(CODECS)}."
            )


def check_names(spec: Spec, config: "WriteConfig") -> None:
    """Raises `ConfigError` when `codecs` names a camera that is not there."""
    cameras = [feature.name for feature in spec.features if feature.is_frame]
    for name in config.codecs:
        if name not in cameras:
            raise ConfigError(
                f"codecs: there are no pictures called '{name}'. {nearest(name, cameras)}\n"
                "Fix: correct the name."
            )


def _automatic(stored: Feature, config: "WriteConfig", steps: int | None) -> tuple[str, str]:
    if steps is None:
        return "jpeg", "auto: how many pictures there will be is not known"
    size = stored.size * (1 if stored.dtype == "uint8" else 2 if stored.dtype == "uint16" else 4)
    size_mb = -(-size * steps // 1_000_000)
    if size_mb <= config.raw_limit_mb:
        return "raw", f"auto: raw takes {size_mb} MB, within {config.raw_limit_mb} MB"
    return "jpeg", f"auto: raw would take {size_mb} MB, more than {config.raw_limit_mb} MB"


def _why_not(codec: str, stored: Feature) -> str:
    """Why a codec cannot hold these pictures; empty when it can."""
    held = f"{stored.dtype} with {stored.channels}"
    if codec == "jpeg":
        if stored.dtype != "uint8" or stored.channels != 3:
            return f"jpeg holds uint8 with 3 channels, not {held}"
        if stored.role != "image":
            return f"jpeg loses detail, and {stored.role} is kept as it is"
    if codec == "png":
        is_whole = stored.dtype in ("uint8", "uint16") and stored.channels in (1, 3, 4)
        if not (is_whole or _is_share(stored)):
            return f"png holds uint8 and uint16 with 1, 3 or 4 channels, not {held}"
    return ""


def _is_share(stored: Feature) -> bool:
    """Saliency from 0 to 1, which 16 bits hold."""
    return stored.role == "saliency" and stored.dtype == "float32" and stored.channels == 1


def _with_levels(choice: Choice, stored: Feature) -> Choice:
    is_share = choice.codec == "png" and _is_share(stored)
    return replace(choice, levels=LEVELS) if is_share else choice
