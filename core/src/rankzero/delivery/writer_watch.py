"""Detect whether the training process of a run has died, and how long ago."""

from __future__ import annotations

import time
from pathlib import Path

from rankzero.journal.opening import file_of
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.writer_lock import Writer, writer_state


class WriterWatch:
    """Watches the process that writes a journal.

    Args:
        run_dir: the run's directory.
        dead_after: after how many seconds without new events the process counts as dead; applies only if the lock
            was taken on another machine and cannot show it.
    """

    def __init__(self, run_dir: Path, dead_after: float) -> None:
        self._run_dir = run_dir
        self._dead_after = dead_after
        self._seen_alive = False
        self._gone_since: float | None = None

    def is_gone(self) -> bool:
        """Return whether the process has ended.

        Raises:
            OSError: the journal does not exist any more.
        """
        state = writer_state(self._run_dir)
        if state is Writer.ALIVE:
            self._seen_alive = True
            self._gone_since = None
            return False
        rested = time.time() - file_of(self._run_dir / JOURNAL).stat().st_mtime
        if state is Writer.UNKNOWN and not self._seen_alive and rested < self._dead_after:
            return False
        if self._gone_since is None:
            self._gone_since = time.monotonic()
        return True

    def gone_for(self) -> float:
        """Return for how many seconds the process has been gone; 0 while it is alive."""
        return time.monotonic() - self._gone_since if self.is_gone() and self._gone_since is not None else 0.0
