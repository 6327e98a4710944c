"""The door to recordings on disk: recognises a format, and reads it episode by episode."""

from deft.formats.opening import FORMATS, locate, open, options_of, recognise  # noqa: A004
from deft.formats.recording import Recording
from deft.formats.writers import WRITABLE, write
from deft.formats.writing import DiskError, Writer

__all__ = [
    "FORMATS",
    "WRITABLE",
    "DiskError",
    "Recording",
    "Writer",
    "locate",
    "open",
    "options_of",
    "recognise",
    "write",
]
