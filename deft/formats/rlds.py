"""RLDS, as TFDS and Open-X write it: TFRecord shards with one episode per record.

`features.json` gives the structure, shard names give the splits. No TensorFlow is needed.
Source: google-research/rlds; tensorflow_datasets; Open X-Embodiment, arXiv:2310.08864.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import FormatError
from deft.formats.example import Example
from deft.formats.jsonfile import read_object
from deft.formats.pictures import EncodedFrames, decode_picture
from deft.formats.raw_frames import RawFrames
from deft.formats.recording import (
    Recording,
    find_twins,
    first_not_finite,
    require_episodes,
)
from deft.formats.regular import open_regular
from deft.formats.rlds_layout import Column, Layout, declare, parse_record
from deft.formats.tfds import read_leaves
from deft.formats.tfrecord import RecordPlace, read_record, scan_sound_records
from deft.spec import Episode, EpisodeInfo, Frames, Problem, Spec

MARK = "a folder with `features.json` and `NAME-SPLIT.tfrecord-…` shards"

_SHARD = re.compile(r"(?P<name>.+)-(?P<split>[^-]+)\.tfrecord(-(?P<number>\d+)-of-(?P<of>\d+))?")
_MAX_TEXT = 1 << 16


def probe(path: Path) -> bool:
    """Whether this is a TFDS folder of TFRecord shards."""
    return (path / "features.json").is_file() and bool(_shards(path))


def open_rlds(path: Path, fps: float) -> Recording:
    """Open one version folder of an RLDS data set. The format does not hold the tick rate.

    Every record is looked at once, a few kilobytes each: number of steps, instruction, actions,
    and the first picture of each camera. A camera that is black in every episode is left out.

    Raises:
        FormatError: `features.json` or a shard is damaged, or no episode can be used.
    """
    shards = _shards(path)
    info, problems = _dataset_info(path)
    leaves = read_leaves(path / "features.json")
    places, damaged = _scan(shards)
    require_episodes(path, [shard.path for shard, _ in places], damaged)
    problems += damaged
    problems += _compare_counts(info, shards, Counter(shard.split for shard, _ in places))
    layout, found = declare(path, leaves, places[0][1], str(info.get("name", "")))
    problems += found
    looks = [_look(layout, shard, place) for shard, place in places]
    usable = [look for look in looks if not look.wrong]
    problems += [
        Problem(episode=look.info.id, what=look.wrong, effect="left out", severity="error")
        for look in looks
        if look.wrong
    ]
    require_episodes(path, [look.info for look in usable], problems)
    problems += _judge_cameras(layout, usable)
    problems += find_twins((look.info, look.digest) for look in usable)
    black = {c.feature.name for c in layout.cameras if _is_always_black(c, usable)}
    columns = [column for column in layout.columns if column.feature.name not in black]
    spec = Spec(
        features=tuple(column.feature for column in columns),
        fps=fps,
        embodiment="widowx" if layout.is_bridge else "",
    )
    return Recording(
        format="rlds",
        path=path,
        name=_name(path, info),
        spec=spec,
        episodes=tuple(look.info for look in usable),
        problems=tuple(problems),
        reader=lambda index: _read(spec, columns, usable[index]),
    )


@dataclass(frozen=True)
class _Shard:
    path: Path
    split: str
    number: int
    of: int


@dataclass(frozen=True)
class _Look:
    """What one look at a record found."""

    place: RecordPlace
    info: EpisodeInfo
    digest: bytes = b""
    black: frozenset[str] = frozenset()
    """Cameras whose first picture is black."""
    denied: frozenset[str] = frozenset()
    """Cameras whose flag says that there are no pictures."""
    wrong: str = ""
    """Why the episode cannot be used; empty when it can."""


def _shards(path: Path) -> list[_Shard]:
    found: list[_Shard] = []
    for file in sorted(path.glob("*.tfrecord*")):
        match = _SHARD.fullmatch(file.name)
        if match:
            number, of = int(match["number"] or 0), int(match["of"] or 1)
            found.append(_Shard(file, match["split"], number, of))
    return found


def _scan(shards: Iterable[_Shard]) -> tuple[list[tuple[_Shard, RecordPlace]], list[Problem]]:
    """Where every record lies; a shard that is cut short keeps those before the damage."""
    places: list[tuple[_Shard, RecordPlace]] = []
    problems: list[Problem] = []
    first: dict[tuple[str, int], _Shard] = {}
    for shard in shards:
        twin = first.setdefault((shard.split, shard.number), shard)
        if twin is not shard:
            name = f"{shard.split}-{shard.number:05d}"
            what = f"{shard.path.name} is the same shard as {twin.path.name}"
            problems.append(Problem(episode=name, what=what, effect="left out", severity="error"))
            continue
        found, damage = scan_sound_records(shard.path)
        places += [(shard, place) for place in found]
        if damage is not None:
            effect = f"left out, with what follows in its shard; the {len(found)} before are used"
            name = _episode_id(shard, len(found))
            problems.append(
                Problem(episode=name, what=str(damage), effect=effect, severity="error")
            )
    return places, problems


def _episode_id(shard: _Shard, number: int) -> str:
    return f"{shard.split}-{shard.number:05d}-{number:05d}"


def _dataset_info(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    file = path / "dataset_info.json"
    if file.is_file():
        return read_object(file), []
    what = "dataset_info.json is not there; counts cannot be compared"
    return {}, [Problem(episode="", what=what, effect="read without it")]


def _name(path: Path, info: Mapping[str, Any]) -> str:
    name, version = info.get("name"), info.get("version")
    if not (isinstance(name, str) and name):
        return path.name
    # It becomes part of file names, and comes from outside.
    return re.sub(r"[^\w.-]+", "-", f"{name}-{version}" if version else name)[:100]


def _compare_counts(
    info: Mapping[str, Any], shards: Iterable[_Shard], counts: Counter[str]
) -> Iterator[Problem]:
    there: dict[str, set[int]] = {}
    wanted: dict[str, int] = {}
    for shard in shards:
        there.setdefault(shard.split, set()).add(shard.number)
        wanted[shard.split] = max(wanted.get(shard.split, 0), shard.of)
    for split, numbers in there.items():
        if len(numbers) < wanted[split]:
            yield Problem(
                episode="",
                what=f"split '{split}' has {len(numbers)} of {wanted[split]} shards",
                effect="those that are there are used",
            )
    splits = info.get("splits")
    for entry in splits if isinstance(splits, list) else []:
        lengths = entry.get("shardLengths") if isinstance(entry, dict) else None
        if not isinstance(lengths, list) or not all(
            re.fullmatch(r"\d{1,18}", str(n)) for n in lengths
        ):
            continue
        split, promised = str(entry.get("name")), sum(int(n) for n in lengths)
        if promised != counts[split]:
            yield Problem(
                episode="",
                what=f"split '{split}' holds {counts[split]} episodes, dataset_info.json says "
                f"{promised}",
                effect="those that are there are used",
            )


def _look(layout: Layout, shard: _Shard, place: RecordPlace) -> _Look:
    """Length, instruction, actions and first pictures of one record, from a few reads."""
    name = _episode_id(shard, place.number)
    nothing = EpisodeInfo(id=name, length=0, split=shard.split)
    try:
        with open_regular(place.path, 0) as file:

            def fetch(start: int, stop: int) -> bytes:
                file.seek(place.offset + start)
                return file.read(stop - start)

            return _look_inside(layout, shard, place, name, fetch)
    except FormatError as error:
        # The checksum was not looked at yet; when it does not hold, that is the better reason.
        return _Look(place, nothing, wrong=_checksum_error(place) or str(error))
    except OSError as error:
        return _Look(place, nothing, wrong=f"{place.where}: cannot be read: {error}")


def _look_inside(
    layout: Layout,
    shard: _Shard,
    place: RecordPlace,
    name: str,
    fetch: Callable[[int, int], bytes],
) -> _Look:
    example = Example.parse(fetch, place.size, place.where)
    digest = hashlib.blake2b(digest_size=16)
    length, wrong = None, ""
    for column in layout.vectors:
        rows = _table(example, column)
        length = len(rows) if length is None else length
        if len(rows) != length:
            wrong = f"'{column.feature.name}' has {len(rows)} steps, others {length}"
        if where := first_not_finite(rows):
            wrong = f"'{column.feature.name}': {where}"
        if column.feature.role == "action":
            digest.update(rows.tobytes())
    if not length:
        wrong = "has no steps"
    info = EpisodeInfo(
        id=name, length=length or 0, task=_instruction(layout, example), split=shard.split
    )
    black = {
        column.feature.name
        for column in layout.cameras
        if length and _starts_black(example, column)
    }
    denied = {
        camera
        for camera, key in layout.flags.items()
        if key in example.spans and not example.numbers(key).any()
    }
    return _Look(place, info, digest.digest(), frozenset(black), frozenset(denied), wrong)


def _checksum_error(place: RecordPlace) -> str:
    try:
        read_record(place)
    except FormatError as error:
        return str(error)
    return ""


def _instruction(layout: Layout, example: Example) -> str:
    if not layout.instruction:
        return ""
    blob = example.first_blob(layout.instruction) or b""
    try:
        return blob[:_MAX_TEXT].decode().strip()
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{example.where}: '{layout.instruction}' is not UTF-8.\nFound: {error}.\n"
            "Fix: leave this episode out."
        ) from error


def _starts_black(example: Example, column: Column) -> bool:
    height, width, channels = column.feature.shape
    where = f"{example.where}, '{column.leaf.key}', step 0"
    for start, stop in example.blobs(column.leaf.key):
        # A black picture costs a JPEG encoder at most 16 bits for 8x8 pixels, and its header.
        if stop - start > 4096 + height * width // 16:
            return False
        blob = example.fetch(start, stop)
        shape = (height, width, channels)
        return not decode_picture(blob, shape, column.feature.dtype, where).any()
    raise FormatError(
        f"{where}: there is no picture.\nFix: leave this episode out, or copy the shard again."
    )


def _table(example: Example, column: Column) -> np.ndarray:
    """One numeric feature of all steps, `T ...` in the feature's dtype."""
    feature, key = column.feature, column.leaf.key
    values = example.numbers(key)
    wanted = np.dtype(column.leaf.dtype)
    where = f"{example.where}, '{key}'"
    if (values.dtype.kind == "f") != (wanted.kind == "f"):
        raise _mismatch(where, f"{wanted} values", f"a list of {values.dtype}")
    if len(values) % feature.size:
        raise _mismatch(where, f"{feature.size} values per step", f"{len(values)} values in all")
    if wanted.kind != "f" and len(values):
        low, high = (0, 1) if wanted.kind == "b" else (np.iinfo(wanted).min, np.iinfo(wanted).max)
        if values.min() < low or values.max() > high:
            raise _mismatch(where, f"{wanted} values", f"{values.min()} to {values.max()}")
    return values.reshape(-1, *feature.shape).astype(feature.dtype)


