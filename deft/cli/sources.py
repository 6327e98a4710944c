"""Opening what a command names: a recording, a store, or a data set on the hub."""

import argparse
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft.errors import ConfigError

if TYPE_CHECKING:
    from deft import formats
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


def add_map(parser: Any) -> None:
    """The flag that says what features are to be called; see `open_recording`."""
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="call feature OLD by the name NEW, leave it out when NEW is empty; may be repeated",
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


def parse_transforms(words: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """`NAME[:KEY=VALUE,...]` words, or JSON files of `transforms.save`, as plain settings.

    A value is JSON or text; one with commas in it is a list, as in `angles=roll,pitch`.

    Raises:
        ConfigError: a file cannot be read, or a name or a setting is unknown or does not fit.
    """
    from deft import transforms

    trees: list[Any] = []
    for word in words:
        if word.endswith(".json"):
            trees += _saved_transforms(Path(word).expanduser())
            continue
        name, _, rest = word.partition(":")
        pairs = re.split(r",(?=\s*\w+=)", rest) if rest.strip() else []
        settings = parse_pairs(pairs, f"--transform {name}:")
        trees.append({"name": name.strip(), **{k: _setting(v) for k, v in settings.items()}})
    return tuple(transforms.save(transforms.load(trees)))


def _saved_transforms(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: cannot be read as JSON.\nFound: {error}.\n"
            "Fix: give a file with a list of transforms, each with its `name` and settings."
        ) from error
    return found if isinstance(found, list) else [found]


def _setting(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return [part.strip() for part in text.split(",")] if "," in text else text


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
    transforms: tuple[dict[str, Any], ...] = ()
    """Changes of its episodes in a row, before they are resampled; as `transforms.save` gives."""
    is_one_of_many: bool = False
    """Whether it needs a name of its own among others."""

    def seen(self, source: "Source") -> "Source":
        """What `open` gave, as it was asked for. Raises `DeftError` when it cannot be seen so."""
        from deft import transforms
        from deft.spec import Spec

        if self.saliency == "none":
            maps = [feature.name for feature in source.spec.role("saliency")]
            source = transforms.without(source, maps)
        if self.cameras:
            new = [self.renames.get(camera, camera) for camera in self.cameras]
            source = transforms.with_cameras(source, new)
        source = transforms.changed(source, transforms.load(self.transforms))
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

    def open(self, found: set[str] | None = None) -> "Source":
        """The recording or store, with its features under their new names.

        Args:
            found: gets the old names that are there; without it those that are not are refused.

        Raises:
            DeftError: it cannot be read.
        """
        from deft import formats, store, transforms

        if self.format is None and store.is_store(self.path):
            for flag, given in (("--option", self.options), ("--saliency", self.saliency)):
                if given and given not in ("auto", "none"):
                    raise ConfigError(
                        f"{self.path}: a store has no {flag} {given}.\nFix: leave it out."
                    )
            source = store.source(store.open(self.path))
            source = renamed(source, self.renames, found)
            # Alone it keeps the name of what it was made from; among others it needs its own.
            return transforms.with_name(source, self.name) if self.is_one_of_many else source
        name, path = formats.locate(self.path, self.format)
        known = formats.options_of(name)
        options = dict(self.options)
        # A reader that copes with cameras that some episodes lack has to know; what it does not
        # know of is done by views afterwards.
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
        source = open_recording(path, name, options, self.renames, found=found)[1]
        return transforms.with_name(source, self.name)


def open_recording(
    path: str | Path,
    format: str | None,  # noqa: A002
    options: Mapping[str, Any],
    renames: Mapping[str, str],
    *,
    fps: float | None = None,
    found: set[str] | None = None,
) -> "tuple[formats.Recording, Source]":
    """A recording as it was opened, and with features under other names.

    A reader with an option `map` is told of them, because names it is not certain of may keep it
    from opening at all; of others a view is made.

    Args:
        path: of the recording.
        format: name in `formats.FORMATS`; None recognises it.
        options: settings of the format.
        renames: new feature name by old one; an empty one leaves the feature out.
        fps: as `formats.open` takes it.
        found: gets the old names that are there, others are passed over; without it they are
            refused.

    Raises:
        DeftError: it cannot be opened, or not be seen so.
    """
    from deft import formats
    from deft.errors import FormatError

    name, place = formats.locate(path, format)
    told = None
    if renames and "map" not in options and "map" in formats.options_of(name):
        told = {**options, "map": [f"{old}={new}" for old, new in renames.items()]}
    if told is not None:
        try:
            recording = formats.open(place, name, fps, told)
        except FormatError:
            if found is None:
                raise
        else:
            if found is not None:
                found.update(renames)
            return recording, recording
    recording = formats.open(place, name, fps, options)
    return recording, renamed(recording, renames, found)


def renamed(
    source: "Source", renames: Mapping[str, str], found: set[str] | None = None
) -> "Source":
    """The source with other feature names; `found` as in `open_recording`."""
    from deft import transforms

    here = {old: new for old, new in renames.items() if old in source.spec}
    if found is None:
        check_renames(renames, here, [source])
    else:
        found.update(here)
    return transforms.renamed(source, here)


def check_renames(
    renames: Mapping[str, str], found: Collection[str], sources: "Sequence[Source]"
) -> None:
    """Refuse a `--map` whose old name was found in no source."""
    from deft.errors import nearest

    names = [name for source in sources for name in source.spec.names]
    for old, new in renames.items():
        if old not in found:
            raise ConfigError(
                f"--map {old}={new}: there is no feature '{old}'. {nearest(old, names)}\n"
                "Fix: correct the old name; `deft inspect` lists them."
            )
