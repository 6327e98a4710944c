"""Several sources as one."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from deft.errors import SpecError
from deft.spec import Episode, EpisodeInfo, Feature, Problem, Source, Spec, compare
from deft.transforms.views import with_prefix, with_spec


@dataclass(frozen=True, kw_only=True)
class Merged:
    """Sources one after another; satisfies `spec.Source`. Made by `merged`."""

    sources: tuple[Source, ...]
    spec: Spec
    name: str
    episodes: tuple[EpisodeInfo, ...]
    problems: tuple[Problem, ...]
    ends: tuple[int, ...]
    """Number of the first episode after each source."""

    def read(self, index: int) -> Episode:
        """Episode number `index` of `episodes`."""
        which = bisect.bisect_right(self.ends, index)
        return self.sources[which].read(index - (self.ends[which - 1] if which else 0))


def merged(sources: Sequence[Source]) -> Source:
    """Several sources as one, the first one's episodes first.

    Features are matched by name, and must be alike: what one side does not say (unit, element
    names, frame, embodiment) the other may. Ids get the source's name as a prefix when any two
    are alike.

    Raises:
        SpecError: the sources do not fit; every difference is listed with its repair.
    """
    first, *others = sources
    if not others:
        return first
    names = _unique([source.name for source in sources])
    found = [
        f"  - {name}: {each}"
        for name, other in zip(names[1:], others, strict=True)
        for each in _differences(first.spec, names[0], other.spec)
    ]
    if found:
        raise SpecError(
            f"{', '.join(names[1:])} against {names[0]}: {len(found)} difference(s), so they "
            "cannot become one data set:\n" + "\n".join(found)
        )
    spec = _joined([source.spec for source in sources])
    parts = [with_spec(source, spec) for source in sources]
    ids = [info.id for source in sources for info in source.episodes]
    if len(set(ids)) < len(ids):
        parts = [with_prefix(part, name) for part, name in zip(parts, names, strict=True)]
    return Merged(
        sources=tuple(parts),
        spec=spec,
        name=" + ".join(names),
        episodes=tuple(info for part in parts for info in part.episodes),
        problems=tuple(
            replace(each, what=f"{name}: {each.what}") if not each.episode else each
            for part, name in zip(parts, names, strict=True)
            for each in part.problems
        ),
        ends=tuple(accumulate(len(part.episodes) for part in parts)),
    )


def _differences(first: Spec, first_name: str, other: Spec) -> list[str]:
    """In what `other` departs from `first`, both ways, as lines with their repair."""
    lines: list[str] = []
    renamed: set[str] = set()
    for each in compare(other, first):
        if each.feature == "fps":
            fix = f"bring both to one rate, as in `--fps {first.fps:g}`"
        elif each.feature == "embodiment":
            fix = "keep bodies apart: convert each alone, and mix the stores when training"
        elif each.have == "missing":
            surplus = [f.name for f in other.role(first[each.feature].role) if f.name not in first]
            free = [name for name in surplus if name not in renamed]
            renamed.update(free[:1])
            rename = f"`--map {free[0]}={each.feature}`, or " if free else ""
            fix = f"{rename}leave it out with `--map {each.feature}=`"
        elif each.what == "image size":
            fix = "bring all to one size with `--image-size HEIGHTxWIDTH`"
        else:
            fix = f"{each.fix}, or leave it out with `--map {each.feature}=`"
        lines.append(f"{each.feature}: {each.what} is {each.have}, wanted {each.want}. Fix: {fix}")
    lines += [
        f"{feature.name}: is not in {first_name} ({feature.describe()}). "
        f"Fix: leave it out with `--map {feature.name}=`, or rename it with --map"
        for feature in other.features
        if feature.name not in first and feature.name not in renamed
    ]
    # A rate that one side does not say cannot be compared, and would be the other's unseen.
    if bool(first.fps) != bool(other.fps):
        said = first.fps or other.fps
        lines.append(
            f"fps: only one of the two says its tick rate ({said:g} Hz). "
            f"Fix: give it, as in `--fps {said:g}`"
        )
    return lines


def _joined(specs: Sequence[Spec]) -> Spec:
    """The first spec, with what it does not say taken from the others."""
    first = specs[0]
    features = [_filled([spec[each.name] for spec in specs]) for each in first.features]
    embodiment = next((spec.embodiment for spec in specs if spec.embodiment), "")
    return replace(first, features=tuple(features), embodiment=embodiment)


def _filled(features: Sequence[Feature]) -> Feature:
    said = {
        key: next((getattr(f, key) for f in features if getattr(f, key)), getattr(features[0], key))
        for key in ("unit", "names", "frame", "resized")
    }
    return replace(features[0], **said)


def _unique(names: Sequence[str]) -> list[str]:
    """The names, numbered where they repeat."""
    return [
        f"{name}-{names[:at].count(name) + 1}" if names.count(name) > 1 else name
        for at, name in enumerate(names)
    ]
