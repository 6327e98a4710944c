"""A finished store, opened: contract, episodes, statistics, tables, pictures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import DeftError, StoreError
from deft.spec import Feature, Spec, Stats
from deft.store.files import file_name, read_json
from deft.store.frames import FrameColumn, OpenFile
from deft.store.layout import FORMAT, VERSION, table_features

_COLUMNS = ("id", "start", "length", "task", "split", "source", "valid")
_AGAIN = "Fix: convert the data again."


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
class Store:
    """A training store. Everything is read-only; `open` makes one, any number of threads reads."""

    path: Path
    spec: Spec
    digest: str
    """sha256 that covers every byte of the store."""
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

    def __len__(self) -> int:
        """Number of steps, all episodes together."""
        return len(self.valid)


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


def open_at(path: Path, opener: Callable[[Path], OpenFile] | None = None) -> Store:
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
        spec = Spec.from_json(info["spec"])
        episodes, tasks = _episodes(path)
        steps = int(info["steps"])
        _check_episodes(path, episodes, info)
        tables = {
            feature.name: _array(
                path / f"tables/{file_name(feature.name)}.npy",
                (steps, *feature.shape),
                feature.dtype,
            )
            for feature in table_features(spec)
        }
        valid = _array(path / "valid.npy", (steps,), "bool")
        frames = {
            feature.name: _frames(path, feature, info, episodes, steps, opener)
            for feature in spec.features
            if feature.is_frame
        }
        stats = read_json(path / "stats.json")
        return Store(
            path=path,
            spec=spec,
            digest=str(info["digest"]),
            episodes=episodes,
            tasks=tasks,
            stats=_stats(stats["features"]),
            task_stats={task: _stats(each) for task, each in stats["tasks"].items()},
            tables=tables,
            valid=valid,
            frames=frames,
            info=info,
        )
    except StoreError:
        raise
    except DeftError as error:
        raise StoreError(f"{path}: its contract or statistics are damaged.\n{error}") from error
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise StoreError(
            f"{path}: store.json or stats.json lacks something.\nFound: {error!r}.\n{_AGAIN}"
        ) from error


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
    if info.get("version") != VERSION:
        raise StoreError(
            f"{file}: store version {info.get('version')}, this Deft reads version {VERSION}.\n"
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


def _episodes(path: Path) -> tuple[EpisodeIndex, tuple[str, ...]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = path / "episodes.parquet"
    try:
        table = pq.read_table(file, memory_map=True, columns=list(_COLUMNS))
        tasks = table["task"].combine_chunks().dictionary_encode()
        if isinstance(tasks, pa.ChunkedArray):
            tasks = tasks.combine_chunks()
        index = EpisodeIndex(
            ids=tuple(table["id"].to_pylist()),
            start=table["start"].to_numpy(),
            length=table["length"].to_numpy(),
            task=tasks.indices.to_numpy(zero_copy_only=False).astype(np.int64),
            split=np.asarray(table["split"].to_pylist(), np.str_),
            source=tuple(table["source"].to_pylist()),
            valid=table["valid"].to_numpy(),
        )
    except (OSError, KeyError, pa.ArrowException) as error:
        raise StoreError(f"{file}: cannot be read.\nFound: {error}.\n{_AGAIN}") from error
    return index, tuple(tasks.dictionary.to_pylist())


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


def _array(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise StoreError(f"{path}: cannot be read.\nFound: {error}.\n{_AGAIN}") from error
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise StoreError(
            f"{path}: wrong contents.\nFound: {array.dtype} of shape {array.shape}, wanted {dtype} "
            f"of shape {shape}.\n{_AGAIN}"
        )
    return array


def _frames(
    path: Path,
    feature: Feature,
    whole: dict[str, Any],
    episodes: EpisodeIndex,
    steps: int,
    opener: Callable[[Path], OpenFile] | None,
) -> FrameColumn:
    info = whole["frames"][feature.name]
    folder = path / "frames" / file_name(feature.name)
    offsets = _array(folder / "offsets.npy", (steps + 1,), "int64")
    shards = [(path / shard["file"], int(shard["first"])) for shard in info["shards"]]
    first = np.asarray([row for _, row in shards] + [steps], np.int64)
    rising = offsets[0] == 0 and bool((offsets[1:] > offsets[:-1]).all())
    sizes = [int(whole["files"][shard["file"]]["bytes"]) for shard in info["shards"]]
    fits = (
        first[0] == 0
        and bool((first[1:] > first[:-1]).all())
        and np.array_equal(np.diff(offsets[first]), sizes)
    )
    if info["codec"] == "raw" and rising:
        size = feature.size * np.dtype(feature.dtype).itemsize
        fits = fits and bool((np.diff(offsets) == size).all())
    if not (rising and fits) or info["codec"] not in ("jpeg", "raw"):
        raise StoreError(
            f"{folder}/offsets.npy: does not fit the shards.\n"
            f"Found: {len(shards)} shards of {sum(sizes)} bytes, offsets up to {offsets[-1]}.\n"
            f"{_AGAIN}"
        )
    return FrameColumn(feature, info["codec"], shards, offsets, episodes.describe, opener)


def _stats(data: dict[str, Any]) -> dict[str, Stats]:
    return {name: Stats.from_json(each) for name, each in data.items()}
