"""Writes robomimic's HDF5: each episode to a file of its own, all of them copied into one."""

import contextlib
import json
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from deft.errors import FormatError, ShapeError, need
from deft.formats.robomimic_meta import keys_of
from deft.formats.writing import Workspace, disk_refused
from deft.spec import Episode, Frames, Spec, check, expect

_ROWS_BYTES = 8 << 20
_MASKS = {"train": "train", "val": "valid"}


@dataclass(frozen=True, kw_only=True)
class RobomimicWriteOptions:
    """How a robomimic file is written."""

    compress: bool = False
    """Whether pictures are packed with gzip, one chunk each: smaller, slower to write and read."""
    next_obs: bool = False
    """Whether `next_obs` holds every observation once more, one step later (the last one twice),
    as robomimic's training wants it unless `train.hdf5_load_next_obs` is false."""
    env_args: str = ""
    """JSON for `env_args`, as robomimic needs it to build the simulator; else Deft's own notes."""

    def __post_init__(self) -> None:
        if not self.env_args:
            return
        try:
            found = json.loads(self.env_args)
        except ValueError as error:
            raise FormatError(
                f"The option `env_args` is no JSON.\nFound: {error}.\n"
                "Fix: give what robomimic's `env.serialize()` returns, as JSON."
            ) from error
        if not isinstance(found, dict):
            raise FormatError(
                f"The option `env_args` must be a JSON object.\nFound: {type(found).__name__}.\n"
                "Fix: give what robomimic's `env.serialize()` returns, as JSON."
            )


