"""Read the log of a run, ``run-ID.wandb``: LevelDB's log format, with records of W&B's client.

The log consists of blocks of 32 KiB. A block holds fragments of records, each with its checksum, length and kind. When
a fragment is damaged, reading continues at the next valid one, in the same block if there is one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from rankzero.files.writing import open_regular

MAGIC = b":W&B\xe1\xbe\x00"
"""The first bytes of a log."""

_BLOCK = 1 << 15
_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_SEEDS = (None, *(zlib.crc32(bytes([kind])) for kind in (_FULL, _FIRST, _MIDDLE, _LAST)))


class RecordLog:
    """The log of one process of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.end = len(MAGIC)
        """The offset after the last record that was read."""
        self.is_damaged = False
        """Whether data before the next record is damaged; the reader resets it."""
        self.is_torn = False
        """Whether the log ends in the middle of a record."""

    @property
    def name(self) -> str:
        """The name of the process's directory, which contains the time of its start."""
        return self.path.parent.name

    def tail(self) -> int:
        """Return an offset near the end at which reading can begin."""
        return max(len(MAGIC), (self.size // _BLOCK - 1) * _BLOCK)

    def records(self, start: int, on_progress: Callable[[int], None] = lambda size: None) -> Iterator[bytes]:
        """Yield the complete records from an offset: the `end` of a record, or a multiple of 32 KiB."""
        self.end = start
        parts: list[bytes] = []
        for end, kind, data in self._fragments(start, on_progress):
            if kind in (_MIDDLE, _LAST) and not parts:
                continue  # its beginning is damaged
            self.is_damaged |= bool(parts) and kind in (0, _FULL, _FIRST)
            parts = [*parts, data] if kind in (_MIDDLE, _LAST) else [data]
            if kind in (_FULL, _LAST):
                self.end = end
                yield b"".join(parts)
            if kind not in (_FIRST, _MIDDLE):
                parts = []
        self.is_torn |= bool(parts)

    def _fragments(self, start: int, on_progress: Callable[[int], None]) -> Iterator[tuple[int, int, bytes]]:
        """Yield (offset of the end, kind, content) of each fragment; the kind 0 stands for damaged fragments."""
        block = start - start % _BLOCK
        at = start - block
        with open_regular(self.path) as file:
            file.seek(block)
            while data := file.read(_BLOCK):
                while at + _HEADER.size <= len(data):
                    found = _fragment(data, at)
                    if found is not None:
                        at = found[0]
                        yield block + at, found[1], found[2]
                        continue
                    following = (each for each in range(at + 1, len(data)) if _fragment(data, each) is not None)
                    after = next(following, len(data))
                    if after == len(data) < _BLOCK:
                        break
                    at, self.is_damaged = after, True
                    yield block + at, 0, b""
                self.is_torn |= at < len(data) < _BLOCK
                on_progress(len(data))
                block += len(data)
                at = 0


def _fragment(data: bytes, at: int) -> tuple[int, int, bytes] | None:
    """Return (end, kind, content) of the fragment at an offset of a block; None if there is no valid one."""
    if at + _HEADER.size > len(data):
        return None
    checksum, length, kind = _HEADER.unpack_from(data, at)
    start = at + _HEADER.size
    if not _FULL <= kind <= _LAST or start + length > len(data):
        return None
    content = data[start : start + length]
    return (start + length, kind, content) if zlib.crc32(content, _SEEDS[kind]) == checksum else None
