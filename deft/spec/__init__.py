"""The contract that travels from the data set to the robot. Plain data, numpy only."""

from deft.spec import findings
from deft.spec.contract import Difference, Horizons, Spec, check, compare
from deft.spec.episode import (
    ActionChunk,
    Actor,
    ArrayFrames,
    Episode,
    Frames,
    Observation,
    check_observation,
    expect,
)
from deft.spec.feature import DTYPES, GOAL, ROLES, Feature
from deft.spec.plain import from_plain, to_plain
from deft.spec.resized import FILTERS, MODES, Resized
from deft.spec.source import EpisodeInfo, Problem, Source
from deft.spec.stats import Stats, mean_interval, wilson_interval
from deft.spec.watch import CameraWatch

__all__ = [
    "DTYPES",
    "FILTERS",
    "GOAL",
    "MODES",
    "ROLES",
    "ActionChunk",
    "Actor",
    "ArrayFrames",
    "CameraWatch",
    "Difference",
    "Episode",
    "EpisodeInfo",
    "Feature",
    "Frames",
    "Horizons",
    "Observation",
    "Problem",
    "Resized",
    "Source",
    "Spec",
    "Stats",
    "check",
    "check_observation",
    "compare",
    "expect",
    "findings",
    "from_plain",
    "mean_interval",
    "to_plain",
    "wilson_interval",
]
