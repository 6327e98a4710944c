"""Every exception Deft raises on purpose, and the door to optional packages.

A message says what is wrong and where, what was found, and how to fix it, in that order.
"""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class DeftError(Exception):
    """Something a person can repair; the message says how."""


class SpecError(DeftError, ValueError):
    """Two sides of the contract do not agree, or a contract is malformed."""


class ShapeError(DeftError, ValueError):
    """An array has the wrong shape, dtype or values."""


class FormatError(DeftError, ValueError):
    """A recording cannot be read or written as asked."""


class StoreError(DeftError, ValueError):
    """A training store is unfinished, damaged or used wrongly."""


class ConfigError(DeftError, ValueError):
    """A setting is unknown, of the wrong type or out of range."""


class BundleError(DeftError, ValueError):
    """A bundle or checkpoint is incomplete, damaged or of another family."""


class TrainError(DeftError, RuntimeError):
    """Training cannot start or go on."""


class EnvError(DeftError, RuntimeError):
    """A simulator cannot be built or misbehaves."""


class WireError(DeftError, ConnectionError):
    """A network peer is missing, late, or speaks out of turn."""


class DeviceError(DeftError, RuntimeError):
    """A compute device that was asked for is not there."""


class MissingPackageError(DeftError, ImportError):
    """An optional package is not installed."""


EXTRAS = {
    "av": "video",
    "einops": "train",
    "fsspec": "remote",
    "h5py": "hdf5",
    "hydra": "train",
    "jaxtyping": "train",
    "msgpack": "client",
    "numcodecs": "zarr",
    "omegaconf": "train",
    "torch": "train",
    "websockets": "client",
    "yaml": "train",
}
"""Optional packages that whole rooms are built on, with the extra that brings each."""


def need(module: str, extra: str) -> ModuleType:
    """Import an optional package, or say which extra installs it.

    Args:
        module: dotted name of the module to import, as in `import av`.
        extra: the extra of `deft-robotics` that brings it.

    Returns:
        The imported module.

    Raises:
        MissingPackageError: the module is not installed, or fails to import.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing(module, extra, error) from error


def missing(module: str, extra: str, found: ImportError) -> MissingPackageError:
    """The error that says which extra brings a package that cannot be imported."""
    return MissingPackageError(
        f"'{module}' cannot be imported here.\n"
        f"Found: {found}.\n"
        f"Fix: pip install 'deft-robotics[{extra}]'."
    )


def nearest(name: str, options: Iterable[str]) -> str:
    """A sentence naming the closest valid names, for the end of an error message.

    Args:
        name: what was given.
        options: every valid name.

    Returns:
        `Did you mean 'x'?` when something is close, otherwise the list of valid names.
    """
    choices = list(options)
    close = difflib.get_close_matches(name, choices, n=3, cutoff=0.6)
    if close:
        return "Did you mean " + " or ".join(f"'{each}'" for each in close) + "?"
    if not choices:
        return "There is nothing to choose from."
    return "Choose from: " + ", ".join(choices) + "."
