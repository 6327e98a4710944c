"""The door to recordings on disk: recognises a format, and reads it episode by episode."""

from deft.formats import hub
from deft.formats.flax_checkpoint import flatten, read_flax
from deft.formats.opening import FORMATS, join, locate, open, options_of, recognise  # noqa: A004
from deft.formats.recording import Recording
from deft.formats.writers import WRITABLE, options_to_write, write
from deft.formats.writing import DiskError, Writer, is_unfinished, tidy

__all__ = [
    "FORMATS",
    "WRITABLE",
    "DiskError",
    "Recording",
    "Writer",
    "flatten",
    "hub",
    "is_unfinished",
    "join",
    "locate",
    "open",
    "options_of",
    "options_to_write",
    "read_flax",
    "recognise",
    "tidy",
    "write",
]
