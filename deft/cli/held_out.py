"""The recorded episodes that a policy is compared with: those its run held out, and no others."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft.errors import ConfigError

if TYPE_CHECKING:
    from deft import store


def recorded(text: str, run: Path | None) -> "store.Store":
    """The store at a path, split as the run split it when that is what it was trained on.

    A recording is found as the run's own conversion of it, or converted with the run's settings.
    Data that the run has not seen keeps the split that it was stored with.

    Args:
        text: a store or, for a run, any recording.
        run: folder of the run that the policy is from; None for a bundle or a server.

    Raises:
        ConfigError: there is no data there, or the run's settings cannot be read.
        StoreError: it cannot be opened, or for a policy without run, is no store.
    """
    from deft import store, train
    from deft.cli import ingest, places
    from deft.spec import from_plain

    path = places.find_data(text)
    tree = None if run is None else _settings(run / "config.yaml")
    if tree is None:
        return store.open(path)
    data = from_plain(train.DataConfig, tree["data"])
    val = from_plain(train.ValConfig, tree["val"])
    if not store.is_store(path):
        path = ingest.as_store(replace(data, path=str(path), weights=None), path)
    opened = store.open(path)
    seen = [Path(each).resolve() for each in data.paths if not places.is_address(each)]
    if path.resolve() not in seen:
        return opened
    if len(data.paths) > 1:
        # A share of several stores together says nothing about each of them.
        if val.split != "stored":
            print(
                f"note: the run drew its held-out episodes (val.split={val.split}) from "
                f"{len(data.paths)} stores together; {path.name} is split as it is stored",
                file=sys.stderr,
            )
        return opened
    return store.view(
        opened,
        include=data.include,
        exclude=data.exclude,
        episodes=data.episodes,
        split=val.split,
        split_seed=val.split_seed,
    )


def _settings(file: Path) -> dict[str, Any] | None:
    """The run's settings; None when the folder holds none, as of a checkpoint moved elsewhere."""
    import yaml

    if not file.is_file():
        return None
    try:
        tree = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{file}: these settings cannot be read: {error}.\n"
            "Fix: restore the file; the run's `logs` folder holds a copy of each launch."
        ) from error
    if not isinstance(tree, dict) or not {"data", "val"} <= tree.keys():
        raise ConfigError(
            f"{file}: this is not the config.yaml of a run.\n"
            "Fix: restore the file; the run's `logs` folder holds a copy of each launch."
        )
    return tree
