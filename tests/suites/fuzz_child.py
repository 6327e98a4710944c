"""The process that opens damaged recordings: one case a line in, one verdict a line out.

It may be killed at any time; whoever started it keeps the clock. Standard output is kept for
verdicts; what libraries print goes to standard error.
"""

import faulthandler
import json
import os
import resource
import shutil
import sys
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deft import formats, store
from deft.errors import DeftError
from deft.spec import Source, expect
from suites.fuzz_kinds import wreck
from suites.fuzz_rows import ROWS, Row

ROOM_BYTES = 3 << 30
"""Address space beyond what the process has after its first sound recording."""
RESIDENT_BYTES = 768 << 20
"""Memory really used beyond that."""


class MisdeedError(Exception):
    """The product did what it must not do."""


def run_case(row: Row, pristine: Path, folder: Path, damage: list[list[Any]]) -> dict[str, Any]:
    """Damage a copy of a recording, read all of it, convert it; the verdict."""
    name = f"rec-{row.format}{row.suffix}"
    path = folder / "in" / name
    done: list[str] = []
    try:
        path.parent.mkdir(parents=True)
        copy = shutil.copytree if pristine.is_dir() else shutil.copyfile
        copy(pristine, path)
        for kind, seed in damage:
            done.append(wreck(path, kind, seed, is_first=not done))
        outcome = read_and_convert(row, path, folder / "converted")
        if list(folder.rglob("ESCAPED")) or (folder.parent / "up").exists():
            raise MisdeedError("the recording ran code, or wrote outside")
        wrong = ""
    except MisdeedError as error:
        outcome, wrong = "wrong", str(error)
    except MemoryError:
        outcome, wrong = "wrong", "MemoryError\n" + traceback.format_exc()[-1500:]
    except BaseException as error:
        outcome, wrong = "wrong", f"{type(error).__name__}\n" + traceback.format_exc()[-1500:]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"outcome": outcome, "wrong": wrong, "damage": done}


def read_and_convert(row: Row, path: Path, target: Path) -> str:
    """Open, read everything, convert into a store; what became of it."""
    with refusing(path) as said:
        source = open_source(row, path)
        read_everything(source, path)
    if said:
        return "refused: " + said[0].split("\n")[0][:200]
    config = store.WriteConfig()
    with refusing(path, target) as said:
        report = store.write(target, source, config)
        for episode, why in report.left_out:
            check_words(why, path, target, Path(episode))
    if not said:
        found = store.check(store.open(target))
        if found:
            raise MisdeedError(f"the converted store fails its check: {found[0]}")
        return "left out some" if report.left_out or source.problems else "read whole"
    if target.exists():
        raise MisdeedError("the conversion was refused, and something is at its target")
    return "not converted: " + said[0].split("\n")[0][:200]


def open_source(row: Row, path: Path) -> Source:
    if row.format == "store":
        return store.source(store.open(path))
    place = path / row.opens if row.opens else path
    return formats.open(place, options=row.options)


def read_everything(source: Source, path: Path) -> None:
    for number, info in enumerate(source.episodes):
        with refusing(path):
            episode = source.read(number)
            if len(episode) != info.length:
                raise MisdeedError(f"{info.id}: {len(episode)} steps, {info.length} were promised")
            for key, frames in episode.frames.items():
                feature, count = episode.spec[key], 0
                for picture in frames:
                    expect(picture, feature.shape, feature.dtype, f"{path}, '{key}'")
                    count += 1
                if count != info.length:
                    raise MisdeedError(f"{info.id}, '{key}': {count} pictures of {info.length}")


@contextmanager
def refusing(path: Path, *others: Path) -> Generator[list[str]]:
    """Collects the message of a `DeftError`, which must name a path and a way to repair it."""
    said: list[str] = []
    try:
        yield said
    except DeftError as error:
        check_words(str(error), path, *others)
        said.append(str(error))


def check_words(text: str, *paths: Path) -> None:
    if not any(path.name in text for path in paths):
        raise MisdeedError(f"the message does not name the recording: {text[:500]}")
    if "Fix:" not in text:
        raise MisdeedError(f"the message says no way to repair it: {text[:500]}")


def resident() -> int:
    """Peak of the memory really used, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def address_space() -> int:
    pages = Path("/proc/self/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()


def main() -> None:
    row, folder, seconds = ROWS[sys.argv[1]], Path(sys.argv[2]), float(sys.argv[3])
    verdicts = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    pristine = folder / "pristine" / f"recording{row.suffix}"
    pristine.parent.mkdir(parents=True)
    row.write(pristine)
    first = run_case(row, pristine, folder / "first", [])
    if first["outcome"] not in ("read whole", "left out some"):
        raise SystemExit(f"the sound recording is not read: {first}")
    limit = address_space() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = resident()
    print(json.dumps({"ready": True}), file=verdicts, flush=True)
    for number, line in enumerate(sys.stdin):
        # It works while a C library keeps Python locked, unlike any clock of Python's own.
        faulthandler.dump_traceback_later(seconds, exit=True)
        verdict = run_case(row, pristine, folder / f"case{number}", json.loads(line))
        faulthandler.cancel_dump_traceback_later()
        verdict["mib"] = (resident() - before) >> 20
        if resident() - before > RESIDENT_BYTES and not verdict["wrong"]:
            verdict["wrong"] = f"used {verdict['mib']} MiB"
        print(json.dumps(verdict), file=verdicts, flush=True)


if __name__ == "__main__":
    main()
