"""Whether libhdf5 gets through a file at all, tried in another process first; see `hdf5_walk`."""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from deft.errors import FormatError

_PROGRAM = Path(__file__).with_name("hdf5_walk.py")
_LIMIT_S = 5.0
"""Longest time of computing for one object; a sound one takes microseconds."""
_IDLE_S = 10.0
"""The program ends after this time without a file to look at."""


def check_structure(path: Path) -> None:
    """Have every group, attribute and data set of a file looked at, once for each state of it.

    The pictures and tables themselves are not read.

    Raises:
        FormatError: libhdf5 loops or crashes over it.
        OSError: the file is not there.
    """
    about = path.stat()
    state = (str(path.absolute()), about.st_ino, about.st_size, about.st_mtime_ns)
    with _guard:
        if state not in _known:
            _known[state] = _walk(str(path.absolute()))
        ended = _known[state]
    if ended:
        how = "loops for ever" if ended == -signal.SIGPROF else "crashes"
        raise FormatError(
            f"{path}: libhdf5 {how} over its structure.\n"
            f"Found: tried in another process, which ended with {ended}.\n"
            "Fix: copy the file again, whole; this copy is damaged. `h5dump -H` shows how far it "
            "goes."
        )


def _walk(path: str) -> int:
    """0 when the program got through a file, else how it ended."""
    while True:
        process = _running()
        if _ask(process, path):
            return 0
        ended = process.wait()
        if ended:  # without, it has ended for want of work, just as it was asked
            return ended


_guard = threading.Lock()
_known: dict[tuple[str, int, int, int], int] = {}
"""What `_walk` found of each state of a file."""
_process: "subprocess.Popen[str] | None" = None
_owner = 0
"""The process that started it; one that was forked starts its own."""


def _running() -> "subprocess.Popen[str]":
    global _process, _owner
    if _process is not None and _owner == os.getpid() and _process.poll() is None:
        return _process
    stop()
    # -P: modules beside the program must not hide those of the standard library.
    command = [sys.executable, "-P", str(_PROGRAM), str(_LIMIT_S), str(_IDLE_S)]
    _process, _owner = (
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ),
        os.getpid(),
    )
    return _process


def _ask(process: "subprocess.Popen[str]", path: str) -> str:
    """What the program answers; nothing when it has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(path) + "\n")
        process.stdin.flush()
        return process.stdout.readline()
    except BrokenPipeError:
        return ""


@atexit.register
def stop() -> None:
    """End the program, if it runs; the next file starts it again."""
    global _process
    process, _process = _process, None
    if process is None or _owner != os.getpid():
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:  # a line that it did not read any more
                continue
