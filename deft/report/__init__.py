"""Self-contained HTML pages: tables, curves, picture strips and videos. No server, no network."""

from deft.report.files import write_whole
from deft.report.media import VideoWriter, encode_mp4, write_mp4
from deft.report.page import Page
from deft.report.raster import Figure, picture

__all__ = [
    "Figure",
    "Page",
    "VideoWriter",
    "encode_mp4",
    "picture",
    "write_mp4",
    "write_whole",
]
