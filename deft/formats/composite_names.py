"""Which features belong to which trajectories, by the names that people give them."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NUMBERED = re.compile(r"(.+)-(\d+)_(.+)")
_COUNT = re.compile(r"-\d+$")


@dataclass(frozen=True)
class TaskName:
    """`<task>-<config>-<number of episodes>_<camera>`, of which most may be missing."""

    task: str
    """With its config, as in `lift_can-demo_clean`."""
    camera: str
    """Empty when the name has none."""

    @property
    def base(self) -> str:
        """The task alone: what comes before the first `-`."""
        return self.task.partition("-")[0]

    @staticmethod
    def parse(key: str, attributes: Mapping[str, Any]) -> "TaskName":
        """Take a name apart; an attribute `camera` says where its last part begins."""
        if match := _NUMBERED.fullmatch(key):
            return TaskName(match[1], match[3])
        camera = attributes.get("camera")
        camera = camera if isinstance(camera, str) else ""
        if camera:
            key = key.removesuffix(f"_{camera}")
        return TaskName(_COUNT.sub("", key), camera)


def match_tasks(wanted: Sequence[str], there: Sequence[str]) -> dict[str, str]:
    """For each task with features the trajectories that belong to it, where that is certain.

    Equal names belong together; so do equal tasks where one side does not say the config, and
    only one candidate is left.

    Args:
        wanted: tasks with features, `<task>` or `<task>-<config>`.
        there: names of trajectories, of the same form.
    """
    found: dict[str, str] = {}
    for task in wanted:
        base, _, config = task.partition("-")
        near = [name for name in there if name.partition("-")[0] == base]
        open_ = [name for name in near if not config or "-" not in name]
        if task in there:
            found[task] = task
        elif len(open_) == 1:
            found[task] = open_[0]
    return found


def hint(name: str, there: Sequence[str]) -> str:
    """The one name that is nearest, as a sentence."""
    close = difflib.get_close_matches(name, there, n=1, cutoff=0.3)
    return f"The nearest is '{close[0]}'." if close else "Nothing is called like it."


def episode_number(id_: str) -> int | None:
    """The number at the end of an id such as `episode_0000012`, `demo_3`, `a/traj5`."""
    match = re.search(r"(\d{1,12})\D*$", id_)
    return int(match[1]) if match else None
