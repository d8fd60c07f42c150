"""Read a journal, also while it grows; ignore an incomplete last line and skip damaged lines."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from rankzero.errors import RunNotFoundError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import AnyEvent, Metrics, Rewind, Start, decode, decode_after_fragment
from rankzero.journal.opening import open_journal, stat_journal

log = logging.getLogger("rankzero")

_CHUNK = 1 << 20
_LINES_AT_ONCE = 1 << 17  # bytes; they fit the cache: more are slower
_FIRST_LINES = 1 << 13  # bytes

_WITH_STEP = (b'{"type":"metrics"', b'{"type":"rewind"')


class Line(NamedTuple):
    """One complete line of a journal."""

    number: int
    """The number of the line, from 0; damaged lines count."""
    end: int
    """The byte offset of the next line."""
    data: bytes
    """The bytes without the newline."""

    def decode(self) -> AnyEvent | None:
        """Return the event; for a damaged line log a warning to ``rankzero.journal.append`` and return None."""
        if not self.data:
            return None  # the end of a torn line
        try:
            return decode(self.data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            log.warning("line %d of the journal is damaged and skipped: %s", self.number + 1, error)
            return decode_after_fragment(self.data)


class Tail:
    """Reads the complete lines of a journal from an offset on; later calls return the lines that were added."""

    def __init__(self, path: Path, offset: int = 0, line: int = 0) -> None:
        """Open ``path`` for reading at a byte offset, where the line numbered ``line`` begins.

        Raises:
            RunNotFoundError: there is no journal.
        """
        try:
            self._file = open_journal(path)
        except FileNotFoundError as error:
            raise RunNotFoundError(f"there is no journal at {path}") from error
        self._path = path
        self.offset = offset
        self.line = line

    def read(self, max_bytes: int = _CHUNK) -> list[Line]:
        """Return the complete lines in the next ``max_bytes`` bytes (or the next line, if it is longer)."""
        self._file.seek(self.offset)
        data = self._file.read(max_bytes)
        end = data.rfind(b"\n") + 1
        if not end:
            return self.read(2 * max_bytes) if len(data) == max_bytes else []
        lines = []
        for text in data[: end - 1].split(b"\n"):
            self.offset += len(text) + 1
            lines.append(Line(self.line, self.offset, text))
            self.line += 1
        return lines

    def seek_line(self, line: int) -> None:
        """Go to the line numbered ``line``, or to the end if there are fewer lines."""
        self.offset = self.line = 0
        while self.line < line and (lines := self.read()):
            if self.line > line:
                last = lines[line - lines[0].number - 1]
                self.offset, self.line = last.end, line

    def size(self) -> int:
        """Return the journal's length in bytes."""
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_events(path: Path, max_bytes: int = _CHUNK) -> Iterator[tuple[Line, AnyEvent]]:
    """Yield every undamaged event of a journal, in order, in bounded memory; ``max_bytes`` are read at once."""
    tail = Tail(path)
    try:
        while lines := tail.read(max_bytes):
            for line in lines:
                event = line.decode()
                if event is not None:
                    yield line, event
    finally:
        tail.close()


def complete_lines(path: Path, end: int | None = None, start: int = 0) -> Iterator[bytes]:
    """Yield a file, or its bytes from ``start`` to ``end``, in chunks of complete lines.

    An incomplete last line is left out.
    """
    return (chunk for _, chunk in chunks_of_lines(path, end, start))


def chunks_of_lines(path: Path, end: int | None = None, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield the same as `complete_lines`, each chunk with its byte offset."""
    with open_journal(path) as file:
        left = (stat_journal(path).st_size if end is None else end) - start
        file.seek(start)
        rest = b""
        while data := file.read(min(left, max(_LINES_AT_ONCE, len(rest)))):
            left -= len(data)
            data = rest + data
            complete = data.rfind(b"\n") + 1
            rest = data[complete:]
            if complete:
                yield start, data[:complete]
                start += complete


def split_lines(offset: int, chunk: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a chunk of complete lines, each with the byte offset of the next one."""
    for line in chunk.removesuffix(b"\n").split(b"\n"):
        offset += len(line) + 1
        yield offset, line


def count_damaged(path: Path) -> int:
    """Return how many complete lines of a journal cannot be read."""
    tail = Tail(path)
    try:
        return sum(not _is_readable(line.data) for lines in iter(tail.read, []) for line in lines)
    finally:
        tail.close()


def _is_readable(data: bytes) -> bool:
    try:
        return not data or decode(data) is not None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False


def read_start(path: Path) -> Start | None:
    """Return the first start event of a journal, None if it has no readable event.

    If only the line of the start event is damaged, the id comes from the name of the run's directory.
    """
    first: AnyEvent | None = None
    for _, event in read_events(path, _FIRST_LINES):
        if isinstance(event, Start):
            return event
        first = first or event
    if first is None:
        return None
    directory = path.absolute().parent
    info = RunInfo(directory.name, directory.name, directory.parent.name, str(directory), started=first.time)
    return Start(first.time, info)


def last_step(path: Path) -> int:
    """Return the last step of a journal's metrics, or the one to which it was rewound since; -1 if there is none."""
    size = stat_journal(path).st_size
    span = _CHUNK
    while True:
        start = max(0, size - span)
        with open_journal(path) as file:
            file.seek(start)
            lines = file.read(span).split(b"\n")
        # The first piece may be the end of a line; the last one follows the last newline.
        for data in reversed(lines[1 if start else 0 : -1]):
            if any(beginning in data for beginning in _WITH_STEP):  # perhaps behind a fragment
                event = Line(0, 0, data).decode()
                if isinstance(event, Metrics | Rewind) and event.step is not None:
                    return event.step
        if not start:
            return -1
        span *= 8
