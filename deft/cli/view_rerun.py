"""Episodes for the Rerun viewer: a .rrd file, or the viewer itself.

Each episode is a branch of the entity tree: `<episode>/cameras/<name>`, `<episode>/<role>/<name>`
with one line per element, `<episode>/task`. Timelines are `step` and, when the tick rate is known,
`time` in seconds from the episode's start.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deft.cli.view_pictures import lay_over
from deft.errors import ConfigError, DeftError, need
from deft.spec import Episode, Feature, Problem, Source

SPAWN = "spawn"
_SUFFIX = ".rrd"
_MOST = 64
"""Features with more elements per step are left to the HTML page."""
_METERS = {"m": 1.0, "mm": 1000.0, "cm": 100.0}
"""Depth units in Rerun's terms: how many make a metre."""


def check_target(target: str) -> None:
    """Raise `ConfigError` unless this is `spawn` or a .rrd file."""
    if target != SPAWN and Path(target).suffix != _SUFFIX:
        raise ConfigError(
            f"--rerun {target}: neither a file nor the viewer.\n"
            f"Fix: end its name in {_SUFFIX}, or say `--rerun {SPAWN}`."
        )


def send(source: Source, numbers: Sequence[int], target: str) -> list[Problem]:
    """Log whole episodes to Rerun, one at a time.

    Args:
        source: a recording or store.
        numbers: of the episodes.
        target: a .rrd file, which appears when it is complete, or `spawn` to open the viewer.

    Returns:
        Episodes and cameras that cannot be read; the rest of them is there.

    Raises:
        MissingPackageError: rerun-sdk is not installed.
    """
    check_target(target)
    rerun = need("rerun", "view")
    log = rerun.RecordingStream("deft", recording_id=source.name)
    beside = Path(target).with_name(f".{Path(target).name}.part")
    if target == SPAWN:
        log.spawn()
    else:
        beside.parent.mkdir(parents=True, exist_ok=True)
        log.save(beside)
    problems: list[Problem] = []
    try:
        for number in numbers:
            try:
                problems += _Sender(rerun, log, source.read(number)).send()
            except DeftError as error:
                problems.append(_not_shown(source.episodes[number].id, error))
        log.flush()
        log.disconnect()
        if target != SPAWN:
            beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    return problems


class _Sender:
    """Logs one episode."""

    def __init__(self, rerun: Any, log: Any, episode: Episode) -> None:
        self._rerun, self._log, self._episode = rerun, log, episode
        self._root = _name(episode.id)

    def send(self) -> list[Problem]:
        episode, rerun = self._episode, self._rerun
        if episode.task:
            text = rerun.TextDocument(episode.task)
            self._log.log(f"{self._root}/task", text, static=True)
        for feature in episode.spec.features:
            if feature.name in episode.arrays and 0 < feature.size <= _MOST:
                self._send_numbers(feature, episode.arrays[feature.name])
        problems: list[Problem] = []
        for name in episode.frames:
            try:
                self._send_camera(episode.spec[name])
            except DeftError as error:
                problems.append(_not_shown(episode.id, error))
        return problems

    def _send_numbers(self, feature: Feature, values: np.ndarray) -> None:
        """One line per element, all steps at once."""
        rerun, count = self._rerun, len(values)
        times = [rerun.TimeColumn("step", sequence=np.arange(count))]
        if self._episode.spec.fps:
            seconds = np.arange(count) / self._episode.spec.fps
            times.append(rerun.TimeColumn("time", duration=seconds))
        flat = values.reshape(count, -1).astype(np.float64)
        for number, column in enumerate(flat.T):
            element = feature.names[number] if feature.names else str(number)
            path = f"{self._root}/{feature.role}/{_name(feature.name)}/{_name(element)}"
            lines = rerun.Scalars.columns(scalars=column)
            self._log.send_columns(path, indexes=times, columns=lines)

    def _send_camera(self, feature: Feature) -> None:
        path = f"{self._root}/cameras/{_name(feature.name)}"
        frames = self._episode.frames[feature.name]
        encoded: Callable[[int], bytes | None] | None = getattr(frames, "encoded", None)
        rerun = self._rerun
        if feature.role == "image" and encoded is not None and encoded(0) is not None:
            for step in range(len(frames)):  # as it lies in the files, not encoded again
                blob = encoded(step)
                self._at(step)
                if blob is None:
                    self._log.log(path, rerun.Image(frames[step]).compress())
                else:
                    self._log.log(path, rerun.EncodedImage(contents=blob, media_type="image/jpeg"))
            return
        below = self._below(feature)
        for step, picture in enumerate(frames):
            self._at(step)
            if feature.role == "depth":
                shown = rerun.DepthImage(picture[..., 0], meter=_METERS.get(feature.unit))
            elif feature.role == "saliency" and below is not None:
                shown = rerun.Image(lay_over(below[step], picture)).compress()
            else:
                shown = rerun.Image(_plain(picture)).compress()
            self._log.log(path, shown)

    def _below(self, feature: Feature) -> Any:
        """The pictures that a saliency map lies over: those of the first camera."""
        cameras = self._episode.spec.role("image")
        if feature.role != "saliency" or not cameras:
            return None
        return self._episode.frames[cameras[0].name]

    def _at(self, step: int) -> None:
        self._log.set_time("step", sequence=step)
        if self._episode.spec.fps:
            self._log.set_time("time", duration=step / self._episode.spec.fps)


def _plain(picture: np.ndarray) -> np.ndarray:
    """uint8 `H W 3`, from any picture."""
    if picture.dtype != np.uint8:
        picture = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return picture.repeat(3, 2) if picture.shape[2] == 1 else picture


def _name(text: str) -> str:
    """One part of an entity path; what Rerun would take for a part's end is replaced."""
    return re.sub(r"[^\w.-]+", "_", text)


def _not_shown(episode: str, error: DeftError) -> Problem:
    return Problem(episode=episode, what=str(error), effect="not shown", severity="error")
