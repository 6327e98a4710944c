"""Policies that follow instructions, as a user types it: train, eval, export, serve."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deft import bundle, nn, serve, store, wire
from deft.cli.main import main
from deft.errors import SpecError
from suites import spoken
from suites.demonstrations import write_store as write_silent
from suites.peers import peer_program, run_peer
from suites.spoken import FakeEncoder, write_store

SMALL = [
    "policy=lc_bc",
    "policy.head.hidden=[32,32]",
    "policy.head.dropout=0",
    "policy.encoder.image=cnn",
    "policy.encoder.cnn_channels=8",
    "policy.encoder.pool=average",
    "optim.lr=3e-3",
    "optim.warmup_steps=5",
    "train.batch_size=16",
    "train.ema_max_decay=0.9",
    "device=cpu",
    "session=a",
]


def train(runs: Path, data: Path | str, steps: int, *words: str) -> int:
    lengths = [f"train.steps={steps}", f"train.save_freq={steps}", f"val.offline_freq={steps}"]
    given = [f"data.path={data}", f"runs_dir={runs}", *SMALL, *lengths, *words]
    return main(["train", *given])


def evaluated(
    run: Path | str, data: Path, out: Path, capsys: pytest.CaptureFixture[str], *words: str
) -> float:
    capsys.readouterr()
    asked = ["eval", str(run), f"data.path={data}", f"out={out}", "--json", *words]
    assert main(asked) == 0
    return json.loads(capsys.readouterr().out)["methods"]["policy"]["normalised_mae"]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn, "TextEncoder", FakeEncoder)
    monkeypatch.setattr(nn, "identify", spoken.identify)
    FakeEncoder.asked = []


@pytest.mark.parametrize("has_encoder", [True, False])
def test_from_demonstrations_to_a_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fake: None, has_encoder: bool
) -> None:
    data = write_store(tmp_path / "s", episodes=20, vectors=not has_encoder, unlabeled=2)
    words = ["data.language_encoder=models/t5"] if has_encoder else []
    assert train(tmp_path, data, 150, *words) == 0
    run = tmp_path / "custom" / "lc_bc" / "a"
    assert evaluated(run, data, tmp_path / "e", capsys) < 0.3
    assert main(["export", str(run), str(tmp_path / "b"), "--golden", "3"]) == 0
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "b")]) == 0
    assert "2 known, as 'go left'" in capsys.readouterr().out
    shown = bundle.describe(tmp_path / "b")["sentences"]
    assert shown["encoder"] == ("t5" if has_encoder else "")
    loaded = bundle.load(tmp_path / "b", language_encoder="models/t5" if has_encoder else "")
    server = serve.Server(
        bundle.actor(loaded), serve.ServeConfig(port=0), example=loaded.golden.observations[0]
    )
    look = {"state": np.zeros((1, 2), np.float32)}
    with server.background() as url, wire.connect(url) as there:
        for text, side in (("go left", -1.0), ("go right", 1.0)):
            assert abs(float(there.act(look | {"instruction": text}).actions[0, 0]) - side) < 0.5
        if has_encoder:
            there.act(look | {"instruction": "stand still"})
        else:
            with pytest.raises(SpecError, match="nearest 'go left'"):
                there.act(look | {"instruction": "go leftwards"})
            there.act(look | {"instruction": "go left"})  # the server goes on
        assert evaluated(url, data, tmp_path / "e2", capsys) < 0.3


def test_serve_says_what_it_knows(tmp_path: Path) -> None:
    data = write_store(tmp_path / "s", vectors=True)
    assert train(tmp_path, data, 2) == 0
    run = tmp_path / "custom" / "lc_bc" / "a"
    words = ["serve", str(run), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(
        [sys.executable, "-m", "deft", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            said = ""
            while "ready" not in said:
                line = process.stdout.readline()
                assert line, said
                said += line
        finally:
            process.kill()
    assert "2 sentence(s)" in said
    assert "new ones are refused" in said


def test_data_without_instructions_is_refused_naming_gc_bc(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = write_store(tmp_path / "s", episodes=0, vectors=False, unlabeled=4)
    assert train(tmp_path / "r", silent, 2) == 1
    assert "gc_bc" in capsys.readouterr().err
    seen = write_silent(tmp_path / "t", episodes=3)  # has tasks, but no vectors
    assert train(tmp_path / "r", seen, 2, "session=b") == 1
    assert "data.language_encoder" in capsys.readouterr().err


def test_a_folder_without_an_encoder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_store(tmp_path / "s", vectors=False)
    (tmp_path / "empty").mkdir()
    assert train(tmp_path, data, 2, f"data.language_encoder={tmp_path / 'empty'}") != 0
    assert "config.json" in capsys.readouterr().err


@pytest.mark.data
def test_the_bridge_sample_from_rlds_to_answers(
    tmp_path: Path,
    real_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the vectors that come with it: what they are made of is not at hand."""
    monkeypatch.setenv("DEFT_DATA_DIR", str(tmp_path / "data"))
    recording = real_data / "bridge_rlds_sample" / "1.0.0"
    words = ["task=bridge", "augment=none", "policy.encoder.ticks=separate"]
    assert train(tmp_path, recording, 60, *words) == 0
    run = tmp_path / "bridge" / "lc_bc" / "a"
    (kept,) = (tmp_path / "data" / "stores").iterdir()
    error = evaluated(run, kept, tmp_path / "e", capsys, "data.split=train", "data.max_windows=64")
    assert np.isfinite(error)
    loaded = bundle.load(bundle.resolve(run))
    assert loaded.sentences is not None
    assert "put carrot on plate" in loaded.sentences.texts
    assert loaded.sentences.size == 512
    looked = dict(loaded.golden.observations[0])
    actor = bundle.actor(loaded)
    answers = [actor.act(looked | {"instruction": t}).actions for t in loaded.sentences.texts]
    assert not np.array_equal(answers[0], answers[1])
    with pytest.raises(SpecError, match="nearest 'put carrot on plate'"):
        actor.act(looked | {"instruction": "put the carrot on the plate"})


