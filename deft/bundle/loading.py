"""Opening a bundle: verified, rebuilt and proven before anyone may use it."""

import contextlib
import os
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from deft import nn, policies
from deft.bundle import files
from deft.bundle.describe import read_contract
from deft.bundle.golden import Golden
from deft.bundle.policy_actor import PolicyActor
from deft.bundle.sentences import Sentences
from deft.bundle.writing import follows_text, rebuild, statistics_digest
from deft.errors import BundleError, ConfigError, SpecError, nearest
from deft.policies import Policy
from deft.spec import Spec, from_plain


@dataclass(frozen=True)
class Bundle:
    """An opened bundle."""

    path: Path
    policy: Policy
    """In eval mode, on the device that was asked for."""
    spec: Spec
    """The contract, horizons included."""
    info: dict[str, Any]
    """`bundle.json`: family, config, versions, provenance."""
    digest: str
    """Names the bundle with everything in it."""
    device: torch.device
    golden: Golden
    deviation: float | None
    """Largest deviation from the golden chunks, relative; None when they were not run."""
    sentences: Sentences | None = None
    """Vectors of the sentences it knows, for a policy that follows text."""


def load(
    path: str | Path,
    device: str = "cpu",
    *,
    verify: bool = True,
    golden: bool = True,
    language_encoder: str | Path = "",
) -> Bundle:
    """Open a bundle or checkpoint.

    Digests are verified, the policy is built from the families this program knows, weights are
    loaded strictly, and the golden pairs run, which also warms it up. Nothing is unpickled.

    Args:
        path: its folder; see `resolve`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        verify: compare the files with their digests.
        golden: run the golden pairs.
        language_encoder: folder of the text encoder that the policy was trained with, for
            sentences that it was not trained with; empty takes $DEFT_LANGUAGE_ENCODER for a bundle
            that names an encoder, and without that, new sentences are refused.

    Raises:
        BundleError: anything is missing, damaged, unknown, newer than this program, or a golden
            pair is not reproduced; or the text encoder is another one.
        ConfigError: there is no text encoder in the folder.
        DeviceError: the device is not there.
    """
    folder = Path(path)
    place = nn.pick_device(device)
    info = files.read_info(folder)
    digest = files.digest_of(folder)
    if verify:
        files.verify(folder)
    contract, statistics = read_contract(folder)
    config = _config(info, folder)
    try:
        weights = load_file(folder / files.WEIGHTS)
    except (OSError, SafetensorError, ValueError) as error:
        raise BundleError(
            f"{folder / files.WEIGHTS}: no readable weights.\nFound: {error}.\n"
            "Fix: copy the whole folder again, or write it anew with `deft export RUN BUNDLE`."
        ) from error
    try:
        policy = rebuild(config, contract, weights, str(folder))
    except (ConfigError, SpecError) as error:
        raise BundleError(
            f"{folder}: config and contract do not fit together.\nFound: {error}\n"
            "Fix: write the bundle anew with `deft export RUN BUNDLE`."
        ) from error
    if statistics_digest(policy) != statistics:
        raise BundleError(
            f"{folder}: the statistics in the weights are not those of {files.SPEC}.\n"
            "Fix: write the bundle anew with `deft export RUN BUNDLE`."
        )
    proof = Golden.read(folder / files.GOLDEN, contract)
    sentences = _sentences(folder, config, contract, language_encoder, place)
    policy.to(place)
    deviation = None
    if golden:
        with _exact(place):
            deviation = proof.check(policy, str(folder), sentences)
    return Bundle(folder, policy, contract, info, digest, place, proof, deviation, sentences)


def actor(opened: Bundle, seed: int = 0) -> PolicyActor:
    """An actor that asks an opened bundle; `seed` is that of its draws."""
    return PolicyActor(opened.policy, seed, opened.sentences)


def _sentences(
    folder: Path, config: Any, contract: Spec, encoder: str | Path, device: torch.device
) -> Sentences | None:
    """What the bundle knows of language, with the encoder for the rest of it."""
    found = Sentences.read(folder)
    in_words = follows_text(config, contract)
    if in_words != (found is not None) or (found and found.size != config.language_size):
        raise BundleError(
            f"{folder}: the policy {'follows' if in_words else 'does not follow'} text, and "
            f"{'there are' if found else 'there are no'} sentences with vectors of its size.\n"
            "Fix: copy the whole folder again, or write it anew with `deft export RUN BUNDLE`."
        )
    asked = str(encoder) or (os.environ.get("DEFT_LANGUAGE_ENCODER", "") if found else "")
    if not asked or (not encoder and found and not found.encoder):
        return found
    if found is None or not found.encoder:
        why = "their vectors came with the data" if found else "it takes none"
        raise BundleError(
            f"{folder}: a text encoder cannot give this policy new sentences; {why}.\n"
            "Fix: leave language_encoder out, or train with data.language_encoder."
        )
    name, digest = nn.identify(asked)
    if digest != found.encoder_digest:
        raise BundleError(
            f"{folder}: the policy was trained with another text encoder.\n"
            f"Found: '{name}' {digest[:12]}…, wanted '{found.encoder}' "
            f"{found.encoder_digest[:12]}….\n"
            "Fix: give the folder that data.language_encoder named."
        )
    return replace(found, encode=nn.TextEncoder(asked, device).encode)


def _config(info: dict[str, Any], folder: Path) -> Any:
    family = info["family"]
    if family not in policies.POLICIES:
        raise BundleError(
            f"{folder / files.INFO}: there is no policy family '{family[:80]}' here. "
            f"{nearest(family[:80], policies.POLICIES)}\n"
            "Fix: pip install --upgrade deft-robotics; the bundle may be newer than this program."
        )
    try:
        return from_plain(policies.POLICIES[family], info["config"])
    except (ConfigError, SpecError) as error:
        raise BundleError(
            f"{folder / files.INFO}: the config of '{family}' cannot be read.\nFound: {error}\n"
            "Fix: use the version of deft that bundle.json names, or export again."
        ) from error


@contextlib.contextmanager
def _exact(device: torch.device) -> Generator[None]:
    """Full float32 on a GPU: the shortened products that it takes by default deviate by 1e-3."""
    if device.type != "cuda":
        yield
        return
    # torch declares the first one at run time only.
    places: tuple[Any, ...] = (
        torch.backends.cudnn.conv,  # pyright: ignore[reportAttributeAccessIssue]
        torch.backends.cuda.matmul,
    )
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "ieee"
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value
