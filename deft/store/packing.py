"""Waiting episodes to the final files, in order, streaming; equal input gives equal bytes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import StoreError
from deft.spec import Problem, Spec
from deft.store.files import HashedFile, file_name, fingerprint, sync_folder, to_json, write_durably
from deft.store.histograms import bins_of
from deft.store.index import Index
from deft.store.layout import FramePlan, WriteConfig, split_episodes, table_features
from deft.store.mapped import look, npy_header
from deft.store.overall import Piece, Row, counted_tasks, overall
from deft.store.parts import Part
from deft.store.staging import Staged, staged_path


@dataclass(frozen=True)
class Base:
    """What a part is appended to."""

    path: Path
    spec: Spec
    info: Mapping[str, Any]
    """All of its store.json."""
    parts: Sequence[Part]
    rows: Sequence[Row]
    """Of all its episodes."""
    drawn: int
    """How many of them had their split drawn."""
    by_source: bool
    """The source has said who is held out."""
    bytes: Mapping[str, int]
    """Of all pictures of each camera."""

    @property
    def steps(self) -> int:
        return sum(part.steps for part in self.parts)

    def pieces(self) -> list[Piece]:
        found: list[Piece] = []
        first = 0
        for part in self.parts:
            rows = self.rows[first : first + part.episodes]
            found.append(Piece(self.path / part.folder, rows))
            first += part.episodes
        return found


class Packer:
    """Builds the files of one part in an empty folder.

    Args:
        waiting: folder of the episodes.
        target: the empty folder.
        spec: the store's contract.
        plans: how each camera is kept.
        config: split and size of shards.
        base: what it is appended to; None for the first part.
    """

    def __init__(
        self,
        waiting: Path,
        target: Path,
        spec: Spec,
        plans: Mapping[str, FramePlan],
        config: WriteConfig,
        base: Base | None = None,
    ) -> None:
        self._waiting = waiting
        self._target = target
        self._spec = spec
        self._plans = plans
        self._config = config
        self._base = base
        self._start = base.steps if base else 0
        self._files: dict[str, dict[str, Any]] = {}
        self.findings: list[Problem] = []
        """What was noticed in the episodes as they were encoded, in the store's order."""

    def pack(self, order: Sequence[str], progress: Callable[[int], None]) -> dict[str, Any]:
        """Write every file of the part.

        Args:
            order: ids of the waiting episodes, in the store's order.
            progress: told the number of episodes packed, after each.

        Returns:
            What store.json says of them, with names of files as they are within the part.
        """
        for folder in ("tables", "frames"):
            (self._target / folder).mkdir()
        rows, came_from = self._rows(order)
        frames = self._copy(rows, progress)
        self._statistics(rows)
        sync_folder(self._target / "tables")
        sync_folder(self._target / "frames")
        return {
            "episodes": len(rows),
            "steps": sum(row.length for row in rows),
            "split": {"from": came_from, "episodes": dict(Counter(row.split for row in rows))},
            "frames": frames,
            "files": dict(sorted(self._files.items())),
        }

    def _open(self, order: Iterable[str]) -> Iterator[Staged]:
        for id_ in order:
            with Staged(staged_path(self._waiting, id_)) as staged:
                yield staged

    def _rows(self, order: Sequence[str]) -> tuple[list[Row], str]:
        rows: list[Row] = []
        texts: dict[str, str] = {}  # one object for all that are equal, as tasks mostly are
        start = self._start
        for staged in self._open(order):
            record = staged.record
            id_, source = record["id"], record["source"]
            task, split = (texts.setdefault(record[key], record[key]) for key in ("task", "split"))
            source = id_ if source == id_ else source
            rows.append(Row(id_, start, record["length"], task, split, source, record["valid"]))
            start += record["length"]
            self.findings += [Problem(**each) for each in record["findings"]]
        splits, came_from = split_episodes(
            [row.id for row in rows],
            [row.split for row in rows],
            self._config,
            self._base.drawn if self._base else 0,
            self._base is not None and self._base.by_source,
        )
        rows = [replace(row, split=split) for row, split in zip(rows, splits, strict=True)]
        return rows, came_from

    def _copy(self, rows: Sequence[Row], progress: Callable[[int], None]) -> dict[str, Any]:
        """Tables, masks and pictures of all episodes, and the index of them.

        Returns:
            What store.json says of the cameras.
        """
        steps = sum(row.length for row in rows)
        with ExitStack() as stack:
            tables = {
                feature.name: stack.enter_context(
                    self.array(
                        f"tables/{file_name(feature.name)}.npy",
                        (steps, *feature.shape),
                        feature.dtype,
                    )
                )
                for feature in table_features(self._spec)
            }
            valid = stack.enter_context(self.array("valid.npy", (steps,), "bool"))
            tasks = counted_tasks(rows)
            cameras = {
                name: stack.enter_context(_Camera(self, plan, steps, tasks))
                for name, plan in self._plans.items()
            }
            index = stack.enter_context(Index(self._target / "episodes.parquet", self._spec))
            waiting = self._open(row.id for row in rows)
            for done, (row, staged) in enumerate(zip(rows, waiting, strict=True), 1):
                for name, table in tables.items():
                    staged.copy(f"tables/{name}", table.file)
                staged.copy("valid", valid.file)
                for camera in cameras.values():
                    camera.add(staged, row)
                index.add(row, staged.record)
                progress(done)
            for array in (*tables.values(), valid):
                self._files[array.name] = array.file.finish()
            frames = {name: camera.finish() for name, camera in cameras.items()}
            self._files["episodes.parquet"] = index.finish()
        return frames

    def array(self, name: str, shape: tuple[int, ...], dtype: str, *, rows: bool = True) -> "Array":
        """A new file of the part; with `rows`, one that is mapped behind those before it."""
        begin = None
        if rows and self._base is not None:
            before = look(self._base.path / name)
            begin = before.offset + self._start * before.row_bytes
        return Array(self._target, name, npy_header(shape, dtype, begin))

    def _statistics(self, rows: Sequence[Row]) -> None:
        """stats.json: of this part and all before it."""
        before = self._base.pieces() if self._base else []
        data = overall(self._spec, [*before, Piece(self._target, rows)])
        path = self._target / "stats.json"
        write_durably(path, to_json(data))
        self._files["stats.json"] = fingerprint(path)


