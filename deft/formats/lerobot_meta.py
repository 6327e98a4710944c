"""What `meta/info.json` of a LeRobot data set says: version, features, and where files lie."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft.errors import FormatError
from deft.formats.jsonfile import read_object, take
from deft.formats.lerobot_features import Declared, Stored, declare, finding
from deft.formats.lerobot_note import Note
from deft.spec import Problem, Spec

_VIDEO_PLACES = (
    "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    "videos/{video_key}/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.mp4",
    "videos/{video_key}/episode_{episode_index:06d}.mp4",
    "videos/{video_key}_episode_{episode_index:06d}.mp4",
)
"""Where v2 data sets have been seen to keep videos."""


@dataclass(frozen=True)
class Layout:
    """What `info.json` says, with what Deft has noted beside it."""

    path: Path
    major: int
    """2 or 3."""
    spec: Spec
    stored: Mapping[str, Stored]
    """Every feature of the spec that is in the files, by name."""
    texts: tuple[str, ...]
    """Keys of columns that may hold other wordings of the task."""
    has_rows_of_language: bool
    data_path: str
    video_path: str
    chunks_size: int
    splits: Mapping[str, range]
    note: Note | None
    problems: tuple[Problem, ...]

    @staticmethod
    def read(path: Path, renames: Mapping[str, str]) -> "Layout":
        """Raises `FormatError` when the version is not known, or something is damaged."""
        file = path / "meta" / "info.json"
        info = read_object(file)
        where = str(file)
        major = _major(path, take(info, "codebase_version", str, where))
        fps = take(info, "fps", (int, float), where)
        if not 0 < fps < 1e6:
            raise FormatError(f"{where}: 'fps' is {fps}.\nFix: set it to ticks per second.")
        chunks = take(info, "chunks_size", int, where) if major == 2 else 1000
        if chunks < 1:
            raise FormatError(f"{where}: 'chunks_size' is {chunks}.\nFix: set it to 1000.")
        declared = declare(take(info, "features", dict, where), renames, where)
        has_videos = any(each.kind == "video" for each in declared.stored.values())
        stored, spec, note = _noted(path, declared, float(fps), info.get("robot_type"), renames)
        return Layout(
            path=path,
            major=major,
            spec=spec,
            stored=stored,
            texts=tuple(declared.texts),
            has_rows_of_language=declared.has_rows_of_language,
            data_path=take(info, "data_path", str, where),
            video_path=take(info, "video_path", str, where) if has_videos else "",
            chunks_size=chunks,
            splits=_splits(info.get("splits"), where),
            note=note,
            problems=tuple(declared.problems),
        )

    def of_kind(self, *kinds: str) -> list[Stored]:
        """The features that lie in the files in one of these ways."""
        return [each for each in self.stored.values() if each.kind in kinds]

    def split(self, index: int) -> str:
        return next((name for name, span in self.splits.items() if index in span), "")

    def expand(self, template: str, values: Mapping[str, int | str]) -> Path:
        """Fill in a path template; only these fields, never outside the folder."""

        def fill(field: re.Match[str]) -> str:
            value = values.get(field[1])
            if value is None or (isinstance(value, str) and field[2]):
                raise FormatError(
                    f"{self.path}/meta/info.json: a path template has the unknown field "
                    f"'{field[0]}'.\nFound: {template}.\n"
                    f"Fix: use only {', '.join(values)}."
                )
            return str(value).zfill(int(field[2] or 0))

        text = re.sub(r"\{(\w*)(?::0?(\d{1,2})d)?\}", fill, template)
        parts = text.split("/")
        if ".." in parts or "\0" in text or max(map(len, parts)) > 255 or not parts[0]:
            raise FormatError(
                f"{self.path}/meta/info.json: a path leads out of the data set.\n"
                f"Found: '{template}'.\nFix: give paths below the data set's folder."
            )
        return self.path / text

    def find_videos(self, key: str, values: Mapping[str, int | str]) -> tuple[str, list[Problem]]:
        """Where the videos of a camera lie: as declared, or at the one place where they are.

        Args:
            key: of the camera.
            values: fields of an episode that is there.

        Returns:
            A path template, and what is odd about it.
        """
        places = [self.video_path]
        for template in (self.video_path, *_VIDEO_PLACES):
            places += [template, template.replace("videos/", "video/", 1)]
        for place in dict.fromkeys(places):
            for name in dict.fromkeys((key, key.rsplit(".", 1)[-1])):
                if self.expand(place, {**values, "video_key": name}).is_file():
                    if (place, name) == (self.video_path, key):
                        return place, []
                    found, declared = (
                        template.split("/{episode")[0]
                        .split("/chunk")[0]
                        .replace("{video_key}", as_)
                        for template, as_ in ((place, name), (self.video_path, key))
                    )
                    what = f"videos lie in '{found}', not in '{declared}'"
                    return place.replace("{video_key}", name), [finding(what, "used")]
        return self.video_path, []


def _major(path: Path, version: str) -> int:
    if version in ("v2.0", "v2.1"):
        return 2
    if re.fullmatch(r"v3\.\d{1,3}", version):
        return 3
    raise FormatError(
        f"{path}: this LeRobot version cannot be read.\nFound: {version}, wanted v2.0, v2.1 or "
        "v3.\nFix: convert it to v2.1 or v3.0 with LeRobot's own scripts."
    )


def _noted(
    path: Path, declared: Declared, fps: float, robot: Any, renames: Mapping[str, str]
) -> tuple[dict[str, Stored], Spec, Note | None]:
    """Features and contract, as Deft's note has them where there is one that fits."""
    note = None if renames else Note.read(path)
    stored = note.refined(declared.stored, fps) if note else None
    if note and stored is not None:
        return stored, note.spec, note
    if note:
        what = "features have changed since Deft wrote this"
        declared.problems.append(finding(what, "what Deft noted of units and ids is passed over"))
    spec = Spec(
        features=tuple(each.feature for each in declared.stored.values()),
        fps=fps,
        embodiment=robot if isinstance(robot, str) else "",
    )
    return declared.stored, spec, None


def _splits(value: Any, where: str) -> dict[str, range]:
    """Declared splits by episode index; one split alone is LeRobot's default and says nothing."""
    if not isinstance(value, dict) or len(value) < 2:
        return {}
    spans: dict[str, range] = {}
    for name, text in value.items():
        match = re.fullmatch(r"(\d{1,12}):(\d{1,12})", text) if isinstance(text, str) else None
        if match is None:
            raise FormatError(
                f"{where}: split '{name}' must be a range of episodes.\nFound: {text!r}.\n"
                "Fix: write it as in '0:100'."
            )
        spans[name] = range(int(match[1]), int(match[2]))
    return spans
