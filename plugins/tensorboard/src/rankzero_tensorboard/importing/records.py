"""Read the records of an event file in blocks; damaged ones are skipped and reported.

A block is what one read of the file returns. Records of the same length are checked together with numpy, which takes
half the time of one call for each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

import google_crc32c
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from rankzero_tensorboard.event_file import CHECKSUM_BYTES, HEADER_BYTES, masked_checksum

Damage = Callable[[str], None]
"""Called with what is wrong where data cannot be read."""

SMALL = 256
"""The size in bytes up to which records of the same size are checked together."""
FEW = 16
"""The number of records of the same size up to which they are checked one by one."""

_BLOCK = 1 << 20
_SMALLEST_READ = 1 << 12
"""How much is read at first, and after damage, since more may follow; each further read is larger."""
_DAMAGED = "a record is damaged"
_FRAME = HEADER_BYTES + CHECKSUM_BYTES
_MOST_KNOWN = 10_000


class Block(NamedTuple):
    """Complete, undamaged records that follow each other in a file."""

    data: bytes
    padded: Any
    """``data`` and 8 more bytes, as an array."""
    starts: Any
    """Where the content of each record begins in ``data``: an array of int64."""
    sizes: Any
    """The size of each record's content: an array of int64."""
    end: int
    """Where the last record ends in the file."""

    def contents(self) -> Iterator[bytes]:
        """Yield the content of each record."""
        return map(self.content, range(len(self.starts)))

    def content(self, index: int) -> bytes:
        """Return the content of a record."""
        start = self.starts[index]
        return self.data[start : start + self.sizes[index]]

    def rows(self, indices: Any, width: int) -> Any:
        """Return the first ``width`` bytes of records as the rows of an array; behind a content follow other bytes."""
        return sliding_window_view(self.padded, width)[self.starts[indices]]


def read_blocks(file: BinaryIO, offset: int, on_damage: Damage) -> Iterator[Block]:
    """Yield the records from ``offset`` on, up to an incomplete or damaged end, which is reported.

    Args:
        file: an event file.
        offset: where a record begins.
        on_damage: called for damaged records, and for an end that is no complete record.
    """
    wanted = _SMALLEST_READ
    sizes: dict[bytes, int] = {}
    while data := os.pread(file.fileno(), wanted, offset):
        wanted = min(4 * wanted, _BLOCK)
        block = _check(data, offset, _walk(data, sizes), on_damage)
        if block.end > offset:
            offset = block.end
            yield block
            continue
        end_of_file = os.fstat(file.fileno()).st_size
        size = _size_of(data[:HEADER_BYTES])
        if size is not None and len(data) < size + _FRAME <= end_of_file - offset:
            wanted = size + _FRAME
            continue
        # Data with a wrong checksum is searched, too: its length may be that of another record.
        skip = 1 if size is None else HEADER_BYTES
        found = _find_header(file.fileno(), offset + skip, end_of_file)
        if found is None:
            on_damage("its end is incomplete or damaged")
            return
        on_damage(_DAMAGED)
        offset, wanted = found, _SMALLEST_READ


def _walk(data: bytes, sizes: dict[bytes, int]) -> list[int]:
    """Return where complete records begin, and where the last one ends.

    Args:
        data: begins with a record.
        sizes: header → size of the records so far.
    """
    return _walk_short(data) or _walk_any(data, sizes)


def _walk_short(data: bytes) -> list[int]:
    """Return the same as `_walk` if all records are short and no header is damaged, otherwise nothing."""
    position, limit = 0, len(data) - HEADER_BYTES
    starts = []
    while position <= limit:
        starts.append(position)
        position += data[position] + _FRAME  # the first byte of the header is the size, until it is checked
    if not starts:
        return []
    headers = sliding_window_view(np.frombuffer(data, np.uint8), HEADER_BYTES)[starts]
    if (headers != _SHORT_HEADERS[headers[:, 0]]).any():
        return []
    return starts if position > len(data) else [*starts, position]


def _walk_any(data: bytes, sizes: dict[bytes, int]) -> list[int]:
    position, limit = 0, len(data)
    starts = []
    while True:
        header = data[position : position + HEADER_BYTES]
        size = sizes.get(header)
        if size is None:
            size = _size_of(header)
            if size is None:
                break
            if len(sizes) < _MOST_KNOWN:
                sizes[header] = size
        starts.append(position)
        position += size + _FRAME
        if position > limit:
            return starts
    starts.append(position)
    return starts


