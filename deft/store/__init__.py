"""The training store: written once, read at random for days. Numpy only."""

from deft.store import goals
from deft.store.batch import Batch, Vary
from deft.store.blocks import Blocks
from deft.store.contents import StoreFrames, StoreSource, check, check_files, describe, source
from deft.store.dataset import Dataset, batches, seen
from deft.store.embeddings import Embedding, add_embedding, embedding, embeddings
from deft.store.files import DiskError
from deft.store.frames import FrameColumn
from deft.store.goals import GoalConfig
from deft.store.growth import append, appender, config_of, renamed
from deft.store.ingest import chosen_episodes, is_made_from, write
from deft.store.jobs import Engine, Outcomes, Progress, Sink, Threads, Work, attempt, do_one, fill
from deft.store.keyed import Permutation
from deft.store.layout import (
    FramePlan,
    WriteConfig,
    is_store,
    plan_frames,
    split_episodes,
    stored_spec,
)
from deft.store.loader import Loader
from deft.store.memory_cache import Kept, keep_pictures
from deft.store.reader import EpisodeIndex, Store, TextVectors, open  # noqa: A004 - read as `store.open`
from deft.store.references import Reference, add_reference, remove_reference
from deft.store.remote import CacheConfig, open_remote, shards_together
from deft.store.sampler import Order, Sampler, Shuffled
from deft.store.staging_helper import Helper
from deft.store.strata import SAMPLINGS, Strata, order_of
from deft.store.views import LEFT_OUT, join, origin_of, view
from deft.store.windows import WindowRows, Windows
from deft.store.writer import Writer, WriteReport, tidy

__all__ = [
    "LEFT_OUT",
    "SAMPLINGS",
    "Batch",
    "Blocks",
    "CacheConfig",
    "Dataset",
    "DiskError",
    "Embedding",
    "Engine",
    "EpisodeIndex",
    "FrameColumn",
    "FramePlan",
    "GoalConfig",
    "Helper",
    "Kept",
    "Loader",
    "Order",
    "Outcomes",
    "Permutation",
    "Progress",
    "Reference",
    "Sampler",
    "Shuffled",
    "Sink",
    "Store",
    "StoreFrames",
    "StoreSource",
    "Strata",
    "TextVectors",
    "Threads",
    "Vary",
    "WindowRows",
    "Windows",
    "Work",
    "WriteConfig",
    "WriteReport",
    "Writer",
    "add_embedding",
    "add_reference",
    "append",
    "appender",
    "attempt",
    "batches",
    "check",
    "check_files",
    "chosen_episodes",
    "config_of",
    "describe",
    "do_one",
    "embedding",
    "embeddings",
    "fill",
    "goals",
    "is_made_from",
    "is_store",
    "join",
    "keep_pictures",
    "open",
    "open_remote",
    "order_of",
    "origin_of",
    "plan_frames",
    "remove_reference",
    "renamed",
    "seen",
    "shards_together",
    "source",
    "split_episodes",
    "stored_spec",
    "tidy",
    "view",
    "write",
]
