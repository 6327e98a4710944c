"""Sources seen otherwise: other names, cameras, tick rate, sizes or splits; nothing is copied.

Every view is a `spec.Source` over a `spec.Source`, and works on an episode when it is read.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deft.errors import ConfigError, ShapeError, SpecError, nearest
from deft.spec import Episode, EpisodeInfo, Feature, Problem, Source, Spec
from deft.transforms.bound import Transform
from deft.transforms.resize import ResizedFrames, resized_feature
from deft.transforms.table import apply, contract
from deft.transforms.timing import LatencyShift, Resample


@dataclass(frozen=True, kw_only=True)
class View:
    """A source over a source; satisfies `spec.Source`. Made by the functions of this module."""

    source: Source
    spec: Spec
    name: str
    episodes: tuple[EpisodeInfo, ...]
    """What `read` gives, in the order of the source."""
    problems: tuple[Problem, ...]
    change: Callable[[Episode, EpisodeInfo], Episode]
    """Makes the view's episode of the source's; called from several threads."""

    def read(self, index: int) -> Episode:
        """Episode number `index` of `episodes`."""
        return self.change(self.source.read(index), self.episodes[index])


def renamed(source: Source, names: Mapping[str, str]) -> Source:
    """The source with features under other names, or left out.

    Args:
        source: what is seen.
        names: new name by old name; an empty new name leaves the feature out.

    Raises:
        ConfigError: there is no such feature, or a name would be there twice.
    """
    if not names:
        return source
    for old in names:
        if old not in source.spec:
            raise ConfigError(
                f"{source.name}: there is no feature '{old}' to rename. "
                f"{nearest(old, source.spec.names)}\nFix: correct it in `--map`."
            )
    new = {f.name: names.get(f.name, f.name) for f in source.spec.features}
    kept = [replace(f, name=new[f.name]) for f in source.spec.features if new[f.name]]
    try:
        spec = replace(source.spec, features=tuple(kept))
    except SpecError as error:
        raise ConfigError(f"{source.name}, after `--map`: {error}") from error

    def change(episode: Episode, _: EpisodeInfo) -> Episode:
        return _with_features(episode, spec, new)

    return _view(source, change, spec=spec)


def without(source: Source, unwanted: Collection[str]) -> Source:
    """The source without some features. Raises `ConfigError` when one is not there."""
    return renamed(source, dict.fromkeys(unwanted, ""))


def with_cameras(source: Source, cameras: Sequence[str]) -> Source:
    """The source with these pictures and depth maps only; everything else stays.

    Raises:
        ConfigError: there is no such camera.
    """
    there = [feature.name for feature in source.spec.role("image", "depth")]
    for name in cameras:
        if name not in there:
            raise ConfigError(
                f"{source.name}: there is no camera '{name}'. {nearest(name, there)}\n"
                "Fix: correct it in `--cameras`; `deft inspect` lists them."
            )
    return without(source, [name for name in there if name not in cameras])


def resampled(source: Source, fps: float, changes: Sequence[str] = ()) -> Source:
    """The source at another tick rate; see `Resample`.

    Args:
        source: must say its own tick rate.
        fps: ticks per second to come.
        changes: elements of the action that are changes per step, and are added up.

    Raises:
        SpecError: the source does not say its tick rate.
        ConfigError: `fps` makes no sense.
    """
    if source.spec.fps == fps:
        return source
    transform = Resample(fps=fps, changes=tuple(changes))
    spec = transform.contract(source.spec)
    infos = [
        replace(info, length=transform.count(info.length, source.spec.fps))
        for info in source.episodes
    ]
    return _view(source, lambda episode, _: transform.apply(episode), spec=spec, episodes=infos)


def changed(source: Source, chain: Sequence[Transform]) -> Source:
    """The source with its episodes changed by several transforms in a row; see `apply`.

    BridgeData's actions, for one: `[BinarizeGripper(), RelabelActions(angles=())]`.

    Raises:
        SpecError: a transform does not fit, or is one for windows.
    """
    if not chain:
        return source
    spec = contract(chain, source.spec)
    infos: list[EpisodeInfo] = []
    for info in source.episodes:
        length, fps = info.length, source.spec.fps
        for each in chain:
            if isinstance(each, LatencyShift):
                length = max(length - each.steps, 0)
            elif isinstance(each, Resample):
                length, fps = each.count(length, fps), each.fps
        infos.append(replace(info, length=length))
    return _view(source, lambda episode, _: apply(chain, episode), spec=spec, episodes=infos)


def resized(
    source: Source, height: int, width: int, mode: str = "squash", filter_: str = "auto"
) -> Source:
    """The source with all pictures, depth and saliency at one size, the way recorded in its spec.

    See `resized_feature` for the words and the errors.
    """
    features = [
        resized_feature(feature, height, width, mode, filter_) if feature.is_frame else feature
        for feature in source.spec.features
    ]
    spec = replace(source.spec, features=tuple(features))
    if spec == source.spec:
        return source
    before = {feature.name: feature for feature in source.spec.features}

    def change(episode: Episode, _: EpisodeInfo) -> Episode:
        frames = {
            name: frames if spec[name] == before[name] else ResizedFrames(frames, spec[name])
            for name, frames in episode.frames.items()
        }
        return replace(episode, spec=spec, frames=frames)

    return _view(source, change, spec=spec)


def with_splits(source: Source, splits: Sequence[str]) -> Source:
    """The source with another split.

    Args:
        source: what is seen.
        splits: one name per episode; empty for none.
    """
    infos = [
        replace(info, split=split) for info, split in zip(source.episodes, splits, strict=True)
    ]
    return _view(source, lambda episode, info: replace(episode, split=info.split), episodes=infos)


def with_name(source: Source, name: str) -> Source:
    """The source under another name."""
    return source if source.name == name else _view(source, lambda episode, _: episode, name=name)


def with_prefix(source: Source, prefix: str) -> Source:
    """The source with `prefix/` before the id of every episode."""
    infos = [replace(info, id=f"{prefix}/{info.id}") for info in source.episodes]
    problems = [
        replace(each, episode=f"{prefix}/{each.episode}" if each.episode else "")
        for each in source.problems
    ]
    return _view(
        source,
        lambda episode, info: replace(episode, id=info.id),
        episodes=infos,
        problems=problems,
    )


def with_spec(source: Source, spec: Spec) -> Source:
    """The source with another contract about the same arrays.

    Raises:
        ShapeError: when read, the arrays do not follow it.
    """
    if spec == source.spec:
        return source

    def change(episode: Episode, _: EpisodeInfo) -> Episode:
        return replace(episode, spec=spec)

    return _view(source, change, spec=spec)


def _view(
    source: Source,
    change: Callable[[Episode, EpisodeInfo], Episode],
    **changed: Any,
) -> View:
    """What is not changed is the source's."""
    kept = {name: getattr(source, name) for name in ("spec", "name", "episodes", "problems")}
    parts = kept | changed
    return View(
        source=source,
        spec=parts["spec"],
        name=parts["name"],
        episodes=tuple(parts["episodes"]),
        problems=tuple(parts["problems"]),
        change=change,
    )


def _with_features(episode: Episode, spec: Spec, new: Mapping[str, str]) -> Episode:
    """The episode with its arrays and pictures under new names; an empty name leaves one out."""
    missing = [name for name in (*episode.arrays, *episode.frames) if name not in new]
    if missing:
        raise ShapeError(
            f"Episode '{episode.id}': {', '.join(missing)} is in no contract.\n"
            "Fix: repair the reader; every array must be declared."
        )
    return replace(
        episode,
        spec=spec,
        arrays={new[key]: array for key, array in episode.arrays.items() if new[key]},
        frames={new[key]: frames for key, frames in episode.frames.items() if new[key]},
    )


def is_change(feature: Feature) -> list[str]:
    """Elements of an action that are changes per step by their names, as BridgeData's `dx`."""
    axes = ("x", "y", "z", "roll", "pitch", "yaw", "rx", "ry", "rz")
    known = {f"{word}{axis}" for axis in axes for word in ("d", "delta_", "delta.")}
    return [name for name in feature.names if name.rsplit(".", 1)[-1] in known or name in known]
