"""One episode as it waits to be packed: a folder with a table, videos, and what is known of it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import FormatError, ShapeError
from deft.formats.lerobot_note import EpisodeNote
from deft.formats.lerobot_schema import Column, arrow_array, arrow_schema
from deft.formats.lerobot_stats import (
    QUANTILES,
    PictureCounts,
    Summary,
    from_json,
    of_table,
    sampled_steps,
    to_json,
)
from deft.formats.video_encoding import VideoSettings, encode
from deft.spec import Episode, Feature, Frames, expect

_TABLE, _ABOUT, _STATS = "table.parquet", "about.json", "stats.json"
_GROUP_BYTES = 16 << 20
"""Pictures in one row group, so that memory stays small whatever an episode's length."""
STATISTICS = ("min", "max", "mean", "std", "count", *QUANTILES)


def write_fragment(
    folder: Path,
    episode: Episode,
    columns: Sequence[Column],
    video: VideoSettings,
    is_pooled: bool,
) -> None:
    """Write the folder, which is not there yet.

    Args:
        folder: to make.
        episode: what to write.
        columns: how LeRobot holds it.
        video: how cameras are encoded.
        is_pooled: see `lerobot_stats.of_table`.

    Raises:
        FormatError: a picture is missing, surplus or of another kind, or cannot be encoded.
    """
    folder.mkdir()
    length = len(episode)
    counts = {
        each.key: PictureCounts(each.feature.channels, each.feature.dtype)
        for each in columns
        if each.feature.is_frame
    }
    for number, each in enumerate(columns):
        if each.kind == "video":
            frames = _pictures(episode, each.feature, counts[each.key])
            encode(folder / _video(number), frames, int(episode.spec.fps), video)
    held = [each for each in columns if each.kind != "video"]
    _write_table(folder / _TABLE, episode, held, counts)
    stats = {
        each.key: of_table(episode.arrays[each.feature.name], is_pooled)
        for each in held
        if each.kind == "table"
    }
    stats |= {key: count.summary() for key, count in counts.items()}
    not_valid = [] if episode.valid is None else np.flatnonzero(~episode.valid).tolist()
    about = {
        "id": episode.id,
        "length": length,
        "task": episode.task,
        "split": episode.split,
        "source": episode.source,
        "not_valid": not_valid,
        "codec": video.codec,
    }
    (folder / _ABOUT).write_text(json.dumps(about))
    plain = {key: to_json(summary, STATISTICS) for key, summary in stats.items()}
    (folder / _STATS).write_text(json.dumps(plain))
    for number, each in enumerate(columns):
        if each.key in counts:
            np.savez_compressed(
                folder / _levels(number),
                levels=counts[each.key].levels,
                pictures=counts[each.key].pictures,
            )


@dataclass(frozen=True)
class Fragment:
    """A folder that was written, to be packed."""

    folder: Path

    @cached_property
    def about(self) -> dict[str, Any]:
        return json.loads((self.folder / _ABOUT).read_text())

    @property
    def length(self) -> int:
        return self.about["length"]

    @property
    def note(self) -> EpisodeNote:
        about = self.about
        return EpisodeNote(
            about["id"], about["length"], about["split"], about["source"], tuple(about["not_valid"])
        )

    @property
    def stats(self) -> dict[str, Summary]:
        """By key, without those of the columns that LeRobot adds."""
        data = json.loads((self.folder / _STATS).read_text())
        return {key: from_json(each) for key, each in data.items()}

    def video(self, number: int) -> Path:
        """The file of the column with this number."""
        return self.folder / _video(number)

    def counts(self, number: int, column: Column) -> PictureCounts:
        """How often each brightness occurs in the pictures of a column."""
        counts = PictureCounts(column.feature.channels, column.feature.dtype)
        with np.load(self.folder / _levels(number)) as file:
            counts.levels += file["levels"]
            counts.pictures += int(file["pictures"])
        return counts

    def tables(self) -> Iterator[Any]:
        """The table in arrow tables of bearable size, in order."""
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(self.folder / _TABLE) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, use_threads=False)

    @property
    def table_size(self) -> int:
        """Bytes of the table on disk."""
        return (self.folder / _TABLE).stat().st_size


def open_table(path: Path, schema: Any, columns: Sequence[Column]) -> Any:
    """A parquet writer as LeRobot's: snappy, dictionaries for all but pictures."""
    import pyarrow.parquet

    pictures = {each.key for each in columns if each.kind == "image"}
    named: Any = [name for name in schema.names if name not in pictures]
    return pyarrow.parquet.ParquetWriter(
        path,
        schema,
        compression="snappy",
        use_dictionary=named,
        write_page_checksum=True,
    )


def _write_table(
    path: Path, episode: Episode, columns: Sequence[Column], counts: dict[str, PictureCounts]
) -> None:
    import pyarrow

    schema = arrow_schema(columns, bookkeeping=False)
    cameras = {
        each.key: _encoded(episode, each.feature, counts[each.key])
        for each in columns
        if each.kind == "image"
    }
    with open_table(path, schema, columns) as file:
        done, length = 0, len(episode)
        while done < length:
            blobs: dict[str, list[Any]] = {key: [] for key in cameras}
            size, begin = 0, done
            while done < length and (size < _GROUP_BYTES or done == begin):
                for key, source in cameras.items():
                    data = next(source)
                    size += len(data)
                    blobs[key].append({"bytes": data, "path": f"frame-{done:06d}.png"})
                done = done + 1 if cameras else length
            arrays = [
                pyarrow.array(blobs[each.key], schema.field(each.key).type)
                if each.kind == "image"
                else arrow_array(episode.arrays[each.feature.name][begin:done], each)
                for each in columns
            ]
            file.write_table(pyarrow.table(arrays, schema=schema))
        for source in cameras.values():
            next(source, None)  # lets it see that there are no more


def _encoded(episode: Episode, feature: Feature, counts: PictureCounts) -> Iterator[bytes]:
    import cv2

    for picture in _pictures(episode, feature, counts):
        if feature.channels == 3:
            picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(".png", np.ascontiguousarray(picture))
        assert done
        yield data.tobytes()


def _pictures(episode: Episode, feature: Feature, counts: PictureCounts) -> Iterator[np.ndarray]:
    """The pictures of a camera, compared with its feature, some of them counted."""
    frames: Frames = episode.frames[feature.name]
    length, sampled = len(episode), set(sampled_steps(len(episode)))
    step = -1
    for step, picture in enumerate(frames):
        where = f"Episode '{episode.id}', '{feature.name}', step {step}"
        if step == length:
            break
        try:
            expect(picture, feature.shape, feature.dtype, where)
        except ShapeError as error:
            raise FormatError(str(error)) from error
        if step in sampled:
            counts.add(picture)
        yield picture
    if step + 1 != length:
        raise FormatError(
            f"Episode '{episode.id}', '{feature.name}': promised {length} pictures.\n"
            f"Found: {'more' if step >= length else step + 1}.\n"
            "Fix: repair the recording, or leave the episode out."
        )


def _video(number: int) -> str:
    return f"{number}.mp4"


def _levels(number: int) -> str:
    return f"{number}.npz"
