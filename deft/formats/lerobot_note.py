"""What Deft keeps beside a LeRobot data set it writes: `meta/deft.json`, which LeRobot ignores.

It holds what LeRobot has no place for: units, roles, scalars, Deft's names and ids, splits that
are not ranges, and steps that are not valid.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deft.errors import DeftError
from deft.formats.jsonfile import read_object
from deft.formats.lerobot_features import Stored
from deft.spec import Spec

FILE = "meta/deft.json"


@dataclass(frozen=True)
class EpisodeNote:
    """One episode, as it was before it was written."""

    id: str
    length: int
    split: str
    source: str
    not_valid: tuple[int, ...] = ()


@dataclass(frozen=True)
class Note:
    """All of them, with their contract."""

    spec: Spec
    keys: Mapping[str, str]
    """Name of every stored feature to its key."""
    episodes: Sequence[EpisodeNote]

    def to_text(self) -> str:
        episodes = [
            [each.id, each.length, each.split, each.source, list(each.not_valid)]
            for each in self.episodes
        ]
        data = {"spec": self.spec.to_json(), "keys": dict(self.keys), "episodes": episodes}
        return json.dumps(data, ensure_ascii=False)

    @staticmethod
    def read(path: Path) -> "Note | None":
        """The note in a data set's folder; None when there is none, or it is damaged."""
        if not (path / FILE).is_file():
            return None
        try:
            data = read_object(path / FILE)
            spec = Spec.from_json(data["spec"])
            keys = {str(name): str(key) for name, key in data["keys"].items()}
            episodes = [
                EpisodeNote(str(id_), int(length), str(split), str(source), tuple(map(int, steps)))
                for id_, length, split, source, steps in data["episodes"]
            ]
        except (DeftError, KeyError, TypeError, ValueError, AttributeError):
            return None
        if len({each.id for each in episodes}) != len(episodes):
            return None
        return Note(spec, keys, episodes)

    def refined(self, stored: Mapping[str, Stored], fps: float) -> dict[str, Stored] | None:
        """The features as they were; None when the files have been changed since.

        Args:
            stored: what `info.json` says, by name.
            fps: what it says.
        """
        by_key = {each.key: each for each in stored.values()}
        if set(by_key) != set(self.keys.values()) or self.spec.fps != fps:
            return None
        refined: dict[str, Stored] = {}
        for feature in self.spec.features:
            if feature.name not in self.keys:
                if feature.dtype != "str":
                    return None
                continue
            found = by_key[self.keys[feature.name]]
            shape = feature.shape or (1,)
            if found.feature.shape != shape or found.feature.is_frame != feature.is_frame:
                return None
            refined[feature.name] = replace(found, feature=feature)
        return refined