class RobomimicWriter:
    """Satisfies `formats.Writer`.

    Commands become `actions`, features called `reward`, `done` and `states` the data sets of
    robomimic, everything else `obs/<name>`. Where there is no reward or done, `rewards` are zero
    and `dones` mark the last step, since robomimic reads both; Deft passes over them. Units,
    element names, roles, episode ids and steps that are not valid are kept in attributes that
    robomimic passes over and Deft reads again. Splits become masks; the instruction becomes
    `lang` of `ep_meta`.

    Args:
        workspace: where episodes wait.
        spec: with exactly one action.
        options: see there.

    Raises:
        FormatError: robomimic cannot hold the spec.
    """

    def __init__(self, workspace: Workspace, spec: Spec, options: RobomimicWriteOptions) -> None:
        if len(spec.role("action")) != 1:
            found = ", ".join(feature.name for feature in spec.role("action")) or "none"
            raise FormatError(
                f"{workspace.path}: robomimic holds one action feature.\nFound: {found}.\n"
                "Fix: fuse them, or keep one."
            )
        self.spec = spec
        self._workspace, self._options = workspace, options
        self._keys = keys_of(spec)
        self._filled = sorted({"rewards", "dones"} - set(self._keys.values()))
        for name, key in self._keys.items():
            if not key.isprintable():
                raise FormatError(
                    f"{workspace.path}: feature {name!r} cannot be a name in an HDF5 file.\n"
                    "Fix: rename it, with letters and digits."
                )

    @property
    def path(self) -> Path:
        return self._workspace.path

    def __enter__(self) -> "RobomimicWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._workspace.close()

    def has(self, id_: str, /) -> bool:
        return self._workspace.has(id_)

    def add(self, episode: Episode, /) -> None:
        if episode.spec != self.spec:
            check(episode.spec, self.spec, f"Episode '{episode.id}'")
        if len(episode) == 0:
            raise FormatError(f"Episode '{episode.id}' has no steps.\nFix: leave it out.")
        self._workspace.keep(episode.id, lambda path: self._write(path, episode))

    def finish(self, order: Sequence[str], /) -> Path:
        return self._workspace.publish(order, self._pack)

    def _write(self, path: Path, episode: Episode) -> None:
        with _new_file(path) as file:
            group = file.create_group("demo")
            for name, key in self._keys.items():
                if not self.spec[name].is_frame:
                    group.create_dataset(key, data=episode.arrays[name])
            for name, frames in episode.frames.items():
                self._write_pictures(group, name, frames, len(episode), episode.id)
            for key in self._filled:
                values = np.zeros(len(episode), np.float32 if key == "rewards" else np.int64)
                values[-1] = key == "dones"
                group.create_dataset(key, data=values)
            if self._options.next_obs:
                self._repeat_observations(group)
            if episode.valid is not None:
                group.create_dataset("valid", data=episode.valid)
            group.attrs["num_samples"] = len(episode)
            group.attrs["ep_meta"] = _json({"lang": episode.task} if episode.task else {})
            group.attrs["deft_episode"] = _json({"id": episode.id, "source": episode.source})
            file.attrs["split"] = _json(episode.split)

    def _repeat_observations(self, group: Any) -> None:
        """`next_obs`, a few rows at a time."""
        for key in self._keys.values():
            if not key.startswith("obs/"):
                continue
            held = group[key]
            following = group.create_dataset(
                f"next_{key}",
                held.shape,
                held.dtype,
                compression=held.compression,
                chunks=held.chunks,
            )
            rows = max(1, _ROWS_BYTES // max(1, held[:1].nbytes))
            for at in range(0, len(held) - 1, rows):
                part = held[at + 1 : at + 1 + rows]
                following[at : at + len(part)] = part
            following[-1] = held[-1]

    def _write_pictures(
        self, group: Any, name: str, frames: Frames, length: int, episode: str
    ) -> None:
        feature = self.spec[name]
        options: dict[str, Any] = {}
        if self._options.compress:
            options = {"compression": "gzip", "chunks": (1, *feature.shape)}
        held = group.create_dataset(
            self._keys[name], (length, *feature.shape), feature.dtype, **options
        )
        step = -1
        for step, picture in enumerate(frames):
            where = f"Episode '{episode}', '{name}', step {step}"
            try:
                expect(picture, feature.shape, feature.dtype, where)
            except ShapeError as error:
                raise FormatError(str(error)) from error
            if step == length:
                break
            held[step] = picture
        if step + 1 != length:
            raise FormatError(
                f"Episode '{episode}', '{name}': promised {length} pictures.\n"
                f"Found: {'more' if step >= length else step + 1}.\n"
                "Fix: repair the recording, or leave the episode out."
            )

    def _pack(self, path: Path, places: list[Path]) -> None:
        h5py = need("h5py", "hdf5")
        masks: dict[str, list[str]] = {}
        total = 0
        with _new_file(path) as file:
            data = file.create_group("data")
            for number, place in enumerate(places):
                name = f"demo_{number}"
                with h5py.File(place, "r") as episode:
                    episode.copy("demo", data, name)
                    total += int(episode["demo"].attrs["num_samples"])
                    split = json.loads(episode.attrs["split"])
                if split:
                    mask = _MASKS.get(split, re.sub(r"[^\w.-]", "_", split))
                    masks.setdefault(mask, []).append(name)
            data.attrs["total"] = total
            data.attrs["env_args"] = self._options.env_args or _json(self._env_args())
            data.attrs["deft_spec"] = _json(self.spec.to_json())
            if self._filled:
                data.attrs["deft_filled"] = _json(dict.fromkeys(self._filled, "not recorded"))
            for mask, names in masks.items():
                file.create_dataset(f"mask/{mask}", data=[each.encode() for each in names])

    def _env_args(self) -> Mapping[str, Any]:
        kwargs: dict[str, Any] = {}
        if self.spec.fps:
            kwargs["control_freq"] = self.spec.fps
        if self.spec.embodiment:
            kwargs["robots"] = [self.spec.embodiment]
        # 2 is robomimic's number for a Gym environment; there is none for a real robot. It reads
        # `type`; its documentation says `env_type`.
        return {
            "env_name": self.spec.embodiment,
            "type": 2,
            "env_type": 2,
            "env_kwargs": kwargs,
        }


@contextmanager
def _new_file(path: Path) -> Generator[Any]:
    """A new HDF5 file; what goes wrong while it is closed is the disk's doing."""
    h5py = need("h5py", "hdf5")
    file = h5py.File(path, "x")
    try:
        yield file
    except BaseException:
        with contextlib.suppress(OSError, RuntimeError):
            file.close()  # it is thrown away, and only the first error counts
        raise
    try:
        file.close()
    except RuntimeError as error:
        raise disk_refused(path, OSError(str(error))) from error


def _json(value: Any) -> str:
    """Plain ASCII without zero bytes, whatever the texts in it hold; HDF5 takes no others."""
    return json.dumps(value, sort_keys=True)
