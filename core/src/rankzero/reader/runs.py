"""`read_runs`: the runs of a directory as a table, without reading their journals again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import msgspec

from rankzero.config.resolving import find_runs_directory
from rankzero.errors import RunNotFoundError
from rankzero.reader.exporting.arrow import run_table
from rankzero.reader.exporting.base import ExportedRun
from rankzero.reader.frames import import_or_explain
from rankzero.reader.index.run_index import index_run, summarize_runs
from rankzero.reader.index.summary import RunSummary
from rankzero.reader.series import Series
from rankzero.values import flatten, to_jsonable

_SUMMARIES = ("last", "min", "max")


class Runs(Sequence[RunSummary]):
    """Runs with their params, tags, states and metrics in numbers, the newest last."""

    def __init__(self, runs: Sequence[RunSummary], unreadable: dict[Path, Exception]) -> None:
        self._runs = list(runs)
        self.unreadable = unreadable
        """The directories of runs that cannot be read, and why."""

    @overload
    def __getitem__(self, index: int) -> RunSummary: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> RunSummary | Runs:
        found = self._runs[index]
        return found if isinstance(found, RunSummary) else Runs(found, {})

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return f"Runs({len(self)} runs)"

    def curves(self, metric: str) -> Iterator[tuple[RunSummary, Series]]:
        """Yield each run that has a metric, and its curve: all points, or some thousand of more; see `Curve`."""
        for run in self._runs:
            if metric in run.metrics:
                yield run, index_run(run.dir).curves[metric]

    def to_arrow(self) -> Any:
        """Return an Arrow table with a row for each run.

        It has the columns of the table of runs that ``rankzero export`` writes, a column ``params.NAME`` for each
        parameter, and ``last.NAME``, ``min.NAME`` and ``max.NAME`` for each metric.
        """
        pa = import_or_explain("pyarrow")
        table = run_table([as_row(run) for run in self._runs])
        params = [dict(flatten(run.params)) for run in self._runs]
        for name in dict.fromkeys(name for each in params for name in each):
            table = table.append_column(f"params.{name}", _column(pa, [each.get(name) for each in params]))
        for name in dict.fromkeys(name for run in self._runs for name in run.metrics):
            metrics = [run.metrics.get(name) for run in self._runs]
            for which in _SUMMARIES:
                values = [None if each is None else getattr(each, which) for each in metrics]
                table = table.append_column(f"{which}.{name}", pa.array(values, pa.float64()))
        return table

    def to_pandas(self) -> Any:
        """Return the table of `to_arrow` as a pandas DataFrame."""
        import_or_explain("pandas")
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """Return the table of `to_arrow` as a Polars DataFrame."""
        return import_or_explain("polars", "polars").from_arrow(self.to_arrow())


def read_runs(directory: str | os.PathLike[str] | None = None) -> Runs:
    """Return the runs in or below a directory.

    Of each journal only what is new since the last time is read: see `index_run`.

    Args:
        directory: by default the directory of runs.

    Raises:
        RunNotFoundError: there is no such directory.
    """
    path = find_runs_directory() if directory is None else Path(directory)
    if not path.is_dir():
        raise RunNotFoundError(f"there is no directory {path}")
    unreadable: dict[Path, Exception] = {}
    return Runs(summarize_runs(path.resolve(), unreadable=unreadable), unreadable)


def as_row(run: RunSummary) -> ExportedRun:
    """Return the row of a run in the table of runs."""
    points = sum(metric.count for metric in run.metrics.values())
    return ExportedRun.of(run, (run.info.project, run.info.id), run.params_json, points, run.journal.read)


def _column(pa: Any, values: list[Any]) -> Any:
    """Return a column of a parameter; as JSON, if its values do not have one type."""
    try:
        return pa.array(values)
    except (TypeError, ValueError, OverflowError):
        texts = (each if isinstance(each, str | None) else msgspec.json.encode(to_jsonable(each)) for each in values)
        return pa.array([each.decode() if isinstance(each, bytes) else each for each in texts])
