"""A finished store, opened: contract, episodes, statistics, tables, pictures."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import DeftError, StoreError
from deft.spec import Feature, Spec, Stats
from deft.store.files import file_name, read_json
from deft.store.frames import FrameColumn, Opener
from deft.store.layout import FORMAT, READABLE, table_features
from deft.store.mapped import AGAIN as _AGAIN
from deft.store.parts import Listed, Part, joined, joined_offsets, listed, parts_of
from deft.store.references import Reference, references


@dataclass(frozen=True)
class EpisodeIndex:
    """Every episode, as columns in the order of the store."""

    ids: tuple[str, ...]
    start: np.ndarray
    """int64, row of the first step."""
    length: np.ndarray
    """int64, number of steps."""
    task: np.ndarray
    """int64, index into `Store.tasks`."""
    split: np.ndarray
    """Text: `train`, `val`, or another name that the source gave."""
    source: tuple[str, ...]
    """Where each came from, for people."""
    valid: np.ndarray
    """int64, number of steps that may be learned from."""
    wordings: np.ndarray
    """int64, index into `Store.texts`: the wordings of all episodes, one after the other."""
    first_wording: np.ndarray
    """int64 `E + 1`, where those of each episode begin in `wordings`; the task is the first."""

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, row: int) -> tuple[int, int]:
        """Episode number and step of one row of the store."""
        episode = int(np.searchsorted(self.start, row, "right")) - 1
        return episode, row - int(self.start[episode])

    def describe(self, row: int) -> str:
        """Episode id and step of one row, for messages."""
        episode, step = self.at(row)
        return f"episode '{self.ids[episode]}', frame {step}"


@dataclass(frozen=True)
class TextVectors:
    """What a policy is shown for the texts of a store."""

    vectors: np.ndarray
    """float32 `len(texts) L`; NaN for texts of episodes that are not in use."""
    encoder: str = ""
    """Name of the text encoder; empty when the vectors came with the data."""
    encoder_digest: str = ""
    """Of the encoder's files."""


@dataclass(frozen=True)
class Store:
    """A training store. Everything is read-only; `open` makes one, any number of threads reads."""

    path: Path
    spec: Spec
    digest: str
    """sha256 that covers every byte of the store, and the features that it refers to."""
    episodes: EpisodeIndex
    tasks: tuple[str, ...]
    """Task texts in the order of their first episode."""
    stats: dict[str, Stats]
    """Per numeric feature, over the valid steps of train episodes."""
    task_stats: dict[str, dict[str, Stats]]
    """The same per task; empty when there are too many tasks."""
    tables: dict[str, np.ndarray]
    """Per numeric feature, `N ...` of all steps, memory-mapped."""
    valid: np.ndarray
    """bool `N`, memory-mapped; False marks steps that must not be learned from."""
    frames: dict[str, FrameColumn]
    info: dict[str, Any]
    """All of store.json: codec, split, provenance, problems."""
    texts: tuple[str, ...] = ()
    """Every wording of every task; those in `tasks` come first and have the same numbers."""
    image_stats: dict[str, Stats] = field(default_factory=dict)
    """Per camera, with one element per channel in the values of its pixels, over a sample of the
    train episodes' pictures, see `histograms`; empty for a store of version 1."""
    task_image_stats: dict[str, dict[str, Stats]] = field(default_factory=dict)
    """The same per task; empty when there are too many tasks."""
    references: tuple[Reference, ...] = ()
    """Features in `spec` and `tables` whose values are kept elsewhere; they have no statistics."""
    text_vectors: TextVectors | None = None
    """Vectors of `texts`, where training put them; `open` leaves them out."""

    def __len__(self) -> int:
        """Number of steps, all episodes together."""
        return len(self.valid)

    @property
    def labeled(self) -> np.ndarray:
        """bool, one per episode: whether every wording of its task is more than blanks."""
        said = np.asarray([bool(text.strip()) for text in self.texts], np.bool_)
        index = self.episodes
        return np.logical_and.reduceat(said[index.wordings], index.first_wording[:-1])

    def instructions(self, episode: int) -> tuple[str, ...]:
        """Every wording of an episode's task, the task first; empty when there is no other."""
        index = self.episodes
        first, last = index.first_wording[episode : episode + 2].tolist()
        if last - first < 2:
            return ()
        return tuple(self.texts[number] for number in index.wordings[first:last].tolist())


