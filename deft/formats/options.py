"""Settings of one format, given by name and checked against its options dataclass."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deft.errors import ConfigError, FormatError
from deft.spec import from_plain

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """For formats without settings."""


def build_options(cls: type[Any], options: Mapping[str, Any] | None, format: str) -> Any:  # noqa: A002
    """An options dataclass of a format.

    Args:
        cls: frozen, with a default for every field.
        options: values by field name; None for all defaults. Text is read as the field's type, as
            it comes from a command line: lists are separated by commas, a field of a group is
            `group.field`, and pairs are `old=new`.
        format: for messages.

    Raises:
        FormatError: a name is unknown, or a value has the wrong type or is refused by `cls`.
    """
    if options and cls is NoOptions:
        raise FormatError(
            f"The format '{format}' has no options.\nFound: {', '.join(map(str, options))}.\n"
            "Fix: leave them out."
        )
    try:
        return from_plain(cls, _typed(cls, _grouped(options or {})), "options")
    except ConfigError as error:
        raise FormatError(f"Format '{format}': {error}") from error


def option_names(cls: type[Any]) -> tuple[str, ...]:
    """Names of the settings of an options dataclass."""
    return tuple(field.name for field in dataclasses.fields(cls))


def _grouped(options: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`."""
    tree: dict[str, Any] = {}
    for key, value in options.items():
        *groups, last = str(key).split(".")
        here = tree
        for group in groups:
            inner = here.setdefault(group, {})
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"The option '{key}' goes into '{group}', which has the value {inner!r}.\n"
                    "Fix: give one of the two."
                )
            here = inner
        here[last] = value
    return tree


def _typed(hint: Any, value: Any) -> Any:
    """The value with text read as what `hint` asks for; what cannot be read stays as it is."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, str):
            value = _json(value, dict)
        if not isinstance(value, Mapping):
            return value
        hints = typing.get_type_hints(hint)
        return {key: _typed(hints.get(key), each) for key, each in value.items()}
    if not isinstance(value, str):
        return value
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value == "null" and type(None) in inner:
            return None
        found = [_typed(each, value) for each in inner if each is not type(None)]
        return value if str in inner else next((x for x in found if x is not value), value)
    if origin is typing.Literal:
        return next((each for each in inner if str(each) == value), value)
    if origin is tuple:
        parts = _json(value, list)
        if isinstance(parts, str):
            parts = [part.strip() for part in value.split(",") if part.strip()]
        many = len(inner) == 2 and inner[1] is ...
        kinds = [inner[0]] * len(parts) if many else [*inner, *[str] * len(parts)]
        return [_typed(kind, part) for kind, part in zip(kinds, parts, strict=False)]
    if origin in (dict, Mapping):
        pairs = _json(value, dict)
        if isinstance(pairs, str):
            words = [part.partition("=") for part in value.split(",") if part.strip()]
            pairs = {key.strip(): each.strip() for key, _, each in words}
        kind = inner[1] if len(inner) == 2 else str
        return {key: _typed(kind, each) for key, each in pairs.items()}
    return _scalar(hint, value)


def _scalar(hint: Any, text: str) -> Any:
    if hint is bool:
        return _TRUTH.get(text.lower(), text)
    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            return text
    return text


def _json(text: str, kind: type[Any]) -> Any:
    """The text as JSON when it is of that kind; the text itself when not."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, kind) else text
