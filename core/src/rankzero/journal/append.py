"""Append to the journal: one JSON object a line, the single source of truth of a run.

Each write is one ``os.write`` on an ``O_APPEND`` descriptor: once a log call returns, the kernel has the data, which
survives the death of the process, and forked writers never mix their lines. A reader ignores an incomplete last line,
and reports and skips damaged lines in the middle.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from contextlib import suppress
from pathlib import Path

from rankzero.files.writing import open_descriptor, open_own
from rankzero.journal.backlog import Backlog, Outcome
from rankzero.messages import uncaptured, warn_user
from rankzero.waiting import wait_until

log = logging.getLogger("rankzero.journal")


_CHUNK = 1 << 20
_TRY_EVERY = 0.05  # seconds, while a caller waits for room on the disk
_LOOK_EVERY = 60.0
"""Seconds between two looks at the space on the disk, which may be on another machine."""
_LITTLE_SPACE = 1 << 30
"""The free space, in bytes, below which the disk is nearly full; or a twentieth of a small disk."""


class Journal:
    """Appends lines to a journal. Once the file is open, no method raises: failures are logged and counted.

    Lines that cannot be written, for example because the disk is full, wait in memory in a `Backlog`.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path`` for appending; create it if necessary.

        Raises:
            OSError: the file cannot be opened.
        """
        self.path = path
        self.fd = open_descriptor(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        # Closed with the last reference only: a thread that logs late must never write to a reused descriptor.
        weakref.finalize(self, os.close, self.fd).atexit = False
        self._size = 0
        self.backlog = Backlog(self.fd, is_active=not _ends_with_newline(self.fd))
        self._reported: set[object] = set()
        self._next_look = 0.0

    def append(self, line: bytes) -> None:
        """Append one encoded event, newline included."""
        try:  # `Run.log_metrics` has a copy
            written = 0 if self.backlog.is_active else os.write(self.fd, line)
        except OSError:
            written = 0
        if written < len(line):
            self.append_late(line, line[:written])

    def flush(self, timeout: float) -> bool:
        """Write the lines that wait in memory, trying for ``timeout`` seconds; return whether all are written."""
        if not wait_until(lambda: not self.backlog.is_active or self.backlog.write(), timeout, _TRY_EVERY):
            return False
        self._report_recovery()
        return True

    def give_up(self) -> None:
        """Count the lines that are still waiting as lost, and log a warning if there are any."""
        if lost := self.backlog.give_up():
            why = self.backlog.reason
            self._warn(f"{lost} events of the run could not be written to {self.path} and are lost: {why}")

    def check(self) -> None:
        """Log a warning, once, if the file was deleted, as later events cannot be read, or the disk is nearly full."""
        if "deleted" not in self._reported and not os.fstat(self.fd).st_nlink:
            self._reported.add("deleted")
            self._warn(f"{self.path} was deleted. Training continues, but later events are lost.")
        if "space" not in self._reported and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_EVERY
            disk = os.fstatvfs(self.fd)
            free = disk.f_bavail * disk.f_frsize
            if free < min(_LITTLE_SPACE, disk.f_blocks * disk.f_frsize // 20):
                self._reported.add("space")
                self._warn(
                    f"the disk of {self.path} is nearly full: {free >> 20:,} MiB are free. When it is full, events of "
                    "the run are lost. Free space, for example with: rankzero clean"
                )

    def append_late(self, line: bytes, fragment: bytes) -> None:
        """Append a line of which only ``fragment`` was written; it waits in memory if that fails."""
        outcome = self.backlog.append(line, fragment)
        if outcome is Outcome.WRITTEN:
            self._report_recovery()
        elif outcome not in self._reported:
            self._reported.add(outcome)
            if outcome is Outcome.KEPT:
                what = "new events are kept in memory until they can be written"
            else:
                what = "new events are lost, because too many wait to be written"
            self._warn(
                f"rankzero cannot write {self.path}: {self.backlog.reason}. Training continues, and {what}; earlier "
                "events are safe. Free space or check the mount."
            )

    def _report_recovery(self) -> None:
        if not self._reported & {*Outcome}:
            return
        self._reported -= {*Outcome}
        lost, self.backlog.lost, self.backlog.reason = self.backlog.lost, 0, ""
        with uncaptured():
            if lost:
                log.warning("%s can be written again; %d log calls were lost", self.path, lost)
            else:
                log.warning("%s can be written again; nothing was lost", self.path)

    def _warn(self, message: str) -> None:
        with uncaptured():  # captured, it would be one more line that cannot be written
            warn_user(message)

    def size(self) -> int:
        """Return the journal's length in bytes; the last known one if the file system does not answer."""
        with suppress(OSError):
            self._size = os.fstat(self.fd).st_size
        return self._size


def _ends_with_newline(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return not size or os.pread(fd, 1, size - 1) == b"\n"


def cut_torn_tail(path: Path) -> None:
    """Remove an incomplete last line, left by a crash. Only for the process that holds the writer's lock."""
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
            log.warning("%s: removed the last %d bytes, an incomplete line", path, end - keep)
            file.truncate(keep)
