"""A bundle that follows text: sentences it knows, and an encoder for those it does not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deft import bundle, nn, policies, spec
from deft.bundle import Sentences
from deft.errors import BundleError, SpecError
from deft.spec import Stats
from suites import spoken
from suites.spoken import EVERY, SIZE, FakeEncoder, vector


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn, "TextEncoder", FakeEncoder)
    monkeypatch.setattr(nn, "identify", spoken.identify)
    monkeypatch.delenv("DEFT_LANGUAGE_ENCODER", raising=False)
    FakeEncoder.asked = []


def known(encoder: str = "t5") -> Sentences:
    digest = spoken.identify(encoder)[1] if encoder else ""
    return Sentences(EVERY, np.stack([vector(text) for text in EVERY]), encoder, digest)


def contract() -> spec.Spec:
    text = spec.Feature(name="instruction", role="language", shape=(), dtype="str")
    data = spoken.spec_of(vectors=False)
    return spec.Spec(features=(*data.features, text), fps=10.0)


def look(text: str) -> spec.Observation:
    return {"state": np.full((1, 2), 0.5, np.float32), "instruction": text}


def saved(path: Path, sentences: Sentences | None) -> Path:
    config = policies.LCBCConfig(
        encoder=nn.ObsEncoderConfig(),
        language_size=SIZE,
        head=nn.ActionHeadConfig(hidden=(8, 8), dropout=0.0),
    )
    rng = np.random.default_rng(0)
    stats = {
        "state": Stats.of(rng.normal(size=(9, 2))),
        "action": Stats.of(rng.normal(size=(9, 1))),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = policies.build(config, policies.contract(config, contract()), stats)
        # Fresh heads answer almost the same to everything.
        for weight in policy.parameters():
            torch.nn.init.normal_(weight, std=0.5)
    return bundle.save(
        path,
        policy,
        provenance={"made by": "tests"},
        golden=[(look("go left"), 0), (look("go right"), 1)],
        sentences=sentences,
    )


def test_known_sentences_decide_what_it_does(tmp_path: Path) -> None:
    folder = saved(tmp_path / "b", known())
    actor = bundle.actor(bundle.load(folder))
    answers = {text: actor.act(look(text)).actions.tobytes() for text in EVERY}
    assert len(set(answers.values())) == len(EVERY)
    assert FakeEncoder.asked == []  # no encoder was needed


def test_a_new_sentence_is_refused_with_the_nearest_known_ones(tmp_path: Path) -> None:
    actor = bundle.actor(bundle.load(saved(tmp_path / "b", known())))
    with pytest.raises(SpecError) as caught:
        actor.act(look("go right now"))
    said = str(caught.value)
    for word in ("'go right now'", "nearest 'go right'", "'t5'", "language_encoder"):
        assert word in said


@pytest.mark.parametrize("by", ["option", "environment"])
def test_an_encoder_gives_new_sentences_their_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    folder = saved(tmp_path / "b", known())
    if by == "option":
        loaded = bundle.load(folder, language_encoder="models/t5")
    else:
        monkeypatch.setenv("DEFT_LANGUAGE_ENCODER", "models/t5")
        loaded = bundle.load(folder)
    actor = bundle.actor(loaded)
    first = actor.act(look("stand still")).actions
    np.testing.assert_array_equal(actor.act(look("stand still")).actions, first)
    assert FakeEncoder.asked == ["stand still"]  # a robot repeats itself
    assert loaded.sentences is not None
    np.testing.assert_array_equal(loaded.sentences.of(["stand still"])[0], vector("stand still"))


def test_new_sentences_are_not_kept_without_limit() -> None:
    lexicon = Sentences(("a",), vector("a")[None], "t5", "", FakeEncoder("t5").encode)
    for number in range(1100):
        lexicon.of([str(number)])
    assert len(lexicon._new) <= 1024
    asked = len(FakeEncoder.asked)
    lexicon.of(["1099", "0"])
    assert FakeEncoder.asked[asked:] == ["0"]


def test_another_encoder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(tmp_path / "b", known())
    with pytest.raises(BundleError, match="another text encoder"):
        bundle.load(folder, language_encoder="models/bert")
    came = saved(tmp_path / "c", known(""))
    with pytest.raises(BundleError, match="came with the data"):
        bundle.load(came, language_encoder="models/t5")
    monkeypatch.setenv("DEFT_LANGUAGE_ENCODER", "models/t5")
    bundle.load(came)  # meant for others: the environment holds for every bundle


def test_files_of_sentences_are_part_of_the_bundle(tmp_path: Path) -> None:
    folder = saved(tmp_path / "b", known())
    assert "sentences.safetensors" in (folder / "SHA256SUMS").read_text()
    assert bundle.describe(folder, check=True)["sentences"]["count"] == len(EVERY)
    assert bundle.describe(folder)["other_files"] == []
    text = (folder / "sentences.json").read_text()
    (folder / "sentences.json").write_text(text.replace("go left", "go west"))
    with pytest.raises(BundleError, match=r"sentences\.json"):
        bundle.load(folder)
    (folder / "sentences.json").write_text(
        text.replace('"vectors_sha256": "', '"vectors_sha256": "0')
    )
    with pytest.raises(BundleError, match="vectors"):
        bundle.load(folder, verify=False)
    (folder / "sentences.json").unlink()
    with pytest.raises(BundleError, match="no sentences"):
        bundle.load(folder, verify=False)


def test_a_policy_that_follows_text_needs_sentences(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="needs sentences"):
        saved(tmp_path / "b", None)
    assert not (tmp_path / "b").exists()


def test_sentences_must_fit_their_vectors() -> None:
    with pytest.raises(SpecError, match="different"):
        Sentences(("a", "a"), np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="Vectors"):
        Sentences(("a",), np.full((1, 3), np.nan, np.float32))
