"""One episode as one durable file, until it is packed into the store.

The file is a row of blobs followed by a JSON record, its length and a mark:

    pictures of camera 1 | sizes | sums | histogram | camera 2 ... | tables | valid | record | tail
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from deft.errors import StoreError
from deft.spec import CameraWatch, Episode, Spec, findings
from deft.store.codec import encoded_frames, reduced
from deft.store.decoding import checksum, decode
from deft.store.files import HashedFile, disk_refused, portable, sync_folder
from deft.store.histograms import bins_of, count, is_sampled
from deft.store.layout import FramePlan, table_features
from deft.store.statistics import Moments, why_none

_MARK = b"deftepi1"


def staged_path(folder: Path, id_: str) -> Path:
    """Where an episode waits: named by a hash of its id, spread over 256 folders."""
    name = hashlib.sha256(id_.encode()).hexdigest()[:40]
    return folder / name[:2] / name


def stage(
    folder: Path,
    episode: Episode,
    spec: Spec,
    plans: Mapping[str, FramePlan],
    instructions: Sequence[str] = (),
) -> int:
    """Encode an episode into its file, which appears whole or not at all.

    Args:
        folder: of all waiting episodes.
        episode: what to keep.
        spec: the store's contract.
        plans: how each camera is kept.
        instructions: every wording of its task, where there are several.

    Returns:
        Bytes written.

    Raises:
        StoreError: the episode cannot be kept; the message says why.
        DiskError: the disk refused it.
    """
    where = f"Episode '{episode.id}'"
    if len(episode) == 0:
        raise StoreError(f"{where} has no steps.\nFix: leave it out.")
    tables = _tables(episode, spec, where)
    path = staged_path(folder, episode.id)
    beside = path.with_name(path.name + ".tmp")
    _make_folder(path.parent)
    try:
        with HashedFile(beside) as file:
            _write(file, episode, spec, plans, tables, _wordings(episode.task, instructions))
            file.finish()
        _publish(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return file.size


def _make_folder(folder: Path) -> None:
    try:
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            sync_folder(folder.parent)
    except OSError as error:
        raise disk_refused(folder, error) from error


def _publish(beside: Path, path: Path) -> None:
    try:
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise disk_refused(path, error) from error


def _write(
    file: HashedFile,
    episode: Episode,
    spec: Spec,
    plans: Mapping[str, FramePlan],
    tables: dict[str, np.ndarray],
    wordings: list[str],
) -> None:
    blobs: dict[str, list[int]] = {}
    kept_as_is: dict[str, int] = {}
    factors: dict[str, int] = {}
    found = findings.of_arrays(episode)

    def put(key: str, data: bytes) -> None:
        begin = file.size
        file.write(data)
        blobs[key] = [begin, file.size - begin]

    valid = _valid(episode)
    for name, plan in plans.items():
        begin = file.size
        where = f"Episode '{episode.id}', '{name}'"
        camera = _Pictures(plan, is_sampled(valid), where)
        factors[name] = reduced(episode.frames[name], plan)[0]
        watch = CameraWatch(plan.stored)
        for data, is_own in encoded_frames(episode.frames[name], plan, where, watch.see):
            file.write(data)
            camera.add(data)
            kept_as_is[name] = kept_as_is.get(name, 0) + is_own
        found += watch.findings(episode)
        blobs[f"frames/{name}"] = [begin, file.size - begin]
        put(f"sizes/{name}", np.asarray(camera.sizes, np.int64).tobytes())
        put(f"sums/{name}", np.asarray(camera.sums, np.uint64).tobytes())
        if camera.histogram is not None:
            put(f"histogram/{name}", camera.histogram.tobytes())
    for name, table in tables.items():
        put(f"tables/{name}", table.tobytes())
    put("valid", valid.tobytes())
    record = {
        "id": episode.id,
        "length": len(episode),
        "task": episode.task,
        "instructions": wordings,
        "split": episode.split,
        "source": portable(episode.source),
        "valid": int(valid.sum()),
        "moments": _moments(tables, valid, spec),
        "as_is": kept_as_is,
        "reduced": factors,
        "findings": [asdict(each) for each in found],
        "blobs": blobs,
    }
    tail = json.dumps(record, allow_nan=False).encode()
    file.write(tail + len(tail).to_bytes(8, "little") + _MARK)


class _Pictures:
    """What is noted of the pictures of one camera as they pass."""

    def __init__(self, plan: FramePlan, sampled: np.ndarray, where: str) -> None:
        self.sizes: list[int] = []
        self.sums: list[int] = []
        self.histogram: np.ndarray | None = None
        """int64 `C bins` of the sampled pictures, as a reader decodes them."""
        self._plan, self._sampled, self._where = plan, sampled, where
        self._bins = bins_of(plan.stored)
        self._scratch = np.empty(plan.stored.shape, plan.stored.dtype)
        if self._bins is not None:
            self.histogram = np.zeros((plan.stored.channels, self._bins.count), np.int64)

    def add(self, data: bytes) -> None:
        step = len(self.sizes)
        self.sizes.append(len(data))
        self.sums.append(checksum(data, self._plan.codec))
        if self._bins is not None and self.histogram is not None and self._sampled[step]:
            at = f"{self._where}, frame {step}"
            decode(data, self._scratch, self._plan.codec, self._plan.levels, at)
            self.histogram += count(self._scratch, self._bins)


def _wordings(task: str, instructions: Sequence[str]) -> list[str]:
    """Every wording once, the task first; none when there is no other."""
    found = list(dict.fromkeys([task, *instructions]))
    return found if len(found) > 1 else []


def _valid(episode: Episode) -> np.ndarray:
    if episode.valid is None:
        return np.ones(len(episode), np.bool_)
    return np.ascontiguousarray(episode.valid, np.bool_)


def _tables(episode: Episode, spec: Spec, where: str) -> dict[str, np.ndarray]:
    """The numeric arrays in the dtypes of the store, checked for NaN and infinity."""
    tables: dict[str, np.ndarray] = {}
    for feature in table_features(spec):
        given = episode.arrays[feature.name]
        with np.errstate(over="ignore"):  # what overflows is found and named below
            table = np.ascontiguousarray(given, feature.dtype)
        if feature.role != "other" and table.dtype.kind == "f" and not np.isfinite(table).all():
            at = [int(i) for i in np.argwhere(~np.isfinite(table))[0]]
            raise StoreError(
                f"{where}, '{feature.name}', step {at[0]}, element {at[1:]} is not finite.\n"
                f"Found: {given[tuple(at)]}.\n"
                "Fix: repair or cut the recording; a masked step still enters the network."
            )
        tables[feature.name] = table
    return tables


def _moments(tables: dict[str, np.ndarray], valid: np.ndarray, spec: Spec) -> dict[str, Any]:
    """Per feature, over the valid steps, if any; None where a value is not finite."""
    found: dict[str, Any] = {}
    for name, table in tables.items():
        good = table[valid]
        if why_none(spec[name]) or len(good) == 0:
            continue
        found[name] = Moments.of(good).to_json() if np.isfinite(good).all() else None
    return found


class Staged:
    """A waiting episode, opened for packing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise self._unreadable(str(error)) from error
        try:
            self.record = self._record()
        except (OSError, ValueError) as error:
            self._file.close()
            raise self._unreadable(str(error)) from error

    def __enter__(self) -> "Staged":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _record(self) -> dict[str, Any]:
        end = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, end - 16))
        tail = self._file.read(16)
        size = int.from_bytes(tail[:8], "little")
        if tail[8:] != _MARK or size > end - 16:
            raise ValueError("the mark at its end is missing")
        self._file.seek(end - 16 - size)
        return json.loads(self._file.read(size))

    def _unreadable(self, found: str) -> StoreError:
        return StoreError(
            f"{self._path}: the waiting episode cannot be read.\nFound: {found}.\n"
            "Fix: delete this file and run the same command again."
        )

    def copy(self, blob: str, out: HashedFile) -> int:
        """Append one blob to a file, a megabyte at a time; returns its size."""
        begin, size = self.record["blobs"][blob]
        self._file.seek(begin)
        left = size
        while left:
            data = self._file.read(min(left, 1 << 20))
            if not data:
                raise self._unreadable("it is cut short")
            out.write(data)
            left -= len(data)
        return size

    def read(self, blob: str, dtype: str) -> np.ndarray:
        """One blob as a flat array."""
        begin, size = self.record["blobs"][blob]
        self._file.seek(begin)
        return np.frombuffer(self._file.read(size), dtype)
