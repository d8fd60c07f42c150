"""Writes a found run as an ordinary run: its journal at once or not at all, and again without doubling anything.

A journal is written beside its place and then renamed, so that an import which is killed leaves no run. Where the run
was imported before, what is found is compared with it line by line; if the journal is the beginning of that, the rest
is appended as if the run had been resumed, and not before all of it has been read.
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
from rankzero.importers.appended_source import beyond, last_finish, logged_lines
from rankzero.importers.base import FoundRun, Header, Report
from rankzero.importers.event_lines import Written, append_events
from rankzero.importers.partial_lines import DifferentRunError
from rankzero.journal.append import cut_torn_tail
from rankzero.journal.tail import JOURNAL, read_start
from rankzero.media.store import MEDIA, MediaStore
from rankzero.run.identity import name_of
from rankzero.rundir.finding import complete_size, find_runs, make_runs_directory
from rankzero.rundir.writer_lock import WriterLock

_PART = "journal.part"
_NO_TIME = 1.0  # when a run began of which nothing says when; 0 would be no time
_RUN_ID = re.compile(r"[0-9a-z]{32,50}")
_NOT_IN_A_DIRECTORY = re.compile(r"[\\\0-\x1f\x7f]")


class Outcome(enum.Enum):
    """What an import did."""

    NEW = "imported"
    GROWN = "imported what is new"
    UNCHANGED = "imported already"
    DIFFERENT = "not imported"
    """The run is there, and is not the beginning of what was found; it was left as it is."""
    ELSEWHERE = "not imported, it is in another project"
    """The run was imported into another project, and was left as it is; ``info.dir`` is where."""


@dataclass
class Imported:
    """A run that was imported."""

    info: RunInfo
    outcome: Outcome
    report: Report
    values: int = 0
    """Numbers, parameters and texts that were written."""
    files: int = 0
    """Files that were written."""
    until: float = field(default=0.0, repr=False)
    """The time of the latest event, Unix time in seconds."""

    def count(self, written: Written) -> None:
        """Add what was written."""
        self.values += written.values
        self.files += written.files


def import_run(
    found: FoundRun,
    runs_dir: Path,
    project: str,
    on_progress: Callable[[int], None] | None = None,
    known: Mapping[str, Path] | None = None,
) -> Imported:
    """Write ``found`` to ``runs_dir/project/id``, as far as it is not there.

    Args:
        found: the run.
        runs_dir: where runs are kept.
        project: what it is to belong to.
        on_progress: called with the number of bytes of the source that were read since the last call.
        known: id → directory of the runs in ``runs_dir``; looked for if None.

    Raises:
        SkipRun: there is nothing to import, which is no fault.
        RunInUseError: another process is importing or writing it.
        OSError: the source cannot be read at all, or the run's directory cannot be written.
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
    if not (run_dir / JOURNAL).exists() and (elsewhere := _elsewhere(run_id, runs_dir, known)) is not None:
        imported.outcome = Outcome.ELSEWHERE
        imported.info = msgspec.structs.replace(info, dir=str(elsewhere))
        return imported
    make_runs_directory(runs_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = _locked(run_dir)
    try:
        events = found.events(MediaStore(run_dir), imported.report)
        if (run_dir / JOURNAL).exists():
            _add(imported, header, events)
        else:
            _write(imported, header, events)
    finally:
        lock.release()
    return imported


def _elsewhere(run_id: str, runs_dir: Path, known: Mapping[str, Path] | None) -> Path | None:
    """Return where a run of that id is, None if there is none."""
    if known is None:
        known = {run.name: run for run in find_runs(runs_dir)}
    return known.get(run_id)


def _locked(run_dir: Path) -> WriterLock:
    try:
        return WriterLock(run_dir)
    except RunInUseError as error:
        raise RunInUseError(
            f"the run in {run_dir} is being imported or written by another process; wait for it to end and import again"
        ) from error


def run_id_of(identity: str) -> str:
    """Return the id for what is called ``identity`` elsewhere: that without its dashes if every tracker takes it."""
    plain = identity.replace("-", "").lower()
    return plain if _RUN_ID.fullmatch(plain) else hashlib.sha256(identity.encode()).hexdigest()[:32]


def project_name(project: str) -> str:
    """Return ``project`` as it can name directories."""
    parts = [_NOT_IN_A_DIRECTORY.sub("_", part).strip() for part in project.split("/")]
    return "/".join(part for part in parts if part not in ("", ".", "..")) or "imported"


def _write(imported: Imported, header: Header, events: Iterable[Event]) -> None:
    """Write a new journal."""
    journal = Path(imported.info.dir, JOURNAL)
    part = journal.with_name(_PART)
    try:
        with open(part, "wb") as file:
            remaining = iter(events)
            first = next(remaining, None)
            imported.until = header.started or (first.time if first is not None else 0.0) or _NO_TIME
            file.write(encode(Start(imported.until, imported.info)))
            imported.count(append_events(file, _watched(chain([] if first is None else [first], remaining), imported)))
            file.write(encode(Finish(imported.until, header.status)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, journal)
    finally:
        part.unlink(missing_ok=True)


def _add(imported: Imported, header: Header, events: Iterable[Event]) -> None:
    """Append to the journal what it lacks; leave it alone if it is not the beginning of what was found."""
    journal = Path(imported.info.dir, JOURNAL)
    start = read_start(journal)
    if start is None or (start.run.id, start.run.project) != (imported.info.id, imported.info.project):
        imported.outcome = Outcome.DIFFERENT
        return
    # What is said of the run as a whole stays as it was: readers and trackers know it from its first start.
    imported.info = msgspec.structs.replace(start.run, dir=imported.info.dir)
    imported.until = start.time
    end = last_finish(journal)
    kept = _media(journal.parent)
    part = journal.with_name(_PART)
    try:
        if _write_new(part, imported, header, events, end):
            imported.outcome = Outcome.GROWN
            cut_torn_tail(journal)
            with open(part, "rb") as new, open(journal, "ab") as file:
                shutil.copyfileobj(new, file)
        else:
            imported.outcome = Outcome.UNCHANGED
    except DifferentRunError:
        imported.outcome = Outcome.DIFFERENT
        for each in _media(journal.parent) - kept:
            each.unlink()
    finally:
        part.unlink(missing_ok=True)


def _write_new(part: Path, imported: Imported, header: Header, events: Iterable[Event], end: Finish | None) -> bool:
    """Write to ``part`` what the journal lacks; return whether that is anything.

    Raises:
        DifferentRunError: the journal is not the beginning of ``events``.
    """
    journal = part.with_name(JOURNAL)
    with open(journal, "rb") as lines, closing(logged_lines(lines, complete_size(journal.parent))) as old:
        new = beyond(old, _watched(events, imported))
        first = next(new, None)
        if first is None and end is not None and end.status == header.status:
            return False
        at = first.time if first is not None else imported.until
        with open(part, "wb") as file:
            file.write(encode(Start(at, imported.info, resumed=True)))
            imported.count(append_events(file, chain([] if first is None else [first], new)))
            file.write(encode(Finish(imported.until, header.status)))
    return True


def _media(run_dir: Path) -> set[Path]:
    return {path for path in (run_dir / MEDIA).rglob("*") if path.is_file()}


def _watched(events: Iterable[Event], imported: Imported) -> Iterator[Event]:
    """Note the latest time of the events, also of those that are in the journal already."""
    for event in events:
        if event.time > imported.until:
            imported.until = event.time
        yield event
