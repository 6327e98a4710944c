"""Text encoders out of local folders."""

import json
import sys
from pathlib import Path

import pytest

from deft import nn
from deft.errors import ConfigError, MissingPackageError
from suites.peers import peer_program, run_peer
from suites.text_encoders import MAKE


def folder(path: Path) -> Path:
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "bert"}')
    (path / "model.safetensors").write_bytes(b"weights")
    return path


def test_the_digest_covers_what_decides_the_vectors(tmp_path: Path) -> None:
    here = folder(tmp_path / "t5")
    name, digest = nn.identify(here)
    assert name == "t5"
    (here / "README.md").write_text("notes")
    assert nn.identify(here) == (name, digest)
    assert nn.identify(folder(tmp_path / "copy"))[1] == digest
    (here / "model.safetensors").write_bytes(b"other weights")
    assert nn.identify(here)[1] != digest


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        nn.identify(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"no config\.json"):
        nn.TextEncoder(tmp_path)


def test_without_transformers_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPackageError, match=r"deft-robotics\[features\]"):
        nn.TextEncoder(folder(tmp_path / "t5"))


SENTENCES = ["go left", "go right", "put the carrot on the plate", "go left", ""]
ENCODE = """
import json, sys
import numpy as np, torch
from transformers import AutoTokenizer, BertModel, CLIPTextModelWithProjection, T5EncoderModel
from deft import nn
from deft.errors import ConfigError
folder, texts = sys.argv[1], json.loads(sys.argv[2])
ours = nn.TextEncoder(folder)
vectors = ours.encode(texts)
tokenizer = AutoTokenizer.from_pretrained(folder)
rows = []
with torch.no_grad():
    for text in texts:
        tokens = tokenizer([text], return_tensors="pt")
        given = {key: tokens[key] for key in ("input_ids", "attention_mask")}
        if ours.style == "clip":
            row = CLIPTextModelWithProjection.from_pretrained(folder)(**given).text_embeds[0]
        else:
            kind = T5EncoderModel if sys.argv[3] == "t5" else BertModel
            row = kind.from_pretrained(folder)(**given).last_hidden_state[0].mean(0)
        rows.append((row / row.norm()).numpy())
long = ours.encode(["go " * 40])
print(json.dumps({
    "style": ours.style, "shape": list(vectors.shape), "dtype": str(vectors.dtype),
    "off": float(np.abs(vectors - np.stack(rows)).max()),
    "lengths": np.linalg.norm(vectors, axis=1).tolist(),
    "alone": float(np.abs(ours.encode(texts[2:3])[0] - vectors[2]).max()),
    "apart": float(np.abs(vectors[0] - vectors[1]).max()), "long": bool(np.isfinite(long).all()),
}))
"""


@pytest.mark.peer
@pytest.mark.parametrize(("kind", "size"), [("sentence", 16), ("clip", 8), ("t5", 16)])
def test_vectors_are_those_of_transformers(tmp_path: Path, kind: str, size: int) -> None:
    program = peer_program("transformers")
    run_peer(program, MAKE, tmp_path / "m", kind)
    found = run_peer(program, ENCODE, tmp_path / "m", json.dumps(SENTENCES), kind)
    assert found["style"] == ("clip" if kind == "clip" else "sentence")
    assert (found["shape"], found["dtype"]) == ([len(SENTENCES), size], "float32")
    assert found["off"] < 1e-5
    assert found["lengths"] == pytest.approx([1.0] * len(SENTENCES), abs=1e-5)
    assert found["alone"] < 1e-5
    assert found["apart"] > 1e-3
    assert found["long"]
