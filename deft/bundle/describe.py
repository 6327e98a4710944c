"""What is in a bundle, for people and programs. No torch."""

from pathlib import Path
from typing import Any

from deft.bundle.files import (
    GOLDEN,
    NEEDED,
    OPTIONAL,
    SPEC,
    SUMS,
    WEIGHTS,
    digest_of,
    read_info,
    read_json,
    verify,
)
from deft.bundle.sentences import about_sentences
from deft.errors import BundleError, SpecError
from deft.spec import Spec


def describe(path: str | Path, *, check: bool = False) -> dict[str, Any]:
    """Everything about a bundle but its weights, as plain data.

    Args:
        path: folder of the bundle or checkpoint; see `resolve`.
        check: also compare every file with its digest, which reads them whole.

    Returns:
        `path`, `digest`, `family`, `config`, `versions`, `provenance`, `golden`, `spec`,
        `statistics_digest`, `sentences` (None, or how many and of which encoder), `weights`
        (tensors, numbers, bytes), `other_files`.

    Raises:
        BundleError: a file is missing, damaged, or of a newer format.
    """
    folder = Path(path)
    info = read_info(folder)
    contract, statistics = read_contract(folder)
    digest = digest_of(folder)
    if check:
        verify(folder)
    own = {*NEEDED, *OPTIONAL, SUMS}
    return {
        "path": str(folder),
        "digest": digest,
        **{key: info.get(key) for key in ("family", "config", "versions", "provenance", "golden")},
        "spec": contract.to_json(),
        "statistics_digest": statistics,
        "sentences": about_sentences(folder),
        "weights": _weights(folder / WEIGHTS),
        "golden_bytes": (folder / GOLDEN).stat().st_size if (folder / GOLDEN).is_file() else 0,
        "other_files": sorted(each.name for each in folder.iterdir() if each.name not in own),
    }


def read_contract(folder: Path) -> tuple[Spec, str]:
    """The policy's spec and the digest of its statistics, from `spec.json`.

    Raises `BundleError` when the file does not hold them or its digest is another.
    """
    data = read_json(folder / SPEC)
    try:
        contract = Spec.from_json(data["spec"])
        wanted, statistics = str(data["digest"]), str(data["statistics_digest"])
    except (KeyError, SpecError) as error:
        raise BundleError(
            f"{folder / SPEC}: holds no contract.\nFound: {type(error).__name__}: {error}.\n"
            "Fix: write the bundle anew with `deft export RUN BUNDLE`."
        ) from error
    if contract.digest() != wanted or contract.horizons is None:
        raise BundleError(
            f"{folder / SPEC}: the contract is not the one that was written.\n"
            f"Found: digest {contract.digest()[:12]}…, wanted {wanted[:12]}….\n"
            "Fix: write the bundle anew with `deft export RUN BUNDLE`."
        )
    return contract, statistics


def _weights(path: Path) -> dict[str, int]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BundleError(
            f"{path}: no readable weights.\nFound: {error}.\n"
            "Fix: copy the whole folder again, or write it anew with `deft export RUN BUNDLE`."
        ) from error
    numbers = 0
    for shape in shapes:
        count = 1
        for size in shape:
            count *= size
        numbers += count
    return {"tensors": len(shapes), "numbers": numbers, "bytes": path.stat().st_size}
