"""Named pipes, sockets and devices inside a recording: refused at once, never waited for."""

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from deft import formats, store
from deft.errors import DeftError
from deft.formats.regular import check_regular, open_regular, read_regular
from deft.spec import findings
from suites.fuzz_rows import ROWS


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")  # that a link leads to one makes no difference


def plug(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("make", [pipe, device, plug])
def test_only_regular_files_are_opened(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "odd"
    make(path)
    for door in (open_regular, read_regular, check_regular):
        with pytest.raises(OSError, match="odd"):
            door(path)
    with pytest.raises(DeftError, match="odd"):
        formats.open(path)


def test_regular_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    path.write_bytes(b"12345")
    assert read_regular(path) == b"12345"
    with open_regular(path, 0) as file:
        file.seek(3)
        assert file.read(9) == b"45"
    check_regular(path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
    with pytest.raises(OSError, match="folder"):
        open_regular(tmp_path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ROWS)
def test_a_pipe_in_place_of_any_file_stops_no_reader(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    root = tmp_path / f"recording{row.suffix}"
    row.write(root)
    files = [root] if root.is_file() else sorted(each for each in root.rglob("*") if each.is_file())
    # One of each kind is enough: a thousand pictures are one.
    kinds = {(file.suffix, len(file.relative_to(root).parts)): file for file in reversed(files)}
    for file in kinds.values():
        aside = tmp_path / "aside"
        file.rename(aside)
        os.mkfifo(file)
        with contextlib.suppress(DeftError):
            if row.format == "store" and store.is_store(root):
                source = store.source(store.open(root))
            else:
                source = formats.open(root / row.opens, options=row.options)
            findings.check(source, workers=1)
        file.unlink()
        aside.rename(file)