PEER = """
import contextlib, io, json, sys
from pathlib import Path
import numpy as np
from deft import bundle, store
from deft.cli.main import main
tmp, data = Path(sys.argv[1]), Path(sys.argv[2])
words = json.loads(sys.argv[3])
with contextlib.redirect_stdout(io.StringIO()):
    assert main(["train", f"data.path={data}", f"runs_dir={tmp}", *words,
                 f"data.language_encoder={tmp / 'tiny'}", "train.steps=600",
                 "train.save_freq=600"]) == 0
    run = str(tmp / "custom" / "lc_bc" / "a")
    evaluated = main(["eval", run, f"data.path={data}", f"out={tmp / 'e'}",
                      f"language_encoder={tmp / 'tiny'}", "--json"])
loaded = bundle.load(bundle.resolve(run), language_encoder=tmp / "tiny")
look = {"state": np.zeros((1, 2), np.float32)}
actor = bundle.actor(loaded)
say = lambda text: float(actor.act({**look, "instruction": text}).actions[0, 0])
print(json.dumps({
    "eval": evaluated, "left": say("go left"), "right": say("go right"), "new": say("go left side"),
    "embeddings": list(store.embeddings(data)), "encoder": loaded.sentences.encoder,
    "names": list(loaded.sentences.texts),
}))
"""


@pytest.mark.peer
def test_a_real_encoder_from_its_folder(tmp_path: Path) -> None:
    from suites.text_encoders import MAKE

    program = peer_program("transformers")
    run_peer(program, MAKE, tmp_path / "tiny", "sentence")
    data = write_store(tmp_path / "s", episodes=20, vectors=False)
    found = run_peer(program, PEER, tmp_path, data, json.dumps(SMALL))
    assert found["eval"] == 0
    assert found["left"] < -0.5
    assert found["right"] > 0.5
    assert np.isfinite(found["new"])
    assert found["encoder"] == "tiny"
    (name,) = found["embeddings"]
    kept = store.embedding(data, name)
    assert sorted(kept.texts) == ["go left", "go right"]
    assert kept.provenance["style"] == "sentence"
