"""Vectors of sentences in training: out of the data, or of an encoder and then kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deft import bundle, nn, policies, spec, store, train
from deft.errors import SpecError, StoreError
from deft.train import language
from deft.train import loader as loading
from suites import spoken
from suites.spoken import EVERY, SIZE, FakeEncoder, vector, write_store

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn, "TextEncoder", FakeEncoder)
    monkeypatch.setattr(nn, "identify", spoken.identify)
    FakeEncoder.asked = []


def job(path: Path | tuple[str, ...], encoder: str | None = "t5", **data: object) -> train.Job:
    policy = policies.LCBCConfig(
        encoder=nn.ObsEncoderConfig(), head=nn.ActionHeadConfig(hidden=(32, 32), dropout=0.0)
    )
    given = path if isinstance(path, tuple) else str(path)
    return train.Job(
        policy=policy,
        data=train.DataConfig(path=given, language_encoder=encoder, **data),  # pyright: ignore
        optim=nn.OptimConfig(lr=3e-3, warmup_steps=5),
        train=train.TrainConfig(
            steps=150, batch_size=16, log_freq=150, save_freq=150, ema_max_decay=0.9
        ),
        val=train.ValConfig(offline_freq=150),
        device="cpu",
    )


def opened(job: train.Job) -> store.Store:
    return loading.chosen(job, train.open_data(job.data, job.data.paths))


def test_each_sentence_is_encoded_once_and_kept_beside_the_store(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s", vectors=False, wordings=True)
    data = opened(job(path))
    assert sorted(FakeEncoder.asked) == sorted(EVERY)
    assert data.text_vectors is not None
    for text, row in zip(data.texts, data.text_vectors.vectors, strict=True):
        np.testing.assert_array_equal(row, vector(text))
    again = opened(job(path))
    assert len(FakeEncoder.asked) == len(EVERY)  # nothing was encoded a second time
    assert again.text_vectors is not None
    np.testing.assert_array_equal(again.text_vectors.vectors, data.text_vectors.vectors)
    (name,) = store.embeddings(path)
    assert store.embedding(path, name).provenance["encoder"] == "t5"
    assert store.check(store.open(path)) == []


def test_only_new_sentences_of_a_grown_store_are_encoded(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s", vectors=False)
    opened(job(path))
    before = list(FakeEncoder.asked)
    extra = spoken.episode(99, "go home", 0.0, vectors=False)
    with store.appender(store.open(path), extra.spec, {"made by": "tests"}) as writer:
        writer.add(extra)
        writer.finish([extra.id])
    opened(job(path))
    assert FakeEncoder.asked[len(before) :] == ["go home"]


def test_joined_stores_keep_their_own_sentences(tmp_path: Path) -> None:
    one = write_store(tmp_path / "one", vectors=False)
    two = write_store(tmp_path / "two", vectors=False, wordings=True)
    data = opened(job((str(one), str(two))))
    assert data.text_vectors is not None
    assert sorted(FakeEncoder.asked) == sorted(EVERY)
    for path, count in ((one, 2), (two, 4)):
        (name,) = store.embeddings(path)
        assert len(store.embedding(path, name).texts) == count


def test_a_sample_gets_the_vector_of_the_wording_drawn_for_it(tmp_path: Path) -> None:
    wanted = job(write_store(tmp_path / "s", vectors=False, wordings=True))
    data = opened(wanted)
    contract = policies.contract(wanted.policy, data.spec)
    assert contract["instruction"].dtype == "str"
    drawn: set[str] = set()
    with loading.training_batches(wanted, data, contract, 0) as batches:
        for _ in range(5):
            raw = next(batches)
            sent = loading.to_device(raw, data, contract, CPU)
            assert sent.language is not None
            for row, text in enumerate(sent.task):
                np.testing.assert_array_equal(sent.language[row].numpy(), vector(text))
                index = int(raw.episode[row])
                assert text in data.instructions(index)
            drawn |= set(sent.task)
    assert drawn == set(EVERY)


def test_vectors_of_the_data_are_taken_when_no_encoder_is_named(tmp_path: Path) -> None:
    wanted = job(write_store(tmp_path / "s", vectors=True), encoder=None)
    data = opened(wanted)
    assert data.text_vectors is not None
    assert FakeEncoder.asked == []
    contract = policies.contract(wanted.policy, data.spec)
    assert "language_embedding" not in contract
    fitted = language.fitted(wanted, data, contract)
    assert fitted.policy.language_size == SIZE
    known = language.sentences(data)
    assert known is not None
    assert (set(known.texts), known.encoder) == ({"go left", "go right"}, "")
    np.testing.assert_array_equal(known.of(["go right"])[0], vector("go right"))


def test_vectors_without_text_are_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "s"
    contract = spoken.spec_of(vectors=True)
    with store.Writer(path, contract, store.WriteConfig(), {"made by": "tests"}) as writer:
        made = [spoken.episode(n, "go left", -1.0, vectors=True) for n in range(2)]
        for each in made:
            writer.add(replace(each, task=""))
        writer.finish([each.id for each in made])
    wanted = job(path, encoder=None)
    data = opened(wanted)
    assert data.text_vectors is None
    asked = policies.contract(wanted.policy, data.spec)
    assert asked["language_embedding"].shape == (SIZE,)
    with loading.training_batches(wanted, data, asked, 0) as batches:
        sent = loading.to_device(next(batches), data, asked, CPU)
    assert sent.language is not None
    np.testing.assert_array_equal(sent.language[0].numpy(), vector("go left"))


def test_one_sentence_with_two_vectors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    contract = spoken.spec_of(vectors=True)
    with store.Writer(path, contract, store.WriteConfig(), {"made by": "tests"}) as writer:
        made = [spoken.episode(n, text, 0.0, vectors=True) for n, text in enumerate(EVERY[:2])]
        for each in made:
            writer.add(replace(each, task="go"))
        writer.finish([each.id for each in made])
    with pytest.raises(StoreError, match="language_encoder"):
        opened(job(path, encoder=None))


@pytest.mark.parametrize("skip", [True, False])
def test_unlabeled_samples_are_drawn_only_when_asked_for(tmp_path: Path, skip: bool) -> None:
    path = write_store(tmp_path / "s", vectors=False, unlabeled=8)
    wanted = job(path, skip_unlabeled=skip)
    data = opened(wanted)
    contract = policies.contract(wanted.policy, data.spec)
    drawn: set[str] = set()
    with loading.training_batches(wanted, data, contract, 0) as batches:
        for _ in range(8):
            drawn |= set(loading.to_device(next(batches), data, contract, CPU).task)
    assert ("" in drawn) is not skip
    assert ("" in FakeEncoder.asked) is not skip
    silent = replace(wanted, policy=policies.BCConfig())
    assert opened(silent).text_vectors is None  # other policies learn from every episode


@pytest.mark.parametrize("encoder", ["t5", None])
def test_data_without_instructions_is_refused_at_the_start(
    tmp_path: Path, encoder: str | None
) -> None:
    path = write_store(tmp_path / "s", episodes=0, vectors=False, unlabeled=4)
    with pytest.raises(SpecError, match="gc_bc"):
        opened(job(path, encoder))


def test_sentences_without_a_way_to_vectors_are_refused(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s", vectors=False)
    with pytest.raises(SpecError, match=r"data\.language_encoder"):
        opened(job(path, None))


@pytest.mark.parametrize("encoder", ["t5", None])
def test_a_trained_bundle_follows_text(tmp_path: Path, encoder: str | None) -> None:
    path = write_store(tmp_path / "s", episodes=20, vectors=encoder is None)
    wanted = job(path, encoder)
    last = train.train(wanted, train.open_data(wanted.data, wanted.data.paths), tmp_path / "run")
    assert last["val/action_error"] < 0.2
    folder = bundle.resolve(tmp_path / "run")
    loaded = bundle.load(folder)
    about = bundle.describe(folder, check=True)["sentences"]
    assert (about["count"], about["encoder"]) == (2, encoder or "")
    look: spec.Observation = {"state": np.zeros((1, 2), np.float32)}
    actor = bundle.actor(loaded)
    for text, side in (("go left", -1.0), ("go right", 1.0)):
        (action,) = actor.act(look | {"instruction": text}).actions
        assert abs(float(action[0]) - side) < 0.4
    with pytest.raises(SpecError, match="nearest 'go left'"):
        actor.act(look | {"instruction": "go leftwards"})
