"""`index_run`: what is known of a run; only what its journal has grown by is read."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from rankzero.errors import RunNotFoundError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import DefineMetric, Finish, Metrics, Params, Rewind, Start, Tags
from rankzero.journal.opening import JournalStat, stat_journal
from rankzero.journal.rewinds import rewind_limits, surviving
from rankzero.journal.tail import chunks_of_lines, complete_lines, split_lines
from rankzero.reader.index.curves import Curves, as_bytes
from rankzero.reader.index.files import SavedIndex, load_index, load_summary, save
from rankzero.reader.index.summary import JournalState, MetricSummary, RunSummary, as_step
from rankzero.reader.run_data import JournalReader, RunData, find_journal, known_info
from rankzero.reader.series import Series
from rankzero.rundir.finding import run_paths, status_without_end
from rankzero.rundir.layout import JOURNAL
from rankzero.values import to_jsonable

_SUMMARISED = (Start, Finish, Params, Tags, DefineMetric)
_KEPT = ("status", "finished", "error", "updated", "paused", "tags", "definitions", "lines", "damaged")
"""The fields of a run that its summary has, too."""
_TIMES_DEARER = 4  # reading a byte of the journal against writing one of the index
_MOST_UNREAD = 1 << 23  # bytes that a quick summary reads into the index
_GLIMPSE = 1 << 20  # bytes at the beginning and the end that it reads of a larger journal

_METRICS = b'{"type":"metrics",'


def index_run(path: str | os.PathLike[str]) -> RunIndex:
    """Return what is known of a run; only what its journal has grown by since is read.

    Args:
        path: the run's directory, or its journal.

    Raises:
        RunNotFoundError: there is no journal, or it contains no event yet.
        OSError: the journal cannot be read.
    """
    index = RunIndex(find_journal(path).parent)
    index.update()
    return index


class RunIndex:
    """What is known of a run: a summary, downsampled curves, and on demand everything else but the metrics.

    It is kept in two files of the run's directory, if that can be written.
    """

    def __init__(self, run_dir: Path) -> None:
        """Load what is kept; `update` reads the rest."""
        self.dir = run_dir
        self._journal = run_dir / JOURNAL
        self._summary: RunSummary | None = None
        self._spans: array[int] = array("q")
        self._curves = Curves({}, {})
        self._saved_until = self._saved_size = 0
        loaded = load_index(run_dir)
        if loaded is not None:
            saved, self._saved_size = loaded
            self._summary, self._spans = saved.summary, saved.spans()
            self._curves = Curves(saved.curves, saved.summary.metrics)
            self._saved_until = saved.summary.journal.read

    @property
    def summary(self) -> RunSummary:
        """The run without its points and files."""
        return _completed(self._as_read(), self.dir)

    @property
    def curves(self) -> Mapping[str, Series]:
        """The metrics, downsampled: see `Curve`. They are made when they are asked for."""
        return self._curves

    def data(self) -> RunData:
        """Return everything but the metrics, as `read_run` does; only those lines of the journal are read."""
        so_far = self._as_read()
        reader = JournalReader(self._journal, run=RunData(self.dir, RunInfo("", "", "", "")))
        for _, chunk in self.other_lines():
            for part in reader.take(chunk):
                if isinstance(part, Rewind):
                    reader.rewind(part.step)
        run = reader.finish()
        run.lines, run.updated, run.paused = so_far.lines, so_far.updated, so_far.paused
        return run

    def other_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the lines of the journal that are not metrics, many together, with their byte offset.

        Some may be damaged.
        """
        for start, end in zip(self._spans[::2], self._spans[1::2], strict=True):
            yield from chunks_of_lines(self._journal, end, start)

    def update(self) -> bool:
        """Read what the journal has grown by, or all of it if it was changed; return whether anything is new.

        Raises:
            RunNotFoundError: the journal contains no event.
            OSError: it cannot be read.
        """
        found = stat_journal(self._journal)
        has_grown = self._summary.journal.has_grown(self._journal, found) if self._summary else None
        if has_grown is False:
            return False
        try:
            self._read(found, self._summary if has_grown else None)
        except _WentBackError:
            self._read(found, None, rewind_limits(self._journal, found.st_size))
        self._save()
        return True

    def _as_read(self) -> RunSummary:
        if self._summary is None:
            raise RunNotFoundError(f"{self._journal} contains no readable event")
        return self._summary

    def _read(self, found: JournalStat, known: RunSummary | None, limits: Sequence[int] | None = None) -> None:
        """Read the journal as it was ``found``.

        Args:
            found: its size and time.
            known: what was read before; None to begin anew.
            limits: the `rewind_limits`, when beginning anew because a rewind leaves out points that were added.
        """
        self._summary = None  # in case that this fails
        if known is None:
            self._spans, self._curves = array("q"), Curves({}, {})
        step = known.step if known else None
        reader = JournalReader(self._journal, _SUMMARISED, run=_as_run(known, self.dir) if known else None)
        left, offset = list(limits or ()), known.journal.read if known else 0
        for chunk in complete_lines(self._journal, found.st_size, offset):
            damaged, lines = reader.run.damaged, reader.run.lines
            for part in reader.take(chunk):
                if not isinstance(part, Rewind):
                    lines += len(part)
                    part = surviving(part, left)
                    self._curves.add(part)
                    step = _largest(step, part)
                elif left:
                    del left[0]
                elif limits is None and step is not None and step > part.step:
                    raise _WentBackError
            if reader.run.damaged > damaged:
                self._note_others(offset, offset + len(chunk))
            elif reader.run.lines > lines:
                self._note_others_in(chunk, offset)
            offset += len(chunk)
        self._curves.flush()
        if not reader.is_empty:
            state = JournalState.of(self._journal, found, offset)
            self._summary = _summary(state, reader.run, step, self._curves.metrics)
        self._as_read()

    def _note_others_in(self, chunk: bytes, offset: int) -> None:
        """Note where the lines of a chunk are that are not metrics."""
        for end, line in split_lines(offset, chunk):
            if not line.startswith(_METRICS):
                self._note_others(offset, end)
            offset = end

    def _note_others(self, start: int, end: int) -> None:
        if self._spans and self._spans[-1] == start:
            self._spans[-1] = end
        else:
            self._spans.extend((start, end))

    def _save(self) -> None:
        """Write the index, unless reading the new lines again costs less."""
        summary = self._as_read()
        unsaved = summary.journal.read - self._saved_until
        if summary.finished is not None or _TIMES_DEARER * unsaved >= self._saved_size:
            index = SavedIndex(summary, as_bytes(self._spans), self._curves.saved())
            self._saved_until, self._saved_size = summary.journal.read, save(self.dir, index)


