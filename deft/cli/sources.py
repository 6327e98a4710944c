"""Opening what a command names: a recording, a store, or a data set on the hub."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft.errors import ConfigError

if TYPE_CHECKING:
    from deft.spec import Source

SALIENCY = ("auto", "maps", "boxes", "fixations", "none")
_SUFFIXES = (".zip", ".zarr", ".hdf5", ".h5", ".tfrecord")


def add_option(parser: argparse.ArgumentParser) -> None:
    """The flag that every command has which opens recordings."""
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the recording's format, as in cameras=image_0; may be given again",
    )


def parse_pairs(words: Sequence[str], flag: str = "--option") -> dict[str, str]:
    """`KEY=VALUE` words as a dict. Raises `ConfigError` for anything else, and for repetition."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key.strip() or not equals:
            raise ConfigError(f"{flag} '{word}' is no pair.\nFix: write {flag} KEY=VALUE.")
        if key in found:
            raise ConfigError(
                f"{flag} names '{key}' twice.\nFound: {found[key]!r} and {value!r}.\n"
                "Fix: give it once."
            )
        found[key.strip()] = value.strip()
    return found


def default_name(text: str, path: Path) -> str:
    """The name of a data set: `owner/name` on the hub, else its last two path parts."""
    from deft import formats

    if formats.hub.is_hub_address(text):
        return formats.hub.HubAddress.parse(text).repo
    return "/".join(part for part in path.parts[-2:] if part != path.anchor)


def folder_name(name: str) -> str:
    """A data set's name without the endings of files."""
    while name.endswith(_SUFFIXES):
        name = name.rsplit(".", 1)[0]
    return name


@dataclass(frozen=True, kw_only=True)
class SourceRequest:
    """One recording or store, and how it is to be seen. Plain values only."""

    path: str
    """Absolute, of the recording or store."""
    name: str
    """For provenance and prefixes; see `default_name`."""
    format: str | None = None
    """Name in `formats.FORMATS`; null recognises it."""
    options: dict[str, Any]
    """Settings of the format."""
    fps: float | None = None
    """Ticks per second to come: declared where the recording does not say, else resampled."""
    changes: tuple[str, ...] | None = None
    """Elements of the action that are changes per step; null knows them by name."""
    renames: dict[str, str]
    """New feature name by old one; an empty one leaves the feature out."""
    cameras: tuple[str, ...] = ()
    """Pictures and depth maps to keep; empty keeps all."""
    saliency: str | None = None
    """One of `SALIENCY`; null leaves it to the reader."""
    is_one_of_many: bool = False
    """Whether `renames` may be meant for another recording."""

    def seen(self, source: "Source") -> "Source":
        """What `open` gave, as it was asked for. Raises `DeftError` when it cannot be seen so."""
        from deft import transforms
        from deft.spec import Spec

        if self.saliency == "none":
            maps = [feature.name for feature in source.spec.role("saliency")]
            source = transforms.without(source, maps)
        if self.cameras:
            source = transforms.with_cameras(source, self.cameras)
        renames = {old: new for old, new in self.renames.items() if old in source.spec}
        source = transforms.renamed(source, renames)
        if not self.fps or source.spec.fps == self.fps:
            return source
        if not source.spec.fps:
            spec: Spec = replace(source.spec, fps=self.fps)
            return transforms.with_spec(source, spec)
        return transforms.resampled(source, self.fps, self.summed(source))

    def summed(self, source: "Source") -> tuple[str, ...]:
        """Elements of the action that are added up when ticks become fewer."""
        from deft import transforms

        if self.changes is not None:
            return self.changes
        actions = source.spec.role("action")
        return tuple(transforms.is_change(actions[0])) if len(actions) == 1 else ()

    def origin(self) -> dict[str, Any]:
        """What the content depends on, for provenance: no path of this machine."""
        from deft.spec import to_plain

        plain = to_plain(self)
        del plain["path"], plain["is_one_of_many"]
        return {key: value for key, value in plain.items() if value not in (None, [], {})}

    def open(self) -> "Source":
        """The recording or store itself. Raises `DeftError` when it cannot be read."""
        from deft import formats, store, transforms

        if self.format is None and store.is_store(self.path):
            for flag, given in (("--option", self.options), ("--saliency", self.saliency)):
                if given and given not in ("auto", "none"):
                    raise ConfigError(
                        f"{self.path}: a store has no {flag} {given}.\nFix: leave it out."
                    )
            source = store.source(store.open(self.path))
            # Alone it keeps the name of what it was made from; among others it needs its own.
            return transforms.with_name(source, self.name) if self.is_one_of_many else source
        name, path = formats.locate(self.path, self.format)
        known = formats.options_of(name)
        options = dict(self.options)
        # A reader that copes with uncertain names, or with cameras that some episodes lack, has to
        # know; what it does not know of is done by views afterwards.
        if self.renames and "map" in known:
            pairs = (f"{old}={new}" for old, new in self.renames.items() if new)
            options.setdefault("map", ",".join(pairs))
            if self.is_one_of_many and not _fits(name, path, options):
                del options["map"]
        if self.cameras and "cameras" in known:
            options.setdefault("cameras", list(self.cameras))
        if self.saliency and "saliency" in known:
            options.setdefault("saliency", self.saliency)
        elif self.saliency and self.saliency not in ("auto", "none"):
            raise ConfigError(
                f"{self.path}: the format '{name}' has no saliency other than its own.\n"
                f"Found: --saliency {self.saliency}.\nFix: leave it out, or say auto or none."
            )
        # Without `fps`: some readers would take it for the recording's own.
        recording = formats.open(path, name, None, options)
        return transforms.with_name(recording, self.name)


def _fits(name: str, path: Path, options: dict[str, Any]) -> bool:
    """Whether a recording opens with these options."""
    from deft import formats
    from deft.errors import FormatError

    try:
        formats.open(path, name, None, options)
    except FormatError:
        return False
    return True


def check_renames(renames: dict[str, str], sources: "Sequence[Source]") -> None:
    """Refuse a `--map` whose old name is in no source, unless its reader has done it already."""
    from deft.errors import nearest

    names = [name for source in sources for name in source.spec.names]
    for old, new in renames.items():
        if old not in names and new not in names:
            raise ConfigError(
                f"--map {old}={new}: there is no feature '{old}'. {nearest(old, names)}\n"
                "Fix: correct the old name; `deft inspect` lists them."
            )