def _size_of(header: bytes) -> int | None:
    """Return the size of a record's content; None if the header is incomplete or damaged."""
    length = header[:-CHECKSUM_BYTES]
    if len(header) < HEADER_BYTES or header[-CHECKSUM_BYTES:] != masked_checksum(length):
        return None
    return int.from_bytes(length, "little")


def _check(data: bytes, offset: int, boundaries: list[int], on_damage: Damage) -> Block:
    """Return the undamaged records between boundaries; the block ends before damaged ones at the end."""
    bounds = np.array(boundaries, np.int64)
    padded = np.frombuffer(data + bytes(8), np.uint8)
    block = Block(data, padded, bounds[:-1] + HEADER_BYTES, np.diff(bounds) - _FRAME, offset + boundaries[-1])
    is_good = np.ones(len(block.starts), bool)
    for size, indices in by_size(block):
        if size > SMALL or len(indices) <= FEW:
            is_good[indices] = [_is_good(block, index) for index in indices]
            continue
        rows = block.rows(indices, size + CHECKSUM_BYTES)
        stored = np.ascontiguousarray(rows[:, size:]).view("<u4").ravel()
        is_good[indices] = _masked_checksums(rows[:, :size]) == stored
    if is_good.all():
        return block
    last = int(np.flatnonzero(is_good)[-1]) + 1 if is_good.any() else 0
    for _ in np.flatnonzero(~is_good[:last]):
        on_damage(_DAMAGED)
    kept = np.flatnonzero(is_good)
    return block._replace(starts=block.starts[kept], sizes=block.sizes[kept], end=offset + boundaries[last])


def by_size(block: Block) -> Iterator[tuple[int, Any]]:
    """Yield each size of records with their indices."""
    small = np.minimum(block.sizes, SMALL + 1)
    for size in np.flatnonzero(np.bincount(small)).tolist():
        indices = np.flatnonzero(small == size)
        if size <= SMALL:
            yield size, indices
        else:
            yield from ((int(each), np.flatnonzero(block.sizes == each)) for each in np.unique(block.sizes[indices]))


def _is_good(block: Block, index: int) -> bool:
    end = block.starts[index] + block.sizes[index]
    return block.data[end : end + CHECKSUM_BYTES] == masked_checksum(block.content(index))


def _find_header(descriptor: int, start: int, end: int) -> int | None:
    """Return where the next undamaged header of a record that fits into the file begins; None if there is none."""
    size = _SMALLEST_READ
    while len(data := os.pread(descriptor, size + HEADER_BYTES - 1, start)) >= HEADER_BYTES:
        window = sliding_window_view(np.frombuffer(data, np.uint8), HEADER_BYTES)
        positions = np.flatnonzero(~window[:, 4:8].any(axis=1))  # records shorter than 4 GiB
        lengths = window[positions, :8]
        checksums = window[positions, 8:].view("<u4").ravel()
        fits = start + positions + lengths.view("<i8").ravel() + _FRAME <= end
        found = positions[fits & (_masked_checksums(lengths) == checksums)]
        if len(found):
            return start + int(found[0])
        start += len(window)
        size = min(4 * size, _BLOCK)
    return None


def _masked_checksums(rows: Any) -> Any:
    """Return the masked CRC-32C of each row of bytes."""
    columns = np.ascontiguousarray(rows.T)
    crc = np.full(len(rows), google_crc32c.value(bytes(len(columns))), np.uint32)
    for table, column in zip(_TABLES[len(columns) - 1 :: -1], columns, strict=False):
        crc ^= table.take(column)
    return (crc >> 15 | crc << 17) + np.uint32(0xA282EAD8)


def _tables() -> Any:
    """Return what each byte that is followed by 0, 1, 2, … bytes contributes to a CRC-32C."""
    tables = np.empty((SMALL, 256), np.uint32)
    tables[0] = [google_crc32c.value(bytes([byte])) ^ google_crc32c.value(b"\0") for byte in range(256)]
    for before, table in pairwise(tables):
        table[:] = tables[0][before & 0xFF] ^ before >> 8
    return tables


_TABLES = _tables()
_SHORT_HEADERS = np.array(
    [[*length, *masked_checksum(length)] for length in (size.to_bytes(8, "little") for size in range(256))], np.uint8
)
"""The header of each size up to 255."""
