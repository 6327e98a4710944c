"""The sentences that a policy knows, with the vectors it was shown for them."""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np

from deft.bundle.files import SENTENCES, VECTORS, fsync, read_json, write_json
from deft.errors import BundleError, SpecError
from deft.spec import expect

Encode = Callable[[Sequence[str]], np.ndarray]
"""Sentences to float32 `K D`, as `nn.TextEncoder.encode`."""

_REMEMBERED = 1024
"""New sentences whose vectors are kept; a robot repeats its own at every request."""


@dataclass(frozen=True, eq=False)
class Sentences:
    """Vectors by sentence, and how new sentences get theirs.

    Raises `SpecError` when texts and vectors do not fit each other.
    """

    texts: tuple[str, ...]
    vectors: np.ndarray
    """float32 `K L`, one row per text."""
    encoder: str = ""
    """Name of the text encoder; empty when the vectors came with the data."""
    encoder_digest: str = ""
    """Of the encoder's files, see `nn.identify`."""
    encode: Encode | None = None
    """For sentences that are not among `texts`; None refuses them."""
    _rows: dict[str, int] = field(init=False, repr=False)
    _new: "OrderedDict[str, np.ndarray]" = field(default_factory=OrderedDict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        expect(self.vectors, (len(self.texts), None), "float32", "Vectors", finite=True)
        object.__setattr__(self, "_rows", {text: row for row, text in enumerate(self.texts)})
        if len(self._rows) != len(self.texts) or not self.texts:
            raise SpecError(
                f"{len(self.texts)} sentences, {len(self._rows)} of them different.\n"
                "Fix: give one or more, each once."
            )

    @property
    def size(self) -> int:
        """L, numbers per vector."""
        return self.vectors.shape[1]

    def of(self, texts: Sequence[str]) -> np.ndarray:
        """The vector of each sentence, float32 `B L`.

        Raises `SpecError` for a sentence that is not known and cannot be encoded; the nearest
        ones are named.
        """
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> np.ndarray:
        row = self._rows.get(text)
        if row is not None:
            return self.vectors[row]
        if self.encode is None:
            raise SpecError(self._unknown(text))
        with self._lock:
            held = self._new.pop(text, None)
            if held is None:
                held = expect(self.encode([text]), (1, self.size), "float32", "Vector")[0]
            self._new[text] = held
            if len(self._new) > _REMEMBERED:
                self._new.popitem(last=False)
        return held

    def _unknown(self, text: str) -> str:
        near = ", ".join(repr(each) for each in self._nearest(text))
        if self.encoder:
            fix = (
                "say one of the sentences it was trained with, or name the folder of the text "
                f"encoder '{self.encoder}' in `language_encoder`, or in DEFT_LANGUAGE_ENCODER"
            )
        else:
            fix = "say one of the sentences it was trained with; their vectors came with the data"
        return (
            f"This policy does not know the sentence {text[:200]!r}.\n"
            f"Found: {len(self.texts)} known sentences; nearest {near}.\nFix: {fix}."
        )

    def _nearest(self, text: str) -> list[str]:
        """Three known sentences. Words first: thousands of sentences, letter by letter, take
        seconds."""
        words = set(text.lower().split())

        def shared(known: str) -> int:
            return len(words & set(known.lower().split()))

        few = sorted(self.texts, key=shared, reverse=True)[:50]
        few.sort(key=lambda known: SequenceMatcher(None, text, known).ratio(), reverse=True)
        return few[:3]

    def write(self, folder: Path) -> None:
        """The two files that a bundle keeps them in."""
        from safetensors.numpy import save_file

        about = {
            "texts": list(self.texts),
            "encoder": self.encoder,
            "encoder_digest": self.encoder_digest,
            "vectors_sha256": _digest(self.vectors),
        }
        write_json(folder / SENTENCES, about)
        save_file({"vectors": np.ascontiguousarray(self.vectors)}, folder / VECTORS)
        fsync(folder / VECTORS)

    @staticmethod
    def read(folder: Path, encode: Encode | None = None) -> "Sentences | None":
        """The inverse of `write`; None when the folder has none.

        Raises `BundleError` for anything else than what `write` writes.
        """
        if not (folder / SENTENCES).exists():
            return None
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        about = read_json(folder / SENTENCES)
        try:
            vectors = load_file(folder / VECTORS)["vectors"]
            texts, encoder = about["texts"], about["encoder"]
            if not all(isinstance(text, str) for text in (*texts, encoder)):
                raise TypeError("a sentence is no text")
            if _digest(vectors) != about["vectors_sha256"]:
                raise ValueError("the vectors are those of other sentences")
            return Sentences(tuple(texts), vectors, encoder, str(about["encoder_digest"]), encode)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"{folder / SENTENCES}: no sentences with their vectors.\n"
                f"Found: {type(error).__name__}: {error}.\n"
                "Fix: copy the whole folder again, or write it anew with `deft export RUN BUNDLE`."
            ) from error


def about_sentences(folder: Path) -> dict[str, Any] | None:
    """What a bundle says of its sentences, without their vectors; None without sentences."""
    if not (folder / SENTENCES).exists():
        return None
    about = read_json(folder / SENTENCES)
    texts = about.get("texts", [])
    return {
        "count": len(texts),
        "first": texts[:5],
        "encoder": about.get("encoder"),
        "encoder_digest": about.get("encoder_digest"),
    }


def _digest(vectors: np.ndarray) -> str:
    whole = hashlib.sha256(json.dumps(list(vectors.shape)).encode())
    whole.update(np.ascontiguousarray(vectors).tobytes())
    return whole.hexdigest()
