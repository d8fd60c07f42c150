"""A Parquet file of neptune-exporter: one row for each value, of one or more runs, read some thousand at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rankzero.errors import PluginNotInstalledError
from rankzero.importers.base import Report

_ROWS = 1 << 14
_KEY = ("project_id", "run_id")
_OURS = {"project_id", "run_id", "attribute_path", "attribute_type", "step", "timestamp"}
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_PLACES = 6  # of the decimals that steps are


class ExportedTable:
    """One file, which is open only while it is read."""

    def __init__(self, path: Path) -> None:
        """Look into the file.

        Raises:
            PluginNotInstalledError: pyarrow is missing.
            OSError, ValueError: it is torn or no Parquet file.
        """
        self.path = path
        self.size = path.stat().st_size
        with _parquet().ParquetFile(path) as file:
            self._names = frozenset(file.schema_arrow.names)

    def is_one(self) -> bool:
        """Return whether neptune-exporter wrote it."""
        return self._names >= _OURS

    def runs(self) -> list[tuple[str, str]]:
        """Return (project, id) of the runs in it, in the order of their first rows."""
        found: dict[tuple[str, str], None] = {}
        with _parquet().ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=_ROWS, columns=[*_KEY]):
                table = _arrow().Table.from_batches([batch]).group_by([*_KEY], use_threads=False)
                for row in table.aggregate([]).to_pylist():
                    found[row["project_id"] or "", row["run_id"] or ""] = None
        return list(found)

    def batches(self, run: tuple[str, str], columns: Sequence[str], report: Report) -> Iterator[Any]:
        """Yield the rows of a run as record batches; of a damaged part of the file as many as can be read.

        Args:
            run: its project and id.
            columns: those to read, where the file has them.
            report: what is told of a damaged part.
        """
        wanted = [name for name in (*_KEY, *columns) if name in self._names]
        with _parquet().ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                try:
                    for batch in file.iter_batches(batch_size=_ROWS, row_groups=[group], columns=wanted):
                        own = batch.filter(_is_of(batch, run))
                        if own.num_rows:
                            yield own
                except (OSError, ValueError) as error:  # Arrow's errors are kinds of these
                    reason = " ".join(str(error).split())
                    report.leave_out(f"a part of {self.path.name}", f"the file is damaged: {reason}")

    def rows(self, run: tuple[str, str]) -> Iterator[str]:
        """Yield the rows of a run as texts that are equal only if the rows are."""
        for batch in self.batches(run, sorted(self._names), Report()):
            yield from map(repr, batch.to_pylist())


def _is_of(batch: Any, run: tuple[str, str]) -> Any:
    compute = _compute()
    project, run_id = (
        compute.equal(compute.fill_null(batch.column(name), ""), value) for name, value in zip(_KEY, run, strict=True)
    )
    return compute.and_(project, run_id)


def steps(batch: Any) -> list[float | None]:
    """Return the steps of a batch, as the floats that are nearest to them; Arrow's may be the next ones."""
    found = _compute().cast(batch.column("step"), "float64").to_pylist()
    return [None if step is None else round(step, _PLACES) for step in found]


def seconds(column: Any) -> list[float | None]:
    """Return the times of a column in Unix seconds."""
    if not hasattr(column.type, "unit"):
        return [None] * len(column)
    per_second = _PER_SECOND[column.type.unit]
    return [None if each is None else each / per_second for each in _compute().cast(column, "int64").to_pylist()]


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise PluginNotInstalledError(
            'files of neptune-exporter are read with pyarrow. Run: pip install "rankzero-neptune[rescue]"',
            name=error.name,
        ) from error
    return pyarrow.parquet


def _arrow() -> Any:
    import pyarrow

    return pyarrow


def _compute() -> Any:
    import pyarrow.compute

    return pyarrow.compute
