"""Vectors of the sentences that a policy is trained with: of an encoder, or from the data."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from deft import bundle, nn, policies, store
from deft.errors import DeftError, SpecError, StoreError
from deft.spec import Feature, Spec
from deft.train.config import Job

INSTRUCTION = Feature(name="instruction", role="language", shape=(), dtype="str")
"""What the contract of a policy that follows text asks for."""

_ALIKE = 1e-3
"""Largest difference between two vectors that came with the data for one sentence."""


def spoken(job: Job, data: store.Store) -> store.Store:
    """The data with vectors of its sentences, and text in its spec, for a policy that takes it.

    With `data.language_encoder`, vectors are those that lie beside the store; sentences that
    have none are encoded and put there, so each is encoded once. Without, they are those that
    came with the data, one per sentence. Data with vectors and without any text stays as it is.

    Raises:
        SpecError: there is neither text nor vector, or text and no way to a vector.
        StoreError: one sentence came with several vectors.
        ConfigError: there is no text encoder in the folder.
    """
    if "language" not in policies.takes(job.policy):
        return data
    used = _used(data, skip_unlabeled=job.data.skip_unlabeled)
    given = [f for f in data.spec.role("language") if f.dtype != "str"]
    if not any(text.strip() for text in used):
        if not given or job.data.language_encoder:
            raise SpecError(
                f"This policy follows instructions, and {data.path} has none: no episode in use "
                "says what is done in it.\n"
                f"Found: {', '.join(data.spec.names)}.\n"
                "Fix: train `policy=gc_bc`, which follows pictures of the goal, or add "
                "instructions."
            )
        return data
    if job.data.language_encoder:
        vectors = _encoded(job.data.language_encoder, data, used)
    elif given:
        vectors = store.TextVectors(_from_data(data, given[0].name, used))
    else:
        raise SpecError(
            f"This policy follows instructions, and the sentences of {data.path} have no vectors.\n"
            f"Found: {len(used)} sentences, as in {used[0]!r}.\n"
            "Fix: name the folder of a text encoder in `data.language_encoder`, or train "
            "`policy=gc_bc`, which follows pictures of the goal."
        )
    features = [f for f in data.spec.features if f.dtype != "str" or f.role != "language"]
    heard = replace(data.spec, features=(*features, INSTRUCTION))
    return replace(data, spec=heard, text_vectors=vectors)


def fitted(job: Job, data: store.Store, contract: Spec) -> Job:
    """The job with the policy's `language_size` as the vectors have it."""
    vectors = [f for f in contract.role("language") if f.dtype != "str"]
    if data.text_vectors is not None:
        size = data.text_vectors.vectors.shape[1]
    elif vectors:
        size = vectors[0].size
    else:
        return job
    return replace(job, policy=replace(job.policy, language_size=size))


def sentences(data: store.Store) -> bundle.Sentences | None:
    """The sentences of the episodes in use with their vectors, for a bundle; None without."""
    held = data.text_vectors
    if held is None:
        return None
    rows = np.flatnonzero(np.isfinite(held.vectors).all(1))
    texts = tuple(data.texts[row] for row in rows.tolist())
    return bundle.Sentences(texts, held.vectors[rows], held.encoder, held.encoder_digest)


def _used(data: store.Store, *, skip_unlabeled: bool) -> list[str]:
    """Every wording of every episode in use, each once."""
    index = data.episodes
    fits = index.split != store.LEFT_OUT
    if skip_unlabeled:
        fits &= data.labeled
    counts = np.diff(index.first_wording)
    rows = np.unique(index.wordings[np.repeat(fits, counts)])
    return [data.texts[row] for row in rows.tolist()]


def _table(data: store.Store, known: Mapping[str, np.ndarray]) -> np.ndarray:
    """float32 `len(texts) L`, NaN where nothing is known."""
    size = len(next(iter(known.values())))
    table = np.full((len(data.texts), size), np.nan, np.float32)
    for row, text in enumerate(data.texts):
        if text in known:
            table[row] = known[text]
    return table


def _encoded(folder: str, data: store.Store, used: Sequence[str]) -> store.TextVectors:
    name, digest = nn.identify(folder)
    kept_as = f"{name}-{digest[:12]}"
    homes = _homes(data)
    known: dict[str, np.ndarray] = {}
    for home in homes:
        if kept_as in store.embeddings(home):
            held = store.embedding(home, kept_as)
            known |= {
                t: v.astype(np.float32) for t, v in zip(held.texts, held.vectors, strict=True)
            }
    new = [text for text in used if text not in known]
    if new:
        print(f"encoding {len(new)} sentences with {name}", file=sys.stderr, flush=True)
        encoder = nn.TextEncoder(folder, "cuda" if torch.cuda.is_available() else "cpu")
        made = dict(zip(new, encoder.encode(new), strict=True))
        known |= made
        # Under torchrun every process encodes, and one of them writes.
        if os.environ.get("RANK", "0") == "0":
            provenance = {"encoder": name, "encoder_digest": digest, "style": encoder.style}
            for home in homes:
                own = set(store.open(home).texts)
                _keep(home, kept_as, {t: v for t, v in made.items() if t in own}, provenance)
    return store.TextVectors(_table(data, {text: known[text] for text in used}), name, digest)


def _homes(data: store.Store) -> list[Path]:
    """Folders of the stores that can keep vectors beside them; those elsewhere cannot."""
    paths = [each["path"] for each in data.info.get("stores", [{"path": str(data.path)}])]
    return [Path(path) for path in paths if (Path(path) / "store.json").exists()]


def _keep(
    home: Path, name: str, vectors: Mapping[str, np.ndarray], provenance: Mapping[str, str]
) -> None:
    if not vectors:
        return
    try:
        store.add_embedding(home, name, vectors, provenance)
    except (DeftError, OSError) as error:
        # They are in memory; a store that cannot be written to costs time at the next start only.
        print(f"vectors of sentences are not kept beside {home}: {error}", file=sys.stderr)


def _from_data(data: store.Store, name: str, used: Sequence[str]) -> np.ndarray:
    """The vector of each sentence, as the first step of its first episode has it."""
    index, table = data.episodes, data.tables[name]
    rows = set(used)
    known: dict[str, np.ndarray] = {}
    for episode in np.flatnonzero(index.split != store.LEFT_OUT).tolist():
        vector = np.asarray(table[int(index.start[episode])], np.float32)
        first, last = index.first_wording[episode : episode + 2].tolist()
        for text in (data.texts[number] for number in index.wordings[first:last].tolist()):
            held = known.setdefault(text, vector) if text in rows else vector
            scale = max(float(np.abs(held).max()), 1e-6)
            if float(np.abs(held - vector).max()) > _ALIKE * scale:
                raise StoreError(
                    f"{data.path}, episode '{index.ids[episode]}': '{name}' is another vector "
                    f"than an earlier episode has for the sentence {text!r}.\n"
                    "Fix: name the folder of a text encoder in `data.language_encoder`."
                )
    return _table(data, known)
