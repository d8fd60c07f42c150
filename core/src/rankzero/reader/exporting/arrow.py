"""Convert the metrics of a run to Arrow tables, one after the other, in little memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from rankzero.events.structs import Metrics
from rankzero.reader.exporting.base import ExportedRun, fitting
from rankzero.reader.frames import import_or_explain
from rankzero.reader.series import to_float

_POINTS_IN_TABLE = 1 << 18
_POINTS_AT_ONCE = 1 << 15  # converting many rows with the same names at once is faster


def point_schema() -> Any:
    """Return the schema of the table of metrics."""
    pa = import_or_explain("pyarrow")
    text = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            pa.field("metric", text, nullable=False),
            ("step", pa.int64()),
            pa.field("time", pa.float64(), nullable=False),
            ("epoch", pa.int64()),
            ("stage", text),
            pa.field("value", pa.float64(), nullable=False),
        ]
    )


def point_tables(parts: Iterable[Sequence[Metrics]]) -> Iterator[Any]:
    """Yield metrics as tables of the schema; the points of a metric follow each other in a table, in their order."""
    blocks = _Blocks()
    rows: list[Metrics] = []
    waiting = 0
    for part in parts:
        rows += part
        waiting += sum([len(row.values) for row in part])
        if waiting >= _POINTS_AT_ONCE:
            blocks.add(rows)
            rows, waiting = [], 0
            if blocks.count >= _POINTS_IN_TABLE:
                yield blocks.table()
                blocks = _Blocks()
    blocks.add(rows)
    if blocks.count:
        yield blocks.table()


def as_stream(schema: Any, tables: Iterable[Any]) -> Any:
    """Return tables as a stream that other libraries read."""
    batches = (batch for table in tables for batch in table.to_batches())
    return import_or_explain("pyarrow").RecordBatchReader.from_batches(schema, batches)


class _Blocks:
    """Collects points in columns."""

    def __init__(self) -> None:
        self._pa, self._np = import_or_explain("pyarrow"), import_or_explain("numpy")
        self._metrics: dict[str, int] = {}
        self._stages: dict[str, int] = {}
        self._columns: list[list[Any]] = [[], [], [], [], [], []]
        self.count = 0

    def add(self, rows: Sequence[Metrics]) -> None:
        groups: dict[tuple[str | None, tuple[str, ...]], list[Metrics]] = {}
        for row in rows:
            groups.setdefault((row.stage, (*row.values,)), []).append(row)
        for (stage, names), members in groups.items():
            self._add_group(stage, names, members)

    def _add_group(self, stage: str | None, names: Sequence[str], rows: Sequence[Metrics]) -> None:
        """Add rows that have the same stage and the same metrics: first all points of the first metric, and so on."""
        pa, np = self._pa, self._np
        count, width = len(rows), len(names)
        repeated = np.tile(np.arange(count), width)
        values = list(chain.from_iterable(zip(*[row.values.values() for row in rows], strict=True)))
        codes = [self._metrics.setdefault(name, len(self._metrics)) for name in names]
        stages = pa.nulls(count * width, pa.int32())
        if stage is not None:
            code = self._stages.setdefault(stage, len(self._stages))
            stages = pa.repeat(pa.scalar(code, pa.int32()), count * width)
        arrays = (
            np.repeat(np.array(codes, np.int32), count),
            self._integers([row.step for row in rows]).take(repeated),
            pa.array([row.time for row in rows], pa.float64()).take(repeated),
            self._integers([row.epoch for row in rows]).take(repeated),
            stages,
            self._floats(values),
        )
        for column, array in zip(self._columns, arrays, strict=True):
            column.append(array)
        self.count += count * width

    def _integers(self, values: list[int | None]) -> Any:
        try:
            return self._pa.array(values, self._pa.int64())
        except (OverflowError, ValueError):
            return self._pa.array(list(map(fitting, values)), self._pa.int64())

    def _floats(self, values: list[Any]) -> Any:
        try:
            return self._pa.array(self._np.array(values, self._np.float64))
        except (OverflowError, ValueError, TypeError):
            return self._pa.array(list(map(to_float, values)), self._pa.float64())

    def table(self) -> Any:
        """Return all points, metric by metric."""
        pa, np = self._pa, self._np
        metrics, *others = self._columns
        metric = np.concatenate(metrics)
        order = np.argsort(metric, kind="stable")
        step, time, epoch, stage, value = (pa.concat_arrays(arrays).take(order) for arrays in others)
        columns = (
            pa.DictionaryArray.from_arrays(metric[order], pa.array(list(self._metrics), pa.string())),
            step,
            time,
            epoch,
            pa.DictionaryArray.from_arrays(stage, pa.array(list(self._stages), pa.string())),
            value,
        )
        return pa.Table.from_arrays(list(columns), schema=point_schema())


def run_table(runs: Sequence[ExportedRun]) -> Any:
    """Return the table of runs."""
    pa = import_or_explain("pyarrow")
    text = pa.string()
    types = {
        "tags": pa.list_(text),
        "started": pa.float64(),
        "finished": pa.float64(),
        "updated": pa.float64(),
        "points": pa.int64(),
        "journal_bytes": pa.int64(),
    }
    names = ExportedRun.__struct_fields__
    return pa.table({name: pa.array([getattr(run, name) for run in runs], types.get(name, text)) for name in names})
