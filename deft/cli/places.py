"""Where data and runs live when the command does not say."""

import os
from pathlib import Path

from deft.cli import profile
from deft.errors import ConfigError


def data_dir() -> Path:
    """$DEFT_DATA_DIR, or what the profile says, or `data` in the current folder."""
    return Path(os.environ.get("DEFT_DATA_DIR") or profile.place("data_dir") or "data")


def runs_dir() -> Path:
    """$DEFT_RUNS_DIR, or what the profile says, or `runs` in the current folder."""
    return Path(os.environ.get("DEFT_RUNS_DIR") or profile.place("runs_dir") or "runs")


def is_address(text: str) -> bool:
    """True for the address of a store, as `s3://bucket/store`; `hf://` ones are recordings."""
    return "://" in text and not text.startswith("hf://")


def find_data(text: str) -> Path:
    """An existing recording or store, absolute: as given, or inside `data_dir()`.

    A data set on the hub, as `hf://owner/name@revision`, is fetched into the hub's cache; nothing
    else causes a request. Raises `ConfigError` naming both places when it is in neither,
    `FormatError` when the hub does not give it.
    """
    if text.startswith("hf://"):
        from deft import formats

        return formats.hub.fetch(text)
    tried = [Path(text).expanduser(), data_dir() / text]
    for path in tried:
        if path.exists():
            return path.resolve()
    raise ConfigError(
        f"There is no data at '{text}'.\n"
        f"Found nothing at: {', '.join(str(path.absolute()) for path in tried)}.\n"
        "Fix: correct the path, set DEFT_DATA_DIR, or make the data with `deft collect`."
    )
