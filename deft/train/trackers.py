"""Where measurements also go, besides metrics.jsonl: TensorBoard or Weights & Biases."""

import io
import json
import time
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from deft.errors import ConfigError, TrainError, nearest, need
from deft.train.interrupt import StoppedError

KINDS = ("none", "tensorboard", "wandb")
"""Every value of `tracker=`."""
NOTE = "tracker.json"
"""File in the run that keeps the tracker's id of it."""


@dataclass(frozen=True, kw_only=True)
class TrackerConfig:
    """Whether and how a run is shown elsewhere; decides nothing of what it computes."""

    kind: Literal["none", "tensorboard", "wandb"] = "none"
    """Chosen by `tracker=`."""
    project: str = "deft"
    """Project of W&B."""
    entity: str | None = None
    """User or team of W&B; null takes the account's own."""
    name: str | None = None
    """What the run is called there; null takes task, policy and session."""
    group: str | None = None
    """Runs of W&B that belong together; null for none."""
    tags: tuple[str, ...] = ()
    """Tags of W&B."""
    notes: str | None = None
    """A longer text for W&B."""
    mode: Literal["online", "offline", "disabled"] = "online"
    """W&B: sent at once; kept in the run for `wandb sync`; or nothing at all."""


class Tracker(Protocol):
    """Shows numbers, pictures and videos of a run. Steps may be told twice, after a resume."""

    shows_videos: bool

    def write(self, step: int, values: Mapping[str, float]) -> None: ...
    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """One picture, uint8 `H W 3`, RGB."""
        ...

    def video(self, step: int, name: str, film: Path) -> None:
        """An MP4."""
        ...


class NoTracker:
    """Shows nothing anywhere."""

    shows_videos = False

    def write(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        pass

    def video(self, step: int, name: str, film: Path) -> None:
        pass


def tracker_defaults(kind: str) -> TrackerConfig:
    """The settings of one kind. Raises `ConfigError` for a kind that is not there."""
    for each in KINDS:
        if kind == each:
            return TrackerConfig(kind=each)  # pyright: ignore[reportArgumentType]
    raise ConfigError(
        f"There is no tracker '{kind}'. {nearest(kind, KINDS)}\n"
        "Fix: choose one of these with `tracker=`."
    )


@contextmanager
def tracking(
    config: TrackerConfig, run: Path, settings: Mapping[str, Any], *, start_step: int
) -> Generator[Tracker]:
    """A tracker inside the block; closed with all that it was told, however the block ends.

    Args:
        config: which, and how.
        run: the run's folder; keeps the tracker's files and its id, so that a resumed run goes on
            as the same one.
        settings: the run's settings, to be shown beside it.
        start_step: where the run goes on; what was told of later steps no longer counts.

    Raises:
        MissingPackageError: its package is not installed.
        TrainError: W&B refuses, because nobody is logged in, say.
    """
    if config.kind == "none":
        yield NoTracker()
    elif config.kind == "tensorboard":
        board = _TensorBoard(run, start_step)
        try:
            yield board
        finally:
            board.close()
    else:
        remote = _WandB(config, run, settings)
        try:
            yield remote
        except StoppedError:
            # Neither done nor failed: W&B shows it as preempted until it goes on.
            remote.preempt()
            remote.close(1)
            raise
        except BaseException:
            remote.close(1)
            raise
        remote.close(0)


def kept_id(run: Path, kind: str) -> str:
    """The id under which a run is known to a tracker: that of its first launch, or a new one."""
    path = run / NOTE
    try:
        ids: dict[str, str] = json.loads(path.read_text())
    except FileNotFoundError:
        ids = {}
    except ValueError as error:
        raise TrainError(
            f"{path}: damaged: {error}.\nFix: delete it; the tracker then shows a new run."
        ) from error
    if kind not in ids:
        ids[kind] = uuid.uuid4().hex[:12]
        run.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{NOTE}.new")
        beside.write_text(json.dumps(ids))
        beside.replace(path)
    return ids[kind]


class _TensorBoard:
    """Event files in `<run>/tensorboard`, written without PyTorch's own writer."""

    shows_videos = True

    def __init__(self, run: Path, start_step: int) -> None:
        module = need("tensorboard.summary.writer.event_file_writer", "trackers")
        self._event = need("tensorboard.compat.proto.event_pb2", "trackers")
        self._summary = need("tensorboard.compat.proto.summary_pb2", "trackers")
        self._writer = module.EventFileWriter(str(run / "tensorboard"), flush_secs=10)
        if start_step:
            # Tells TensorBoard to forget what the killed launch said of later steps.
            mark = self._event.SessionLog(status=self._event.SessionLog.START)
            self._add(self._event.Event(session_log=mark, step=start_step + 1))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        rows = [
            self._summary.Summary.Value(tag=name, simple_value=float(value))
            for name, value in values.items()
        ]
        self._show(step, rows)

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        import cv2

        _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        self._show_picture(step, name, picture.shape[:2], data.tobytes())

    def video(self, step: int, name: str, film: Path) -> None:
        size, data = _gif(film)
        self._show_picture(step, name, size, data)

    def close(self) -> None:
        self._writer.close()

    def _show_picture(self, step: int, name: str, size: tuple[int, ...], data: bytes) -> None:
        height, width = size
        shown = self._summary.Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=data
        )
        self._show(step, [self._summary.Summary.Value(tag=name, image=shown)])

    def _show(self, step: int, rows: list[Any]) -> None:
        self._add(self._event.Event(step=step, summary=self._summary.Summary(value=rows)))

    def _add(self, event: Any) -> None:
        event.wall_time = time.time()
        self._writer.add_event(event)


