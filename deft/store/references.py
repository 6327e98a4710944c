"""Features of a store whose values stay where they are: a .npy file elsewhere, known by its digest.

    references/<name>.json   the feature, the file (relative to the store), its size and sha256

Feature maps are often larger than the pictures they were made of; referring to them spares a copy.
The file holds one row per step of the store, in the store's order.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import StoreError, nearest
from deft.spec import Feature
from deft.store import files
from deft.store.manifest import canonical
from deft.store.mapped import look, mapped

FORMAT = "deft reference"
_FOLDER = "references"


@dataclass(frozen=True)
class Reference:
    """One feature that is kept elsewhere."""

    feature: Feature
    path: Path
    digest: str
    """sha256 that covers the file, the feature and the provenance."""
    about: dict[str, Any]
    """All that the store says of it."""

    def table(self, steps: int) -> np.ndarray:
        """The values, `N ...`, memory-mapped.

        Raises:
            StoreError: the file is missing, or no longer what it was.
        """
        where = f"'{self.feature.name}' is kept in {self.path}"
        fix = f"Fix: put the file back, or `store.remove_reference(…, '{self.feature.name}')`."
        try:
            size = self.path.stat().st_size
        except OSError as error:
            raise StoreError(f"{where}, which is missing.\nFound: {error}.\n{fix}") from error
        if size != self.about["bytes"]:
            raise StoreError(
                f"{where}, which has changed.\n"
                f"Found: {size} bytes, wanted {self.about['bytes']}.\n{fix}"
            )
        return mapped([self.path], [steps], self.feature.shape, self.feature.dtype)

    def changed(self) -> str:
        """What is wrong with the file, compared with its digest; empty when nothing is."""
        try:
            found = files.fingerprint(self.path)["sha256"]
        except OSError as error:
            return f"{self.path}: cannot be read: {error}"
        if found == self.about["sha256"]:
            return ""
        return (
            f"{self.path}, which holds '{self.feature.name}': changed since the store refers to it "
            f"(sha256 {found[:12]}…; wanted {self.about['sha256'][:12]}…)"
        )


def add_reference(
    path: str | Path,
    feature: Feature,
    file: str | Path,
    provenance: Mapping[str, Any] | None = None,
) -> Reference:
    """Let a finished store have a feature whose values lie in a file elsewhere.

    The feature joins `Store.spec` and `Store.tables` and the store's digest changes; no file of
    the store does. It is found again when both are moved together, for its path is kept relative
    to the store. An append must come before: the file has one row for each step that there is.

    Args:
        path: folder of the store.
        feature: numeric, no picture, of a name that the store does not have.
        file: a .npy of `N ...` in the store's order and the feature's dtype, not by column.
        provenance: what made it; plain JSON values.

    Raises:
        StoreError: the file does not fit feature or store, or the store has the name already.
    """
    path, file = Path(path), Path(file)
    info = files.read_json(path / "store.json")
    names = [each["name"] for each in info["spec"]["features"]]
    if feature.is_frame or feature.dtype == "str" or feature.name in names:
        raise StoreError(
            f"{path}: '{feature.name}' ({feature.describe()}) cannot be kept elsewhere.\n"
            "Fix: give a numeric feature, no picture, under a name that the store does not have."
        )
    if file.suffix != ".npy":
        raise StoreError(
            f"{file}: only a .npy file can be read at random where it lies.\n"
            "Fix: write the array with numpy.save, or convert the recording together with it."
        )
    mapped([file], [int(info["steps"])], feature.shape, feature.dtype)
    about = {
        "format": FORMAT,
        "feature": feature.to_json(),
        "file": Path(os.path.relpath(file.resolve(), path.resolve())).as_posix(),
        **files.fingerprint(file),
        "rows": look(file).shape[0],
        "provenance": dict(provenance or {}),
    }
    about["digest"] = hashlib.sha256(canonical(about)).hexdigest()
    try:
        (path / _FOLDER).mkdir(exist_ok=True)
        files.write_durably(_file(path, feature.name), files.to_json(about))
    except OSError as error:
        raise files.disk_refused(path / _FOLDER, error) from error
    return _read(path, _file(path, feature.name))


def remove_reference(path: str | Path, name: str) -> None:
    """Let a store forget a feature that is kept elsewhere; its file stays.

    Raises `StoreError` when there is none of this name.
    """
    path = Path(path)
    file = _file(path, name)
    if not file.exists():
        known = [each.feature.name for each in references(path)]
        raise StoreError(
            f"{path}: there is no reference '{name}'. {nearest(name, known)}\n"
            "Fix: correct the name."
        )
    file.unlink()
    files.sync_folder(file.parent)


def references(path: Path) -> list[Reference]:
    """All features of a store that are kept elsewhere, by name; their files are not looked at.

    Raises `StoreError` when what the store says of one cannot be read.
    """
    return [_read(path, file) for file in sorted((path / _FOLDER).glob("*.json"))]


def _file(path: Path, name: str) -> Path:
    return path / _FOLDER / f"{files.file_name(name)}.json"


def _read(path: Path, file: Path) -> Reference:
    about = files.read_json(file)
    try:
        feature = Feature.from_json(about["feature"])
        digest, place = str(about["digest"]), path / about["file"]
        wanted = {key: value for key, value in about.items() if key != "digest"}
        if hashlib.sha256(canonical(wanted)).hexdigest() != digest:
            raise ValueError("it has changed since it was written")
        return Reference(feature, Path(os.path.normpath(place)), digest, about)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{file}: damaged.\nFound: {error!r}.\nFix: remove it, and refer to the file again."
        ) from error
