"""The files of a bundle and their digests. No torch.

bundle.json          format, family, config, versions, provenance
spec.json            what goes in and comes out, with digests of contract and statistics
model.safetensors    the weights
golden.safetensors   observations with the chunks that the weights answer, and the draw keys
SHA256SUMS           digests of all of them, written last, as `sha256sum -c` reads them

A policy that follows instructions has two more:
sentences.json         the sentences it was trained with, and which encoder made their vectors
sentences.safetensors  the vectors
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from deft.errors import BundleError

FORMAT = 1
"""Version of the layout; a reader refuses newer ones."""
INFO, SPEC, WEIGHTS, GOLDEN = "bundle.json", "spec.json", "model.safetensors", "golden.safetensors"
SUMS = "SHA256SUMS"
NEEDED = (INFO, SPEC, WEIGHTS, GOLDEN)
SENTENCES, VECTORS = "sentences.json", "sentences.safetensors"
OPTIONAL = (SENTENCES, VECTORS)
_MAX_TEXT = 16 << 20


def is_bundle(path: Path) -> bool:
    """True for a folder with a bundle in it, a checkpoint's for instance; nothing is verified."""
    return (path / INFO).is_file()


def sums_of(path: Path) -> dict[str, str]:
    """Digest by file name, as `SHA256SUMS` has them; the files themselves are not read.

    Raises `BundleError` when the list is missing, malformed, incomplete, or names a file outside.
    """
    wanted: dict[str, str] = {}
    text = _text(path / SUMS)
    if not text.endswith("\n"):
        raise _bad(path / SUMS, "the end is missing")
    for number, line in enumerate(text[:-1].split("\n"), 1):
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or set(digest) - set("0123456789abcdef") or not name:
            raise _bad(path / SUMS, f"line {number} is no digest with a name: {line[:80]!r}")
        if name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise _bad(path / SUMS, f"line {number} names a file outside the bundle: {name[:80]!r}")
        wanted[name] = digest
    missing = [name for name in NEEDED if name not in wanted]
    if missing:
        raise _bad(path / SUMS, f"no digest of {', '.join(missing)}")
    return wanted


def verify(path: Path) -> None:
    """Compare every file with its digest. Files that the list does not name are ignored.

    Raises `BundleError` for the first that is missing or differs.
    """
    for name, wanted in sums_of(path).items():
        try:
            with (path / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _bad(path / name, str(error)) from error
        if found != wanted:
            raise _bad(path / name, f"sha256 {found[:12]}…, {SUMS} says {wanted[:12]}…")


def digest_of(path: Path) -> str:
    """sha256 of `SHA256SUMS`: names the bundle with everything in it, as 64 hex digits."""
    return hashlib.sha256(_text(path / SUMS).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object. Raises `BundleError` when it is missing or something else."""
    try:
        data = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"no JSON: {error}") from error
    if not isinstance(data, dict):
        raise _bad(path, f"a JSON {type(data).__name__}, wanted an object")
    return data


def read_info(path: Path) -> dict[str, Any]:
    """`bundle.json` of a version that this program knows. Raises `BundleError` for others."""
    info = read_json(path / INFO)
    version = info.get("format")
    if type(version) is not int or version < 1:
        raise _bad(path / INFO, f"format is {version!r}")
    if version > FORMAT:
        written = info.get("versions")
        by = written.get("deft", "unknown") if isinstance(written, dict) else "unknown"
        raise BundleError(
            f"{path / INFO}: the bundle has format {version}, this program reads up to {FORMAT}.\n"
            f"Found: written by deft {by}.\nFix: pip install --upgrade deft-robotics."
        )
    for key, kind in (("family", str), ("config", dict), ("provenance", dict), ("golden", dict)):
        if not isinstance(info.get(key), kind):
            raise _bad(path / INFO, f"'{key}' is {info.get(key)!r:.80}")
    return info


def write_json(path: Path, data: dict[str, Any]) -> None:
    """One JSON object with sorted keys, on the disk when this returns."""
    try:
        text = json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BundleError(
            f"{path}: cannot be written as JSON: {error}.\n"
            "Fix: use dicts, lists, text, finite numbers and booleans in config and provenance."
        ) from error
    write_text(path, text)


def write_sums(path: Path) -> None:
    """Write `SHA256SUMS` of the bundle's files, which makes the folder one."""
    lines: list[str] = []
    for name in sorted((*NEEDED, *(each for each in OPTIONAL if (path / each).exists()))):
        with (path / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    write_text(path / SUMS, "".join(lines))
    fsync(path)


def write_text(path: Path, text: str) -> None:
    """A text file, on the disk when this returns."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def fsync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_TEXT + 1)
    except OSError as error:
        raise _bad(path, str(error)) from error
    if len(data) > _MAX_TEXT:
        raise _bad(path, f"more than {_MAX_TEXT >> 20} MiB of text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(path, f"no UTF-8: {error}") from error


def _bad(path: Path, found: str) -> BundleError:
    return BundleError(
        f"{path}: the bundle is incomplete, damaged or changed.\nFound: {found}.\n"
        "Fix: copy the whole folder again, or write it anew with `deft export RUN BUNDLE`."
    )
