"""BridgeData converted for TensorFlow: `<task>/{train,val}/out.tfrecord`, read without it.

One `tf.train.Example` holds one trajectory; every feature of it is a single serialised
`TensorProto`: `observations/images0` (uint8 `T H W 3`, not compressed), `observations/state`, the
same under `next_observations/`, `actions`, `terminals`, `truncates`, `language`.
Source: `bridge_data_v2`, `data_processing/bridgedata_numpy_to_tfrecord.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deft.errors import FormatError
from deft.formats.bridge import Look, unusable
from deft.formats.bridge_note import KEY, Note
from deft.formats.bridge_numpy import PlacedFile, places
from deft.formats.bridge_trajectory import BridgeOptions, Column, Trajectory, assemble, look_at
from deft.formats.example import Example, Fetch
from deft.formats.gzip_records import GzipRecords, is_gzip
from deft.formats.recording import Recording
from deft.formats.regular import open_regular
from deft.formats.tensor_proto import Tensor
from deft.formats.tfrecord import read_record, scan_sound_records
from deft.formats.tree import holds
from deft.spec import EpisodeInfo

MARK = "`out.tfrecord` with a trajectory per record, in `train` and `val` folders at any depth"

FILE, PACKED_FILE = "out.tfrecord", "out.tfrecord.gz"
_NOW, _NEXT = "observations/", "next_observations/"
_SMALL = 1 << 12
"""Elements per step up to which observations and next observations are compared."""


def probe(path: Path) -> bool:
    """Whether this is such a file, or one is somewhere below."""
    if path.is_dir():
        return holds(path, lambda folder: FILE in folder.files or PACKED_FILE in folder.files)
    return path.name in (FILE, PACKED_FILE)


def open_bridge_tfrecord(path: Path, fps: float, options: BridgeOptions) -> Recording:
    """Open one file, or all that are in a folder and below it; a file may be packed with gzip.

    Every record is looked at once, without its pictures; checksums are verified when a trajectory
    is read. A packed file is unpacked for that.

    Raises:
        FormatError: a folder cannot be listed, or no trajectory can be used.
    """
    files = [*places(path, FILE), *(places(path, PACKED_FILE) if path.is_dir() else ())]
    looks = [look for file in files for look in _looks(file, options)]
    return assemble("bridge_tfrecord", path, fps, options, looks, _load)


@dataclass(frozen=True)
class _Record:
    """Where a trajectory lies."""

    where: str
    read: Callable[[], bytes]
    """All of it, its checksum verified."""
    peek: Callable[[], Trajectory]
    """Its trajectory, of which only what is asked for is read, where that can be."""


def _load(look: Look) -> Trajectory:
    record: _Record = look.content
    return _parse(record.read(), record.where)


def _looks(file: PlacedFile, options: BridgeOptions) -> Iterator[Look]:
    found: list[_Record] = []
    try:
        for record in _packed(file.path) if is_gzip(file.path) else _plain(file.path):
            found.append(record)
    except (FormatError, OSError) as error:
        # What lies behind the damage is lost, what lies before it is not.
        name = "/".join(part for part in (file.folder, file.split) if part) or file.path.name
        name = file.id_of(len(found)) if found else name
        yield Look(EpisodeInfo(id=name, length=0, split=file.split), wrong=str(error))
    for number, record in enumerate(found):
        id_ = file.id_of(number)
        try:
            yield look_at(record.peek(), id_, file.split, options, record)
        except FormatError as error:
            # The checksum was not looked at yet; when it does not hold, that is the better reason.
            wrong = _complaint(record.read) or str(error)
            yield Look(EpisodeInfo(id=id_, length=0, split=file.split), wrong=wrong)


def _plain(path: Path) -> Iterator[_Record]:
    places, damage = scan_sound_records(path)
    for place in places:

        def fetch(start: int, stop: int, offset: int = place.offset) -> bytes:
            try:
                with open_regular(path, 0) as file:
                    file.seek(offset + start)
                    return file.read(stop - start)
            except OSError as error:
                raise unusable(str(path), "cannot be read", str(error)) from error

        yield _Record(
            place.where,
            lambda place=place: read_record(place),
            lambda fetch=fetch, place=place: _trajectory(fetch, place.size, place.where),
        )
    if damage is not None:
        raise damage


def _packed(path: Path) -> Iterator[_Record]:
    records = GzipRecords(path)
    for number in range(len(records)):

        def read(number: int = number) -> bytes:
            return records.read(number)

        where = f"{path}, record {number}"
        yield _Record(where, read, lambda read=read, where=where: _parse(read(), where))


def _parse(data: bytes, where: str) -> Trajectory:
    return _trajectory(lambda start, stop: data[start:stop], len(data), where)


def _complaint(read: Callable[[], bytes]) -> str:
    try:
        read()
    except FormatError as error:
        return str(error)
    return ""


def _trajectory(fetch: Fetch, size: int, where: str) -> Trajectory:
    example = Example.parse(fetch, size, where)
    note = None
    if KEY in example.spans:
        note = Note.parse("".join(_tensor(example, KEY).texts()), where)
    keys = [key.removeprefix(_NOW) for key in example.spans if key.startswith(_NOW)]
    surplus, columns = "", dict[str, Column]()
    now = {key: _tensor(example, _NOW + key) for key in keys}
    after = {key: _tensor(example, _NEXT + key) for key in keys if _NEXT + key in example.spans}
    if note is None:
        surplus = _judge_next(now, after)
    has_last = note.has_last if note else bool(after) and not surplus
    for key in sorted(keys):
        rows = now[key].rows()
        if has_last:
            rows = _WithLast(rows, _last(after, key, where))
        shape = now[key].shape[1:]
        dtype = now[key].dtype
        assert dtype is not None  # `rows` has refused text
        columns[key] = Column(rows, shape, dtype)
    action = _tensor(example, "actions")
    language = _tensor(example, "language").texts() if "language" in example.spans else []
    if not action.shape:
        raise unusable(where, "'actions' is a single number", str(action.shape))
    return Trajectory(
        where=where,
        columns=columns,
        has_last=has_last,
        action=action.numbers(),
        language=language,
        note=note,
        surplus=surplus,
    )


def _tensor(example: Example, key: str) -> Tensor:
    where = f"{example.where}, '{key}'"
    for start, stop in example.blobs(key):
        return Tensor.parse(example.fetch, start, stop, where)
    raise unusable(where, "holds no tensor", "an empty list")


def _last(after: dict[str, Tensor], key: str, where: str) -> np.ndarray:
    tensor = after.get(key)
    if tensor is None or not tensor.shape or not tensor.shape[0]:
        raise unusable(where, f"'{_NEXT}{key}' is missing or empty", ", ".join(after))
    return tensor.row(tensor.shape[0] - 1)


def _judge_next(now: dict[str, Tensor], after: dict[str, Tensor]) -> str:
    """Why the last next observation is not the frame behind the last action, if so."""
    for key, tensor in now.items() if after else ():
        if key not in after or after[key].shape != tensor.shape:
            return f"there are no next_observations of '{key}', or of another shape"
        if not tensor.shape or tensor.dtype is None or np.prod(tensor.shape[1:]) > _SMALL:
            continue
        if not np.array_equal(after[key].numbers()[:-1], tensor.numbers()[1:], equal_nan=True):
            return f"next_observations of '{key}' do not follow its observations"
    return ""


@dataclass(frozen=True)
class _WithLast(Sequence[np.ndarray]):
    """Rows and one more."""

    rows: Sequence[np.ndarray]
    last: np.ndarray

    def __len__(self) -> int:
        return len(self.rows) + 1

    def __getitem__(self, index: int) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        step = range(len(self))[index]
        return self.last if step == len(self.rows) else self.rows[step]
