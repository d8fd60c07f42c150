"""`import_run`: write an imported run to a journal, atomically and without duplicates.

A new journal is written to a temporary file and then renamed, so that an import that is killed leaves no run. If the
run was imported before, the events of the source are compared with the journal line by line. If the journal is their
beginning, the remaining events are appended, as in a resumed run, after all of the source has been read.
"""

from __future__ import annotations

import enum
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import msgspec

from rankzero.errors import RunInUseError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Event, Finish, Start, encode
from rankzero.files.writing import replacing, temporary_in
from rankzero.importers.appended_source import last_finish, logged_lines, new_events
from rankzero.importers.base import FoundRun, Header, Report
from rankzero.importers.event_lines import Written, append_events
from rankzero.importers.partial_lines import DifferentRunError
from rankzero.journal.append import cut_torn_tail
from rankzero.journal.tail import read_start
from rankzero.media.store import MediaStore
from rankzero.run.identity import name_of
from rankzero.rundir.finding import complete_size, find_runs, make_runs_directory
from rankzero.rundir.layout import JOURNAL, MEDIA
from rankzero.rundir.writer_lock import WriterLock

_UNKNOWN_START = 1.0  # the start of a run whose source has no times; 0 would mean that it is unknown
_RUN_ID = re.compile(r"[0-9a-z]{32,50}")
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

    def count(self, written: Written) -> None:
        """Add the numbers of values and files that were written."""
        self.values += written.values
        self.files += written.files


def import_run(
    found: FoundRun,
    runs_dir: Path,
    project: str,
    on_progress: Callable[[int], None] | None = None,
    known: Mapping[str, Path] | None = None,
) -> Imported:
    """Import a run into ``runs_dir/project/id``; if it exists, append only new events.

    Args:
        found: the run to import.
        runs_dir: the directory of all runs.
        project: the project of the run.
        on_progress: called with the number of bytes read since the last call.
        known: id → directory of the runs in ``runs_dir``; if None, they are searched.

    Raises:
        SkipRun: there is nothing to import.
        RunInUseError: another process is importing or writing the run.
        OSError: the source cannot be read, or the run's directory cannot be written.
    """
    header = found.header()
    run_id = run_id_of(found.identity)
    project = project_name(project)
    run_dir = Path(os.path.abspath(runs_dir)) / project / run_id
    info = RunInfo(
        id=run_id,
        name=header.name or name_of(run_id),
        project=project,
        dir=str(run_dir),
        tags=header.tags,
        notes=header.notes,
        started=header.started,
    )
    imported = Imported(info, Outcome.NEW, Report(on_progress), until=header.started)
    if not (run_dir / JOURNAL).exists() and (other := _find_elsewhere(run_id, runs_dir, known)) is not None:
        imported.outcome = Outcome.OTHER_PROJECT
        imported.info = msgspec.structs.replace(info, dir=str(other))
        return imported
    make_runs_directory(runs_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = _lock(run_dir)
    try:
        events = found.events(MediaStore(run_dir), imported.report)
        if (run_dir / JOURNAL).exists():
            _append(imported, header, events)
        else:
            _write(imported, header, events)
    finally:
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


def _write(imported: Imported, header: Header, events: Iterable[Event]) -> None:
    """Write a new journal."""
    with replacing(Path(imported.info.dir, JOURNAL)) as file:
        remaining = iter(events)
        first = next(remaining, None)
        imported.until = header.started or (first.time if first is not None else 0.0) or _UNKNOWN_START
        file.write(encode(Start(imported.until, imported.info)))
        imported.count(append_events(file, _track_time(chain([] if first is None else [first], remaining), imported)))
        file.write(encode(Finish(imported.until, header.status)))
        file.flush()
        os.fsync(file.fileno())


def _append(imported: Imported, header: Header, events: Iterable[Event]) -> None:
    """Append new events to an existing journal; change nothing if the source differs from it."""
    journal = Path(imported.info.dir, JOURNAL)
    start = read_start(journal)
    if start is None or (start.run.id, start.run.project) != (imported.info.id, imported.info.project):
        imported.outcome = Outcome.DIFFERENT
        return
    # Name, notes and tags stay as imported first: trackers may already have them.
    imported.info = msgspec.structs.replace(start.run, dir=imported.info.dir)
    imported.until = start.time
    end = last_finish(journal)
    kept = _media(journal.parent)
    try:
        with temporary_in(journal.parent) as part:
            if _write_new(part, imported, header, events, end):
                imported.outcome = Outcome.APPENDED
                cut_torn_tail(journal)
                with open(part, "rb") as new, open(journal, "ab") as file:
                    shutil.copyfileobj(new, file)
            else:
                imported.outcome = Outcome.UNCHANGED
    except DifferentRunError:
        imported.outcome = Outcome.DIFFERENT
        for each in _media(journal.parent) - kept:
            each.unlink()


def _write_new(part: Path, imported: Imported, header: Header, events: Iterable[Event], end: Finish | None) -> bool:
    """Write the events that the journal lacks to ``part``; return whether there are any.

    Raises:
        DifferentRunError: the source differs from the journal.
    """
    journal = part.with_name(JOURNAL)
    with open(journal, "rb") as lines, closing(logged_lines(lines, complete_size(journal.parent))) as old:
        new = new_events(old, _track_time(events, imported))
        first = next(new, None)
        if first is None and end is not None and end.status == header.status:
            return False
        resumed_at = first.time if first is not None else imported.until
        with open(part, "wb") as file:
            file.write(encode(Start(resumed_at, imported.info, resumed=True)))
            imported.count(append_events(file, chain([] if first is None else [first], new)))
            file.write(encode(Finish(imported.until, header.status)))
    return True


def _media(run_dir: Path) -> set[Path]:
    return {path for path in (run_dir / MEDIA).rglob("*") if path.is_file()}


def _track_time(events: Iterable[Event], imported: Imported) -> Iterator[Event]:
    """Yield the events, and keep the latest of their times in ``imported.until``."""
    for event in events:
        if event.time > imported.until:
            imported.until = event.time
        yield event
