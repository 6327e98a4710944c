"""A person's own defaults: where things are and how they run, never what is computed.

`$DEFT_PROFILE`, or `~/.config/deft/profile.yaml`:

    data_dir: /data/robots
    runs_dir: /data/runs
    device: cuda:0
    tracker: wandb
    tracker.entity: my-team
    data: {threads: 8}

The environment goes before the profile, and words of a command before both.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deft.errors import ConfigError, nearest, need

_PLACES = ("data_dir", "runs_dir")
_WORDS = ("device", "tracker", "data.threads", "data.prefetch", "data.cache", "data.cache_gb",
          "data.remote_cache_gb", "tracker.project", "tracker.entity", "tracker.name",
          "tracker.group", "tracker.tags", "tracker.notes", "tracker.mode")  # fmt: skip


def path() -> Path:
    """The file, whether it is there or not."""
    given = os.environ.get("DEFT_PROFILE")
    if given:
        return Path(given).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "deft" / "profile.yaml"


def place(name: str) -> str | None:
    """A folder that the profile names. Raises `ConfigError` as `load` does."""
    found = load().get(name)
    return None if found is None else str(Path(str(found)).expanduser())


def words() -> list[str]:
    """The profile's settings as words for `deft train`. Raises `ConfigError` as `load` does."""
    from deft import launch

    return [f"{k}={launch.word(v)}" for k, v in load().items() if k not in _PLACES]


def load() -> dict[str, Any]:
    """The profile with dotted keys; empty when there is none.

    Raises:
        ConfigError: `$DEFT_PROFILE` leads nowhere, or the file holds what no profile may.
    """
    where = path()
    if not where.is_file():
        if os.environ.get("DEFT_PROFILE"):
            raise ConfigError(
                f"$DEFT_PROFILE is '{where}', and there is no file.\nFix: unset DEFT_PROFILE"
            )
        return {}
    yaml = need("yaml", "train")
    try:
        tree = yaml.safe_load(where.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{where}: cannot be read: {error}.\nFix: write plain YAML.") from error
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{where}: holds no settings.\nFix: write them as `key: value`.")
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        inner = value if isinstance(value, Mapping) else {"": value}
        flat |= {f"{key}.{k}".rstrip("."): v for k, v in inner.items()}
    for key in flat:
        if key not in (*_PLACES, *_WORDS):
            raise ConfigError(
                f"{where}: '{key}' cannot be set by a profile. "
                f"{nearest(key, (*_PLACES, *_WORDS))}\n"
                "Fix: leave it out; what decides a result belongs on the command line."
            )
    return flat
