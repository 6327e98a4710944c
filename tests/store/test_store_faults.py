"""Whatever byte of whatever file is flipped or missing: it is found, and named."""

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from deft import store
from deft.errors import StoreError
from suites.memory_source import MemorySource, tiny_spec

LENGTHS = (5, 9, 4, 7)
ROWS = sum(LENGTHS)


@pytest.fixture(scope="module", params=["jpeg", "raw", "png"])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in two parts, with every kind of file."""
    path = tmp_path_factory.mktemp(request.param) / "s"
    spec = tiny_spec(depth=True)
    config = store.WriteConfig(codec=request.param)
    store.write(path, MemorySource(LENGTHS[:2], spec=spec), config)
    store.append(path, MemorySource(LENGTHS, spec=spec))
    return path


@dataclass(frozen=True)
class Broken:
    """A copy of a store in which one file differs."""

    path: Path
    name: str


def copies(sound: Path, folder: Path, names: list[str]) -> Iterator[Broken]:
    for number, name in enumerate(names):
        path = folder / str(number)
        shutil.copytree(sound, path)
        yield Broken(path, name)
        shutil.rmtree(path)


def all_files(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def told(path: Path) -> str:
    """What opening says, or else the check."""
    try:
        opened = store.open(path)
    except StoreError as error:
        return str(error)
    return "\n".join(each.what for each in store.check(opened))


def test_a_flipped_byte_in_any_file(sound: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    for broken in copies(sound, tmp_path, all_files(sound) * 2):
        file = broken.path / broken.name
        flip(file, rng.randrange(file.stat().st_size))
        said = told(broken.path)
        assert said, broken.name
        assert "store.json" in said or Path(broken.name).name in said, (broken.name, said)


def test_a_missing_or_short_file(sound: Path, tmp_path: Path) -> None:
    for broken in copies(sound, tmp_path, all_files(sound)):
        file = broken.path / broken.name
        data = file.read_bytes()
        for rest in (None, data[: len(data) // 2], data[:-1]):
            if rest is None:
                file.unlink()
            else:
                file.write_bytes(rest)
            if broken.name == "store.json" and rest == data[:-1]:
                continue  # only the line's end is gone
            with pytest.raises(StoreError, match="Fix:") as caught:
                store.open(broken.path)
            assert Path(broken.name).name in str(caught.value)


def test_a_flipped_byte_in_any_picture_stops_its_reader(sound: Path, tmp_path: Path) -> None:
    """It is named by shard, episode and frame; every other picture still reads."""
    rng = random.Random(1)
    shutil.copytree(sound, tmp_path / "s")
    ids = store.open(sound).episodes
    for name in ("image", "wrist/depth"):
        for _ in range(6):
            row = rng.randrange(ROWS)
            column = store.open(tmp_path / "s").frames[name]
            [(_, shard, place, size)] = column._places(np.asarray([row]))
            file = column._paths[shard]
            whole = file.read_bytes()
            flip(file, place + rng.randrange(size))
            feature = column.feature
            out = np.empty(feature.shape, feature.dtype)
            for other in range(ROWS):
                if other != row:
                    column.decode_into(other, out)
            episode, step = ids.at(row)
            reads = [partial(column.decode_into, row, out)] * 2  # and not only the first time
            if column.codec == "raw":
                reads.append(partial(column.read_raw, np.asarray([row]), [out]))
            for read in reads:
                with pytest.raises(StoreError) as caught:
                    read()
                for part in (str(file), f"episode '{ids.ids[episode]}', frame {step}", name):
                    assert part in str(caught.value)
            file.write_bytes(whole)
