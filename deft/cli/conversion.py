"""One conversion as plain values: what is read, how it is seen, and what it becomes.

Every process that works on a conversion, here or in a cluster, makes its source from these values.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from deft import store
from deft.cli.sources import SourceRequest, check_renames
from deft.spec import from_plain, to_plain

if TYPE_CHECKING:
    from deft.spec import Source

STORE = "store"
_OWN_SPLIT = ("bridge_numpy", "bridge_tfrecord")
"""Formats whose writer draws the split by itself, task by task."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What `deft convert` is asked for."""

    sources: tuple[SourceRequest, ...]
    to: str
    """`store`, or a name in `formats.WRITABLE`."""
    dst: str
    """Absolute."""
    config: store.WriteConfig
    """Of the store; sizes and the split's seed also of other formats."""
    write_options: dict[str, Any]
    """Settings of the format that is written."""
    append: bool = False
    """Add to the store that is there; `config` is its own."""
    id_prefix: str = ""
    """Put before the id of every episode that is added."""
    train_proportion: float | None = None
    """Share that goes to `train` in a new split; null keeps the source's."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    episodes: tuple[int, ...] | None = None

    @property
    def is_store(self) -> bool:
        return self.to == STORE

    def to_text(self) -> str:
        return json.dumps(to_plain(self), sort_keys=True)

    @staticmethod
    def from_text(text: str) -> "Conversion":
        return from_plain(Conversion, json.loads(text))

    def source(self) -> "Source":
        """All sources as one, as they are to be written.

        Raises:
            DeftError: one cannot be read or seen so, or they do not fit together.
        """
        from deft import transforms

        found = set[str]()  # a rename may be meant for some of the sources
        read = [request.open(found) for request in self.sources]
        check_renames(self.sources[0].renames, found, read)
        parts = [request.seen(each) for request, each in zip(self.sources, read, strict=True)]
        if self.config.image_height and (not self.is_store or _sizes_differ(parts)):
            parts = [self._resized(each) for each in parts]
        source = transforms.merged(parts)
        if self.id_prefix:
            source = store.renamed(source, self.id_prefix)
        if self.train_proportion is None:
            return source
        ids = [info.id for info in source.episodes]
        splits = [""] * len(ids)
        if not self.is_store and self.to not in _OWN_SPLIT:
            splits, _ = store.split_episodes(ids, splits, self.config)
        return transforms.with_splits(source, splits)

    def chosen(self, source: "Source") -> list[int]:
        """Numbers of the episodes to convert. Raises `StoreError` when that is none."""
        return store.chosen_episodes(source, self.include, self.episodes, self.exclude)

    def steps(self, source: "Source") -> int:
        """Of all episodes to convert."""
        return sum(source.episodes[n].length for n in self.chosen(source))

    def origin(self) -> dict[str, Any]:
        """What the content depends on beside the contract: no path of this machine."""
        whence: dict[str, Any] = {"sources": [request.origin() for request in self.sources]}
        if self.train_proportion is not None:
            whence["train_proportion"] = self.train_proportion
        return whence

    def options(self) -> dict[str, Any]:
        """Settings for the format's writer."""
        from deft import formats

        known = formats.options_to_write(self.to)
        options: dict[str, Any] = {}
        if self.to in _OWN_SPLIT:
            options["split_seed"] = self.config.split_seed
            if self.train_proportion is not None:
                options["train_proportion"] = self.train_proportion
        return {key: value for key, value in options.items() if key in known} | self.write_options

    def _resized(self, source: "Source") -> "Source":
        from deft import transforms

        height, width = self.config.image_height, self.config.image_width
        assert height is not None
        assert width is not None
        mode, filter_ = self.config.resize, self.config.resize_filter
        return transforms.resized(source, height, width, mode, filter_)


def _sizes_differ(sources: "Sequence[Source]") -> bool:
    sizes = [{f.name: f.shape for f in source.spec.features if f.is_frame} for source in sources]
    return any(each != sizes[0] for each in sizes)


def with_proportion(config: store.WriteConfig, train_proportion: float) -> store.WriteConfig:
    """The settings of a store in which this share of the episodes is trained on."""
    return replace(config, val_fraction=round(1 - train_proportion, 12))
