"""`FileWriter`: copies logged files into the directory of a run, and writes their events."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from rankzero.events.structs import Artifact, Checkpoint
from rankzero.loggers.model_checkpoint import SavedCheckpoint, SavedCheckpoints
from rankzero.media.store import MediaStore
from rankzero.messages import describe
from rankzero.run.event_writer import EventWriter
from rankzero.run.snapshots import Snapshots, why_lost
from rankzero.values import safe_isinstance

log = logging.getLogger("rankzero")


class FileWriter:
    """Copies artifacts and checkpoints into the run's directory, and writes the event of each when it is copied.

    In all methods, ``at_once`` copies before the call returns, because no `finish` of this process will wait.
    """

    def __init__(self, writer: EventWriter, media: MediaStore) -> None:
        self.snapshots = Snapshots(media)
        self._writer = writer
        self._saved = SavedCheckpoints()

    def write_artifact(self, artifact: Artifact, *, at_once: bool) -> None:
        """Copy a file or directory.

        Raises:
            OSError: it cannot be copied.
        """
        source = _path(artifact.path)
        keep = self.snapshots.take if source.is_dir() else self.snapshots.store
        keep(source, self._then_write(artifact), at_once=at_once)

    def write_checkpoint(self, checkpoint: Checkpoint, *, at_once: bool) -> None:
        """Copy a checkpoint that the script has saved."""
        try:
            path = _path(checkpoint.path)
            event = msgspec.structs.replace(checkpoint, source=str(path.absolute()))
            then = self._then_write(event)
            self.snapshots.take(path, then, may_change=not event.automatic, at_once=at_once)
        except Exception as error:  # logged each time, because a lost checkpoint is expensive
            log.error("THE CHECKPOINT IS NOT KEPT: %s", why_lost(checkpoint.path, error))

    def write_saved(self, callback: Any, step: int | None, *, at_once: bool) -> None:
        """Copy the checkpoints that a ModelCheckpoint has just saved, at ``step`` if it does not know their steps."""
        self._write_saved(self._saved.after_save(callback), step, at_once)

    def write_late(self, timeout: float, step: int | None, *, at_once: bool) -> None:
        """Copy checkpoints that a thread of the framework was still writing; wait at most ``timeout`` seconds."""
        self._write_saved(self._saved.late(timeout), step, at_once)

    def _write_saved(self, found: Iterable[SavedCheckpoint], step: int | None, at_once: bool) -> None:
        for saved in found:
            path, at = Path(saved.path), step if saved.step is None else saved.step
            source, aliases = str(path.absolute()), list(saved.aliases)
            event = Checkpoint(time.time(), "", source, saved.score, at, aliases, saved.metadata, automatic=True)
            try:
                self.snapshots.take(
                    path, self._then_write(event), may_change=saved.may_change, at_once=at_once, even_if_full=False
                )
            except Exception as error:  # the next ones are still kept
                log.warning("the checkpoint %s could not be kept in the run's directory: %s", path, describe(error))

    def _then_write(self, event: Artifact | Checkpoint) -> Callable[[str], None]:
        """Return a function that writes ``event`` with the path of the copy."""
        # If the run ends before the file is copied, `warn_of_waiting` has named the file.
        is_expected = not self._writer.is_finished
        return lambda path: self._writer.write(msgspec.structs.replace(event, path=path), is_expected=is_expected)

    def warn_of_waiting(self) -> None:
        """Log a warning that names the files that are not copied before the run ends."""
        info = self._writer.info
        if waiting := self.snapshots.waiting():
            log.warning(
                "%s ends before these files are copied into its directory: %s; they are lost if the process ends "
                "before that too, and otherwise delivered only by: rankzero sync %s",
                info.name, ", ".join(waiting), shlex.quote(info.dir),
            )  # fmt: skip


def _path(path: Any) -> Path:
    if safe_isinstance(path, str) and not path:
        raise ValueError("the path is empty")  # it would mean the working directory
    return Path(path)
