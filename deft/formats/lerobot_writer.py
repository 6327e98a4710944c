"""Writes LeRobot data sets, v2.1 and v3.0: each episode to a folder of its own, then packed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from deft.errors import ConfigError, FormatError
from deft.formats.lerobot_fragment import Fragment, write_fragment
from deft.formats.lerobot_pack import Plan, pack_v21, pack_v30
from deft.formats.lerobot_schema import plan_columns
from deft.formats.video_encoding import CODECS, VideoSettings, resolve_codec
from deft.formats.writing import Workspace
from deft.spec import Episode, Spec, check

_PICTURES = ("video", "image")


@dataclass(frozen=True, kw_only=True)
class LeRobotV21WriteOptions:
    """How a LeRobot data set is written."""

    pictures: str = "video"
    """What colour cameras become: `video`, or `image` for PNG in the tables, without loss. Depth
    and grey pictures are always kept without loss."""
    codec: str = "auto"
    """Of videos: `av1`, `h264`, or `auto` for the first of them that can be encoded here."""
    crf: int = 0
    """Quality of videos, 1 to 63, smaller is better; 0 takes 30 for AV1, 23 for H.264."""
    gop: int = 2
    """A key frame every so many frames; few make any frame quick to reach."""
    pixel_format: str = "yuv420p"
    """FFmpeg's name; `yuv444p` keeps colours sharper, and H.264 takes odd sizes with it."""
    robot_type: str = ""
    """What the robot is called; else the contract's embodiment."""

    def __post_init__(self) -> None:
        if self.pictures not in _PICTURES:
            raise ConfigError(
                f"pictures is '{self.pictures}'.\nFix: choose from {', '.join(_PICTURES)}."
            )
        if self.codec not in CODECS:
            raise ConfigError(f"codec is '{self.codec}'.\nFix: choose from {', '.join(CODECS)}.")
        if not 0 <= self.crf <= 63:
            raise ConfigError(f"crf is {self.crf}.\nFix: give 1 to 63, or 0 for the usual value.")
        if not 1 <= self.gop <= 1000:
            raise ConfigError(f"gop is {self.gop}.\nFix: give 1 to 1000 frames.")
        for name in ("data_file_mb", "video_file_mb"):
            if getattr(self, name, 1) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}.\nFix: give 1 or more.")


@dataclass(frozen=True, kw_only=True)
class LeRobotV30WriteOptions(LeRobotV21WriteOptions):
    """How a LeRobot data set of v3.0 is written."""

    data_file_mb: int = 100
    """Tables up to this size share a file, in megabytes."""
    video_file_mb: int = 200
    """Videos up to this size share a file, in megabytes."""


class LeRobotWriter:
    """Satisfies `formats.Writer`.

    One state becomes `observation.state`, one action `action`, cameras `observation.images.<name>`,
    a reward `next.reward`; the instruction becomes the task. What LeRobot has no place for is kept
    in `meta/deft.json`, and read again by Deft.

    Args:
        workspace: where episodes wait.
        spec: contract of the episodes to come.
        options: see there.
        pack: makes the data set of one version.
        is_pooled: see `lerobot_stats.of_table`.

    Raises:
        FormatError: LeRobot cannot hold the spec, or the codec cannot be encoded here.
    """

    def __init__(
        self,
        workspace: Workspace,
        spec: Spec,
        options: LeRobotV21WriteOptions,
        pack: Callable[[Plan], None],
        is_pooled: bool,
    ) -> None:
        self.spec = spec
        self._is_pooled = is_pooled
        self._workspace, self._options, self._pack = workspace, options, pack
        self._columns = plan_columns(spec, options.pictures, str(workspace.path))
        has_videos = any(each.kind == "video" for each in self._columns)
        self._video = VideoSettings(
            codec=resolve_codec(options.codec) if has_videos else options.codec,
            crf=options.crf,
            gop=options.gop,
            pixel_format=options.pixel_format,
        )

    @property
    def path(self) -> Path:
        return self._workspace.path

    def __enter__(self) -> "LeRobotWriter":
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

        def write(path: Path) -> None:
            write_fragment(path, episode, self._columns, self._video, self._is_pooled)

        self._workspace.keep(episode.id, write)

    def finish(self, order: Sequence[str], /) -> Path:
        return self._workspace.publish(order, self._publish)

    def _publish(self, path: Path, places: list[Path]) -> None:
        fragments = [Fragment(place) for place in places]
        codecs = sorted({fragment.about["codec"] for fragment in fragments})
        if codecs != [self._video.codec]:
            raise FormatError(
                f"{self.path}: its episodes were encoded as {' and '.join(codecs)}, and "
                f"{self._video.codec} is encoded here.\n"
                "Fix: name the `codec`, and begin anew without the folder `.partial`."
            )
        self._pack(Plan(path, self.spec, self._columns, fragments, self._options.robot_type))


def lerobot_v21_writer(
    workspace: Workspace, spec: Spec, options: LeRobotV21WriteOptions
) -> LeRobotWriter:
    """See `LeRobotWriter`."""
    return LeRobotWriter(workspace, spec, options, pack_v21, is_pooled=False)


def lerobot_v30_writer(
    workspace: Workspace, spec: Spec, options: LeRobotV30WriteOptions
) -> LeRobotWriter:
    """See `LeRobotWriter`."""

    def pack(plan: Plan) -> None:
        pack_v30(plan, options.data_file_mb, options.video_file_mb)

    return LeRobotWriter(workspace, spec, options, pack, is_pooled=True)
