"""The journal: an append-only file of one JSON object a line, the single source of truth of a run.

Writing is one ``os.write`` on an ``O_APPEND`` descriptor, so that whatever a log call returned from is in the
kernel's hands and survives the death of the process, and so that forked writers never mix their lines.
Reading tolerates a torn last line (it is not there yet) and reports and skips damaged lines in the middle.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from rankzero.errors import RunNotFoundError
from rankzero.events import AnyEvent, Lost, Metrics, Start, decode, decode_after_fragment, encode
from rankzero.files import open_descriptor, open_own, open_regular
from rankzero.logger import RunInfo
from rankzero.notices import warn_user

log = logging.getLogger("rankzero.journal")

JOURNAL = "journal.jsonl"
"""The journal's name in a run's directory."""

_CHUNK = 1 << 20
_METRICS = b'{"type":"metrics"'


class Journal:
    """Appends lines to a journal. No method raises once the file is open: trouble is warned of and counted."""

    def __init__(self, path: Path) -> None:
        """Open ``path`` for appending; create it if need be.

        Raises:
            OSError: the file cannot be opened.
        """
        self.path = path
        self._fd = open_descriptor(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        # Closed with the last reference, not before: a thread that logs late must never write to a reused descriptor.
        weakref.finalize(self, os.close, self._fd).atexit = False
        self._is_disturbed = not _ends_with_newline(self._fd)
        self._is_said = False
        self._losses = _Losses()

    def append(self, line: bytes) -> None:
        """Append one encoded event, newline included."""
        before = self._before_next() if self._is_disturbed else b""
        try:
            written = os.write(self._fd, before + line)
        except OSError as error:
            self._losses.add(error.strerror or str(error))
            self._disturbed()
            return
        missing = len(before) + len(line) - written
        if missing:
            # What lacks nothing but its newline gets that with the next line.
            if written >= len(before) - 1:
                self._losses = _Losses()  # they are reported
            if missing > 1:
                self._losses.add("the disk took only a part of a line")
            self._disturbed()
        elif before:
            self._undisturbed()

    def check(self) -> None:
        """Warn, once, if the file was deleted: what is written now nobody can read."""
        if not self._is_said and not os.fstat(self._fd).st_nlink:
            self._is_said = True
            warn_user(f"{self.path} was deleted. Training goes on, but what is logged from now on is lost.")

    def _before_next(self) -> bytes:
        """Return what ends a torn line, whichever process left it, and reports what this process could not write."""
        losses = self._losses
        if not losses.count or losses.pid != os.getpid():
            return b"\n"
        return b"\n" + encode(Lost(time.time(), losses.count, losses.since, losses.reason))

    def _disturbed(self) -> None:
        self._is_disturbed = True
        if not self._is_said:
            self._is_said = True
            warn_user(
                f"rankzero cannot write {self.path}: {self._losses.reason or 'the disk is full'}. Training goes on, "
                "but what is logged is lost until it can be written again; what was written before is intact. Free "
                "space or check the mount."
            )

    def _undisturbed(self) -> None:
        if self._losses.count:
            log.warning("%s can be written again; %d log calls were lost", self.path, self._losses.count)
        self._is_disturbed = self._is_said = False
        self._losses = _Losses()

    def size(self) -> int:
        """Return the journal's length in bytes."""
        return os.fstat(self._fd).st_size


class _Losses:
    """The log calls that one process could not write, as far as no event reports them."""

    def __init__(self) -> None:
        self.count = 0
        self.since = 0.0
        self.reason = ""
        self.pid = 0

    def add(self, reason: str) -> None:
        if self.pid != os.getpid():  # the first, or forked: the parent reports its own
            self.count, self.since, self.pid = 0, time.time(), os.getpid()
        self.count += 1
        self.reason = reason


def _ends_with_newline(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return not size or os.pread(fd, 1, size - 1) == b"\n"


class Line(NamedTuple):
    """One complete line of a journal."""

    number: int
    """From 0, damaged lines counted too."""
    end: int
    """The byte offset of the next line."""
    data: bytes
    """Without the newline."""

    def decode(self) -> AnyEvent | None:
        """Return the event, or None for a damaged line; damage is reported to the log ``rankzero.journal``."""
        if not self.data:
            return None  # the end of a torn line
        try:
            return decode(self.data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            log.warning("line %d of the journal is damaged and skipped: %s", self.number + 1, error)
            return decode_after_fragment(self.data)


class Tail:
    """Reads a journal from a position on, as far as it has been written; later calls see what was added."""

    def __init__(self, path: Path, offset: int = 0, line: int = 0) -> None:
        """Open ``path`` for reading at a byte offset, which is where the line numbered ``line`` begins.

        Raises:
            RunNotFoundError: there is no journal.
        """
        try:
            self._file = open_regular(path)
        except FileNotFoundError as error:
            raise RunNotFoundError(f"there is no journal at {path}") from error
        self.offset = offset
        self.line = line

    def read(self, max_bytes: int = _CHUNK) -> list[Line]:
        """Return the complete lines in the next ``max_bytes`` bytes (or the next line, if it is longer)."""
        data = os.pread(self._file.fileno(), max_bytes, self.offset)
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
        """Go to the line numbered ``line``, or to the end if there are fewer."""
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


def read_events(path: Path) -> Iterator[tuple[Line, AnyEvent]]:
    """Yield every undamaged event of a journal, in order, in bounded memory."""
    tail = Tail(path)
    try:
        while lines := tail.read():
            for line in lines:
                event = line.decode()
                if event is not None:
                    yield line, event
    finally:
        tail.close()


def read_start(path: Path) -> Start | None:
    """Return the first start event of a journal, None if nothing in it can be read.

    Where only that line is damaged, the run's directory says which run it is.
    """
    first: AnyEvent | None = None
    for _, event in read_events(path):
        if isinstance(event, Start):
            return event
        first = first or event
    if first is None:
        return None
    directory = path.absolute().parent
    info = RunInfo(directory.name, directory.name, directory.parent.name, str(directory), started=first.time)
    return Start(first.time, info)


def last_step(path: Path) -> int:
    """Return the step of the last metrics in a journal, -1 if there are none."""
    size = path.stat().st_size
    span = _CHUNK
    while True:
        start = max(0, size - span)
        with open(path, "rb") as file:
            file.seek(start)
            lines = file.read(span).split(b"\n")
        # The first piece may be the end of a line; the last, what stands behind the last newline.
        for data in reversed(lines[1 if start else 0 : -1]):
            if data.startswith(_METRICS):
                event = Line(0, 0, data).decode()
                if isinstance(event, Metrics) and event.step is not None:
                    return event.step
        if not start:
            return -1
        span *= 8


def cut_torn_tail(path: Path) -> None:
    """Remove an incomplete last line, left by a crash. Only for the one that holds the writer's lock."""
    with open_own(path, "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        while keep:
            start = max(0, keep - _CHUNK)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < end:
            log.warning("%s: cut off the last %d bytes, a line that was not written to its end", path, end - keep)
            file.truncate(keep)
