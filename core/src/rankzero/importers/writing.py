"""`import_run`: write an imported run to a journal, atomically and without duplicates.

A new journal is written to a temporary file and then renamed, so that an import that is killed leaves no run. If the
run was imported before, the source continues where that import ended, if it can. Otherwise its events are compared with
the journal line by line. If the journal is their beginning, the remaining events are appended, as in a resumed run,
after all of the source has been read.
"""

from __future__ import annotations

import enum
import hashlib
import math
import os
import re
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from rankzero.capture.environment import write_environment
from rankzero.errors import RunInUseError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Event, Finish, Start, encode
from rankzero.files.writing import replacing, temporary_in
from rankzero.importers.appended_source import last_finish, logged_lines, new_events
from rankzero.importers.base import FoundRun, Report
from rankzero.importers.bookmark import Bookmark, read_bookmark, write_bookmark
from rankzero.importers.event_lines import MetricsLines, Written, append_events, first_time, one_by_one
from rankzero.importers.partial_lines import DifferentRunError
from rankzero.journal.append import cut_torn_tail
from rankzero.journal.opening import has_journal, open_journal, restore
from rankzero.journal.tail import read_start
from rankzero.media.store import MediaStore, UnwrittenStore
from rankzero.run.identity import name_of
from rankzero.rundir.finding import complete_size, find_runs, make_runs_directory
from rankzero.rundir.layout import JOURNAL, MEDIA
from rankzero.rundir.writer_lock import WriterLock

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
_UNKNOWN_START = 1.0  # the start of a run whose source has no times; 0 would mean that it is unknown
_RUN_ID = re.compile(r"[0-9a-z]{8,50}")
_INVALID_IN_NAME = re.compile(r"[\\\0-\x1f\x7f]")


class Outcome(enum.Enum):
    """The result of an import."""

    NEW = "imported"
    APPENDED = "imported what is new"
    UNCHANGED = "imported already"
    DIFFERENT = "not imported"
    """The existing run differs from the source and was not changed."""
    OTHER_PROJECT = "not imported, it is in another project"
    """The run exists in another project, in ``info.dir``, and was not changed."""


@dataclass
class Imported:
    """What `import_run` did with a run."""

    info: RunInfo
    outcome: Outcome
    report: Report
    values: int = 0
    """The number of numbers, parameters and texts that were written."""
    files: int = 0
    """The number of files that were written."""
    until: float = field(default=0.0, repr=False)
    """The time of the last event, Unix time in seconds."""
    status: str = field(default="success", repr=False)
    """The status of the run in the source."""

    def count(self, written: Written) -> None:
        """Add the numbers of values and files that were written."""
        self.values += written.values
        self.files += written.files


class OpenRuns:
    """Runs that are imported again and again: until they are closed, they stay locked and have no `Finish`."""

    def __init__(self) -> None:
        self._runs: dict[str, tuple[WriterLock, Imported]] = {}

    def keep(self, lock: WriterLock, imported: Imported) -> None:
        """Keep a run open."""
        self._runs[imported.info.id] = lock, imported

    def lock(self, run_id: str) -> WriterLock | None:
        """Return the lock of a run; None if the run is not open."""
        return self._runs[run_id][0] if run_id in self._runs else None

    def close(self, before: float = math.inf) -> None:
        """Write the end of the runs whose last event has a time (Unix time in seconds) before ``before``."""
        for run_id, (lock, imported) in list(self._runs.items()):
            if imported.until < before:
                del self._runs[run_id]
                try:
                    _finish(imported)
                finally:
                    lock.release()


