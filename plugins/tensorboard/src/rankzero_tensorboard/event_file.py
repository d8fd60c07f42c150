"""An event file that is appended to, and that records how many journal lines it contains.

TensorBoard's event files are TFRecords: the length of the data (8 bytes), a checksum of the length (4), the data, and
a checksum of the data (4), all little-endian. The checksum is a masked CRC-32C.

Here each record's data ends with a mark: the number of journal lines that the file contains up to there. It is an
unknown field of `Event`, which readers skip. So a crash cannot separate values from their mark.
"""

from __future__ import annotations

import os
import struct
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import google_crc32c

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
CHECKSUM_BYTES = _CHECKSUM.size
HEADER_BYTES = _LENGTH.size + CHECKSUM_BYTES
_MARK = struct.Struct("<2sQ")
MARK_NUMBER = 2047
"""The number of the protobuf field with the mark, which has eight bytes."""
_FIELD = b"\xf9\x7f"


def record(data: bytes) -> bytes:
    """Return a record with ``data``."""
    length = _LENGTH.pack(len(data))
    return b"".join((length, masked_checksum(length), data, masked_checksum(data)))


def marked(event: bytes, lines: int) -> bytes:
    """Return a record with a serialized `Event` and a mark."""
    return record(event + _MARK.pack(_FIELD, lines))


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (end offset, data) of each record, up to the first incomplete or damaged one."""
    end = 0
    with path.open("rb") as file:
        while True:
            header = file.read(HEADER_BYTES)
            length = header[: _LENGTH.size]
            if len(header) < HEADER_BYTES or header[_LENGTH.size :] != masked_checksum(length):
                return
            size = _LENGTH.unpack(length)[0]
            data, checksum = file.read(size), file.read(CHECKSUM_BYTES)
            if checksum != masked_checksum(data):
                return
            end += HEADER_BYTES + size + CHECKSUM_BYTES
            yield end, data


class EventFile:
    """The file at ``path``, opened for appending. An incomplete or damaged end is removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        """Size in bytes; 0 for a new file."""
        self.lines = 0
        """The number of journal lines in the file."""
        if path.exists():
            for self.size, data in read_records(path):
                self.lines = _mark_of(data)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self._close = weakref.finalize(self, os.close, self._descriptor)
        if os.fstat(self._descriptor).st_size > self.size:
            os.ftruncate(self._descriptor, self.size)

    def append(self, records: bytes) -> None:
        """Write records with one system call; remove those that could be written only in part."""
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
        self._descriptor = -1  # the number may be reused for another file


def is_marked(data: bytes) -> bool:
    """Return whether a record was written by rankzero."""
    return data[-_MARK.size :].startswith(_FIELD) and len(data) >= _MARK.size


def _mark_of(data: bytes) -> int:
    field, lines = _MARK.unpack(data[-_MARK.size :]) if len(data) >= _MARK.size else (b"", 0)
    return int(lines) if field == _FIELD else 0


def masked_checksum(data: bytes) -> bytes:
    """Return the checksum of ``data`` as it is stored in an event file."""
    crc = google_crc32c.value(data)
    rotated = crc >> 15 | crc << 17
    return _CHECKSUM.pack(rotated + 0xA282EAD8 & 0xFFFFFFFF)
