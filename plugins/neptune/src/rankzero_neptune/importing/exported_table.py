"""Read a Parquet file of neptune-exporter: a row for each value of one or more runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rankzero.errors import PluginNotInstalledError
from rankzero.importers.base import Report
from rankzero_neptune.importing.sources import Source, is_file_beginning, is_sequence_beginning

_BATCH = 1 << 14  # rows
_KEY = ["project_id", "run_id"]
_COLUMNS = {*_KEY, "attribute_path", "attribute_type", "step", "timestamp"}
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_STEP_DECIMALS = 6


class ExportedTable(Source):
    """One Parquet file, which is open only while it is read."""

    def __init__(self, path: Path) -> None:
        """Read the schema.

        Raises:
            PluginNotInstalledError: pyarrow is not installed.
            OSError, ValueError: the file is incomplete or not a Parquet file.
        """
        self.path = path
        self.size = path.stat().st_size
        with _pyarrow().parquet.ParquetFile(path) as file:
            self._names = frozenset(file.schema_arrow.names)

    def runs(self) -> list[tuple[str, ...]]:
        """Return (project, id) of the runs in the order of their first rows; none if another tool wrote the file."""
        if not self._names >= _COLUMNS:
            return []
        pyarrow = _pyarrow()
        found: dict[tuple[str, ...], None] = {}
        with pyarrow.parquet.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=_BATCH, columns=_KEY):
                table = pyarrow.Table.from_batches([batch]).group_by(_KEY, use_threads=False)
                for row in table.aggregate([]).to_pylist():
                    found[row["project_id"] or "", row["run_id"] or ""] = None
        return list(found)

    def is_beginning_of(self, other: ExportedTable, run: tuple[str, ...]) -> bool:
        return is_file_beginning(self.path, other.path) or is_sequence_beginning(self._rows(run), other._rows(run))

    def _rows(self, run: tuple[str, ...]) -> Iterator[str]:
        for batch in self.batches(run, sorted(self._names), Report()):
            yield from map(repr, batch.to_pylist())

    def batches(self, run: tuple[str, ...], columns: Sequence[str], report: Report) -> Iterator[Any]:
        """Yield the rows of a run as record batches; damaged row groups are reported.

        Args:
            run: its project and id.
            columns: the columns to read, if the file has them.
            report: gets the damaged row groups.
        """
        names = [name for name in (*_KEY, *columns) if name in self._names]
        compute = _pyarrow().compute
        with _pyarrow().parquet.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                try:
                    for batch in file.iter_batches(batch_size=_BATCH, row_groups=[group], columns=names):
                        is_of_run = (
                            compute.equal(compute.fill_null(batch.column(name), ""), value)
                            for name, value in zip(_KEY, run, strict=True)
                        )
                        rows = batch.filter(compute.and_(*is_of_run))
                        if rows.num_rows:
                            yield rows
                except (OSError, ValueError) as error:  # Arrow's errors are subclasses of these
                    reason = " ".join(str(error).split())
                    report.leave_out(f"a part of {self.path.name}", f"the file is damaged: {reason}")


def steps(batch: Any) -> list[float | None]:
    """Return the steps of a batch as the nearest floats; Arrow's conversion may be less exact."""
    found = _pyarrow().compute.cast(batch.column("step"), "float64").to_pylist()
    return [None if step is None else round(step, _STEP_DECIMALS) for step in found]


def seconds(column: Any) -> list[float | None]:
    """Return the times of a column in Unix seconds."""
    if not hasattr(column.type, "unit"):
        return [None] * len(column)
    per_second = _PER_SECOND[column.type.unit]
    return [None if each is None else each / per_second for each in column.cast("int64").to_pylist()]


def _pyarrow() -> Any:
    try:
        import pyarrow.compute
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise PluginNotInstalledError(
            'files of neptune-exporter are read with pyarrow. Run: pip install "rankzero-neptune[rescue]"',
            name=error.name,
        ) from error
    return pyarrow
