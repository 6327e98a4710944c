"""Vectors of the sentences of a store, as a text encoder gave them, kept beside it.

    embeddings/<name>.json              width, count, files with hashes, provenance, digest
    embeddings/<name>-<digest>.npy      one row per text
    embeddings/<name>-<digest>.parquet  the texts, in the order of the rows

The .json is replaced last, so a reader sees the old vectors or the new ones. The store itself does
not change, nor does its digest; an embedding has a digest of its own.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import StoreError, nearest
from deft.store import files
from deft.store.manifest import canonical
from deft.store.mapped import look, mapped, npy_header
from deft.store.reader import Store

FORMAT = "deft embedding"
_DTYPES = ("float16", "float32")
_AGAIN = "Fix: add the embedding again."


@dataclass(frozen=True)
class Embedding:
    """Vectors by text; read-only."""

    name: str
    digest: str
    """sha256 that covers texts, vectors and provenance."""
    texts: tuple[str, ...]
    vectors: np.ndarray
    """float16 or float32 `K D`, memory-mapped, one row per text."""
    provenance: dict[str, Any]

    def missing(self, store: Store) -> tuple[str, ...]:
        """Texts of the store that have no vector, as after an append."""
        known = set(self.texts)
        return tuple(text for text in store.texts if text not in known)

    def of(self, store: Store) -> np.ndarray:
        """The vector of every text of the store, `len(store.texts) D`, so that
        `of(store)[store.episodes.wordings]` are those of all wordings.

        Raises:
            StoreError: a text has none; the first few are named.
        """
        missing = self.missing(store)
        if missing:
            raise StoreError(
                f"{store.path}: {len(missing)} of {len(store.texts)} texts have no vector in "
                f"'{self.name}'.\nFound: {', '.join(repr(text) for text in missing[:3])}.\n"
                "Fix: encode those in `Embedding.missing`, and give them to `add_embedding`."
            )
        place = {text: row for row, text in enumerate(self.texts)}
        return self.vectors[[place[text] for text in store.texts]]


def add_embedding(
    path: str | Path,
    name: str,
    vectors: Mapping[str, np.ndarray],
    provenance: Mapping[str, Any],
    *,
    replace: bool = False,
) -> Embedding:
    """Keep vectors of sentences with a finished store, beside those that are there.

    Args:
        path: folder of the store.
        name: of the embedding, as in `t5-base`.
        vectors: one per text, float16 or float32 `D`, all alike. A text that has one already gets
            the new one.
        provenance: which encoder and weights made them; plain JSON values.
        replace: forget all that the embedding held before.

    Returns:
        The embedding as it is now.

    Raises:
        StoreError: the vectors do not fit each other, or those that are there; or the store is
            being written.
        DiskError: the disk refused; the embedding is what it was.
    """
    path = Path(path)
    if not (path / "store.json").exists():
        raise StoreError(f"{path}: no store.\nFix: give the folder of a finished store.")
    folder = path / "embeddings"
    held: dict[str, np.ndarray] = {}
    try:
        folder.mkdir(exist_ok=True)
        lock = files.FolderLock(folder)
    except OSError as error:
        raise files.disk_refused(folder, error) from error
    try:
        if not replace and (folder / f"{files.file_name(name)}.json").exists():
            before = embedding(path, name)
            held = dict(zip(before.texts, before.vectors, strict=True))
        held |= vectors
        _check(held, name)
        _write(folder, name, held, provenance)
    finally:
        lock.release()
    return embedding(path, name)


def embedding(path: str | Path | Store, name: str) -> Embedding:
    """One embedding of a store.

    Raises:
        StoreError: there is none of this name, or its files are missing or do not fit.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = (path.path if isinstance(path, Store) else Path(path)) / "embeddings"
    file = folder / f"{files.file_name(name)}.json"
    if not file.exists():
        raise StoreError(
            f"{folder}: there is no embedding '{name}'. {nearest(name, _names(folder))}\n"
            "Fix: correct the name, or add it with `store.add_embedding`."
        )
    about = files.read_json(file)
    try:
        rows, width, dtype = int(about["texts"]), int(about["width"]), str(about["dtype"])
        array, table = folder / about["vectors_file"], folder / about["texts_file"]
        vectors = mapped([array], [rows], (width,), dtype)
        texts: Sequence[str] = pq.read_table(table)["text"].to_pylist()
        if len(texts) != rows:
            raise ValueError(f"{len(texts)} texts, wanted {rows}")
        return Embedding(name, str(about["digest"]), tuple(texts), vectors, about["provenance"])
    except (KeyError, TypeError, ValueError, OSError, pa.ArrowException) as error:
        raise StoreError(f"{file}: damaged.\nFound: {error!r}.\n{_AGAIN}") from error


