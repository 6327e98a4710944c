"""The page of a recording or a store: its contract, what is in it, and a few episodes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deft import report, store
from deft.cli.sources import open_recording, renamed
from deft.cli.view_pictures import colour_depth, colour_norms, lay_over
from deft.errors import ConfigError, DeftError
from deft.spec import Episode, EpisodeInfo, Feature, Problem, Source, Stats, findings

_FRAMES = 8
_MAX_TASKS = 40
_MAX_ELEMENTS = 64
_MAX_OTHER = 16
_MAX_PROBLEMS = 200
_MAX_WORDINGS = 5
_CONTROL = ("state", "action")

_Series = dict[str, tuple[np.ndarray, np.ndarray]]


def page(
    path: Path,
    command: str,
    episodes: int,
    fps: float | None,
    options: Mapping[str, Any] | None = None,
    renames: Mapping[str, str] | None = None,
) -> report.Page:
    """Build the page.

    Args:
        path: a recording or a store.
        command: the command line that makes this page again.
        episodes: how many to show, at even distances.
        fps: ticks per second for a recording that does not hold it.
        options: settings of the recording's format.
        renames: new feature name by old one.

    Raises:
        FormatError, StoreError: it cannot be opened. An episode that cannot be read is listed
            among the problems instead.
    """
    source, stored, kind = open_source(path, fps, options, renames)
    infos = source.episodes
    shown, broken = _read(source, episodes)
    made = report.Page(source.name)
    body = f", recorded on '{source.spec.embodiment}'" if source.spec.embodiment else ""
    made.text(f"{path.name}: {kind}{body}, as Deft reads it.").command(command)
    made.numbers(_counts(source))
    made.heading("Contract")
    made.table(
        ["feature", "role", "holds", "elements"],
        [[f.name, f.role, _holds(f), ", ".join(f.names)] for f in source.spec.features],
    )
    _add_tasks(made, infos)
    _add_problems(made, [*broken, *source.problems])
    if stored is not None:
        _add_stats(made, source, stored, "the train episodes")
    else:
        _add_stats(made, source, _stats(source, shown), f"the {len(shown)} episodes shown")
    wordings = {info.id: info.instructions for info in infos}
    for episode in shown:
        _add_episode(made, episode, wordings[episode.id])
    return made


def open_source(
    path: Path,
    fps: float | None,
    options: Mapping[str, Any] | None = None,
    renames: Mapping[str, str] | None = None,
) -> tuple[Source, dict[str, Stats] | None, str]:
    """A recording or a store, the statistics of a store, and what it is."""
    renames = renames or {}
    if options or not store.is_store(path):
        recording, source = open_recording(path, None, options or {}, renames, fps=fps)
        return source, None, f"{recording.format} recording"
    if fps is not None:
        raise ConfigError(f"{path} is a store, which has its rate.\nFix: leave --fps out.")
    opened = store.open(path)
    stats = {renames.get(name, name): each for name, each in opened.stats.items()}
    return renamed(store.source(opened), renames), stats, "training store"


def choose(source: Source, count: int) -> list[int]:
    """Numbers of episodes at even distances."""
    total = len(source.episodes)
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))
    return chosen.tolist()


def _read(source: Source, count: int) -> tuple[list[Episode], list[Problem]]:
    """Episodes at even distances; those that cannot be read become problems."""
    episodes: list[Episode] = []
    problems: list[Problem] = []
    for index in choose(source, count):
        try:
            episode = source.read(index)
            episodes.append(episode)
            problems += findings.of_arrays(episode)
        except DeftError as error:
            problems.append(
                Problem(
                    episode=source.episodes[index].id,
                    what=str(error),
                    effect="not shown",
                    severity="error",
                )
            )
    return episodes, problems


def _counts(source: Source) -> dict[str, Any]:
    lengths = [info.length for info in source.episodes]
    steps = sum(lengths)
    fps = source.spec.fps
    splits = Counter(info.split for info in source.episodes if info.split)
    detail = ", ".join(f"{count} {split}" for split, count in sorted(splits.items()))
    counts: dict[str, Any] = {
        "Episodes": (len(lengths), detail),
        "Steps": (steps, f"{steps / fps / 60:.1f} minutes" if fps else ""),
        "Ticks per second": f"{fps:g}" if fps else ("unknown", "give --fps"),
        "Cameras": len([f for f in source.spec.features if f.is_frame]),
    }
    if lengths:
        between = f"{min(lengths)} to {max(lengths)} steps"
        counts["Median length"] = (int(np.median(lengths)), between)
    tasks = {info.task for info in source.episodes if info.task}
    if tasks:
        counts["Tasks"] = len(tasks)
    return counts


def _holds(feature: Feature) -> str:
    return feature.describe().removeprefix(feature.role).strip()


def _add_tasks(made: report.Page, infos: Sequence[EpisodeInfo]) -> None:
    tasks: dict[str, list[EpisodeInfo]] = {}
    for info in infos:
        tasks.setdefault(info.task, []).append(info)
    if not any(tasks):
        return
    made.heading("Tasks")
    ranked = sorted(tasks.items(), key=lambda item: (-len(item[1]), item[0]))
    made.table(
        ["task", "episodes", "steps"],
        [[task or "(none given)", len(found), sum(i.length for i in found)]
         for task, found in ranked[:_MAX_TASKS]],
    )  # fmt: skip
    if len(ranked) > _MAX_TASKS:
        made.text(f"{len(ranked) - _MAX_TASKS} more tasks have fewer episodes.")


def _add_problems(made: report.Page, problems: list[Problem]) -> None:
    made.heading("Problems")
    made.problems(problems[:_MAX_PROBLEMS])
    if len(problems) > _MAX_PROBLEMS:
        made.text(f"{len(problems) - _MAX_PROBLEMS} more are not listed.")


def _numeric(source: Source) -> list[Feature]:
    return [
        f
        for f in source.spec.features
        if not f.is_frame and f.dtype != "str" and 0 < f.size <= _MAX_ELEMENTS
    ]


def _stats(source: Source, episodes: list[Episode]) -> dict[str, Stats]:
    if not episodes or not sum(map(len, episodes)):
        return {}
    return {
        f.name: Stats.of(np.concatenate([episode.arrays[f.name] for episode in episodes]))
        for f in _numeric(source)
    }


def _add_stats(made: report.Page, source: Source, stats: Mapping[str, Stats], of: str) -> None:
    features = [f for f in _numeric(source) if f.name in stats]
    if not features:
        return
    made.heading("Statistics")
    columns = ("min", "q01", "mean", "q99", "max", "std")
    units = ["unit"] if any(f.unit for f in features) else []
    made.table(
        ["feature", "element", *columns, *units],
        [
            [
                "" if i else feature.name,
                element,
                *(float(getattr(stats[feature.name], column)[i]) for column in columns),
                *([feature.unit] if units else []),
            ]
            for feature in features
            for i, element in enumerate(_elements(feature))
        ],
        caption=f"Over {of}; q01 and q99 are the 1 % and 99 % quantiles.",
    )


def _elements(feature: Feature) -> list[str]:
    if feature.names:
        return list(feature.names)
    return [""] if feature.size == 1 else [f"[{i}]" for i in range(feature.size)]


def _add_episode(made: report.Page, episode: Episode, wordings: Sequence[str]) -> None:
    made.heading(episode.id if episode.id.startswith("episode") else f"Episode {episode.id}")
    facts = [f"{len(episode)} steps"]
    facts += [f"split {episode.split}"] if episode.split else []
    facts += [f"task: {episode.task}"] if episode.task else []
    if episode.valid is not None:
        facts.append(f"{int((~episode.valid).sum())} steps not to be learned from")
    made.text(", ".join(facts) + ".")
    others = [each for each in wordings if each != episode.task]
    if others:
        more = f", and {len(others) - _MAX_WORDINGS} more" * (len(others) > _MAX_WORDINGS)
        made.text(f"Also said: {'; '.join(others[:_MAX_WORDINGS])}{more}.")
    if len(episode) == 0:
        return
    steps = np.unique(np.linspace(0, len(episode) - 1, _FRAMES).round().astype(int)).tolist()
    for name in episode.frames:
        try:
            _add_strip(made, episode, episode.spec[name], steps)
        except DeftError as error:
            made.problems(
                [Problem(episode=episode.id, what=str(error), effect="camera not shown",
                         severity="error")]
            )  # fmt: skip
    for feature in episode.spec.role("feature_map"):
        if feature.name in episode.arrays and len(feature.shape) == 3:
            maps = colour_norms(episode.arrays[feature.name][steps])
            made.strip(maps, _captions(steps), title=f"{feature.name}, norm of every cell")
    for title, series in _panels(episode).items():
        made.curves(title, series, x_label="step", size="small")
    for feature in episode.spec.features:
        if feature.name in episode.arrays and feature.role not in _CONTROL:
            _add_other(made, episode, feature)


def _add_strip(made: report.Page, episode: Episode, feature: Feature, steps: list[int]) -> None:
    """Pictures of one camera; depth in colours, saliency over the first camera."""
    frames, title = episode.frames[feature.name], feature.name
    pictures = [frames[step] for step in steps]
    cameras = episode.spec.role("image")
    if feature.role == "depth":
        pictures, low, high = colour_depth(pictures)
        title += f", red {low:.4g} to blue {high:.4g} {feature.unit}".rstrip()
    elif feature.role == "saliency" and cameras:
        below = episode.frames[cameras[0].name]
        pictures = [lay_over(below[n], each) for n, each in zip(steps, pictures, strict=True)]
        title += f" over {cameras[0].name}"
    made.strip(pictures, _captions(steps), title=title)


def _captions(steps: list[int]) -> list[str]:
    return [f"step {step}" for step in steps]


def _panels(episode: Episode) -> dict[str, _Series]:
    """One plot per element of state and action; equal element names share one."""
    panels: dict[str, _Series] = {}
    steps = np.arange(len(episode))
    for feature in episode.spec.role(*_CONTROL):
        if not 0 < feature.size <= _MAX_ELEMENTS:
            continue
        values = episode.arrays[feature.name].reshape(len(episode), -1).astype(np.float64)
        for i, element in enumerate(_elements(feature)):
            title = element if feature.names else f"{feature.name}{element}"
            title += f" [{feature.unit}]" if feature.unit else ""
            panels.setdefault(title, {})[feature.name] = (steps, values[:, i])
    return {_title(title, series): series for title, series in panels.items()}


def _title(title: str, series: _Series) -> str:
    """An element's name, after its feature's name when no legend says that."""
    name = next(iter(series))
    return title if len(series) > 1 or title.startswith(name) else f"{name} {title}"


def _add_other(made: report.Page, episode: Episode, feature: Feature) -> None:
    """One plot with every element of a feature that is neither state nor action."""
    if 0 < feature.size <= _MAX_OTHER:
        steps = np.arange(len(episode))
        values = episode.arrays[feature.name].reshape(len(episode), -1).astype(np.float64)
        names = [element or feature.name for element in _elements(feature)]
        series: _Series = {name: (steps, values[:, i]) for i, name in enumerate(names)}
        made.curves(f"{feature.name} ({feature.role})", series, x_label="step", size="small")