def _read(spec: Spec, columns: list[Column], look: _Look) -> Episode:
    data = read_record(look.place)
    example = parse_record(data, look.place)
    arrays: dict[str, np.ndarray] = {}
    frames: dict[str, Frames] = {}
    for column in columns:
        feature, key = column.feature, column.leaf.key
        if feature.is_frame and column.leaf.kind != "image":
            maps = _table(example, column)
            frames[feature.name] = RawFrames(maps, feature.shape, feature.dtype)
        elif feature.is_frame:
            blobs = [data[start:stop] for start, stop in example.blobs(key)]
            where = f"{example.where}, '{key}'"
            frames[feature.name] = EncodedFrames(blobs, feature.shape, feature.dtype, where)
        else:
            arrays[feature.name] = _table(example, column)
    return Episode(
        spec=spec,
        id=look.info.id,
        arrays=arrays,
        frames=frames,
        task=look.info.task,
        split=look.info.split,
        source=f"{look.place.path.name}, record {look.place.number}",
    )


def _is_always_black(camera: Column, looks: list[_Look]) -> bool:
    return all(camera.feature.name in look.black for look in looks)


def _judge_cameras(layout: Layout, looks: list[_Look]) -> Iterator[Problem]:
    for camera in layout.cameras:
        name = camera.feature.name
        black = sum(name in look.black for look in looks)
        if black == len(looks):
            what = f"'{name}' is black in the first picture of every episode"
            yield Problem(episode="", what=what, effect="the camera is left out")
        elif black:
            what = f"'{name}' is black in the first picture of {black} of {len(looks)} episodes"
            yield Problem(episode="", what=what, effect="kept as it is", severity="note")
        denied = sum(name in look.denied and name not in look.black for look in looks)
        if denied:
            yield Problem(
                episode="",
                what=f"the flag 'has_{name}' is 0 in {denied} of {len(looks)} episodes that do "
                "have pictures",
                effect="the flag is ignored, the pictures are used",
            )


def _mismatch(where: str, wanted: str, found: str) -> FormatError:
    return FormatError(
        f"{where}: wanted {wanted}.\nFound: {found}.\n"
        "Fix: use the features.json that was written with these records."
    )