class _WandB:
    """A run of Weights & Biases; its own files lie in `<run>/wandb`."""

    shows_videos = True

    def __init__(self, config: TrackerConfig, run: Path, settings: Mapping[str, Any]) -> None:
        self._wandb = need("wandb", "trackers")
        key = kept_id(run, "wandb")
        try:
            self._run = self._wandb.init(
                dir=str(run),
                id=key,
                # Offline there is nobody to ask whether the run is known.
                resume="allow" if config.mode == "online" else None,
                project=config.project,
                entity=config.entity,
                name=config.name or "/".join(run.parts[-3:]),
                group=config.group,
                tags=list(config.tags) or None,
                notes=config.notes,
                mode=config.mode,
                config=dict(settings),
                allow_val_change=True,
            )
        except (self._wandb.Error, OSError) as error:
            raise TrainError(
                f"{run}: W&B does not begin.\nFound: {error}.\n"
                "Fix: wandb login; or set tracker.mode=offline, or tracker=none."
            ) from error
        # By our own count of steps, W&B takes what is told again after a resume.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        self._run.log({"step": step, name: self._wandb.Image(picture)})

    def video(self, step: int, name: str, film: Path) -> None:
        # W&B copies the file at once.
        self._run.log({"step": step, name: self._wandb.Video(str(film), format="mp4")})

    def preempt(self) -> None:
        self._run.mark_preempting()

    def close(self, code: int) -> None:
        self._run.finish(exit_code=code)


def _gif(film: Path) -> tuple[tuple[int, int], bytes]:
    """Height and width, and an animation, which TensorBoard shows as a picture that moves."""
    av = need("av", "video")
    target = io.BytesIO()
    with av.open(str(film)) as source, av.open(target, "w", format="gif") as container:
        shown = source.streams.video[0]
        stream = container.add_stream("gif", rate=shown.average_rate)
        stream.width, stream.height, stream.pix_fmt = shown.width, shown.height, "rgb8"
        for frame in source.decode(shown):
            container.mux(stream.encode(frame.reformat(format="rgb8")))
        container.mux(stream.encode(None))
        size = (shown.height, shown.width)
    return size, target.getvalue()
