"""`forked_lines`: what a new run takes over from another one, up to a step."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from rankzero.errors import NotAFileError, UnsafePathError
from rankzero.events.run_info import are_system_metrics
from rankzero.events.structs import DefineMetric, MediaEvent, Metrics, Params, Rewind, Table, encode
from rankzero.events.trust import check_files
from rankzero.files.writing import inside, link_or_copy, make_directory
from rankzero.journal.rewinds import is_superseded, read_rewinds
from rankzero.journal.tail import last_step, read_events, read_start
from rankzero.media.store import MediaFile, read_table
from rankzero.messages import warn_user
from rankzero.rundir.layout import JOURNAL


def fork_point(source: Path, step: int | None) -> int:
    """Return the step up to which a run is taken over: ``step``, at most its last one."""
    last = last_step(source / JOURNAL)
    return last if step is None else min(step, last)


def forked_lines(source: Path, step: int, run_dir: Path) -> Iterator[bytes]:
    """Yield lines for the journal of a new run, and link or copy their files into its directory.

    They are the hyperparameters and the definitions of metrics of a run, and its metrics and media, without those of
    later steps, those that a rewind superseded, and system metrics; and at last where they are from.
    """
    journal = source / JOURNAL
    rewinds = read_rewinds(journal) | {sys.maxsize: Rewind(0.0, step)}
    for line, event in read_events(journal):
        if isinstance(event, Metrics) and are_system_metrics(event.step, event.values):
            continue  # measured while the other run was open
        is_copied = isinstance(event, Metrics | MediaEvent | Params | DefineMetric)
        if is_copied and not is_superseded(line.end, event, rewinds):
            try:
                if isinstance(event, MediaEvent):
                    _take_files(event, source, run_dir)
            except (OSError, ValueError, UnsafePathError, NotAFileError) as error:
                warn_user(f"a file of {source} is left out of its fork {run_dir.name}: {error}")
            else:
                yield line.data + b"\n"
    start = read_start(journal)
    run_id = source.name if start is None else start.run.id
    yield encode(Params(time.time(), {"forked_from": {"run": run_id, "step": step}}))


def _take_files(event: MediaEvent, source: Path, run_dir: Path) -> None:
    paths = event.paths
    check_files(source, paths)
    if isinstance(event, Table):
        cells = chain.from_iterable(read_table(source / event.file.path)[1])
        paths += [str(Path(cell.path).relative_to(source)) for cell in cells if isinstance(cell, MediaFile)]
        check_files(source, paths)
    for path in paths:
        if not (target := inside(run_dir, path)).exists():
            link_or_copy(source / path, make_directory(run_dir, Path(path).parent) / target.name)
