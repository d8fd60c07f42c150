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
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from rankzero.backlog import Backlog, Outcome
from rankzero.console import unheard
from rankzero.errors import RunNotFoundError
from rankzero.events import AnyEvent, Metrics, Start, decode, decode_after_fragment
from rankzero.files import open_descriptor, open_own, open_regular
from rankzero.logger import RunInfo
from rankzero.notices import warn_user

log = logging.getLogger("rankzero.journal")

JOURNAL = "journal.jsonl"
"""The journal's name in a run's directory."""

_CHUNK = 1 << 20
_TRY_EVERY = 0.05  # seconds, while somebody waits for room on the disk
_METRICS = b'{"type":"metrics"'


class Journal:
    """Appends lines to a journal. No method raises once the file is open: trouble is warned of and counted.

    What cannot be written, say because the disk is full, waits in memory in a `Backlog` until it can.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path`` for appending; create it if need be.

        Raises:
            OSError: the file cannot be opened.
        """
        self.path = path
        self._fd = open_descriptor(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        # Closed with the last reference, not before: a thread that logs late must never write to a reused descriptor.
        weakref.finalize(self, os.close, self._fd).atexit = False
        self._size = 0
        self._backlog = Backlog(self._fd, is_active=not _ends_with_newline(self._fd))
        self._said: set[object] = set()

    def append(self, line: bytes) -> None:
        """Append one encoded event, newline included."""
        if self._backlog.is_active:
            self._append_late(line)
            return
        try:
            written = os.write(self._fd, line)
        except OSError:
            written = 0
        if written < len(line):
            self._append_late(line, line[:written])

    def flush(self, timeout: float) -> bool:
        """Write what waits in memory, trying for ``timeout`` seconds; return whether nothing waits any more."""
        deadline = time.monotonic() + timeout
        while self._backlog.is_active and not self._backlog.write():
            if time.monotonic() > deadline:
                return False
            time.sleep(_TRY_EVERY)
        self._say_that_it_is_written()
        return True

    def give_up(self) -> None:
        """Warn of what cannot be written before the run ends, if anything."""
        if lost := self._backlog.give_up():
            why = self._backlog.reason
            self._warn(f"{lost} events of the run could not be written to {self.path} and are lost: {why}")

    def check(self) -> None:
        """Warn, once, if the file was deleted: what is written now nobody can read."""
        if "deleted" not in self._said and not os.fstat(self._fd).st_nlink:
            self._said.add("deleted")
            self._warn(f"{self.path} was deleted. Training goes on, but what is logged from now on is lost.")

    def _append_late(self, line: bytes, fragment: bytes = b"") -> None:
        outcome = self._backlog.append(line, fragment)
        if outcome is Outcome.WRITTEN:
            self._say_that_it_is_written()
        elif outcome not in self._said:
            self._said.add(outcome)
            if outcome is Outcome.KEPT:
                what = "what is logged is kept in memory until it can be written again"
            else:
                what = "what is logged now is lost, because too much waits to be written"
            self._warn(
                f"rankzero cannot write {self.path}: {self._backlog.reason}. Training goes on, and {what}; what was "
                "written before is intact. Free space or check the mount."
            )

    def _say_that_it_is_written(self) -> None:
        if not self._said & {*Outcome}:
            return
        self._said -= {*Outcome}
        lost, self._backlog.lost, self._backlog.reason = self._backlog.lost, 0, ""
        with unheard():
            if lost:
                log.warning("%s can be written again; %d log calls were lost", self.path, lost)
            else:
                log.warning("%s can be written again; nothing was lost", self.path)

    def _warn(self, message: str) -> None:
        with unheard():  # recorded, it would be one more line that cannot be written
            warn_user(message)

    def size(self) -> int:
        """Return the journal's length in bytes; the last one known if the file system does not say."""
        with suppress(OSError):
            self._size = os.fstat(self._fd).st_size
        return self._size


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
