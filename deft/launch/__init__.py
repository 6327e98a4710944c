"""Many runs: on this machine, a Ray cluster or SLURM. No torch; every run is its own process."""

from deft.launch.book import Book
from deft.launch.engines import Engine, Local, Ray, Slurm, find_gpus
from deft.launch.old import convert
from deft.launch.plan import Run, SweepConfig, config, read, runs, word
from deft.launch.progress import Group, Row, groups, rows
from deft.launch.schedule import Sweep, libraries, train_command

__all__ = [
    "Book",
    "Engine",
    "Group",
    "Local",
    "Ray",
    "Row",
    "Run",
    "Slurm",
    "Sweep",
    "SweepConfig",
    "config",
    "convert",
    "find_gpus",
    "groups",
    "libraries",
    "read",
    "rows",
    "runs",
    "train_command",
    "word",
]
