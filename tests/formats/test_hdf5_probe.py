"""Files over which libhdf5 loops or crashes are refused; sound ones cost one look."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from deft import formats
from deft.errors import FormatError
from deft.formats import hdf5_probe
from suites.fuzz_kinds import wreck
from suites.fuzz_rows import ROWS


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    hdf5_probe.stop()
    monkeypatch.setattr(hdf5_probe, "_known", {})
    yield
    hdf5_probe.stop()


def write(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["group/table"] = np.arange(6)
        file["group/loop"] = h5py.SoftLink("/group")
        file["again"] = file["group"]  # a hard link
        file["group/up"] = file["/"]
        file["group"].attrs["note"] = "text"
    return path


def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    path = tmp_path / "program.py"
    path.write_text("import os, signal, sys\n" + text)
    monkeypatch.setattr(hdf5_probe, "_PROGRAM", path)
    return path


def test_sound_files_pass_and_are_looked_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5")
    hdf5_probe.check_structure(path)
    first = hdf5_probe._process
    hdf5_probe.check_structure(path)
    hdf5_probe.check_structure(write(tmp_path / "b.hdf5"))
    assert hdf5_probe._process is first
    assert len(hdf5_probe._known) == 2
    write(path)
    os.utime(path, ns=(1, 1))
    hdf5_probe.check_structure(path)
    assert len(hdf5_probe._known) == 3


def test_what_is_no_hdf5_is_left_to_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    path.write_bytes(b"no HDF5")
    hdf5_probe.check_structure(path)
    with pytest.raises(FileNotFoundError):
        hdf5_probe.check_structure(tmp_path / "absent.hdf5")


def test_a_loop_and_a_crash_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.hdf5")
    loop = "sys.stdin.readline()\nsignal.setitimer(signal.ITIMER_PROF, 0.1)\nwhile True: pass\n"
    program(tmp_path, monkeypatch, loop)
    with pytest.raises(FormatError, match=r"a.hdf5: libhdf5 loops for ever(.|\n)*Fix:"):
        hdf5_probe.check_structure(path)
    with pytest.raises(FormatError, match="loops for ever"):  # known by now
        hdf5_probe.check_structure(path)
    path = write(tmp_path / "b.hdf5")
    program(tmp_path, monkeypatch, "sys.stdin.readline()\nos.abort()\n")
    with pytest.raises(FormatError, match=r"b.hdf5: libhdf5 crashes(.|\n)*-6"):
        hdf5_probe.check_structure(path)


def test_a_program_that_ended_for_want_of_work_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_probe, "_IDLE_S", 0.05)
    hdf5_probe.check_structure(write(tmp_path / "a.hdf5"))
    first = hdf5_probe._process
    assert first is not None
    assert first.wait(10) == 0
    hdf5_probe.check_structure(write(tmp_path / "b.hdf5"))
    assert hdf5_probe._process is not first
    assert len(hdf5_probe._known) == 2


def test_threads_take_turns(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.hdf5") for n in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(hdf5_probe.check_structure, paths))
    assert len(hdf5_probe._known) == 12


def test_no_process_is_left_when_we_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5")
    text = (
        "import sys, pathlib\nfrom deft.formats import hdf5_probe\n"
        "hdf5_probe.check_structure(pathlib.Path(sys.argv[1]))\nprint(hdf5_probe._process.pid)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert not Path(f"/proc/{int(done.stdout)}").exists()


def test_metadata_that_libhdf5_loops_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_probe, "_LIMIT_S", 0.5)
    path = tmp_path / "rec-robomimic.hdf5"
    ROWS["robomimic"].write(path)
    wreck(path, "word", 7183)  # found by fuzzing: a heap of attributes that leads to itself
    with pytest.raises(FormatError, match=r"robomimic.hdf5(.|\n)*Fix:"):
        formats.open(path, "robomimic")
