"""From sentences to vectors, with a frozen text encoder out of a local folder."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from deft.errors import ConfigError, need

Style = Literal["sentence", "clip"]

_ROWS = 64
"""Sentences that run together."""
_LONGEST = 512
"""Tokens after which a sentence is cut, when the tokenizer names no limit."""


class TextEncoder:
    """A text encoder of `transformers`, loaded from a folder; nothing is ever downloaded.

    `clip` models give their text features, all others (`sentence`) the mean of the last layer over
    the tokens of the sentence, as sentence-transformers do. Vectors have length 1. A sentence's
    vector does not depend on those beside it, but for rounding: only sentences of as many tokens
    run together, so nothing is padded.

    Args:
        folder: with `config.json`, the tokenizer's files and `model.safetensors`.
        device: where it runs.

    Raises:
        ConfigError: the folder holds no such model.
        MissingPackageError: `transformers` is not installed.

    Source: Reimers and Gurevych 2019, arXiv:1908.10084 (mean pooling); Radford et al. 2021,
    arXiv:2103.00020 (text features).
    """

    def __init__(self, folder: str | Path, device: torch.device | str = "cpu") -> None:
        self.folder = Path(folder).expanduser()
        self.name, self.digest = identify(self.folder)
        self._device = torch.device(device)
        transformers = need("transformers", "features")
        about = json.loads((self.folder / "config.json").read_bytes())
        self.style: Style = "clip" if str(about.get("model_type")) in _CLIP else "sentence"
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                self.folder, local_files_only=True, trust_remote_code=False
            )
            self._model: Any = _model(transformers, self.folder, self.style)
        except (OSError, ValueError, KeyError, ImportError, AttributeError) as error:
            raise ConfigError(
                f"{self.folder}: no text encoder that can be loaded.\n"
                f"Found: {type(error).__name__}: {str(error)[:400]}.\n"
                "Fix: save model (as safetensors) and tokenizer there with `save_pretrained`."
            ) from error
        self._model.to(self._device).eval().requires_grad_(False)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """One vector of length 1 per sentence, float32 `K D`."""
        longest = min(int(self._tokenizer.model_max_length), _positions(self._model))
        words: list[list[int]] = [
            self._tokenizer(text, truncation=True, max_length=longest)["input_ids"]
            for text in texts
        ]
        by_length: dict[int, list[int]] = {}
        for row, each in enumerate(words):
            by_length.setdefault(len(each), []).append(row)
        found: dict[int, np.ndarray] = {}
        for rows in by_length.values():
            for start in range(0, len(rows), _ROWS):
                some = rows[start : start + _ROWS]
                tokens = torch.tensor([words[row] for row in some], device=self._device)  # K S
                found |= zip(some, self._vectors(tokens), strict=True)
        return np.stack([found[row] for row in range(len(texts))])

    def _vectors(self, tokens: torch.Tensor) -> np.ndarray:
        # Without padding the mask is all ones, and the mean is over every token.
        given = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        if self.style == "clip":
            vectors = self._model(**given).text_embeds  # K D
        else:
            vectors = self._model(**given).last_hidden_state.mean(1)  # K D
        return torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()


_CLIP = ("clip", "clip_text_model")


def identify(folder: str | Path) -> tuple[str, str]:
    """Name and digest of an encoder: sha256 over the names and bytes of its files. No weights are
    loaded, so that vectors which are there already cost next to nothing.

    Raises `ConfigError` when the folder holds no model.
    """
    folder = Path(folder).expanduser()
    if not (folder / "config.json").is_file():
        found = "no config.json" if folder.is_dir() else "no such folder"
        raise ConfigError(
            f"{folder}: no text encoder.\nFound: {found}.\n"
            "Fix: give the folder of a model of `transformers`; nothing is downloaded."
        )
    whole = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        # Notes beside a model do not change what it says.
        if file.is_file() and file.suffix in (".json", ".safetensors", ".txt", ".model"):
            whole.update(file.name.encode() + b"\0")
            with file.open("rb") as opened:
                whole.update(hashlib.file_digest(opened, "sha256").digest())
    return folder.resolve().name, whole.hexdigest()


def _model(transformers: Any, folder: Path, style: Style) -> Any:
    options = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    if style == "clip":
        return transformers.CLIPTextModelWithProjection.from_pretrained(folder, **options)
    model = transformers.AutoModel.from_pretrained(folder, **options)
    # Of T5 and its like, also where only the encoder was saved.
    return model.encoder if hasattr(model, "decoder") else model


def _positions(model: Any) -> int:
    config = getattr(model.config, "text_config", model.config)
    limit = int(getattr(config, "max_position_embeddings", 0) or _LONGEST)
    # RoBERTa counts positions from the padding token's number on.
    shift = 2 if getattr(config, "model_type", "") in ("roberta", "xlm-roberta", "mpnet") else 0
    return min(limit - shift, _LONGEST)
