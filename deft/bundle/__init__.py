"""A trained policy as a folder that opens by itself: save, load, describe, find.

Finding and describing need no torch; the rest imports it on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from deft.bundle.describe import describe
from deft.bundle.files import is_bundle, verify
from deft.bundle.locate import checkpoints, resolve
from deft.bundle.sentences import Sentences

if TYPE_CHECKING:
    from deft.bundle.golden import Golden
    from deft.bundle.loading import Bundle, actor, load
    from deft.bundle.policy_actor import PolicyActor, batch_of
    from deft.bundle.writing import save, write

__all__ = [
    "Bundle",
    "Golden",
    "PolicyActor",
    "Sentences",
    "actor",
    "batch_of",
    "checkpoints",
    "describe",
    "is_bundle",
    "load",
    "resolve",
    "save",
    "verify",
    "write",
]

_WITH_TORCH = {
    "Bundle": "loading",
    "Golden": "golden",
    "PolicyActor": "policy_actor",
    "actor": "loading",
    "batch_of": "policy_actor",
    "load": "loading",
    "save": "writing",
    "write": "writing",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module 'deft.bundle' has no attribute '{name}'")
    return getattr(importlib.import_module(f"deft.bundle.{_WITH_TORCH[name]}"), name)
