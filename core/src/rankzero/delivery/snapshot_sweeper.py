"""Upload the final checkpoints when a run ends, and delete snapshots that every logger has delivered."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from rankzero.delivery.pending import decode
from rankzero.delivery.retry import TRIES
from rankzero.errors import RejectedError, may_be_rejection
from rankzero.events.structs import Checkpoint
from rankzero.events.trust import own_snapshot
from rankzero.journal.tail import Tail
from rankzero.loggers.base import Logger
from rankzero.loggers.dispatch import upload
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import load_position

_CHECKPOINT = b'{"type":"checkpoint"'


class SnapshotSweeper:
    """Deletes snapshots that every logger has delivered and whose source the script has deleted or overwritten.

    Otherwise a script that keeps its three best checkpoints would fill the disk with snapshots of all. The newest
    checkpoint with each alias (``latest``, ``best``) is kept, so that the run can be delivered again.

    Args:
        run_dir: the run's directory.
        keys: the keys of the run's loggers.
    """

    def __init__(self, run_dir: Path, keys: Iterable[str]) -> None:
        self._run_dir = run_dir
        self._keys = list(keys)
        self._delivered: dict[int, Checkpoint] = {}
        self._last = -1  # of the lines that were noted
        self._holders: dict[str, int] = {}
        self._newest: dict[str, int] = {}  # of each source
        self._failed_uploads: Counter[int] = Counter()

    def catch_up(self, lines: int, *, is_own: bool) -> None:
        """Record the checkpoints in the first ``lines`` lines of the journal, which were delivered earlier."""
        tail = Tail(self._run_dir / JOURNAL)
        with closing(tail):
            while tail.line < lines and (read := tail.read()):
                for line in read:
                    if line.number < lines and line.data.startswith(_CHECKPOINT):
                        event = decode(line, is_own=is_own)
                        if isinstance(event, Checkpoint):
                            self.note(line.number, event)

    def delivered(self, line: int, checkpoint: Checkpoint) -> None:
        """Record that the checkpoint in this line of the journal is delivered, and sweep."""
        self.note(line, checkpoint)
        self.sweep()

    def note(self, line: int, checkpoint: Checkpoint) -> None:
        """Record the checkpoint in this line of the journal for `upload_left`."""
        if line <= self._last:
            return
        self._last = line
        self._delivered[line] = checkpoint
        self._holders.update(dict.fromkeys(checkpoint.aliases, line))
        self._newest[checkpoint.source] = line

    def upload_left(
        self, logger: Logger, check_files: Callable[[Checkpoint], None]
    ) -> list[tuple[int, Checkpoint, Exception]]:
        """Upload the final checkpoints of each ModelCheckpoint; return those that the tracker rejected.

        These are the ones that it did not delete or overwrite, the latest and the best, with their current aliases.
        """
        refused: list[tuple[int, Checkpoint, Exception]] = []
        for line, checkpoint in self._left():
            try:
                check_files(checkpoint)
                upload(checkpoint, logger, self._run_dir)
            except Exception as error:
                self._failed_uploads[line] += may_be_rejection(error)
                if not isinstance(error, RejectedError) and self._failed_uploads[line] < TRIES:
                    raise
                refused.append((line, checkpoint, error))
        return refused

    def _left(self) -> Iterator[tuple[int, Checkpoint]]:
        for line, checkpoint in sorted(self._delivered.items()):
            held = [alias for alias in checkpoint.aliases if self._holders[alias] == line]
            is_there = self._newest[checkpoint.source] == line and os.path.exists(checkpoint.source)
            if checkpoint.automatic and (held or is_there):
                yield line, msgspec.structs.replace(checkpoint, aliases=held)

    def sweep(self) -> None:
        """Delete the snapshots that are no longer needed."""
        everyone_is_past = min((load_position(self._run_dir, key).line for key in self._keys), default=0)
        for line, checkpoint in list(self._delivered.items()):
            if line in self._holders.values():
                continue
            source = checkpoint.source
            is_gone = source and (self._newest[source] > line or not os.path.exists(source))
            if line < everyone_is_past and is_gone:
                if (directory := own_snapshot(self._run_dir, checkpoint.path)) is not None:
                    shutil.rmtree(directory, ignore_errors=True)
                del self._delivered[line]
