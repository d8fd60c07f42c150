"""`WatchedRuns`: the runs below a directory that are running or ended lately; an update reads only what is new."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from rankzero.errors import RunNotFoundError
from rankzero.journal.opening import file_of
from rankzero.reader.index.run_index import RunIndex
from rankzero.reader.index.summary import RunSummary
from rankzero.reader.series import Series
from rankzero.rundir.finding import Delivered, delivered, find_runs
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.writer_lock import Writer, writer_state

LATELY = 86_400.0
"""Seconds for which a run that ended is watched."""
_MOST_SILENT = 3600.0  # seconds; then a run whose process cannot be seen from here no longer counts as live
_SEARCHED_EVERY = 5.0  # seconds
_MOST_SEARCHING = 0.05  # of the time
_RECENT = 60.0  # seconds of which the speed is a mean
_MOST_INTERVALS = 5  # between points; then a run is idle


class WatchedRun:
    """A run as it was at the last update."""

    def __init__(self, run_dir: Path) -> None:
        self.dir = run_dir
        self.summary: RunSummary | None = None
        """None if the run could not be read, or has no event yet."""
        self.problem: Exception | None = None
        """Why the run cannot be read now."""
        self.deliveries: dict[str, Delivered] = {}
        """The state of each delivery, measured by what there was at the update before."""
        self.was_live = False
        """Whether the run was live at an update."""
        self.written = 0.0
        """When the journal was written, Unix time in seconds."""
        self._index: RunIndex | None = None
        self._keeps_curves = False

    @property
    def is_live(self) -> bool:
        """Whether the run is running, as far as this machine can know."""
        status = self.summary.status if self.summary else "unknown"
        return status == "running" or (status == "unknown" and time.time() < self.written + _MOST_SILENT)

    @property
    def is_delivered(self) -> bool:
        """Whether all trackers have the whole run."""
        return all(each.is_complete for each in self.deliveries.values())

    @property
    def curves(self) -> Mapping[str, Series]:
        """The curves of the metrics; none of a run that was never live, unless they were loaded."""
        return {} if self._index is None or self.problem else self._index.curves

    def load_curves(self) -> Mapping[str, Series]:
        """Return the curves of any run, and keep them."""
        if self._index is None and not self._keeps_curves:
            self._keeps_curves = True
            with suppress(FileNotFoundError):
                self.update()
        return self.curves

    def update(self) -> None:
        """Read what the journal has grown by.

        Raises:
            FileNotFoundError: the run is gone.
        """
        self.written = _written(self.dir)
        try:
            index = self._index or RunIndex(self.dir)
            index.update()
            before, self.summary, self.problem = self.summary, index.summary, None
            self.was_live |= self.is_live
            # A directory may have thousands of runs that ended.
            self._index = index if self.was_live or self._keeps_curves else None
            due = before or self.summary  # a courier at work is not behind
            self.deliveries = delivered(self.dir, due.loggers, due.journal.read, due.lines)
        except RunNotFoundError:
            self.summary = self.problem = None
        except FileNotFoundError:
            raise
        except Exception as error:  # whatever is wrong with one run, the others are shown
            self.problem = error

    def speed(self) -> tuple[float | None, float]:
        """Return the steps per second, None if unknown, and the seconds for which the run is idle: 0 while it logs."""
        metrics = self.summary.metrics if self.summary else {}
        stepped = [name for name, metric in metrics.items() if metric.last_step is not None]
        if not self.curves or not stepped:
            return None, 0.0
        newest = max(stepped, key=lambda name: (metrics[name].last_time, metrics[name].count))
        points = self.curves[newest]
        steps, times, last = points.step, points.time, len(points) - 1
        silent = time.time() - times[last]
        interval = (times[last] - times[0]) / max(1, metrics[newest].count - 1)
        first = min(bisect_left(times, times[last] - _RECENT, 0, last), max(0, last - 1))
        took, done = times[last] - times[first], steps[last] - steps[first]
        speed = float(done / took) if took > 0 and done >= 0 else None
        return speed, silent if silent > max(_RECENT, _MOST_INTERVALS * interval) else 0.0


class WatchedRuns:
    """The runs below a directory that are live, were so at an update, or were written lately."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runs: dict[Path, WatchedRun] = {}
        self._written: dict[Path, float] = {}
        self._search_at = 0.0

    def update(self) -> Iterator[None]:
        """Read what is new, run by run, the newest first; an iterator, because the first time may take long."""
        found = self._search() if time.monotonic() >= self._search_at else []
        live = [run for run in self.runs.values() if run.is_live]
        for run in dict.fromkeys([*found, *live]):
            with suppress(FileNotFoundError):  # the next search notices it, too
                run.update()
            yield

    def _search(self) -> list[WatchedRun]:
        """Return the runs that are new, or were written since they ended, or are not delivered yet, newest first."""
        began = time.monotonic()
        found = dict(_find(self.directory))
        for gone in self.runs.keys() - found.keys():
            del self.runs[gone]
        changed = {run_dir for run_dir, at in found.items() if self._written.get(run_dir) != at}
        for run_dir in changed - self.runs.keys():
            if time.time() < found[run_dir] + LATELY or writer_state(run_dir) is Writer.ALIVE:
                self.runs[run_dir] = WatchedRun(run_dir)
        due = [run for run in self.runs.values() if run.dir in changed or not run.is_delivered]
        self._written = found
        self._search_at = began + max(_SEARCHED_EVERY, (time.monotonic() - began) / _MOST_SEARCHING)
        return sorted(due, key=lambda run: found[run.dir], reverse=True)


def _find(directory: Path) -> Iterator[tuple[Path, float]]:
    """Yield the runs, and when their journals were written."""
    for run_dir in find_runs(directory):
        with suppress(OSError):  # it is gone again, or cannot be read
            yield run_dir, _written(run_dir)


def _written(run_dir: Path) -> float:
    return file_of(run_dir / JOURNAL).stat().st_mtime
