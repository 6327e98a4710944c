"""A program that walks through HDF5 files: one path a line in, one line out when it got through.

libhdf5 may loop for ever, or crash, over metadata in which bits are flipped, and nothing in the
same process can stop it. So `hdf5_probe` has this program do it first. It imports nothing of Deft:
it starts in a moment, by its file's name.
"""

import contextlib
import json
import select
import signal
import sys
from typing import Any


def main() -> None:
    import h5py

    limit_s, idle_s = float(sys.argv[1]), float(sys.argv[2])
    while select.select([sys.stdin], [], [], idle_s)[0]:
        line = sys.stdin.readline()
        if not line:
            return
        # What is wrong with it is found, and said, by whoever reads it after this.
        with contextlib.suppress(Exception):
            walk(h5py, json.loads(line), limit_s)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print("walked", flush=True)


def walk(h5py: Any, path: str, limit_s: float) -> None:
    """Look at every group, attribute and data set of a file, following no soft link.

    The kernel ends this process when one object takes `limit_s` seconds of computing; waiting for
    a slow disk does not count.
    """
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    seen: set[Any] = set()
    with h5py.File(path, "r") as file:
        waiting: list[Any] = [file]
        while waiting:
            held = waiting.pop()
            signal.setitimer(signal.ITIMER_PROF, limit_s)
            with contextlib.suppress(Exception):
                if isinstance(held, h5py.Dataset):
                    held.id.get_storage_size()
            with contextlib.suppress(Exception):
                for key in held.attrs:
                    with contextlib.suppress(Exception):
                        held.attrs[key]
            if not isinstance(held, h5py.Group):
                continue
            with contextlib.suppress(Exception):
                place = h5py.h5o.get_info(held.id).addr
                if place in seen:
                    continue  # a hard link that leads back
                seen.add(place)
                for name in held:
                    with contextlib.suppress(Exception):
                        if held.get(name, getclass=True, getlink=True) is h5py.HardLink:
                            waiting.append(held[name])


if __name__ == "__main__":
    main()
