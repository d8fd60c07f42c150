"""TFRecords, the framing of TensorBoard's event files.

A record is the length of its data (8 bytes), a checksum of the length (4), the data, and a checksum of the data (4),
all little-endian. The checksum is CRC-32C, rotated and shifted so that it may stand in data that is checksummed again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_HEADER = _LENGTH.size + _CHECKSUM.size


def record(data: bytes) -> bytes:
    """Return the record that holds ``data``."""
    length = _LENGTH.pack(len(data))
    return b"".join((length, _checksum(length), data, _checksum(data)))


def read_records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (offset behind it, data) of each record, up to the first one that is torn or damaged."""
    end = 0
    with path.open("rb") as file:
        while True:
            header = file.read(_HEADER)
            length = header[: _LENGTH.size]
            if len(header) < _HEADER or header[_LENGTH.size :] != _checksum(length):
                return
            size = _LENGTH.unpack(length)[0]
            data, checksum = file.read(size), file.read(_CHECKSUM.size)
            if checksum != _checksum(data):
                return
            end += _HEADER + size + _CHECKSUM.size
            yield end, data


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    rotated = crc >> 15 | crc << 17
    return _CHECKSUM.pack(rotated + 0xA282EAD8 & 0xFFFFFFFF)
