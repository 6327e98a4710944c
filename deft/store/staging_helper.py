"""Adds episodes to a conversion that another process leads, on the same file system."""

from collections.abc import Sequence
from pathlib import Path

from deft.errors import StoreError
from deft.spec import Episode, Spec, check
from deft.store.layout import WriteConfig, plan_frames, stored_spec
from deft.store.staging import stage, staged_path
from deft.store.writer import waiting_folder


class Helper:
    """Keeps episodes where a `Writer` elsewhere finds them; satisfies `store.Sink`.

    It takes no lock: the Writer has it, and gives every episode to one helper only.

    Args:
        path: the store's folder, as the Writer was given it.
        spec: contract of the episodes to come, the Writer's.
        config: the Writer's.
        steps: the Writer's.

    Raises:
        StoreError: no Writer has begun there.
    """

    def __init__(self, path: str | Path, spec: Spec, config: WriteConfig, steps: int) -> None:
        self._waiting = waiting_folder(Path(path))
        if not self._waiting.is_dir():
            raise StoreError(
                f"{self._waiting}: there is nothing to help with.\n"
                "Fix: begin with a Writer on a file system that this process sees as well."
            )
        self._given_spec = spec
        self._spec = stored_spec(spec, config)
        self._plans = {f.name: plan_frames(f, config, steps) for f in spec.features if f.is_frame}

    def has(self, id_: str, /) -> bool:
        """True when the episode is kept already."""
        return staged_path(self._waiting, id_).exists()

    def add(self, episode: Episode, instructions: Sequence[str] = (), /) -> int:
        """Keep one episode for good; see `Writer.add`."""
        if episode.spec != self._given_spec:
            check(episode.spec, self._given_spec, f"Episode '{episode.id}'")
        return stage(self._waiting, episode, self._spec, self._plans, instructions)
