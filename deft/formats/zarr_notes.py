"""What Deft writes beside zarr arrays for itself: the contract, and what arrays cannot hold.

It lies in the attributes of `meta`, which no other reader looks at. A group whose arrays were
changed by others afterwards is read as far as both still agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deft.errors import FormatError, SpecError
from deft.formats.zarr_array import attributes
from deft.formats.zarr_storage import Storage
from deft.spec import EpisodeInfo, Feature, Problem, Spec

_KEY = "deft"
_TEXTS = ("id", "task", "split", "source")


@dataclass(frozen=True)
class Column:
    """Where a feature lies, and how."""

    feature: Feature
    channels_first: bool = False


@dataclass(frozen=True, kw_only=True)
class Notes:
    """Notes of one group; those that are not there leave everything empty."""

    spec: Spec | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)
    """By the name of the array in `data`."""
    valid: str = ""
    """Name of the array in `data` that marks steps that may be learned from."""
    episodes: Sequence[Mapping[str, Any]] = ()
    problems: tuple[Problem, ...] = ()

    def contract(self, found: Sequence[Feature], fps: float) -> Spec:
        """The spec of a recording with these features, with all that the notes add.

        Args:
            found: what the arrays are.
            fps: where the notes do not say it.
        """
        if self.spec is None:
            return Spec(features=tuple(found), fps=fps)
        by_name = {feature.name: feature for feature in found}
        noted = (by_name.pop(f.name, f) for f in self.spec.features if _is_there(f, by_name))
        features = (*noted, *by_name.values())
        return replace(self.spec, features=features, fps=self.spec.fps or fps)

    def info(self, number: int, length: int, task: str = "") -> EpisodeInfo:
        """What is known of an episode; `task` is what the format itself says."""
        said = self.episodes[number] if number < len(self.episodes) else {}
        return EpisodeInfo(
            id=said.get("id") or f"episode_{number:06d}",
            length=length,
            task=task or said.get("task", ""),
            split=said.get("split", ""),
        )

    def source(self, number: int) -> str:
        """Where an episode came from; empty when that is not known."""
        return self.episodes[number].get("source", "") if number < len(self.episodes) else ""

    def has_valid(self, number: int) -> bool:
        """Whether the episode marks steps."""
        return number < len(self.episodes) and bool(self.episodes[number].get("valid"))


def to_json(
    spec: Spec, columns: Mapping[str, Column], valid: str, episodes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Attributes for `meta`, from the same things that `read` gives."""
    arrays = {
        key: {"feature": column.feature.name, "channels_first": column.channels_first}
        for key, column in columns.items()
    }
    tree = {"spec": spec.to_json(), "arrays": arrays, "valid": valid, "episodes": list(episodes)}
    return {_KEY: tree}


def read(storage: Storage, count: int) -> Notes:
    """The notes of a group with so many episodes.

    What is damaged, or no longer fits the episodes, is a finding and is not used.
    """
    try:
        tree = attributes(storage, "meta").get(_KEY)
        if tree is None:
            return Notes()
        if not isinstance(tree, Mapping):
            raise SpecError(f"wanted an object, found {type(tree).__name__}.")
        spec = Spec.from_json(tree.get("spec"))
        columns = _columns(spec, tree.get("arrays"))
        valid = tree.get("valid")
        episodes = _episodes(tree.get("episodes"))
    except (FormatError, SpecError) as error:
        return Notes(problems=(_finding(f"Deft's notes in `meta` cannot be read: {error}"),))
    problems: tuple[Problem, ...] = ()
    if len(episodes) != count:
        what = f"Deft's notes tell of {len(episodes)} episodes, there are {count}"
        problems, episodes = (_finding(what),), []
    return Notes(
        spec=spec,
        columns=columns,
        valid=valid if isinstance(valid, str) else "",
        episodes=episodes,
        problems=problems,
    )


def _columns(spec: Spec, tree: Any) -> dict[str, Column]:
    if not isinstance(tree, Mapping):
        raise SpecError("there is no list of arrays.")
    columns: dict[str, Column] = {}
    for key, entry in tree.items():
        name = entry.get("feature") if isinstance(entry, Mapping) else None
        if not isinstance(name, str):
            raise SpecError(f"array '{key}' names no feature.")
        columns[str(key)] = Column(spec[name], entry.get("channels_first") is True)
    if len({column.feature.name for column in columns.values()}) != len(columns):
        raise SpecError("two arrays are the same feature.")
    rank = {name: number for number, name in enumerate(spec.names)}
    return dict(sorted(columns.items(), key=lambda each: rank[each[1].feature.name]))


def _episodes(tree: Any) -> list[dict[str, Any]]:
    if not isinstance(tree, list):
        raise SpecError("there is no list of episodes.")
    episodes: list[dict[str, Any]] = []
    for entry in tree:
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(key, ""), str) for key in _TEXTS
        ):
            raise SpecError(f"an episode cannot be read: {str(entry)[:80]}.")
        episodes.append(entry)
    ids = [entry.get("id") for entry in episodes]
    if len(set(ids)) != len(ids):
        raise SpecError("two episodes have the same id.")
    return episodes


def _is_there(feature: Feature, found: Mapping[str, Feature]) -> bool:
    """Texts lie in no array."""
    return feature.name in found or feature.dtype == "str"


def _finding(what: str) -> Problem:
    return Problem(episode="", what=what, effect="not used")
