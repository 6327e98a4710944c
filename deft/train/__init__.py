"""One readable loop from a store to checkpoints that open by themselves."""

from deft.train.allocator import keep_freed_memory
from deft.train.checkpoint import scores_of, steps
from deft.train.config import DataConfig, Job, TrainConfig, ValConfig
from deft.train.distributed import Ranks
from deft.train.interrupt import StoppedError
from deft.train.journal import read_metrics
from deft.train.loader import chosen, held_out, open_data, val_batches
from deft.train.loop import train
from deft.train.memory import OutOfMemoryError
from deft.train.trackers import NoTracker, Tracker, TrackerConfig, tracker_defaults, tracking

__all__ = [
    "DataConfig",
    "Job",
    "NoTracker",
    "OutOfMemoryError",
    "Ranks",
    "StoppedError",
    "Tracker",
    "TrackerConfig",
    "TrainConfig",
    "ValConfig",
    "chosen",
    "held_out",
    "keep_freed_memory",
    "open_data",
    "read_metrics",
    "scores_of",
    "steps",
    "tracker_defaults",
    "tracking",
    "train",
    "val_batches",
]