class Array:
    """A .npy file whose rows are appended."""

    def __init__(self, target: Path, name: str, header: bytes) -> None:
        self.name = name
        self.file = HashedFile(target / name)
        self.file.write(header)

    def __enter__(self) -> "Array":
        self.file.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self.file.__exit__(*details)


class _Camera:
    """The pictures of one camera: shards, where each begins, its sum, and how many pixels have
    each value. An episode is never cut between two shards."""

    def __init__(self, packer: Packer, plan: FramePlan, steps: int, tasks: Sequence[str]) -> None:
        self._plan = plan
        self._packer = packer
        self._files = packer._files
        self._target = packer._target
        self._limit = packer._config.shard_mb * 1_000_000
        self._folder = f"frames/{file_name(plan.stored.name)}"
        (self._target / self._folder).mkdir()
        base = packer._base
        self._at = base.bytes[plan.stored.name] if base else 0
        self._frames = packer._start
        self._offsets = packer.array(f"{self._folder}/offsets.npy", (steps + 1,), "int64")
        self._offsets.file.write(np.int64(self._at).tobytes())
        self._sums = packer.array(f"{self._folder}/sums.npy", (steps,), "uint64")
        bins = bins_of(plan.stored)
        self._tasks = {task: number for number, task in enumerate(tasks)}
        self._histogram: np.ndarray | None = None
        if bins is not None:
            self._histogram = np.zeros((len(tasks), plan.stored.channels, bins.count), np.int64)
        self._shards: list[dict[str, Any]] = []
        self._shard: HashedFile | None = None
        self._as_is = 0
        self._reduced: dict[str, int] = {}

    def __enter__(self) -> "_Camera":
        return self

    def __exit__(self, *details: Any) -> None:
        for array in (self._offsets, self._sums):
            array.__exit__(*details)
        if self._shard is not None:
            self._shard.__exit__(*details)

    def add(self, staged: Staged, row: Row) -> None:
        name = self._plan.stored.name
        size = staged.record["blobs"][f"frames/{name}"][1]
        if self._shard is not None and self._shard.size + size > self._limit:
            self._end_shard()
        if self._shard is None:
            file = f"{self._folder}/shard-{len(self._shards):05d}.bin"
            self._shard = HashedFile(self._target / file)
            self._shards.append({"file": file, "first": self._frames})
        sizes = staged.read(f"sizes/{name}", "int64")
        offsets = self._at + np.cumsum(sizes)
        if int(sizes.sum()) != staged.copy(f"frames/{name}", self._shard):
            raise StoreError(
                f"Episode '{staged.record['id']}', '{name}': sizes and pictures disagree.\n"
                "Fix: delete the `.partial` folder and convert again."
            )
        self._offsets.file.write(offsets.tobytes())
        staged.copy(f"sums/{name}", self._sums.file)
        if self._histogram is not None and row.split == "train":
            counts = staged.read(f"histogram/{name}", "int64")
            held = self._histogram[self._tasks.get(row.task, 0)]
            held += counts.reshape(held.shape)
        self._at += size
        self._frames += len(sizes)
        self._as_is += staged.record["as_is"][name]
        factor = staged.record.get("reduced", {}).get(name, 1)
        if factor > 1:
            self._reduced[f"1/{factor}"] = self._reduced.get(f"1/{factor}", 0) + len(sizes)

    def finish(self) -> dict[str, Any]:
        """Close the last shard; returns what store.json says of the camera."""
        self._end_shard()
        for array in (self._offsets, self._sums):
            self._files[array.name] = array.file.finish()
        if self._histogram is not None:
            name = f"{self._folder}/histogram.npy"
            shape = self._histogram.shape
            with self._packer.array(name, shape, "int64", rows=False) as array:
                array.file.write(self._histogram.tobytes())
                self._files[name] = array.file.finish()
        sync_folder(self._target / self._folder)
        found = {**self._plan.to_json(), "shards": self._shards}
        if self._as_is:
            found["kept_as_is"] = self._as_is
        if self._reduced:  # how many JPEGs were decoded at which scale, before they were resized
            found["decoded_at"] = dict(sorted(self._reduced.items()))
        return found

    def _end_shard(self) -> None:
        if self._shard is not None:
            self._files[self._shards[-1]["file"]] = self._shard.finish()
            self._shard = None
