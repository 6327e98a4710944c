"""Wordings of a task, and vectors of them kept beside the store."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from deft import store
from deft.errors import StoreError
from deft.spec import EpisodeInfo
from suites.memory_source import MemorySource

CONFIG = store.WriteConfig()
SAID = {0: ("push the block", "shove it", "block, please"), 2: ("push the block", "shove it")}


@dataclass
class Worded(MemorySource):
    """Some episodes have their task in several wordings."""

    @property
    def episodes(self) -> list[EpisodeInfo]:
        plain = MemorySource(self.lengths).episodes
        return [replace(info, instructions=SAID.get(n, ())) for n, info in enumerate(plain)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return store.write(tmp_path / "s", Worded((5, 9, 4)), CONFIG).path


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def vector(text: str, width: int = 6) -> np.ndarray:
    return np.random.default_rng(sum(map(ord, text))).normal(size=width).astype(np.float32)


def test_every_wording_is_kept(path: Path, tmp_path: Path) -> None:
    opened = store.open(path)
    assert opened.texts == ("push the block", "lift the carrot", "shove it", "block, please")
    assert opened.texts[: len(opened.tasks)] == opened.tasks
    assert opened.episodes.wordings.tolist() == [0, 2, 3, 1, 0, 2]
    assert opened.episodes.first_wording.tolist() == [0, 3, 4, 6]
    assert [opened.instructions(n) for n in range(3)] == [SAID[0], (), SAID[2]]
    again = store.write(tmp_path / "again", store.source(opened), CONFIG).path
    assert store.open(again).texts == opened.texts
    store.append(path, Worded((5, 9, 4, 12)))
    assert store.open(path).episodes.wordings.tolist() == [0, 2, 3, 1, 0, 2, 1]


def test_the_task_comes_first_and_nothing_twice(tmp_path: Path) -> None:
    source = MemorySource((5,))
    with store.Writer(tmp_path / "s", source.spec, CONFIG, {}) as writer:
        writer.add(source.read(0), ("shove it", "push the block", "shove it"))
        writer.finish([source.episodes[0].id])
    assert store.open(tmp_path / "s").instructions(0) == ("push the block", "shove it")


def test_vectors_belong_to_texts(path: Path) -> None:
    opened, before = store.open(path), files(path)
    assert store.embeddings(path) == ()
    made = store.add_embedding(path, "tiny/6", {t: vector(t) for t in opened.texts}, {"by": "us"})
    assert store.embeddings(opened) == ("tiny/6",)
    found = store.embedding(opened, "tiny/6")
    assert found.digest == made.digest
    assert found.provenance == {"by": "us"}
    assert (found.of(opened) == np.stack([vector(text) for text in opened.texts])).all()
    assert found.of(opened)[opened.episodes.wordings].shape == (6, 6)
    # The store is untouched, byte for byte, and so is its digest.
    after = files(path)
    assert {name: after[name] for name in before} == before
    assert store.open(path).digest == opened.digest
    assert store.check(opened) == []


def test_vectors_are_added_when_the_store_grows(path: Path) -> None:
    opened = store.open(path)
    first = {text: vector(text) for text in opened.texts[:2]}
    made = store.add_embedding(path, "e", first, {})
    assert made.missing(opened) == ("shove it", "block, please")
    with pytest.raises(StoreError, match=r"2 of 4 texts have no vector(.|\n)*'shove it'"):
        made.of(opened)
    rest = {text: vector(text) for text in made.missing(opened)} | {opened.texts[0]: vector("new")}
    whole = store.add_embedding(path, "e", rest, {})
    assert (whole.of(opened)[0] == vector("new")).all()
    assert (whole.of(opened)[1] == vector(opened.texts[1])).all()
    assert (made.vectors[0] == vector(made.texts[0])).all()  # opened before, still there
    assert whole.digest != made.digest
    assert len(list((path / "embeddings").iterdir())) == 4  # with the lock; nothing old is left
    store.add_embedding(path, "e", {"x": vector("x", 3)}, {}, replace=True)
    assert store.embedding(path, "e").texts == ("x",)


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        ({}, "Found: none"),
        ({"a": np.zeros(3, np.float32), "b": np.zeros(4, np.float32)}, "one length"),
        ({"a": np.zeros(6)}, "float64"),
        ({"a": np.zeros((2, 3), np.float32)}, "one length"),
        ({"a": np.full(6, np.nan, np.float32)}, "'a' is not finite"),
        ({"a": np.zeros(5, np.float32)}, "float32 of shape \\(5,\\), float32 of shape \\(6,\\)"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(
    path: Path, vectors: dict[str, np.ndarray], said: str
) -> None:
    if said.startswith("float32 of shape"):
        store.add_embedding(path, "e", {"b": vector("b")}, {})
    before = files(path / "embeddings") if (path / "embeddings").exists() else {}
    with pytest.raises(StoreError, match=said):
        store.add_embedding(path, "e", vectors, {})
    kept = {name: data for name, data in files(path / "embeddings").items() if name != "lock"}
    assert kept == {name: data for name, data in before.items() if name != "lock"}


def test_damage_is_found(path: Path) -> None:
    opened = store.open(path)
    store.add_embedding(path, "e", {text: vector(text) for text in opened.texts}, {})
    with pytest.raises(StoreError, match=r"no embedding 'f'\. Choose from: e"):
        store.embedding(path, "f")
    with pytest.raises(StoreError, match="no store"):
        store.add_embedding(path / "tables", "e", {}, {})
    [array] = (path / "embeddings").glob("*.npy")
    data = bytearray(array.read_bytes())
    data[-1] ^= 1
    array.write_bytes(data)
    assert f"{array.name}: changed" in "\n".join(each.what for each in store.check(opened))
    array.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        store.embedding(path, "e")
    assert "cannot be read" in "\n".join(each.what for each in store.check(opened))


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_stop_at_any_moment_leaves_the_old_or_the_new(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = store.open(path)
    old = {text: vector(text) for text in opened.texts}
    new = {text: vector(text + "!") for text in opened.texts}
    really, number = os.fsync, 0
    for number in range(1, 20):
        store.add_embedding(path, "e", old, {})
        acts = 0

        def counted(descriptor: int, number: int = number) -> None:
            nonlocal acts
            acts += 1
            if acts == number:
                raise Killed
            really(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", counted)
            try:
                store.add_embedding(path, "e", new, {})
            except Killed:
                pass
            else:
                break
        found = store.embedding(path, "e").of(opened)[0]
        assert (found == old[opened.texts[0]]).all() or (found == new[opened.texts[0]]).all()
        assert store.check(opened) == []
    assert number > 4
