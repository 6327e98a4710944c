"""Writing a bundle: whole, proven, or not at all."""

import hashlib
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

import deft
from deft import nn, policies
from deft.bundle import files
from deft.bundle.golden import Golden
from deft.bundle.sentences import Sentences
from deft.errors import BundleError
from deft.policies import Policy
from deft.spec import Observation, Spec, to_plain


def write(
    folder: str | Path,
    policy: Policy,
    *,
    provenance: Mapping[str, Any],
    golden: Sequence[tuple[Observation, int]],
    state_dict: Mapping[str, torch.Tensor] | None = None,
    golden_source: str = "training data",
    sentences: Sentences | None = None,
) -> None:
    """Write a bundle's files into an existing folder, `SHA256SUMS` last.

    The golden chunks come from a fresh copy of the policy that is built from what is saved, on the
    CPU in float32, just as `load` will build it; `policy` itself is left alone.

    Args:
        folder: holds none of the bundle's files yet; others may be there.
        policy: gives family, config and contract, and the weights when `state_dict` is None.
        provenance: where it comes from, as plain data without clock times or secrets.
        golden: observations (`To ...` as the contract has them), each with its draw key.
        state_dict: weights to save instead, as an average over training is.
        golden_source: where the golden observations are from, for people.
        sentences: vectors of the sentences that the policy was trained with, if it follows text.

    Raises:
        BundleError: the folder is missing or holds a bundle, the weights do not fit, a golden
            answer is NaN, sentences are missing, or the disk refuses.
        ShapeError, SpecError: a golden observation does not fit the contract.
    """
    folder = Path(folder)
    there = [
        name for name in (*files.NEEDED, *files.OPTIONAL, files.SUMS) if (folder / name).exists()
    ]
    if there or not folder.is_dir():
        raise BundleError(
            f"{folder}: a bundle is written into an existing folder without one.\n"
            f"Found: {', '.join(there) or 'no such folder'}.\n"
            "Fix: use `bundle.save`, which makes the folder, or another path."
        )
    if sentences is None and follows_text(policy.config, policy.spec):
        raise BundleError(
            f"{folder}: a policy that follows text needs sentences with their vectors.\n"
            "Fix: pass `sentences`, those of its training data."
        )
    given = policy.state_dict() if state_dict is None else state_dict
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in given.items()}
    copy = rebuild(policy.config, policy.spec, weights, str(folder))
    proof = Golden.of(copy, golden, sentences)
    info = {
        "format": files.FORMAT,
        "family": policies.family(policy.config),
        "config": to_plain(policy.config),
        "versions": {
            "deft": deft.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "provenance": dict(provenance),
        "golden": {"pairs": len(golden), "observations": golden_source},
    }
    contract = {
        "spec": policy.spec.to_json(),
        "digest": policy.spec.digest(),
        "statistics_digest": statistics_digest(copy),
    }
    try:
        files.write_json(folder / files.INFO, info)
        files.write_json(folder / files.SPEC, contract)
        save_file(weights, folder / files.WEIGHTS, {"format": "pt"})
        files.fsync(folder / files.WEIGHTS)
        proof.write(folder / files.GOLDEN, policy.spec)
        if sentences is not None:
            sentences.write(folder)
        files.write_sums(folder)
    except OSError as error:
        raise BundleError(
            f"{folder}: the bundle could not be written.\nFound: {error}.\n"
            "Fix: make room or choose another folder; this one has no SHA256SUMS and will not load."
        ) from error


def save(path: str | Path, policy: Policy, *, overwrite: bool = False, **about: Any) -> Path:
    """Write a bundle beside its place, then move it there: a killed export leaves nothing behind
    that looks whole.

    Args:
        path: folder to make.
        policy: see `write`.
        overwrite: replace a bundle that is there.
        about: the other arguments of `write`.

    Raises:
        BundleError: something is there already, or as `write`.
    """
    path = Path(path)
    if path.exists() and not (overwrite and files.is_bundle(path)):
        is_one = files.is_bundle(path)
        raise BundleError(
            f"{path}: there is {'a bundle' if is_one else 'something else'} already.\n"
            f"Fix: choose another path{', or add --overwrite' if is_one else ''}."
        )
    beside = path.with_name(f".writing-{path.name}-{os.getpid()}")
    try:
        beside.mkdir(parents=True)
        write(beside, policy, **about)
        if path.exists():
            old = path.with_name(f".replaced-{path.name}-{os.getpid()}")
            path.rename(old)
            beside.rename(path)
            shutil.rmtree(old)
        else:
            beside.rename(path)
        files.fsync(path.parent)
    except OSError as error:
        raise BundleError(
            f"{path}: the bundle could not be written.\nFound: {error}.\nFix: choose another path."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return path


def follows_text(config: Any, contract: Spec) -> bool:
    """Whether a policy is told in words what to do, rather than by a vector."""
    has_text = any(feature.dtype == "str" for feature in contract.features)
    return has_text and "language" in policies.takes(config)


def rebuild(config: Any, spec: Spec, weights: Mapping[str, torch.Tensor], where: str) -> Policy:
    """A policy on the CPU with exactly these weights, in eval mode.

    Raises `BundleError` that lists tensors which are missing, unknown or of another shape.
    """
    # Fresh weights come from the global generator; what a training run draws next must not change.
    with torch.random.fork_rng(devices=[]):
        policy = policies.build(config, spec, None)
    wanted = policy.state_dict()
    wrong = [f"{name} is missing" for name in wanted if name not in weights]
    wrong += [f"{name} is unknown" for name in weights if name not in wanted]
    wrong += [
        f"{name} is {_shape(weights[name])}, wanted {_shape(tensor)}"
        for name, tensor in wanted.items()
        if name in weights and _shape(weights[name]) != _shape(tensor)
    ]
    if wrong:
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise BundleError(
            f"{where}: the weights do not fit the config.\nFound: {'; '.join(wrong[:8])}{more}.\n"
            "Fix: use the version of deft that bundle.json names, or export again."
        )
    policy.load_state_dict(dict(weights), strict=True)
    return policy.eval()


def statistics_digest(policy: Policy) -> str:
    """sha256 over the values of every normaliser in a policy, by name, as 64 hex digits."""
    digest = hashlib.sha256()
    for prefix, module in policy.named_modules():
        if isinstance(module, nn.Normalizer):
            for name, tensor in module.state_dict(prefix=f"{prefix}.").items():
                digest.update(name.encode() + b"\0")
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _shape(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