def embeddings(path: str | Path | Store) -> tuple[str, ...]:
    """Names of the embeddings that a store has."""
    return tuple(_names((path.path if isinstance(path, Store) else Path(path)) / "embeddings"))


def changed_embeddings(path: Path) -> list[str]:
    """What is wrong with the files of a store's embeddings, compared with their hashes."""
    found: list[str] = []
    for name in embeddings(path):
        folder = path / "embeddings"
        try:
            embedding(path, name)
            about = files.read_json(folder / f"{files.file_name(name)}.json")
            wanted = {key: value for key, value in about.items() if key != "digest"}
            if _digest(wanted) != about["digest"]:
                found.append(f"{folder}/{name}.json: changed since it was written")
            for file, entry in about["files"].items():
                if files.fingerprint(folder / file) != entry:
                    found.append(f"{folder / file}: changed since it was written")
        except (StoreError, OSError, KeyError) as error:
            found.append(str(error))
    return found


def _names(folder: Path) -> list[str]:
    from urllib.parse import unquote

    return sorted(unquote(file.stem) for file in folder.glob("*.json"))


def _check(held: Mapping[str, np.ndarray], name: str) -> None:
    kinds = {(each.shape, each.dtype.name) for each in held.values()}
    fits = len(kinds) == 1 and all(len(shape) == 1 and dtype in _DTYPES for shape, dtype in kinds)
    if not fits:
        said = ", ".join(f"{dtype} of shape {shape}" for shape, dtype in sorted(kinds)[:4])
        raise StoreError(
            f"Embedding '{name}': all vectors must be float16 or float32 of one length.\n"
            f"Found: {said or 'none'}.\n"
            "Fix: convert them; `replace=True` forgets those that are there."
        )
    for text, vector in held.items():
        if not np.isfinite(vector).all():
            raise StoreError(
                f"Embedding '{name}': the vector of {text!r} is not finite.\nFix: encode it again."
            )


def _write(
    folder: Path, name: str, held: Mapping[str, np.ndarray], provenance: Mapping[str, Any]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = sorted(held)
    vectors = np.stack([held[text] for text in texts])
    mark = hashlib.sha256(canonical(texts) + vectors.tobytes()).hexdigest()[:16]
    stem = f"{files.file_name(name)}-{mark}"
    array, table = f"{stem}.npy", f"{stem}.parquet"
    try:
        files.write_durably(
            folder / array, npy_header(vectors.shape, vectors.dtype.name) + vectors.tobytes()
        )
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), sink, compression="zstd")
        files.write_durably(folder / table, sink.getvalue().to_pybytes())
        about = {
            "format": FORMAT,
            "texts": len(texts),
            "width": vectors.shape[1],
            "dtype": vectors.dtype.name,
            "vectors_file": array,
            "texts_file": table,
            "files": {each: files.fingerprint(folder / each) for each in (array, table)},
            "provenance": dict(provenance),
        }
        target = folder / f"{files.file_name(name)}.json"
        files.write_durably(target, files.to_json(about | {"digest": _digest(about)}))
        for old in folder.glob(f"{files.file_name(name)}-????????????????.*"):
            if old.name not in (array, table):
                old.unlink()  # whoever has it mapped keeps it
    except OSError as error:
        raise files.disk_refused(folder, error) from error
    assert look(folder / array).shape == vectors.shape


def _digest(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(about)).hexdigest()
