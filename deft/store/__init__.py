"""The training store: written once, read at random for days. Numpy only."""

from deft.store import goals
from deft.store.batch import Batch, Vary
from deft.store.contents import StoreFrames, StoreSource, check, source
from deft.store.files import DiskError
from deft.store.frames import FrameColumn
from deft.store.goals import GoalConfig
from deft.store.ingest import Progress, chosen_episodes, is_made_from, write
from deft.store.keyed import Permutation
from deft.store.layout import FramePlan, WriteConfig, is_store, plan_frames, stored_spec
from deft.store.loader import Loader
from deft.store.reader import EpisodeIndex, Store, open  # noqa: A004 - read as `store.open`
from deft.store.sampler import Sampler
from deft.store.windows import WindowRows, Windows
from deft.store.writer import Writer, WriteReport, tidy

__all__ = [
    "Batch",
    "DiskError",
    "EpisodeIndex",
    "FrameColumn",
    "FramePlan",
    "GoalConfig",
    "Loader",
    "Permutation",
    "Progress",
    "Sampler",
    "Store",
    "StoreFrames",
    "StoreSource",
    "Vary",
    "WindowRows",
    "Windows",
    "WriteConfig",
    "WriteReport",
    "Writer",
    "check",
    "chosen_episodes",
    "goals",
    "is_made_from",
    "is_store",
    "open",
    "plan_frames",
    "source",
    "stored_spec",
    "tidy",
    "write",
]
