"""Hydra-style `key=value` words to checked, frozen config dataclasses.

Hydra parses and composes here and nowhere else; what leaves this module is plain data or a
dataclass that `spec.from_plain` has checked.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from deft.errors import ConfigError, DeftError, nearest, need
from deft.spec import from_plain, to_plain

T = TypeVar("T")
MISSING = "???"
"""Hydra's mark for a value that must be given."""


def build(cls: type[T], overrides: Sequence[str], command: str) -> T:
    """A config dataclass with its defaults changed by `key=value` words.

    Args:
        cls: a frozen config dataclass; fields may be dataclasses in turn.
        overrides: words in Hydra's grammar, as in `episodes=50`, `observations=[state,image]`.
        command: name of the command, for messages.

    Raises:
        ConfigError: a word cannot be parsed, a key is unknown, a value has the wrong type, or a
            required one is not given.
    """
    return from_plain(cls, compose(defaults(cls), overrides, command))


def defaults(cls: type[Any]) -> dict[str, Any]:
    """The plain tree of a config dataclass's defaults; `???` where a value must be given."""
    tree: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            tree[field.name] = to_plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            tree[field.name] = to_plain(field.default_factory())
        else:
            tree[field.name] = MISSING
    return tree


def compose(tree: Mapping[str, Any], overrides: Sequence[str], command: str) -> dict[str, Any]:
    """Apply `key=value` words to a plain tree and resolve its interpolations.

    Raises `ConfigError` as `build` does. Groups without fixed fields (empty in `tree`, as
    `policy.normalize`) take new keys.
    """
    need("hydra", "train")
    from hydra import compose as hydra_compose
    from hydra import initialize
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    words = [_opened(word, tree, command) for word in overrides]
    name = f"deft_{command}"
    ConfigStore.instance().store(name=name, node=dict(tree))
    GlobalHydra.instance().clear()
    try:
        with initialize(version_base=None, config_path=None):
            config = hydra_compose(config_name=name, overrides=words)
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(
            f"The settings cannot be combined.\nFound: {error}.\n"
            "Fix: correct the `key=value` words."
        ) from error
    assert isinstance(plain, dict)
    settings = {str(key): value for key, value in plain.items()}
    unset = [key for key, value in flatten(settings).items() if value == MISSING]
    if unset:
        raise ConfigError(
            f"{', '.join(unset)} must be given.\n"
            f"Fix: add {' '.join(f'{key}=…' for key in unset)} to the command."
        )
    return settings


def expand(overrides: Sequence[str], command: str) -> list[list[str]]:
    """Every combination of comma-separated values, as lists of plain words (`-m` sweeps)."""
    need("hydra", "train")
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    parsed = [_parse(word, command) for word in overrides]
    return BasicSweeper.split_arguments(parsed, max_batch_size=None)[0]


def choices(overrides: Sequence[str], group: str, command: str) -> list[str]:
    """Values that the words give to one key, in order; a sweep gives several."""
    found: list[str] = []
    for word in overrides:
        override = _parse(word, command)
        if override.key_or_group == group and not override.is_delete():
            if override.is_sweep_override():
                found += [str(value) for value in override.sweep_string_iterator()]
            else:
                found.append(str(override.value()))
    return found


def listed(names: Sequence[Any], key: str) -> list[Any]:
    """The names, with those of a text file, one a line, in the place of `@FILE`.

    Empty lines and lines that begin with # say nothing.

    Raises `ConfigError` when a file cannot be read or names nothing.
    """
    found: list[Any] = []
    for name in names:
        # What is no text is refused with everything else of a wrong type.
        if not (isinstance(name, str) and name.startswith("@")):
            found.append(name)
            continue
        file = Path(name[1:]).expanduser()
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{key}: the list '{file}' cannot be read.\nFound: {error}.\n"
                "Fix: give a text file with one name or pattern a line."
            ) from error
        read = [line for line in lines if line and not line.startswith("#")]
        if not read:
            raise ConfigError(f"{key}: the list '{file}' names nothing.\nFix: name a task in it.")
        found += read
    return found


def key_of(word: str) -> str:
    """The key of one `key=value` word, without Hydra's `+` and `~` marks."""
    return word.split("=", 1)[0].lstrip("+~")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested groups as one flat dict with dotted keys; empty groups stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _parse(word: str, command: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        shown = re.sub(r"\s+", " ", str(error))[:200]
        raise ConfigError(
            f"'{word}' is not a setting.\nFound: {shown}.\n"
            "Fix: write it as `key=value`; quote values that hold spaces, commas or brackets, "
            "as in \"key='a, b'\"."
        ) from error


def _opened(word: str, tree: Mapping[str, Any], command: str) -> str:
    """The word, checked against the tree; marked as new (`+`) inside an open group."""
    override = _parse(word, command)
    if override.is_sweep_override():
        raise ConfigError(
            f"'{word}' gives several values.\n"
            "Fix: give one, use a list as in [a,b], or add -m to `deft train` to run them all."
        )
    key = override.key_or_group
    here: Any = tree
    path: list[str] = []
    for part in key.split("."):
        if isinstance(here, Mapping) and not here and path:
            return word if word.startswith("+") else f"+{word}"
        if not isinstance(here, Mapping) or part not in here:
            known = list(here) if isinstance(here, Mapping) else []
            raise _unknown(command, ".".join([*path, part]), path, known, tree, key)
        here = here[part]
        path.append(part)
    return word.removeprefix("++").removeprefix("+")


def _unknown(
    command: str,
    key: str,
    path: list[str],
    known: list[str],
    tree: Mapping[str, Any],
    whole: str,
) -> DeftError:
    """About the part `key` of the key `whole` that a word gives."""
    from deft.cli import old_words

    leaf = key.rsplit(".", 1)[-1]
    old = old_words.hint(whole) if command == "train" else None
    elsewhere = [each for each in flatten(tree) if each.rsplit(".", 1)[-1] == leaf]
    if old is not None:
        hint = old
    elif elsewhere:
        hint = f"Did you mean '{elsewhere[0]}'?"
    else:
        prefix = ".".join(path) + "." if path else ""
        hint = nearest(key, [f"{prefix}{each}" for each in known])
    return ConfigError(
        f"There is no setting '{key}'. {hint}\n"
        f"Fix: correct the name; `deft {command} --help` lists what can be set."
    )
