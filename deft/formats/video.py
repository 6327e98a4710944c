"""The frames of a video file, or of one stretch of it: in order, or any one of them."""

import threading
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import FormatError, need
from deft.formats.regular import check_regular, open_regular


@dataclass(frozen=True)
class Clip:
    """Where an episode lies among the videos."""

    path: Path
    start_s: float | None = None
    """When its first frame is shown; None for the first frame of the file."""
    stop_s: float | None = None
    """When the frame behind its last one is, or would be, shown; None when nobody says."""


@dataclass(frozen=True)
class VideoHeader:
    """What a container says of its first video stream, without decoding."""

    frames: int
    """0 when the container does not say."""
    height: int
    width: int


def read_header(path: Path) -> VideoHeader:
    """Raises `FormatError` when the file is missing, cut short or holds no video."""
    with _open(path) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        return VideoHeader(stream.frames, context.height, context.width)


def whats_wrong_outside(path: Path) -> str:
    """Why an mp4 file cannot be whole, from the sizes of its outermost parts; else empty.

    Reads some bytes of each part only; for finding missing and cut files among thousands. Any
    other kind of file passes.
    """
    try:
        with open_regular(path) as file:
            end = file.seek(0, 2)
            at, kinds = 0, set[bytes]()
            while at < end:
                file.seek(at)
                head = file.read(16)
                if at == 0 and head[4:8] not in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
                    return "" if end else "the file is empty"
                kinds.add(head[4:8])
                size = int.from_bytes(head[:4], "big")
                if size == 1:
                    size = int.from_bytes(head[8:16], "big")
                if size == 0:  # up to the end of the file
                    size = end - at
                if size < 8 or at + size > end:
                    return f"the file is cut short, at {end} bytes"
                at += size
    except OSError as error:
        return str(error)
    if not end:
        return "the file is empty"
    return "" if b"moov" in kinds else "the file has no index; it was not finished"


class VideoFrames:
    """`count` frames of a video as pictures; satisfies `spec.Frames`.

    Iterating seeks to the key frame before the stretch and decodes once, front to back, on one
    thread: read several episodes at a time to use more. `frames[i]` seeks to the key frame before
    frame `i`; frames asked for in rising order go on without seeking. At no time is more than a
    frame held. Safe to share between threads.

    Args:
        clip: file, and the stretch of it.
        count: frames of the episode, counted from the clip's start.
        height: of every frame.
        width: of every frame.
        convert: makes the picture `H W C` of a decoded frame; RGB by default.
    """

    def __init__(
        self,
        clip: Clip | Path,
        count: int,
        height: int,
        width: int,
        convert: Callable[[Any], np.ndarray] | None = None,
    ) -> None:
        self._clip = Clip(clip) if isinstance(clip, Path) else clip
        self._path, self._count = self._clip.path, count
        self._height, self._width = height, width
        self._convert = convert
        self._lock = threading.Lock()
        self._cursor: _Cursor | None = None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[np.ndarray]:
        done = 0
        picture = self._pictures()
        if self._count == 0:
            return
        with _open(self._path) as container, _decoding(self._path):
            for frame in _stretch(container, self._clip):
                yield picture(frame, done)
                done += 1
                if done == self._count:
                    return
        raise self._short(done)

    def __getitem__(self, index: int, /) -> np.ndarray:
        step = range(self._count)[index]
        with self._lock:
            if self._cursor is None:
                self._cursor = _Cursor(self._clip)
            frame = self._cursor.frame(step)
            if frame is None:
                raise self._short(self._cursor.length)
            with _decoding(self._path):
                return self._pictures()(frame, step)

    def _pictures(self) -> Callable[[Any, int], np.ndarray]:
        """Turns frames into pictures; one for each pass, since it keeps a scaler ready."""
        convert = self._convert or _Rgb()

        def picture(frame: Any, step: int) -> np.ndarray:
            if (frame.height, frame.width) != (self._height, self._width):
                raise FormatError(
                    f"{self._path}, frame {step}: should be height {self._height}, width "
                    f"{self._width}.\nFound: height {frame.height}, width {frame.width}.\n"
                    "Fix: correct the size in meta/info.json, or encode the video again."
                )
            return convert(frame)

        return picture

    def _short(self, found: int) -> FormatError:
        return FormatError(
            f"{self._path}: the video ends before the episode does.\n"
            f"Found: {found} frames, the table has {self._count} rows.\n"
            "Fix: copy the file again, or leave this episode out."
        )


class _Rgb:
    """Makes the RGB picture `H W 3` of a decoded frame; for one thread."""

    def __init__(self) -> None:
        import cv2

        self._convert, self._code = cv2.cvtColor, cv2.COLOR_YUV2RGB_I420
        self._scaler = need("av", "video").video.reformatter.VideoReformatter()

    def __call__(self, frame: Any) -> np.ndarray:
        is_even = frame.height % 2 == 0 and frame.width % 2 == 0
        # FFmpeg's numbers: BT.601 or nothing is said; 16 to 235 or nothing is said.
        if (
            is_even
            and frame.format.name == "yuv420p"
            and frame.colorspace in (2, 5, 6)
            and frame.color_range in (0, 1)
        ):
            # FFmpeg's own conversion rounds down, by 1.1 of 255 on average; this one is right to
            # the bit, and costs less.
            return self._convert(frame.to_ndarray(), self._code)
        return self._scaler.reformat(frame, format="rgb24").to_ndarray()


