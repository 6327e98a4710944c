"""Ways to damage a recording on disk: what discs, networks, people and malice do to files.

Each kind of damage names the files it can be done to, and does it from a seeded `Random`.
"""

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from suites.fuzz_inside import INSIDE

Do = Callable[[Path, Random], str]
"""Damages one file, tells how; an empty text when it found nothing to damage."""


@dataclass(frozen=True)
class Kind:
    """One way of damaging files."""

    fits: Callable[[Path], bool]
    do: Do


def files_of(root: Path) -> list[Path]:
    """Every file of a recording, in a fixed order."""
    return [root] if root.is_file() else sorted(each for each in root.rglob("*") if each.is_file())


def kinds_for(root: Path) -> list[str]:
    """Kinds of damage that this recording has files for."""
    files = files_of(root)
    return [name for name, kind in KINDS.items() if any(map(kind.fits, files))]


def wreck(root: Path, kind: str, seed: int, is_first: bool = True) -> str:
    """Damage one file of a recording; what was done to which, as words.

    A damage that is not the first may find its file too damaged already.
    """
    rng = Random(f"{kind}-{seed}")
    files = [each for each in files_of(root) if KINDS[kind].fits(each)]
    if not files:
        return f"{kind}: no file left for it"
    # By folder first: a thousand pictures must not hide the one file that describes them.
    folder = rng.choice(sorted({each.parent for each in files}))
    file = rng.choice([each for each in files if each.parent == folder])
    try:
        done = KINDS[kind].do(file, rng)
    except Exception as error:
        if is_first:
            raise
        done = f"nothing more, for {error}"
    return f"{file.relative_to(root.parent)}: {done or 'left as it was'}"


# --- bytes --------------------------------------------------------------------------------------

_WORDS = tuple(
    struct.pack(code, value)
    for code, value in (
        ("<I", 0),
        ("<I", 0xFFFFFFFF),
        ("<I", 0x7FFFFFFF),
        (">I", 0x7FFFFFF0),
        ("<Q", 0xFFFFFFFFFFFFFFFF),
        ("<Q", 1 << 62),
        (">Q", 1 << 40),
        ("<i", -1),
        ("<H", 0xFFFF),
    )
)


def _edit(change: Callable[[bytearray, Random], str]) -> Do:
    def do(path: Path, rng: Random) -> str:
        data = bytearray(path.read_bytes())
        if not data:
            return ""
        done = change(data, rng)
        path.write_bytes(data)
        return done

    return do


def _cut(data: bytearray, rng: Random) -> str:
    at = rng.choice([rng.randrange(len(data)), max(0, len(data) - rng.randrange(1, 24)), 0])
    del data[at:]
    return f"cut to {at} bytes"


def _flip(data: bytearray, rng: Random) -> str:
    at = _place(data, rng)
    data[at] ^= rng.randrange(1, 256)
    return f"byte {at} changed"


def _flips(data: bytearray, rng: Random) -> str:
    at, count = _place(data, rng), rng.randrange(2, 40)
    for _ in range(count):
        where = min(len(data) - 1, at + rng.randrange(400))
        data[where] ^= 1 << rng.randrange(8)
    return f"{count} bits near byte {at} flipped"


def _span(data: bytearray, rng: Random) -> str:
    at, size = _place(data, rng), rng.choice([4, 16, 512, 4096])
    part = data[at : at + size]
    data[at : at + size] = bytes([rng.choice([0, 0xFF])]) * len(part)
    return f"{len(part)} bytes at {at} overwritten"


def _word(data: bytearray, rng: Random) -> str:
    at, word = _place(data, rng), rng.choice(_WORDS)
    data[at : at + len(word)] = word
    return f"{word.hex()} at {at}"


def _insert(data: bytearray, rng: Random) -> str:
    at, size = _place(data, rng), rng.choice([1, 7, 4096])
    data[at:at] = rng.randbytes(size)
    return f"{size} bytes inserted at {at}"


def _remove(data: bytearray, rng: Random) -> str:
    at, size = _place(data, rng), rng.choice([1, 7, 512])
    del data[at : at + size]
    return f"{size} bytes removed at {at}"


def _repeat(data: bytearray, rng: Random) -> str:
    at, size = _place(data, rng), rng.choice([16, 512, 1 << 16])
    data[at:at] = data[at : at + size]
    return f"{size} bytes at {at} repeated"


def _append(data: bytearray, rng: Random) -> str:
    data += rng.choice([b"\0" * 512, rng.randbytes(100), b"\n{}\n", bytes(data)])
    return "something appended"


def _noise(data: bytearray, rng: Random) -> str:
    data[:] = rng.randbytes(rng.choice([1, 100, len(data)]))
    return "all of it replaced by noise"


def _place(data: bytearray, rng: Random) -> int:
    """Anywhere; every second time near one of the ends, where headers and indices lie."""
    near = min(len(data), 1024)
    return rng.choice(
        [
            rng.randrange(len(data)),
            rng.randrange(len(data)),
            rng.randrange(near),
            len(data) - 1 - rng.randrange(near),
        ]
    )


# --- files and folders --------------------------------------------------------------------------


def _gone(path: Path, rng: Random) -> str:
    path.unlink()
    return "deleted"


def _folder_gone(path: Path, rng: Random) -> str:
    shutil.rmtree(path.parent)
    return "its folder deleted"


def _swap(path: Path, rng: Random) -> str:
    other = rng.choice([each for each in sorted(path.parent.iterdir()) if each.is_file()])
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)
    return f"swapped with {other.name}"