class _WentBackError(Exception):
    """A rewind leaves out points that were added."""


def summarize_runs(
    directory: str | os.PathLike[str], *, quick: bool = False, unreadable: dict[Path, Exception] | None = None
) -> list[RunSummary]:
    """Return the summaries of all runs in or below a directory, the newest last.

    Args:
        directory: the directory.
        quick: as in `summarize`.
        unreadable: gets the directories of the runs that cannot be read, and why.
    """
    summaries = []
    for path in run_paths(Path(directory)):
        try:
            summaries.append(summarize(path, quick=quick))
        except Exception as error:  # whatever is wrong with one run, the others are read
            if unreadable is not None:
                unreadable[Path(path)] = error
    return sorted(summaries, key=lambda each: each.started)


def summarize(run_dir: str | os.PathLike[str], *, quick: bool = False) -> RunSummary:
    """Return the summary of a run.

    Args:
        run_dir: its directory.
        quick: whether to read only the beginning and the end of a large journal that was never read, or has grown by
            much; then ``metrics`` is empty, and ``step`` the largest of the last steps.

    Raises:
        RunNotFoundError: the journal contains no event.
        OSError: it cannot be read.
    """
    journal = f"{run_dir}/{JOURNAL}"
    found, known = stat_journal(journal), load_summary(run_dir)
    has_grown = known.journal.has_grown(journal, found) if known else None
    if known is not None and has_grown is False:
        return _completed(known, run_dir)
    if quick and found.st_size - (known.journal.read if known and has_grown else 0) > _MOST_UNREAD:
        return _glimpse(Path(run_dir), found, known if has_grown else None)
    return index_run(run_dir).summary


def _glimpse(run_dir: Path, found: JournalStat, known: RunSummary | None) -> RunSummary:
    """Read the beginning of a journal, unless it is known, and its end."""
    journal = run_dir / JOURNAL
    reader = JournalReader(journal, _SUMMARISED, run=_as_run(known, run_dir) if known else None)
    step = known.step if known else None
    for start, end in ((0, 0 if known else _GLIMPSE), (found.st_size - _GLIMPSE, found.st_size)):
        for chunk in complete_lines(journal, end, start):
            for part in reader.take(chunk):
                step = part.step if isinstance(part, Rewind) else _largest(step, part)
    if reader.is_empty:
        raise RunNotFoundError(f"{journal} contains no readable event")
    return _completed(_summary(JournalState.of(journal, found, found.st_size), reader.run, step, {}), run_dir)


def _largest(step: float | None, rows: Iterable[Metrics]) -> float | None:
    steps = [row.step for row in rows if row.step is not None]
    return max(steps) if step is None and steps else max(step, *steps) if step is not None and steps else step


def _summary(journal: JournalState, run: RunData, step: float | None, metrics: dict[str, MetricSummary]) -> RunSummary:
    return RunSummary(
        journal=journal,
        info=run.info,
        step=step if step is None or as_step(step) is not None else float(step),
        params_json=msgspec.json.encode(to_jsonable(run.params)).decode(),
        loggers=list(run.loggers),
        metrics=metrics,
        **{name: getattr(run, name) for name in _KEPT},
    )


def _as_run(summary: RunSummary, run_dir: Path) -> RunData:
    """Return what was read of a run, to go on reading."""
    return RunData(
        dir=run_dir,
        info=msgspec.structs.replace(summary.info, dir=str(run_dir)),
        params=summary.params,
        loggers={key: {} for key in summary.loggers},
        **{name: getattr(summary, name) for name in _KEPT},
    )


def _completed(summary: RunSummary, run_dir: str | os.PathLike[str]) -> RunSummary:
    """Return the summary with the status that the run has now."""
    info = msgspec.structs.replace(known_info(summary.info, run_dir), dir=os.fspath(run_dir))
    status = status_without_end(Path(run_dir)) if summary.finished is None else summary.status
    tags = list(dict.fromkeys((*info.tags, *summary.tags)))
    return msgspec.structs.replace(summary, info=info, status=status, tags=tags)
