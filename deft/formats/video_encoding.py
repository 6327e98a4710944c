"""Making mp4 files: of pictures, and of other mp4 files without encoding anew."""

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import FormatError, need
from deft.formats.writing import disk_refused

# Not HEVC: libx265 gives other bytes and pictures for the same input, whatever is switched off.
_ENCODERS = {"av1": "libsvtav1", "h264": "libx264"}
_CRF = {"av1": 30, "h264": 23}
CODECS = ("auto", *_ENCODERS)
"""What pictures can be encoded as; `auto` is the first one that is there."""


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """How pictures become a video."""

    codec: str
    """`av1` or `h264`."""
    crf: int
    """Smaller is better and larger; 0 takes the codec's usual value."""
    gop: int
    """A key frame every so many frames."""
    pixel_format: str
    """FFmpeg's name, as in `yuv420p`."""


def resolve_codec(codec: str) -> str:
    """The codec to use: for `auto`, AV1 when it can be encoded here, else H.264.

    Raises:
        FormatError: the codec cannot be encoded here.
    """
    available = need("av", "video").codecs_available
    here = [name for name, encoder in _ENCODERS.items() if encoder in available]
    if codec == "auto" and here:
        return here[0]
    if codec in here:
        return codec
    raise FormatError(
        f"Videos cannot be encoded as '{codec}' here.\nFound: {', '.join(here) or 'no encoder'}.\n"
        "Fix: name one of these as `codec`, or write pictures into the tables instead."
    )


def encode(path: Path, pictures: Iterable[np.ndarray], fps: int, settings: VideoSettings) -> None:
    """One video of RGB pictures `H W 3`, uint8, all of one size; the same bytes every time.

    Encoded on one thread: several episodes at a time keep all cores busy.

    Raises:
        FormatError: the encoder refuses the size or a setting.
        DiskError: the disk refused.
    """
    av = need("av", "video")
    _quiet()
    try:
        with av.open(str(path), "w", format="mp4") as container:
            _encode(container, pictures, fps, settings)
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, OSError) and error.filename:
            raise disk_refused(path, error) from error
        raise FormatError(
            f"The video cannot be encoded as {settings.codec}, {settings.pixel_format}.\n"
            f"Found: {error}.\n"
            "Fix: give height and width that are even, or another codec or pixel format, or write "
            "pictures into the tables instead."
        ) from error


def _encode(
    container: Any, pictures: Iterable[np.ndarray], fps: int, settings: VideoSettings
) -> None:
    av = need("av", "video")
    stream: Any = None
    scaler = av.video.reformatter.VideoReformatter()
    try:
        for number, picture in enumerate(pictures):
            if stream is None:
                stream = _stream(container, picture, fps, settings)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = scaler.reformat(frame, format=settings.pixel_format)
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
    except BaseException:
        if stream is not None:  # SVT-AV1 prints an error when it is not told of the end
            with contextlib.suppress(av.error.FFmpegError, ValueError):
                stream.encode(None)
        raise
    if stream is not None:
        container.mux(stream.encode(None))


def join(path: Path, parts: Sequence[tuple[Path, int]], fps: int) -> None:
    """One video of several, one behind the other, their frames copied as they are.

    Args:
        path: of the new file.
        parts: videos by `encode` with equal settings and sizes, and the frames in each.
        fps: of all.

    Raises:
        DiskError: the disk refused.
    """
    av = need("av", "video")
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = None
        done = 0
        for part, count in parts:
            with av.open(str(part)) as source:
                given = source.streams.video[0]
                if stream is None:
                    stream = container.add_stream_from_template(given, opaque=True)
                    stream.time_base = given.time_base
                shift = int(done / (fps * given.time_base))
                for packet in source.demux(given):
                    if packet.pts is None:  # the empty packet at the end
                        continue
                    packet.pts += shift
                    packet.dts += shift
                    packet.stream = stream
                    container.mux(packet)
            done += count


def describe(path: Path) -> tuple[dict[str, Any], bytes]:
    """What LeRobot notes of a video, and what a decoder must know before its first frame."""
    with need("av", "video").open(str(path)) as container:
        stream = container.streams.video[0]
        pixels = stream.codec_context.format
        info = {
            "video.height": stream.codec_context.height,
            "video.width": stream.codec_context.width,
            "video.codec": stream.codec_context.codec.canonical_name,
            "video.pix_fmt": pixels.name,
            "video.is_depth_map": False,
            "video.fps": int(stream.average_rate),
            "video.channels": len(pixels.components),
            "has_audio": False,
        }
        return info, bytes(stream.codec_context.extradata or b"")


def _stream(container: Any, picture: np.ndarray, fps: int, settings: VideoSettings) -> Any:
    crf = settings.crf or _CRF[settings.codec]
    options = {"crf": str(crf), "g": str(settings.gop)}
    if settings.codec == "av1":
        # LeRobot's own default is 12, which this encoder takes for 11.
        options |= {"preset": "11", "svtav1-params": "lp=1"}
    else:
        # No B-frames: times then rise from packet to packet, so that files can be joined. With its
        # macroblock tree, x264 reads memory that it has not set, and no two files are equal.
        options |= {"preset": "veryfast", "x264-params": "bframes=0:mbtree=0"}
    stream = container.add_stream(_ENCODERS[settings.codec], rate=fps, options=options)
    stream.height, stream.width = picture.shape[:2]
    stream.pix_fmt = settings.pixel_format
    stream.time_base = Fraction(1, fps)
    stream.codec_context.thread_count = 1
    return stream


def _quiet() -> None:
    """Keep SVT-AV1 from printing its settings for every video; it listens to nothing else."""
    os.environ.setdefault("SVT_LOG", "1")
