"""Observations with the answers that the weights must give, wherever they are opened."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from deft.bundle.files import fsync
from deft.bundle.policy_actor import predict
from deft.bundle.sentences import Sentences
from deft.errors import BundleError
from deft.policies import Policy
from deft.spec import Observation, Spec, check_observation, expect

SEED = 0
TOLERANCE = 1e-4
"""Largest deviation that rounding may cause in float32, relative to the action's scale."""

_UNREADABLE = (OSError, SafetensorError, ValueError, TypeError, KeyError, IndexError)


@dataclass(frozen=True)
class Golden:
    """Observations, their draw keys, and the chunks float32 `N Tp A` that belong to them."""

    observations: tuple[Observation, ...]
    keys: tuple[int, ...]
    chunks: np.ndarray

    @staticmethod
    def of(
        policy: Policy,
        pairs: Sequence[tuple[Observation, int]],
        sentences: Sentences | None = None,
    ) -> "Golden":
        """Ask a policy (on the CPU, eval mode) for its answers, one observation at a time.

        Raises `BundleError` without a pair or for NaN in an answer, and `ShapeError` or
        `SpecError` for an observation that does not fit.
        """
        if not pairs:
            raise BundleError(
                "A bundle needs golden pairs to prove itself with, none is given.\n"
                "Fix: pass at least one observation with its draw key."
            )
        for index, (observation, _) in enumerate(pairs):
            check_observation(observation, policy.spec, f"Golden observation {index}")
        chunks = [
            predict(policy, [observation], [key], SEED, sentences)[0] for observation, key in pairs
        ]
        if not np.isfinite(chunks).all():
            raise BundleError(
                "The policy answers NaN or infinity to a golden observation.\n"
                "Fix: export an earlier checkpoint, or train again with a smaller learning rate."
            )
        observations, keys = zip(*pairs, strict=True)
        return Golden(observations, keys, np.stack(chunks))

    def write(self, path: Path, spec: Spec) -> None:
        """One safetensors file: `obs.<name>` N To ..., `keys` N, `chunks` N Tp A; texts as JSON."""
        arrays = {"keys": np.asarray(self.keys, np.int64), "chunks": self.chunks}
        texts: dict[str, list[str]] = {}
        for feature in spec.features:
            if feature.role == "action":
                continue
            values = [observation[feature.name] for observation in self.observations]
            if feature.dtype == "str":
                texts[feature.name] = values
            else:
                arrays[f"obs.{feature.name}"] = np.stack(values)
        save_file(arrays, path, {"texts": json.dumps(texts, sort_keys=True)})
        fsync(path)

    @staticmethod
    def read(path: Path, spec: Spec) -> "Golden":
        """The inverse of `write`. Raises `BundleError` for anything else."""
        try:
            with safe_open(path, "numpy") as file:
                texts = json.loads((file.metadata() or {}).get("texts", "{}"))
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            keys = expect(arrays.get("keys"), (None,), "int64", "'keys'")
            horizons, count = spec.horizons, len(keys)
            assert horizons is not None  # `read_contract` refuses a contract without
            shape = (count, horizons.pred_horizon, spec.action().size)
            chunks = expect(arrays.get("chunks"), shape, "float32", "'chunks'", finite=True)
            inputs = [feature for feature in spec.features if feature.role != "action"]
            observations = tuple(
                {
                    feature.name: texts[feature.name][index]
                    if feature.dtype == "str"
                    else arrays[f"obs.{feature.name}"][index]
                    for feature in inputs
                }
                for index in range(count)
            )
            for index, observation in enumerate(observations):
                check_observation(observation, spec, f"Golden observation {index}")
        except _UNREADABLE as error:
            raise _bad(path, f"{type(error).__name__}: {error}") from error
        if not count:
            raise _bad(path, "no pair")
        return Golden(observations, tuple(map(int, keys)), chunks)

    def check(self, policy: Policy, where: str, sentences: Sentences | None = None) -> float:
        """Ask a policy again and compare.

        Args:
            policy: on any device, in eval mode.
            where: the bundle's path, for the message.
            sentences: vectors of instructions, for a policy that follows text.

        Returns:
            The largest deviation, relative to the action's scale: per dimension the largest
            golden magnitude, but at least a hundredth of the largest of all dimensions.

        Raises:
            BundleError: an answer deviates by more than `TOLERANCE`; says which and where.
        """
        magnitude = np.abs(self.chunks).max((0, 1))  # A
        scale = np.maximum(np.maximum(magnitude, 1e-2 * magnitude.max()), 1e-8)
        largest = 0.0
        for index, (observation, key) in enumerate(zip(self.observations, self.keys, strict=True)):
            found = predict(policy, [observation], [key], SEED, sentences)[0]
            off = np.abs(found - self.chunks[index]) / scale  # Tp A
            worst = float(np.nan_to_num(off, nan=np.inf).max())
            if not worst <= TOLERANCE:
                row, column = np.unravel_index(
                    int(np.nan_to_num(off, nan=np.inf).argmax()), off.shape
                )
                action = policy.spec.action()
                element = action.names[column] if action.names else f"dimension {column}"
                raise BundleError(
                    f"{where}: golden pair {index} of {len(self.keys)} (draw key {key}) is not "
                    "reproduced.\n"
                    f"Found: row {row}, {element}: {found[row, column]:.6g}, wanted "
                    f"{self.chunks[index, row, column]:.6g}; {worst:.2g} of the scale, allowed "
                    f"{TOLERANCE:g}.\n"
                    "Fix: use the version of deft that bundle.json names, or export again."
                )
            largest = max(largest, worst)
        return largest


def _bad(path: Path, found: str) -> BundleError:
    return BundleError(
        f"{path}: no golden pairs that fit the contract.\nFound: {found}.\n"
        "Fix: copy the whole folder again, or write it anew with `deft export RUN BUNDLE`."
    )
