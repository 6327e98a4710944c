"""Writes a store episode by episode; survives being killed at any moment."""

import json
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft import __version__
from deft.errors import StoreError
from deft.spec import Episode, Problem, Spec, check, to_plain
from deft.store import files
from deft.store.choice import check_names
from deft.store.layout import (
    FORMAT,
    VERSION,
    WriteConfig,
    is_store,
    plan_frames,
    stored_spec,
)
from deft.store.manifest import begun, canonical, grown
from deft.store.packing import Base, Packer
from deft.store.parts import folder_of
from deft.store.staging import stage, staged_path


@dataclass(frozen=True, kw_only=True)
class WriteReport:
    """What became of a conversion."""

    path: Path
    digest: str
    episodes: int
    steps: int
    frames: int
    """Pictures stored, all cameras together."""
    size_bytes: int
    """Of all files of the store."""
    added: int
    """Episodes that came with this call; all of them, unless they were appended."""
    left_out: tuple[tuple[str, str], ...]
    """Episode id and reason, of this call."""
    problems: tuple[Problem, ...]
    """Of the episodes of this call, and of the recording as a whole."""


class Writer:
    """Collects episodes in `<path>.partial/` and turns them into a finished store.

    Each episode is one file there, written beside, synced and renamed; so after `kill -9` a new
    Writer with the same arguments has all that `add` returned for, and only the rest is to do.
    `finish` packs into `<path>.partial/packed/` and renames that: the store appears whole.
    Equal episodes in equal order give equal bytes, whatever happened in between.

    Args:
        path: the store's folder; must not exist unless `overwrite`.
        spec: contract of the episodes to come.
        config: sizes, codec, split.
        provenance: where the data comes from, plain JSON values, no clock times, no absolute paths.
        overwrite: replace a store that is there, and drop a half-written one that does not fit.
        steps: how many are to come in all, for codec `auto`; None when that is not known.
        base: the finished store at `path` that this becomes a new part of, see `growth.appender`;
            `config` must be its own. Its files stay as they are, so that those who have it open
            go on undisturbed, and store.json is replaced last.

    Raises:
        StoreError: `path` is taken, or another process writes it, or a half-written store there
            was begun with other arguments.
        ConfigError: a camera cannot be kept as `config` says.
    """

    def __init__(
        self,
        path: str | Path,
        spec: Spec,
        config: WriteConfig,
        provenance: Mapping[str, Any],
        *,
        overwrite: bool = False,
        steps: int | None = None,
        base: Base | None = None,
    ) -> None:
        check_names(spec, config)
        self.path = Path(path)
        self.spec = base.spec if base else stored_spec(spec, config)
        self._given_spec = spec
        self._config = config
        self._base = base
        self._plans = {f.name: plan_frames(f, config, steps) for f in spec.features if f.is_frame}
        for name in self.spec.names:
            files.file_name(name)
        self._plan = self._make_plan(provenance)
        self._overwrite = overwrite
        self._folder = _partial(self.path)
        self._waiting = waiting_folder(self.path)
        self._left_out: dict[str, str] = {}
        self._guard = threading.Lock()
        self._refuse_taken()
        self._lock = files.FolderLock(self._folder)
        try:
            if _is_done(self.path, self._folder):
                _remove_folder(self._folder, self._lock)
                self._refuse_taken()
                self._lock = files.FolderLock(self._folder)
            self._begin()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the store; what was added stays for the next Writer. Harmless twice."""
        self._lock.release()

    def has(self, id_: str) -> bool:
        """True when this episode is kept, by `add`, a `Helper`, or before an interruption."""
        place = staged_path(self._waiting, id_)
        if place.name not in self._kept and place.exists():
            with self._guard:
                self._kept.add(place.name)
        return place.name in self._kept

    @property
    def kept(self) -> int:
        """Episodes kept so far."""
        return len(self._kept)

    def add(self, episode: Episode, instructions: Sequence[str] = ()) -> int:
        """Keep one episode for good; safe to call from several threads.

        Args:
            episode: what to keep.
            instructions: every wording of its task, as `EpisodeInfo` has them.

        Returns:
            Bytes it takes while it waits.

        Raises:
            StoreError: the episode cannot be stored, or its id was added before.
            SpecError: it follows another contract than the Writer.
            DiskError: the disk refused.
        """
        if episode.spec != self._given_spec:
            check(episode.spec, self._given_spec, f"Episode '{episode.id}'")
        name = staged_path(self._waiting, episode.id).name
        with self._guard:
            twice = name in self._kept or name in self._adding
            self._adding.add(name)
        if twice:
            raise StoreError(
                f"Episode '{episode.id}' is in the store already.\n"
                "Fix: give every episode an id of its own."
            )
        try:
            size = stage(self._waiting, episode, self.spec, self._plans, instructions)
        finally:
            with self._guard:
                self._adding.discard(name)
        with self._guard:
            self._kept.add(name)
        return size

    def leave_out(self, id_: str, why: str) -> None:
        """Say that an episode of the coming order is not stored, and why."""
        with self._guard:
            self._left_out[id_] = why

    def finish(
        self,
        order: Sequence[str],
        problems: Sequence[Problem] = (),
        progress: Callable[[int], None] = lambda _: None,
    ) -> WriteReport:
        """Pack all episodes and let the store appear.

        Args:
            order: every id, added or left out, in the order of the store.
            problems: findings to keep with it, besides those made as episodes were encoded.
            progress: told the number of episodes packed, after each.

        Raises:
            StoreError: ids are missing, surplus or twice, or none is left; nothing appears.
            DiskError: the disk refused; nothing appears.
        """
        kept = self._check_order(order)
        packed = self._folder / "packed"
        try:
            if packed.exists():
                shutil.rmtree(packed)
            packed.mkdir()
            packer = Packer(self._waiting, packed, self.spec, self._plans, self._config, self._base)
            found = packer.pack(kept, progress)
            problems = [*problems, *(each for each in packer.findings if each not in problems)]
            left_out = {id_: self._left_out[id_] for id_ in order if id_ in self._left_out}
            if self._base is None:
                info = begun(self._plan, self.spec, found, left_out, problems)
                files.write_durably(packed / "store.json", files.to_json(info))
            else:
                info = grown(self._base.info, self._plan, found, kept, left_out, problems)
            files.write_durably(self._folder / "finished", info["digest"].encode())
            if self._base is None:
                self._appear(packed)
            else:
                self._grow(packed, folder_of(len(self._base.parts)), info)
            _remove_folder(self._folder, self._lock)
        except OSError as error:
            raise files.disk_refused(packed, error) from error
        return report_of(self.path, info, found["episodes"], tuple(left_out.items()), problems)

    def abandon(self) -> None:
        """Throw away what waits, and let go of the store."""
        _remove_folder(self._folder, self._lock)

    def _make_plan(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        plan = {
            "format": FORMAT,
            "version": VERSION,
            "given_spec": self._given_spec.to_json(),
            "config": to_plain(self._config),
            "codecs": {name: plan.codec for name, plan in self._plans.items()},
            "appends_to": self._base.info["digest"] if self._base else None,
            "provenance": {"written_by": f"deft {__version__}", **provenance},
        }
        try:
            text = canonical(plan).decode()
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"Provenance cannot be kept.\nFound: {error}.\nFix: give plain JSON values."
            ) from error
        return json.loads(text)

    def _refuse_taken(self) -> None:
        if self._base is not None or not self.path.exists() or self._folder.exists():
            return
        self._refuse_present()

    def _refuse_present(self) -> None:
        """`path` is there: fine only when it is a store that may be replaced."""
        if not is_store(self.path):
            raise StoreError(
                f"{self.path}: something that is no store is there already.\n"
                "Fix: give another path."
            )
        if not self._overwrite:
            raise StoreError(
                f"{self.path}: a finished store is there already.\n"
                "Fix: use it, give another path, add to it with `--append`, or replace it with "
                "`--overwrite`."
            )

    def _refuse_changed(self, base: Base) -> None:
        """The store that is appended to must still be the one that was opened."""
        if files.read_json(self.path / "store.json").get("digest") != base.info["digest"]:
            raise StoreError(
                f"{self.path}: the store has changed since it was opened.\n"
                "Fix: run the same command again."
            )

    def _begin(self) -> None:
        """Take up what an earlier Writer left, or begin anew; the lock is held."""
        if self._base is not None:
            self._refuse_changed(self._base)
        elif self.path.exists():
            self._refuse_present()
        plan_file = self._folder / "plan.json"
        if plan_file.exists():
            before = files.read_json(plan_file)
            changed = [key for key in self._plan if before.get(key) != self._plan[key]]
            if changed and not self._overwrite:
                raise StoreError(
                    f"{self._folder}: a store begun with other arguments waits here.\n"
                    f"Found: {', '.join(changed)} differ.\n"
                    f"Fix: give the same arguments to go on, or delete {self._folder}."
                )
            if changed:
                plan_file.unlink()
        if not plan_file.exists():
            # Without a plan this is a folder whose removal was interrupted, or a new one.
            files.empty_folder(self._folder, keep=files.LOCK)
            files.write_durably(plan_file, files.to_json(self._plan))
        self._waiting.mkdir(exist_ok=True)
        self._adding: set[str] = set()
        self._kept: set[str] = set()
        for file in self._waiting.glob("??/*"):
            if file.suffix == ".tmp":
                file.unlink()
            else:
                self._kept.add(file.name)

    def _check_order(self, order: Sequence[str]) -> list[str]:
        names = {staged_path(self._waiting, id_).name for id_ in order}
        twice = len(order) - len(names)
        missing = [id_ for id_ in order if not self.has(id_) and id_ not in self._left_out]
        surplus = len(self._kept - names)
        if twice or missing or surplus:
            raise StoreError(
                f"{self.path}: the order does not name every episode once.\n"
                f"Found: {twice} named twice, {surplus} kept but not named, {len(missing)} neither "
                f"kept nor left out{': ' + ', '.join(missing[:5]) if missing else ''}.\n"
                f"Fix: name each once; when the recording has changed, delete {self._folder}."
            )
        kept = [id_ for id_ in order if self.has(id_) and id_ not in self._left_out]
        if not kept:
            reasons = "; ".join(sorted(set(self._left_out.values()))[:3]) or "there was none"
            raise StoreError(
                f"{self.path}: no episode to store.\nFound: {reasons}\n"
                "Fix: repair the recording, or select other episodes."
            )
        return kept

    def _appear(self, packed: Path) -> None:
        files.sync_folder(packed)
        if self.path.exists():
            old = self._folder / "old"
            if old.exists():
                shutil.rmtree(old)
            self.path.rename(old)
        packed.rename(self.path)
        files.sync_folder(self.path.parent)

    def _grow(self, packed: Path, folder: str, info: dict[str, Any]) -> None:
        files.sync_folder(packed)
        target = self.path / folder
        target.parent.mkdir(exist_ok=True)
        if target.exists():  # from a Writer that was killed before store.json named it
            shutil.rmtree(target)
        packed.rename(target)
        files.sync_folder(target.parent)
        files.write_durably(self.path / "store.json", files.to_json(info))


def report_of(
    path: Path,
    info: Mapping[str, Any],
    added: int,
    left_out: Sequence[tuple[str, str]],
    problems: Sequence[Problem],
) -> WriteReport:
    """What became of a conversion, from what store.json says now."""
    size = sum(entry["bytes"] for entry in info["files"].values())
    return WriteReport(
        path=path,
        digest=info["digest"],
        episodes=info["episodes"],
        steps=info["steps"],
        frames=info["steps"] * len(info["frames"]),
        size_bytes=size + (path / "store.json").stat().st_size,
        added=added,
        left_out=tuple(left_out),
        problems=tuple(problems),
    )


def waiting_folder(path: Path) -> Path:
    """Where the episodes of a store that is being written wait."""
    return _partial(path) / "episodes"


def tidy(path: str | Path) -> None:
    """Remove what a writer left beside its store when it was killed after finishing it.

    An unfinished conversion is left alone. Raises `StoreError` while another process writes there.
    """
    folder = _partial(Path(path))
    if not _is_done(Path(path), folder):
        return
    lock = files.FolderLock(folder)
    if _is_done(Path(path), folder):
        _remove_folder(folder, lock)
    lock.release()


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _is_done(path: Path, folder: Path) -> bool:
    """True when there is a store at `path` and nothing in `folder` that could still become one."""
    if not (folder.exists() and is_store(path)):
        return False
    if not (folder / "plan.json").exists():
        return True
    mark = folder / "finished"
    return mark.exists() and files.read_json(path / "store.json").get("digest") == mark.read_text()


def _remove_folder(folder: Path, lock: files.FolderLock) -> None:
    # The plan goes first: a folder without one is rubbish to every later Writer, and to `tidy`.
    (folder / "plan.json").unlink(missing_ok=True)
    files.empty_folder(folder, keep=files.LOCK)
    (folder / files.LOCK).unlink()
    folder.rmdir()
    lock.release()
