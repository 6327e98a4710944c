"""Runs one order of a sweep to its end and writes down how it ended.

Started as a file, so it imports nothing of Deft's and costs a few megabytes. It outlives the sweep
that started it. While it or the training lives, the order's lock is held; so whoever asks can tell
a run that goes on from one that was killed, on this machine or through a shared file system.
"""

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

IS_RUNNING = 75
"""Exit code when the order's lock is held: somebody runs it already."""
_PR_SET_PDEATHSIG = 1


def main(path: str) -> int:
    """Run an order, a JSON file as `book.Order` writes it."""
    order: dict[str, Any] = json.loads(Path(path).read_text())
    if order["ends_with_parent"] and sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    with open(order["lock"], "a+") as lock:
        if not take(lock):
            return IS_RUNNING
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        code, told = _run(order, lock.fileno())
        # Written before the lock is let go: who finds it free finds the end, too.
        ended = {"attempt": order["attempt"], "code": code, "ended": time.time(), "told": told}
        beside = Path(order["exit"] + ".new")
        beside.write_text(json.dumps(ended))
        beside.replace(order["exit"])
    return code


def _run(order: dict[str, Any], lock: int) -> tuple[int, list[int]]:
    """The training's exit code, as shells count it, and the signals that were passed on to it."""
    told: list[int] = []
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: Any) -> None:
        told.append(number)
        if process is not None:
            process.send_signal(signal.SIGTERM)

    before = [signal.signal(kind, pass_on) for kind in (signal.SIGTERM, signal.SIGINT)]
    with open(order["log"], "ab") as log:
        try:
            process = subprocess.Popen(
                order["command"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=order["cwd"],
                env=os.environ | order["env"],
                pass_fds=(lock,),
            )
            if told:  # before there was anybody to tell
                process.send_signal(signal.SIGTERM)
            code = process.wait()
        except OSError as error:
            log.write(f"{order['command'][0]}: {error}\n".encode())
            code = 127
    signal.signal(signal.SIGTERM, before[0])
    signal.signal(signal.SIGINT, before[1])
    return (128 - code if code < 0 else code), told


def take(lock: IO[str], seconds: float = 3.0) -> bool:
    """Lock a file, unless somebody else keeps it; those who only look hold it for an instant."""
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.02)
        else:
            return True


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
