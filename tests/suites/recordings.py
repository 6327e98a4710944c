"""Small recordings in the layouts of others, written without their packages."""

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg

from suites.memory_source import picture

HEIGHT, WIDTH = 32, 48
TASKS = ("open the drawer", "close the drawer")


def demonstration(number: int, length: int) -> dict[str, np.ndarray]:
    """State `T 3`, action `T 2` and image `T H W 3` of one made-up episode."""
    rng = np.random.default_rng((7, number))
    return {
        "state": rng.normal(size=(length, 3)).astype(np.float32),
        "action": rng.normal(size=(length, 2)).astype(np.float32),
        "image": np.array(
            [picture(number, step, HEIGHT, WIDTH) for step in range(length)], np.uint8
        ).reshape(length, HEIGHT, WIDTH, 3),
    }


# --- zarr ---------------------------------------------------------------------------------------


def zarr_array(
    values: np.ndarray,
    chunks: Sequence[int],
    *,
    order: str = "C",
    separator: str = ".",
    compressor: Mapping[str, Any] | None = None,
    fill: Any = 0,
    pack: Callable[[bytes], bytes] = bytes,
) -> dict[str, bytes]:
    """The files of one zarr v2 array, chunks padded with 9s as a writer may do."""
    meta: dict[str, Any] = {
        "zarr_format": 2,
        "shape": list(values.shape),
        "chunks": list(chunks),
        "dtype": values.dtype.str,
        "order": order,
        "fill_value": fill,
        "filters": None,
        "compressor": compressor,
    }
    if separator != ".":
        meta["dimension_separator"] = separator
    files = {".zarray": json.dumps(meta).encode()}
    grid = [-(-n // c) for n, c in zip(values.shape, chunks, strict=True)]
    for place in np.ndindex(*grid):
        block = np.full(chunks, 9, values.dtype)
        part = values[tuple(slice(p * c, (p + 1) * c) for p, c in zip(place, chunks, strict=True))]
        block[tuple(slice(n) for n in part.shape)] = part
        files[separator.join(map(str, place))] = pack(block.tobytes(order))
    return files


def blosc(data: bytes) -> bytes:
    import numcodecs

    return numcodecs.Blosc("zstd", 5, numcodecs.Blosc.BITSHUFFLE).encode(data)


BLOSC = {"id": "blosc", "cname": "zstd", "clevel": 5, "shuffle": 2, "blocksize": 0}


def replay_files(
    lengths: Sequence[int], image_dtype: str = "uint8", **changes: np.ndarray
) -> dict[str, bytes]:
    """A whole replay buffer as file names and bytes; `changes` replace or add arrays of `data`."""
    parts = [demonstration(number, length) for number, length in enumerate(lengths)]
    arrays = {key: np.concatenate([part[key] for part in parts]) for key in ("state", "action")}
    arrays["img"] = np.concatenate([part["image"] for part in parts]).astype(image_dtype)
    arrays |= changes
    files = {".zgroup": b'{"zarr_format": 2}'}
    for key, values in arrays.items():
        chunks = (5, *values.shape[1:])
        for name, data in zarr_array(values, chunks, compressor=BLOSC, pack=blosc).items():
            files[f"data/{key}/{name}"] = data
    ends = np.cumsum(lengths).astype(np.int64)
    for name, data in zarr_array(ends, (64,)).items():
        files[f"meta/episode_ends/{name}"] = data
    return files


def write_folder(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return path


def write_zip(
    path: Path, files: Mapping[str, bytes], method: int = zipfile.ZIP_STORED, folder: str = ""
) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(f"{folder}{name}"), data, method)
    return path


# --- LeRobot ------------------------------------------------------------------------------------


def write_video(path: Path, pictures: np.ndarray, fps: int = 10, gop: int = 4) -> None:
    """An mp4 with a key frame every `gop` pictures and pictures stored out of order (B-frames)."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "10", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = (
            pictures.shape[2],
            pictures.shape[1],
            "yuv420p",
        )
        stream.codec_context.gop_size = gop
        for rgb in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())


def lerobot_info(count: int, camera: str = "video") -> dict[str, Any]:
    number = {"dtype": "int64", "shape": [1], "names": None}
    return {
        "codebase_version": "v2.1",
        "robot_type": "testbot",
        "total_episodes": count,
        "chunks_size": 2,
        "fps": 10,
        "splits": {"train": f"0:{count}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/"
        "episode_{episode_index:06d}.mp4",
        "features": {
            "observation.state": {"dtype": "float32", "shape": [3], "names": [["a", "b", "c"]]},
            "action": {"dtype": "float32", "shape": [2], "names": {"motors": ["m0", "m1"]}},
            "observation.images.top": {
                "dtype": camera,
                "shape": [HEIGHT, WIDTH, 3],
                "names": ["height", "width", "channel"],
            },
            "next.reward": {"dtype": "float32", "shape": [1], "names": None},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), number),
        },
    }


def lerobot_columns(number: int, length: int) -> dict[str, Any]:
    """The parquet columns of one episode, as pyarrow takes them."""
    import pyarrow

    made = demonstration(number, length)
    steps = np.arange(length)
    return {
        "observation.state": pyarrow.FixedSizeListArray.from_arrays(made["state"].ravel(), 3),
        "action": pyarrow.array(list(made["action"])),
        "next.reward": (steps == length - 1).astype(np.float32),
        "timestamp": (steps / 10).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(length, number),
        "index": steps,
        "task_index": np.full(length, number % len(TASKS)),
    }


def write_lerobot(path: Path, lengths: Sequence[int], camera: str = "video") -> Path:
    """A LeRobot v2.1 data set; `camera` is `video` or `image` (JPEGs inside the tables)."""
    meta = path / "meta"
    meta.mkdir(parents=True)
    (meta / "info.json").write_text(json.dumps(lerobot_info(len(lengths), camera)))
    tasks = [{"task_index": index, "task": task} for index, task in enumerate(TASKS)]
    (meta / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in tasks))
    episodes = [
        {"episode_index": number, "tasks": [TASKS[number % len(TASKS)]], "length": length}
        for number, length in enumerate(lengths)
    ]
    (meta / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in episodes))
    for number, length in enumerate(lengths):
        columns = lerobot_columns(number, length)
        pictures = demonstration(number, length)["image"]
        place = f"chunk-{number // 2:03d}"
        if camera == "video":
            key = "observation.images.top"
            write_video(path / f"videos/{place}/{key}/episode_{number:06d}.mp4", pictures)
        else:
            columns["observation.images.top"] = [
                {"bytes": jpeg(each), "path": None} for each in pictures
            ]
        write_parquet(path / f"data/{place}/episode_{number:06d}.parquet", columns)
    return path


def write_lerobot_v3(
    path: Path,
    lengths: Sequence[int],
    camera: str = "video",
    per_file: int = 2,
    one_group: bool = False,
) -> Path:
    """A LeRobot v3.0 data set: `per_file` episodes share a table and a video.

    `one_group` writes each table as pandas does, all its episodes in one row group.
    """
    import pyarrow
    import pyarrow.parquet

    info = lerobot_info(len(lengths), camera) | {
        "codebase_version": "v3.0",
        "chunks_size": 1000,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    (path / "meta").mkdir(parents=True)
    (path / "meta/info.json").write_text(json.dumps(info))
    tasks = {"task_index": range(len(TASKS)), "__index_level_0__": TASKS}
    write_parquet(path / "meta/tasks.parquet", {key: list(each) for key, each in tasks.items()})
    key, rows = "observation.images.top", list[dict[str, Any]]()
    starts = np.cumsum([0, *lengths]).tolist()
    for first in range(0, len(lengths), per_file):
        numbers = range(first, min(first + per_file, len(lengths)))
        tables, pictures, shown = list[Any](), list[np.ndarray](), 0
        for number in numbers:
            length = lengths[number]
            columns = lerobot_columns(number, length)
            made = demonstration(number, length)["image"]
            pictures.append(made)
            if camera == "image":
                columns[key] = [{"bytes": jpeg(each), "path": None} for each in made]
            tables.append(pyarrow.table(columns))
            row: dict[str, Any] = {
                "episode_index": number,
                "tasks": [TASKS[number % len(TASKS)]],
                "length": length,
                "data/chunk_index": 0,
                "data/file_index": first // per_file,
                "dataset_from_index": starts[number],
                "dataset_to_index": starts[number + 1],
            }
            if camera == "video":
                row |= {
                    f"videos/{key}/chunk_index": 0,
                    f"videos/{key}/file_index": first // per_file,
                    f"videos/{key}/from_timestamp": shown / 10,
                    f"videos/{key}/to_timestamp": (shown + length) / 10,
                }
            rows.append(row)
            shown += length
        place = f"chunk-000/file-{first // per_file:03d}"
        file = path / f"data/{place}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        with pyarrow.parquet.ParquetWriter(file, tables[0].schema) as writer:
            for table in [pyarrow.concat_tables(tables).combine_chunks()] if one_group else tables:
                writer.write_table(table)
        if camera == "video":
            write_video(path / f"videos/{key}/{place}.mp4", np.concatenate(pictures))
    file = path / "meta/episodes/chunk-000/file-000.parquet"
    file.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return path


def write_parquet(path: Path, columns: Mapping[str, Any]) -> None:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), path)


# --- RLDS ---------------------------------------------------------------------------------------


def jpeg(pixels: np.ndarray) -> bytes:
    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=95)


def png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def chunk(number: int, data: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def encode_example(values: Mapping[str, Any]) -> bytes:
    """A tf.train.Example: lists of bytes, float arrays, integer arrays (packed)."""
    entries = b""
    for key, value in values.items():
        if isinstance(value, list):
            kind, body = 1, b"".join(chunk(1, each) for each in value)
        elif np.asarray(value).dtype.kind == "f":
            kind, body = 2, chunk(1, np.asarray(value, "<f4").tobytes())
        else:
            flat = np.asarray(value).ravel().tolist()
            kind, body = 3, chunk(1, b"".join(varint(int(each)) for each in flat))
        entries += chunk(1, chunk(1, key.encode()) + chunk(2, chunk(kind, body)))
    return chunk(1, entries)


def _crc_table() -> list[int]:
    table: list[int] = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ 0x82F63B78 * (value & 1)
        table.append(value)
    return table


_TABLE = _crc_table()


def slow_crc32c(data: bytes) -> int:
    """CRC32C byte by byte, from the definition."""
    state = 0xFFFFFFFF
    for byte in data:
        state = _TABLE[(state ^ byte) & 0xFF] ^ state >> 8
    return state ^ 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """One TFRecord."""

    def mask(crc: int) -> bytes:
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + mask(slow_crc32c(length)) + data + mask(slow_crc32c(data))


def tensor_entry(*shape: int, dtype: str = "float32") -> dict[str, Any]:
    sizes = {"dimensions": [str(n) for n in shape]} if shape else {}
    return {
        "pythonClassName": "tensorflow_datasets.core.features.tensor_feature.Tensor",
        "tensor": {"shape": sizes, "dtype": dtype, "encoding": "none"},
    }


def image_entry(*shape: int, encoding: str = "jpeg") -> dict[str, Any]:
    return {
        "pythonClassName": "tensorflow_datasets.core.features.image_feature.Image",
        "image": {
            "shape": {"dimensions": [str(n) for n in shape]},
            "dtype": "uint8",
            "encodingFormat": encoding,
        },
    }


def dict_entry(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
        "featuresDict": {"features": dict(entries)},
    }


TEXT_ENTRY = {"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text", "text": {}}


def rlds_features() -> dict[str, Any]:
    cameras = {
        "image_0": image_entry(HEIGHT, WIDTH, 3),
        "wrist": image_entry(-1, -1, 3, encoding="png"),
    }
    steps = dict_entry(
        {
            "action": tensor_entry(2),
            "observation": dict_entry({"state": tensor_entry(3), **cameras}),
            "is_first": tensor_entry(dtype="bool"),
            "reward": tensor_entry(),
            "language_instruction": TEXT_ENTRY,
        }
    )
    sequence = {
        "pythonClassName": "tensorflow_datasets.core.features.dataset_feature.Dataset",
        "sequence": {"feature": steps, "length": "-1"},
    }
    flags = dict_entry({"has_image_0": tensor_entry(dtype="bool")})
    return dict_entry({"steps": sequence, "episode_metadata": flags})


def rlds_values(number: int, length: int) -> dict[str, Any]:
    made = demonstration(number, length)
    steps = np.arange(length)
    return {
        "steps/action": made["action"],
        "steps/observation/state": made["state"],
        "steps/observation/image_0": [jpeg(each) for each in made["image"]],
        "steps/observation/wrist": [png(255 - each) for each in made["image"]],
        "steps/is_first": steps == 0,
        "steps/reward": (steps == length - 1).astype(np.float32),
        "steps/language_instruction": [TASKS[number % len(TASKS)].encode()] * length,
        "episode_metadata/has_image_0": np.array([True]),
    }


def write_rlds(
    path: Path,
    episodes: Mapping[str, Sequence[Mapping[str, Any]]],
    features: Mapping[str, Any] | None = None,
    name: str = "demo",
) -> Path:
    """An RLDS folder; `episodes` holds the values of every episode by split, one shard each."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "features.json").write_text(json.dumps(features or rlds_features()))
    splits = [{"name": split, "shardLengths": [str(len(each))]} for split, each in episodes.items()]
    info = {"name": name, "version": "1.0.0", "splits": splits}
    (path / "dataset_info.json").write_text(json.dumps(info))
    for split, records in episodes.items():
        data = b"".join(frame(encode_example(values)) for values in records)
        (path / f"{name}-{split}.tfrecord-00000-of-00001").write_bytes(data)
    return path