@dataclass(frozen=True)
class _Limits:
    """From when on frames belong to a clip, and up to when, in ticks of the stream.

    Half a frame of slack on both sides: times in tables are rounded otherwise than in videos.
    """

    first: float
    last: float
    period: float
    """From one frame to the next."""

    @staticmethod
    def of(stream: Any, clip: Clip) -> "_Limits":
        tick_s = float(stream.time_base)
        period = 1 / (float(stream.average_rate or 30) * tick_s)
        first = -np.inf if clip.start_s is None else clip.start_s / tick_s - period / 2
        last = np.inf if clip.stop_s is None else clip.stop_s / tick_s - period / 2
        return _Limits(first, last, period)

    @property
    def aim(self) -> int:
        """Where to seek: at the first frame, which often is a key frame."""
        return 0 if self.first == -np.inf else max(0, int(self.first + 0.9 * self.period))


def _stretch(container: Any, clip: Clip) -> Iterator[Any]:
    """The frames of the clip, in order, decoded from the key frame before them."""
    stream = container.streams.video[0]
    limits = _Limits.of(stream, clip)
    for frame in _from(container, stream, limits):
        if frame.pts is not None and frame.pts >= limits.last:
            return
        yield frame


def _from(container: Any, stream: Any, limits: _Limits) -> Iterator[Any]:
    if limits.first == -np.inf:
        yield from container.decode(video=0)
        return
    # A seek may land behind its target when pictures are stored out of order; then start earlier,
    # at last from the beginning.
    for begin in (limits.aim, limits.aim - int(2 / float(stream.time_base)), 0):
        container.seek(max(0, begin), stream=stream)
        frames = container.decode(video=0)
        head = next(frames, None)
        is_late = head is None or head.pts is None or head.pts >= limits.first + limits.period
        if is_late and begin > 0:
            continue
        for frame in chain([] if head is None else [head], frames):
            if frame.pts is not None and frame.pts >= limits.first:
                yield frame
        return


class _Cursor:
    """A place in one stretch of a video; jumps only when that is cheaper than decoding on."""

    def __init__(self, clip: Clip) -> None:
        self._path = clip.path
        self._container = _open(clip.path)
        self._stream = self._container.streams.video[0]
        limits = _Limits.of(self._stream, clip)
        packets = sorted(self._packets(limits))
        self._times = [pts for pts, _ in packets if pts >= limits.first]
        self._keys = [pts for pts, is_key in packets if is_key]
        self._decoder = iter(())
        self._next = self.length
        """The frame that the decoder gives next; the end when it must seek first."""

    @property
    def length(self) -> int:
        return len(self._times)

    def frame(self, index: int) -> Any:
        """Frame number `index`, None when the stretch has fewer."""
        if index >= self.length:
            return None
        wanted = self._times[index]
        keys = self._keys[: bisect_right(self._keys, wanted)]
        if self._next <= index and not (keys and keys[-1] > self._times[self._next]):
            frame = self._decode_to(index)
            if frame is not None:
                return frame
        # As in `_from`.
        for begin in [*keys[:-4:-1], 0]:
            with _decoding(self._path):
                self._container.seek(begin, stream=self._stream)
            self._decoder = self._container.decode(video=0)
            frame = self._decode_to(index)
            if frame is not None:
                return frame
        return None

    def _packets(self, limits: _Limits) -> list[tuple[int, bool]]:
        """Time and kind of every packet of the stretch and of some before it."""
        packets: list[tuple[int, bool]] = []
        with _decoding(self._path):
            if limits.aim:
                self._container.seek(limits.aim, stream=self._stream)
            for packet in self._container.demux(video=0):
                if packet.size and not packet.is_discard:
                    if packet.pts is None:
                        raise FormatError(
                            f"{self._path}: its packets carry no presentation times.\n"
                            f"Found: packet {len(packets)} has none.\n"
                            "Fix: remux it, as in `ffmpeg -i in.mp4 -c copy out.mp4`."
                        )
                    # Packets come in the order of decoding, which never overtakes that of showing.
                    if (packet.pts if packet.dts is None else packet.dts) > limits.last:
                        break
                    if packet.pts < limits.last:
                        packets.append((packet.pts, packet.is_keyframe))
        return packets

    def _decode_to(self, index: int) -> Any:
        wanted = self._times[index]
        with _decoding(self._path):
            for frame in self._decoder:
                if frame.pts == wanted:
                    self._next = index + 1
                    if self._next == self.length:
                        self._decoder = iter(())
                    return frame
                if frame.pts is not None and frame.pts > wanted:
                    break
        self._next = self.length
        return None


def _open(path: Path) -> Any:
    """An open container with a video stream; a context manager, and closed when forgotten."""
    av = need("av", "video")
    with _decoding(path):
        check_regular(path)
        container = av.open(str(path), metadata_errors="replace")
    if not container.streams.video:
        raise FormatError(
            f"{path}: holds no video.\nFound: {len(container.streams)} other streams.\n"
            "Fix: copy the file again."
        )
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise FormatError(
            f"{path}: there is no decoder for this video.\n"
            "Found: a codec that PyAV does not know.\n"
            "Fix: copy the file again, or encode it as H.264 or AV1."
        )
    stream.thread_type = "NONE"
    return container


@contextmanager
def _decoding(path: Path) -> Generator[None]:
    av = need("av", "video")
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        raise FormatError(
            f"{path}: the video cannot be read.\nFound: {error}.\n"
            "Fix: copy the file again, or leave this episode out."
        ) from error
