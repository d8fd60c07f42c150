"""`export_runs`: export the runs that changed, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rankzero.errors import RankzeroError, RunError
from rankzero.reader.exporting.base import ExportedRun, Exporter, RunKey, RunReader
from rankzero.rundir.finding import status_without_end


@dataclass
class Exported:
    """What `export_runs` did."""

    written: int = 0
    """The number of runs that were written."""
    unchanged: int = 0
    points: int = 0
    """The number of points that were written."""
    failed: dict[Path, Exception] = field(default_factory=dict)
    """Directory → why the run was not exported."""
    damaged: dict[Path, int] = field(default_factory=dict)
    """Directory → the number of damaged lines that were skipped, if there were any."""


def export_runs(
    directories: Sequence[Path],
    exporter: Exporter,
    on_start: Callable[[int], None] = lambda size: None,
    on_progress: Callable[[int], None] = lambda size: None,
) -> Exported:
    """Write the runs that changed since they were exported; a run that cannot be read does not stop the others.

    Runs that were exported before and are not among ``directories``, such as deleted ones, are kept.

    Args:
        directories: the directories of the runs.
        exporter: writes them.
        on_start: called once, with the number of bytes to read.
        on_progress: called with the number of bytes read since the last call.

    Raises:
        OSError, RankzeroError: the output cannot be written at all.
    """
    exporter.open()
    try:
        result = Exported()
        changed = _changed(directories, exporter, on_progress, result)
        on_start(sum(run.size for run in changed))
        for run in changed:
            try:
                exporter.write(run)
            except Exception as error:  # a damaged run must not stop the others
                result.failed[run.directory] = error
            else:
                result.written += 1
                result.points += exporter.runs[run.key].points
                if run.damaged:
                    result.damaged[run.directory] = run.damaged
    finally:
        exporter.close()
    return result


def _changed(
    directories: Sequence[Path], exporter: Exporter, on_progress: Callable[[int], None], result: Exported
) -> list[RunReader]:
    changed: list[RunReader] = []
    places: dict[RunKey, Path] = {}
    for directory in dict.fromkeys(each.resolve() for each in directories):
        try:
            run = RunReader(directory, on_progress)
            if (other := places.setdefault(run.key, directory)) != directory:
                raise RunError(f"{other} has the same project and id, and only one of them can be exported")
        except (OSError, RankzeroError) as error:
            result.failed[directory] = error
            continue
        if _is_unchanged(run, exporter.runs.get(run.key)):
            result.unchanged += 1
        else:
            changed.append(run)
    return changed


def _is_unchanged(run: RunReader, known: ExportedRun | None) -> bool:
    if known is None or (known.journal_bytes, known.directory) != (run.size, str(run.directory)):
        return False
    return known.finished is not None or known.status == status_without_end(run.directory)
