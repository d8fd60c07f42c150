"""Clean the directory of a run that is over: compress its journal, and delete files that the trackers have."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from rankzero.delivery.destinations import RecordedLoggers, plugin_of
from rankzero.errors import PluginError, RunInUseError
from rankzero.events.run_info import RunInfo
from rankzero.journal.opening import JournalStat, compress, stat_journal
from rankzero.journal.tail import complete_lines
from rankzero.loggers.base import Logger
from rankzero.plugins.registry import get_plugins
from rankzero.reader.index.run_index import summarize
from rankzero.rundir.finding import Delivered, delivered, disk_usage
from rankzero.rundir.layout import CHECKPOINTS, JOURNAL, MEDIA
from rankzero.rundir.writer_lock import WriterLock

DELETABLE = (MEDIA, CHECKPOINTS)
"""The directories of a run that can be deleted."""

_ARTIFACT = b'{"type":"artifact"'
_GOING_ON = ("running", "unknown")


@dataclass(frozen=True)
class Cleaning:
    """A plan for cleaning the directory of a run."""

    run_dir: Path
    info: RunInfo
    why_not: str = ""
    """Why the run is left unchanged; empty if it can be cleaned."""
    journal: int = 0
    """The bytes of the journal, if it can be compressed."""
    deleted: dict[str, int] = field(default_factory=dict)
    """Directory that can be deleted → its size in bytes."""
    kept: tuple[str, ...] = ()
    """Directories that are not deleted, because they hold files that are in no tracker."""
    state: JournalStat | None = None
    """The state of the journal at the time of planning."""

    @property
    def is_needed(self) -> bool:
        """Whether there is something to do."""
        return bool(self.journal or self.deleted)

    def clean(self) -> int:
        """Clean the directory; return how many bytes that freed. A kill at any moment leaves a readable run.

        Raises:
            RunInUseError: a process is writing the run.
            OSError: the disk is full, or the directory cannot be written.
        """
        lock = WriterLock(self.run_dir)
        try:
            if stat_journal(self.run_dir / JOURNAL) != self.state:
                raise RunInUseError(f"the run in {self.run_dir} was resumed")
            before = disk_usage(self.run_dir)
            if self.journal:
                compress(self.run_dir / JOURNAL)
            for name in self.deleted:
                shutil.rmtree(self.run_dir / name)
            return before - disk_usage(self.run_dir)
        finally:
            lock.release()


def plan(run_dir: Path, older_than: float, delete: Collection[str], *, rejected: bool = False) -> Cleaning:
    """Return a plan for cleaning the directory of a run.

    Args:
        run_dir: the directory.
        older_than: how long ago the last event must be, in seconds.
        delete: those of `DELETABLE` to delete.
        rejected: whether to clean runs also if a tracker rejected some of their events.

    Raises:
        RunNotFoundError: there is no run.
        OSError: it cannot be read.
    """
    journal = run_dir / JOURNAL
    state, seen = stat_journal(journal), summarize(run_dir, quick=True)
    found = Cleaning(
        run_dir,
        seen.info,
        journal=state.st_size if journal.exists() else 0,
        deleted={name: size for name in delete if (size := disk_usage(run_dir / name))},
        state=state,
    )
    if not found.is_needed:
        return found
    if seen.status in _GOING_ON:
        return Cleaning(run_dir, seen.info, "not ended")
    if time.time() - seen.updated < older_than:
        return Cleaning(run_dir, seen.info, "too new")
    recorded = RecordedLoggers(run_dir).update()
    deliveries = delivered(run_dir, [*recorded])
    for each in deliveries.values():
        if why := _why_needed(each, rejected):
            return Cleaning(run_dir, seen.info, why)
    trackers = [tracker for key, each in deliveries.items() if (tracker := _tracker(key, each, recorded))]
    kept = tuple(name for name in found.deleted if not _HELD[name](run_dir, trackers))
    found = replace(found, deleted={name: size for name, size in found.deleted.items() if name not in kept}, kept=kept)
    return found if found.is_needed else replace(found, why_not=f"{' and '.join(kept)} in no tracker")


class _Tracker(NamedTuple):
    """A tracker that has a run, and some of its files."""

    takes_media: bool
    keeps_files: bool
    takes_checkpoints: bool


def _tracker(key: str, delivery: Delivered, recorded: Mapping[str, Mapping[str, Any]]) -> _Tracker | None:
    """Return which files of a run a logger's tracker has; None if that is unknown, or it has none."""
    record = recorded.get(key, {"plugin": plugin_of(key)})
    if delivery.position.disabled or "plugin" not in record:
        return None
    try:
        cls = get_plugins().load_logger(record["plugin"])
    except PluginError:
        return None
    if not issubclass(cls, Logger):
        return None
    keeps_files = cls.keeps_files
    uploads = record.get("options", {}).get("log_model", cls.log_model) is not False
    return _Tracker(keeps_files or cls.log_record is not Logger.log_record, keeps_files, keeps_files and uploads)


def _has_media(run_dir: Path, trackers: Sequence[_Tracker]) -> bool:
    """Return whether a tracker has the media, which include copies of artifacts."""
    if any(each.keeps_files for each in trackers):
        return True
    return any(each.takes_media for each in trackers) and not any(
        _ARTIFACT in chunk for chunk in complete_lines(run_dir / JOURNAL)
    )


def _has_checkpoints(run_dir: Path, trackers: Sequence[_Tracker]) -> bool:
    return any(each.takes_checkpoints for each in trackers)


_HELD = {MEDIA: _has_media, CHECKPOINTS: _has_checkpoints}


def _why_needed(delivery: Delivered, rejected: bool) -> str:
    """Return why a tracker may still need the files of a run, or an empty string."""
    position = delivery.position
    if position.rejected and not rejected:
        return "a tracker rejected events; clean such runs with --rejected"
    if position.offline:
        return "a logger was offline"
    is_done = position.disabled or delivery.is_complete
    return "" if is_done else "not delivered to all trackers; deliver them with rankzero sync"