def open(path: str | Path) -> Store:  # noqa: A001 - read as `store.open`
    """Open a store in a folder, or at an address such as `s3://bucket/store` or `https://…`.

    Of a store elsewhere, pictures are fetched shard by shard as they are read, see
    `remote.open_remote`, which also has the settings of the local cache.

    Raises:
        StoreError: there is no store, it is unfinished, or a file is missing, of the wrong size
            or does not fit the others.
    """
    if isinstance(path, str) and "://" in path:
        from deft.store.remote import open_remote

        return open_remote(path)
    return open_at(Path(path))


def open_at(path: Path, opener: Opener | None = None) -> Store:
    """Open a store and check sizes, offsets and counts; pictures and hashes are left to `check`.

    Args:
        path: folder of the store.
        opener: opens shards that need not be in the folder; None expects them there.

    Raises:
        StoreError: there is no store, it is unfinished, or a file is missing, of the wrong size
            or does not fit the others.
    """
    info = _info(path)
    _check_files(path, info, has_shards=opener is None)
    try:
        return _assembled(path, info, opener)
    except StoreError:
        raise
    except DeftError as error:
        raise StoreError(
            f"{path}: the contract in store.json or the statistics in stats.json are damaged.\n"
            f"{error}\n{_AGAIN}"
        ) from error
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise StoreError(
            f"{path}: store.json or stats.json lacks something.\nFound: {error!r}.\n{_AGAIN}"
        ) from error


def _assembled(path: Path, info: dict[str, Any], opener: Opener | None) -> Store:
    spec = Spec.from_json(info["spec"])
    parts = parts_of(info)
    index = listed(path, parts)
    episodes = _episodes(index)
    _check_episodes(path, episodes, info)
    tables = {
        feature.name: joined(
            path, parts, f"tables/{file_name(feature.name)}.npy", feature.shape, feature.dtype
        )
        for feature in table_features(spec)
    }
    valid = joined(path, parts, "valid.npy", (), "bool")
    frames = {
        feature.name: _frames(path, feature, info, parts, episodes, opener)
        for feature in spec.features
        if feature.is_frame
    }
    stats = read_json(path / info.get("stats", "stats.json"))
    elsewhere = tuple(references(path))
    tables |= {each.feature.name: each.table(info["steps"]) for each in elsewhere}
    return Store(
        path=path,
        spec=replace(spec, features=(*spec.features, *(each.feature for each in elsewhere))),
        digest=_digest(str(info["digest"]), elsewhere),
        references=elsewhere,
        episodes=episodes,
        tasks=index.tasks,
        texts=index.texts,
        stats=_stats(stats["features"]),
        task_stats={task: _stats(each) for task, each in stats["tasks"].items()},
        image_stats=_stats(stats.get("images", {})),
        task_image_stats={
            task: _stats(each) for task, each in stats.get("image_tasks", {}).items()
        },
        tables=tables,
        valid=valid,
        frames=frames,
        info=info,
    )


def _digest(own: str, elsewhere: Sequence[Reference]) -> str:
    if not elsewhere:
        return own
    return hashlib.sha256(
        "\n".join([own, *(each.digest for each in elsewhere)]).encode()
    ).hexdigest()


def _info(path: Path) -> dict[str, Any]:
    file = path / "store.json"
    if not file.exists():
        partial = path.with_name(path.name + ".partial")
        if partial.exists():
            raise StoreError(
                f"{path}: the store is unfinished.\nFound: {partial}.\n"
                "Fix: run the command that began it again; it goes on where it stopped."
            )
        found = "a folder without store.json" if path.is_dir() else "nothing there"
        raise StoreError(
            f"{path}: no store.\nFound: {found}.\n"
            "Fix: give the folder that `deft convert SRC DST --to store` wrote."
        )
    info = read_json(file)
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise StoreError(f"{file}: this is no store of Deft.\nFix: give another folder.")
    if info.get("version") not in READABLE:
        raise StoreError(
            f"{file}: store version {info.get('version')}, this Deft reads versions "
            f"{' and '.join(map(str, READABLE))}.\n"
            "Fix: convert the data again, or use the Deft that wrote it."
        )
    if info.get("finished") is not True:
        raise StoreError(f"{file}: the store is unfinished.\n{_AGAIN}")
    return info