def import_run(
    found: FoundRun,
    runs_dir: Path,
    project: str,
    on_progress: Callable[[int], None] | None = None,
    known: Mapping[str, Path] | None = None,
    *,
    options: Mapping[str, Any] = _NO_OPTIONS,
    dry_run: bool = False,
    open_runs: OpenRuns | None = None,
) -> Imported:
    """Import a run into ``runs_dir/project/id``; if it exists, append only new events.

    Args:
        found: the run to import.
        runs_dir: the directory of all runs.
        project: the project of the run.
        on_progress: called with the number of bytes read since the last call.
        known: id → directory of the runs in ``runs_dir``; if None, they are searched.
        options: the options of the importer; if the last import had others, all events are compared with the run.
        dry_run: only count; write nothing.
        open_runs: keeps the run open for the next import of it.

    Raises:
        SkipRun: there is nothing to import.
        RunInUseError: another process is importing or writing the run.
        OSError: the source cannot be read, or the run's directory cannot be written.
    """
    run_id = run_id_of(found.identity)
    project = project_name(project)
    run_dir = Path(os.path.abspath(runs_dir)) / project / run_id
    bookmark = read_bookmark(run_dir)
    if bookmark is not None and not (bookmark.options == options and found.resume(bookmark.position)):
        bookmark = None
    header = found.header()
    info = RunInfo(
        id=run_id,
        name=header.name or name_of(run_id),
        project=project,
        dir=str(run_dir),
        tags=header.tags,
        notes=header.notes,
        started=header.started,
        group=header.group,
        parent=header.parent and run_id_of(header.parent),
    )
    imported = Imported(info, Outcome.NEW, Report(on_progress), until=header.started, status=header.status)
    if not has_journal(run_dir) and (other := _find_elsewhere(run_id, runs_dir, known)) is not None:
        imported.outcome = Outcome.OTHER_PROJECT
        imported.info = msgspec.structs.replace(info, dir=str(other))
        return imported
    if dry_run:
        _Import(found, imported, bookmark, options, dry_run=True).run(UnwrittenStore(run_dir))
        return imported
    make_runs_directory(runs_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    kept = open_runs.lock(run_id) if open_runs is not None else None
    lock = kept or _lock(run_dir)
    try:
        was_open, stays_open = kept is not None, open_runs is not None
        writer = _Import(found, imported, bookmark, options, was_open=was_open, stays_open=stays_open)
        writer.run(MediaStore(run_dir))
        if open_runs is not None and (kept or imported.outcome in (Outcome.NEW, Outcome.APPENDED)):
            open_runs.keep(lock, imported)
            kept = lock
    finally:
        if kept is None:
            lock.release()
    return imported


def _find_elsewhere(run_id: str, runs_dir: Path, known: Mapping[str, Path] | None) -> Path | None:
    """Return the directory of the run with this id in any project, or None."""
    if known is None:
        known = {run.name: run for run in find_runs(runs_dir)}
    return known.get(run_id)


def _lock(run_dir: Path) -> WriterLock:
    try:
        return WriterLock(run_dir)
    except RunInUseError as error:
        raise RunInUseError(
            f"the run in {run_dir} is being imported or written by another process; wait for it to end and import again"
        ) from error


def run_id_of(identity: str) -> str:
    """Return the run id for ``identity``: without dashes if all trackers accept that, otherwise a hash."""
    plain = identity.replace("-", "").lower()
    return plain if _RUN_ID.fullmatch(plain) else hashlib.sha256(identity.encode()).hexdigest()[:32]


def project_name(project: str) -> str:
    """Return ``project`` with characters that are invalid in directory names replaced."""
    parts = [_INVALID_IN_NAME.sub("_", part).strip() for part in project.split("/")]
    return "/".join(part for part in parts if part not in ("", ".", "..")) or "imported"


def _finish(imported: Imported) -> None:
    """Write the end of a run that was kept open."""
    run_dir = Path(imported.info.dir)
    bookmark = read_bookmark(run_dir)
    with open(run_dir / JOURNAL, "ab") as file:
        file.write(encode(Finish(imported.until, imported.status)))
    if bookmark is not None:
        write_bookmark(run_dir, bookmark)


class _Import:
    """Writes the new events of a run.

    Args:
        found: the run.
        imported: the result, which is updated.
        bookmark: the position at which the events of ``found`` begin; None for the beginning.
        options: the options of the importer.
        dry_run: whether nothing is written.
        was_open: whether the run was kept open since the last import.
        stays_open: whether the run gets no `Finish` yet.
    """

    def __init__(
        self,
        found: FoundRun,
        imported: Imported,
        bookmark: Bookmark | None,
        options: Mapping[str, Any],
        *,
        dry_run: bool = False,
        was_open: bool = False,
        stays_open: bool = False,
    ) -> None:
        self._found = found
        self._imported = imported
        self._bookmark = bookmark
        self._options = options
        self._dry_run = dry_run
        self._was_open = was_open
        self._stays_open = stays_open
        self._journal = Path(imported.info.dir, JOURNAL)

    def run(self, files: MediaStore) -> None:
        """Write the journal, or append to it."""
        events = _track_time(self._found.events(files, self._imported.report), self._imported)
        if has_journal(self._journal.parent):
            self._append(events)
        else:
            environment = self._found.environment(files)
            if environment is not None and not self._dry_run:
                write_environment(self._journal.parent, environment)
            self._write(events)
        is_imported = self._imported.outcome in (Outcome.NEW, Outcome.APPENDED, Outcome.UNCHANGED)
        if is_imported and not self._dry_run and (position := self._found.position) is not None:
            bookmark = Bookmark(self._imported.until, position, dict(self._options))
            write_bookmark(self._journal.parent, bookmark)

    def _write(self, events: Iterator[Event | MetricsLines]) -> None:
        imported = self._imported
        with open(os.devnull, "wb") if self._dry_run else replacing(self._journal) as file:
            first = next(events, None)
            started = imported.info.started or (first_time(first) if first is not None else 0.0) or _UNKNOWN_START
            imported.until = max(imported.until, started)
            file.write(encode(Start(started, imported.info)))
            imported.count(append_events(file, chain([] if first is None else [first], events)))
            if not self._stays_open:
                file.write(encode(Finish(imported.until, imported.status)))
            if not self._dry_run:
                file.flush()
                os.fsync(file.fileno())

    def _append(self, events: Iterator[Event | MetricsLines]) -> None:
        """Append new events to an existing journal; change nothing if the source differs from it."""
        imported, journal = self._imported, self._journal
        start = read_start(journal)
        if start is None or (start.run.id, start.run.project) != (imported.info.id, imported.info.project):
            imported.outcome = Outcome.DIFFERENT
            return
        # Name, notes and tags stay as imported first: trackers may already have them.
        imported.info = msgspec.structs.replace(start.run, dir=imported.info.dir)
        imported.until = self._bookmark.until if self._bookmark else start.time
        kept = None if self._bookmark or self._dry_run else _media(journal.parent)
        try:
            with nullcontext(Path(os.devnull)) if self._dry_run else temporary_in(journal.parent) as part:
                if not self._write_new(part, events):
                    imported.outcome = Outcome.UNCHANGED
                    return
                imported.outcome = Outcome.APPENDED
                if not self._dry_run:
                    restore(journal)
                    cut_torn_tail(journal)
                    with open(part, "rb") as new, open(journal, "ab") as file:
                        shutil.copyfileobj(new, file)
        except DifferentRunError:
            imported.outcome = Outcome.DIFFERENT
            for each in _media(journal.parent) - kept if kept is not None else ():
                each.unlink()

    def _write_new(self, part: Path, events: Iterator[Event | MetricsLines]) -> bool:
        """Write the events that the journal lacks to ``part``; return whether there are any.

        Raises:
            DifferentRunError: the source differs from the journal.
        """
        imported = self._imported
        end = last_finish(self._journal)
        with closing(self._new_events(events)) as new:
            first = next(new, None)
            if first is None and (self._was_open or (end is not None and end.status == imported.status)):
                return False
            with open(part, "wb") as file:
                if not self._was_open:
                    resumed_at = first_time(first) if first is not None else imported.until
                    file.write(encode(Start(resumed_at, imported.info, resumed=True)))
                imported.count(append_events(file, chain([] if first is None else [first], new)))
                if not self._stays_open:
                    file.write(encode(Finish(imported.until, imported.status)))
        return True

    def _new_events(self, events: Iterator[Event | MetricsLines]) -> Generator[Event | MetricsLines, None, None]:
        """Yield the events that the journal lacks."""
        if self._bookmark:
            yield from events
            return
        with (
            open_journal(self._journal) as lines,
            closing(logged_lines(lines, complete_size(self._journal.parent))) as old,
        ):
            yield from new_events(old, one_by_one(events))


def _media(run_dir: Path) -> set[Path]:
    return {path for path in (run_dir / MEDIA).rglob("*") if path.is_file()}


def _track_time(events: Iterable[Event | MetricsLines], imported: Imported) -> Iterator[Event | MetricsLines]:
    """Yield the events, and keep their latest time in ``imported.until``."""
    for event in events:
        if event.time > imported.until:
            imported.until = event.time
        yield event
