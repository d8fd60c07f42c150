"""Keep lines that could not be written to the journal (the disk is full) in memory, and write them later."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from enum import Enum

from rankzero.events.structs import Lost, encode

MOST_BYTES = 1 << 20
"""The most bytes that are kept; further lines are lost."""


class Outcome(Enum):
    """The result of appending a line."""

    WRITTEN = "written"
    """The line is in the journal, and so is everything before it."""
    KEPT = "kept"
    LOST = "lost"


class Backlog:
    """The waiting lines of one journal, oldest first. A forked child starts with none: its parent writes them."""

    def __init__(self, fd: int, *, is_active: bool) -> None:
        """Keep lines for a file.

        Args:
            fd: open for reading and appending.
            is_active: the file may end with an incomplete line, so that the next line must go through the backlog.
        """
        self.is_active = is_active
        """Whether all lines must go through the backlog, because lines wait or the file ends with a torn one."""
        self.lost = 0
        """The number of lines that this process has lost since it last wrote all that waited."""
        self.reason = ""
        """Why the file cannot be written."""
        self._fd = fd
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a signal handler may log while the lock is held
        self._is_writing = False
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._report = b""  # a torn report of lost lines, to be written before those that wait
        self._torn: tuple[bytes, int] | None = None  # the beginning of the next line, and where it is in the file
        self._is_line_open = True
        self._unreported = 0
        self._since = 0.0
        self.lost = 0

    def append(self, line: bytes, fragment: bytes = b"") -> Outcome:
        """Write the waiting lines and then ``line``; keep it if that fails.

        Args:
            line: the line with its newline.
            fragment: the part of it that was just written to the file.
        """
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            self.is_active = True
            if self._is_writing:
                return self._keep(line)
            self._is_writing = True
            try:
                is_next = self._write_waiting()
                if is_next and fragment:
                    self._tear(line, fragment)
                elif is_next and self._write(line):
                    self.is_active = bool(self._lines)
                    return Outcome.WRITTEN
                return self._keep(line)
            finally:
                self._is_writing = False

    def write(self) -> bool:
        """Write the waiting lines; return whether all are written."""
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            if not self._is_writing:
                self._is_writing = True
                try:
                    is_written = self._write_waiting()
                    self.is_active = not is_written or bool(self._lines) or (self.is_active and self._is_line_open)
                finally:
                    self._is_writing = False
            return not (self._lines or self._report or self._unreported)

    def give_up(self) -> int:
        """Count the waiting lines as lost; return the number of all lost lines."""
        with self._lock:
            for _ in self._lines:
                self._lose()
            self._lines.clear()
            self._bytes = 0
            return self.lost

    def _keep(self, line: bytes) -> Outcome:
        if self._bytes + len(line) > MOST_BYTES:
            torn = None if self._lines or self._report else self._torn
            if torn is not None and torn[0] + b"\n" == line:
                return Outcome.KEPT  # its newline comes before the next one
            if torn is not None:
                self._torn = None
            self._lose()
            return Outcome.LOST
        self._lines.append(line)
        self._bytes += len(line)
        return Outcome.KEPT

    def _lose(self) -> None:
        self._since = self._since if self._unreported else time.time()
        self._unreported += 1
        self.lost += 1

    def _write_waiting(self) -> bool:
        while self._report or self._lines or self._unreported:
            if self._lines and not self._report:
                if not self._write(self._lines[0]):
                    return False
                self._bytes -= len(self._lines.popleft())
            elif not self._write_report():
                return False
        return True

    def _write_report(self) -> bool:
        count = 0 if self._report else self._unreported
        report = self._report or encode(Lost(time.time(), count, self._since, self.reason))
        is_written = self._write(report)
        is_begun = self._torn is not None
        if is_written or is_begun:
            self._unreported -= count
        self._report = report if is_begun else b""  # otherwise the next report may count more lines
        return is_written

    def _write(self, line: bytes) -> bool:
        rest = self._missing(line)
        try:
            written = os.write(self._fd, rest) if rest else 0
        except OSError as error:
            self.reason = error.strerror or str(error)
            return False
        if written < len(rest):
            self._tear(line, line[: len(line) - len(rest) + written])
            return False
        self._torn, self._is_line_open = None, False
        return True

    def _tear(self, line: bytes, fragment: bytes) -> None:
        self.reason = self.reason or "the disk took only a part of a line"
        self._is_line_open = True
        with suppress(OSError):
            self._torn = fragment, os.fstat(self._fd).st_size - len(fragment)

    def _missing(self, line: bytes) -> bytes:
        """Return the part of ``line`` that must be written: its rest if the file ends with its beginning."""
        if self._torn is not None:
            fragment, start = self._torn
            with suppress(OSError):
                found = os.pread(self._fd, len(fragment) + 1, start)
                if found == fragment and line.startswith(fragment):
                    return line[len(fragment) :]
                if found == line:  # only the newline was missing, and another process wrote it
                    return b""
        return b"\n" + line if self._is_line_open else line