def _check_files(path: Path, info: dict[str, Any], has_shards: bool) -> None:
    listed = info.get("files")
    if not isinstance(listed, Mapping):
        raise StoreError(f"{path}/store.json: the list of files is missing.\n{_AGAIN}")
    for name, wanted in listed.items():
        if is_shard(name) and not has_shards:
            continue
        file = path / name
        try:
            size = file.stat().st_size
        except OSError as error:
            raise StoreError(f"{file}: missing.\nFound: {error}.\n{_AGAIN}") from error
        if size != wanted["bytes"]:
            raise StoreError(
                f"{file}: wrong size.\nFound: {size} bytes, wanted {wanted['bytes']}.\n{_AGAIN}"
            )


def is_shard(name: str) -> bool:
    """True for the files of a store that hold pictures, by their path inside it."""
    return name.endswith(".bin")


def _episodes(index: Listed) -> EpisodeIndex:
    return EpisodeIndex(
        ids=index.ids,
        start=index.start,
        length=index.length,
        task=index.task,
        split=index.split,
        source=index.source,
        valid=index.valid,
        wordings=index.wordings,
        first_wording=index.first_wording,
    )


def _check_episodes(path: Path, episodes: EpisodeIndex, info: dict[str, Any]) -> None:
    ends = np.cumsum(episodes.length)
    total = int(ends[-1]) if len(ends) else 0
    whole = (
        len(episodes) == info["episodes"]
        and total == info["steps"]
        and bool((episodes.start == ends - episodes.length).all())
        and bool((episodes.length > 0).all())
        and len(episodes) > 0
    )
    if not whole:
        raise StoreError(
            f"{path}/episodes.parquet: does not fit store.json.\n"
            f"Found: {len(episodes)} episodes with {total} steps, wanted {info['episodes']} with "
            f"{info['steps']}, one after the other.\n{_AGAIN}"
        )


def _frames(
    path: Path,
    feature: Feature,
    whole: dict[str, Any],
    parts: Sequence[Part],
    episodes: EpisodeIndex,
    opener: Opener | None,
) -> FrameColumn:
    info = whole["frames"][feature.name]
    codec, levels = info["codec"], int(info.get("levels", 0))
    folder = f"frames/{file_name(feature.name)}"
    offsets = joined_offsets(path, parts, folder)
    has_sums = whole["version"] > 1
    sums = joined(path, parts, f"{folder}/sums.npy", (), "uint64") if has_sums else None
    shards = [(path / shard["file"], int(shard["first"])) for shard in info["shards"]]
    first = np.asarray([row for _, row in shards] + [len(offsets) - 1], np.int64)
    rising = offsets[0] == 0 and bool((offsets[1:] > offsets[:-1]).all())
    sizes = [int(whole["files"][shard["file"]]["bytes"]) for shard in info["shards"]]
    fits = (
        first[0] == 0
        and bool((first[1:] > first[:-1]).all())
        and np.array_equal(np.diff(offsets[first]), sizes)
    )
    if codec == "raw" and rising:
        size = feature.size * np.dtype(feature.dtype).itemsize
        fits = fits and bool((np.diff(offsets) == size).all())
    if not (rising and fits) or codec not in ("jpeg", "png", "raw"):
        raise StoreError(
            f"{path}/{folder}/offsets.npy: does not fit the shards.\n"
            f"Found: {len(shards)} shards of {sum(sizes)} bytes, offsets up to {offsets[-1]}.\n"
            f"{_AGAIN}"
        )
    return FrameColumn(feature, codec, shards, offsets, episodes.describe, opener, levels, sums)


def _stats(data: dict[str, Any]) -> dict[str, Stats]:
    return {name: Stats.from_json(each) for name, each in data.items()}