def _twin(path: Path, rng: Random) -> str:
    copy = path.with_name(rng.choice(["copy of " + path.name, path.stem + "0" + path.suffix]))
    shutil.copyfile(path, copy)
    return f"copied to {copy.name}"


def _as_folder(path: Path, rng: Random) -> str:
    path.unlink()
    path.mkdir()
    return "replaced by a folder"


def _folder_as_file(path: Path, rng: Random) -> str:
    shutil.rmtree(path.parent)
    path.parent.write_bytes(rng.choice([b"", b"not a folder", b"{}"]))
    return "its folder replaced by a file"


def _link(path: Path, rng: Random) -> str:
    path.unlink()
    where = rng.choice([path.name, "nowhere", "/dev/null", "..", str(path.parent)])
    path.symlink_to(where)
    return f"replaced by a link to {where}"


def _pipe(path: Path, rng: Random) -> str:
    path.unlink()
    os.mkfifo(path)
    return "replaced by a named pipe"


def _rename(path: Path, rng: Random) -> str:
    name = rng.choice(["é" + path.name, path.stem + "-99999999999999999999" + path.suffix, "x"])
    path.rename(path.with_name(name))
    return f"renamed to {name}"


# --- JSON ---------------------------------------------------------------------------------------

_DEEP = "[" * 100_000
_HUGE = "9" * 5000
_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1e308,
    1 << 40,
    1 << 70,
    -(1 << 70),
    "",
    "../../../../etc/passwd",
    "\ud800",
    "x" * 100_000,
    [],
    {},
    [[]],
    {"a": 1},
    [1 << 31] * 3,
    float("nan"),
    float("inf"),
)


def _is_json(path: Path) -> bool:
    return path.suffix in (".json", ".jsonl") or path.name in (".zarray", ".zgroup", ".zattrs")


def _json_value(path: Path, rng: Random) -> str:
    """One value somewhere in the tree becomes another."""
    lines, number, tree = _json_line(path, rng)
    places = [each for each in _places(tree) if each[1] is not None]
    if not places:
        return ""
    holder, key = rng.choice(places)
    value = rng.choice(_VALUES)
    holder[key] = value
    lines[number] = json.dumps(tree, ensure_ascii=True)
    path.write_text("\n".join(lines))
    return f"{key!r} became {str(value)[:40]!r}"


def _json_key(path: Path, rng: Random) -> str:
    lines, number, tree = _json_line(path, rng)
    places = [each for each in _places(tree) if each[1] is not None]
    if not places:
        return ""
    holder, key = rng.choice(places)
    del holder[key]
    lines[number] = json.dumps(tree)
    path.write_text("\n".join(lines))
    return f"{key!r} removed"


def _json_number(path: Path, rng: Random) -> str:
    """One number is multiplied, negated or made a text."""
    lines, number, tree = _json_line(path, rng)
    places = [
        (holder, key)
        for holder, key in _places(tree)
        if key is not None and type(holder[key]) in (int, float)
    ]
    if not places:
        return ""
    holder, key = rng.choice(places)
    old = holder[key]
    holder[key] = rng.choice([-old, old + 1, old * 1000, old - 1, str(old), float(old), [old]])
    lines[number] = json.dumps(tree)
    path.write_text("\n".join(lines))
    return f"{key!r} from {old} to {holder[key]!r}"


def _json_text(path: Path, rng: Random) -> str:
    """No JSON, or JSON that breaks careless parsers."""
    text = rng.choice(
        [
            _DEEP,
            _DEEP.replace("[", '{"a":'),
            _HUGE,
            f'{{"fps": {_HUGE}}}',
            "",
            "null",
            "[1]",
            '"text"',
            "{}",
            "{}\n" * 50,
            "\ufeff{}",
            '{"a": 1, "a": 2}',
            "NaN",
        ]
    )
    path.write_bytes(rng.choice([text.encode(), b"\xff\xfe" + text.encode()]))
    return f"replaced by {text[:20]!r} ({len(text)} characters)"


def _json_line(path: Path, rng: Random) -> tuple[list[str], int, Any]:
    """All lines, the number of one of them, and the tree in it; `.json` is one line."""
    text = path.read_text(errors="replace")
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    number = rng.randrange(len(lines)) if lines else 0
    try:
        return lines, number, json.loads(lines[number])
    except (ValueError, IndexError, RecursionError):  # an earlier damage of the same file
        return lines or [""], number, None


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every holder with every key in it."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield tree, key
            yield from _places(value)
    elif isinstance(tree, list):
        for key, value in enumerate(tree):
            yield tree, key
            yield from _places(value)


def _always(path: Path) -> bool:
    return True


KINDS: dict[str, Kind] = {
    **{
        name: Kind(_always, _edit(change))
        for name, change in {
            "cut": _cut,
            "flip": _flip,
            "flips": _flips,
            "span": _span,
            "word": _word,
            "insert": _insert,
            "remove": _remove,
            "repeat": _repeat,
            "append": _append,
            "noise": _noise,
        }.items()
    },
    "gone": Kind(_always, _gone),
    "folder gone": Kind(_always, _folder_gone),
    "swap": Kind(_always, _swap),
    "twin": Kind(_always, _twin),
    "as folder": Kind(_always, _as_folder),
    "folder as file": Kind(_always, _folder_as_file),
    "link": Kind(_always, _link),
    "pipe": Kind(_always, _pipe),
    "rename": Kind(_always, _rename),
    "json value": Kind(_is_json, _json_value),
    "json key": Kind(_is_json, _json_key),
    "json number": Kind(_is_json, _json_number),
    "json text": Kind(_is_json, _json_text),
    **{name: Kind(fits, do) for name, (fits, do) in INSIDE.items()},
}
"""Every kind of damage by name."""
