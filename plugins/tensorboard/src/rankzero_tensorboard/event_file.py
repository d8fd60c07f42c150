"""One event file, continued where it ends, which knows how much of a journal it holds.

Each record ends with a mark: how many lines of the journal the file holds up to there. To readers it is a field of
`Event` that they do not know, and skip. So values and mark are there together, or neither is.
"""

from __future__ import annotations

import os
import struct
import weakref
from contextlib import suppress
from pathlib import Path

from rankzero_tensorboard.records import read_records, record

_MARK = struct.Struct("<2sQ")
_FIELD = b"\xf9\x7f"  # number 2047, eight bytes


def marked(event: bytes, lines: int) -> bytes:
    """Return the record of a serialized `Event`, with a mark."""
    return record(event + _MARK.pack(_FIELD, lines))


class EventFile:
    """The file at ``path``, opened to be continued. A torn or damaged end is cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        """In bytes; 0 if there is no file yet."""
        self.lines = 0
        """How many lines of the journal it holds."""
        if path.exists():
            for self.size, data in read_records(path):
                self.lines = _mark_of(data)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self._close = weakref.finalize(self, os.close, self._descriptor)
        if os.fstat(self._descriptor).st_size > self.size:
            os.ftruncate(self._descriptor, self.size)

    def append(self, records: bytes) -> None:
        """Write records with one call to the operating system; what could be written only in part is taken back."""
        rest = memoryview(records)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(records)

    def close(self) -> None:
        """Close the file."""
        self._close()
        self._descriptor = -1  # the number may belong to another file by now


def _mark_of(data: bytes) -> int:
    field, lines = _MARK.unpack(data[-_MARK.size :]) if len(data) >= _MARK.size else (b"", 0)
    return int(lines) if field == _FIELD else 0
