"""Write tables as CSV and as lines of JSON."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any, BinaryIO

import msgspec

from rankzero.reader.exporting.base import ExportedRun, Point, RunReader
from rankzero.reader.exporting.tables import Tables
from rankzero.values import NON_FINITE

_encoder = msgspec.json.Encoder()


class CsvTables(Tables):
    """CSV with a header; NaN and infinities are ``nan``, ``inf`` and ``-inf``, what is missing is empty."""

    suffix = ".csv"

    def write_points(self, run: RunReader, file: BinaryIO) -> None:
        file.write(_as_csv([Point.__struct_fields__]))
        for points in run.points():
            file.write(_as_csv(map(_cells, points)))

    def write_runs(self, runs: Sequence[ExportedRun], file: BinaryIO) -> None:
        rows = ({**msgspec.structs.asdict(run), "tags": _encoder.encode(run.tags).decode()} for run in runs)
        file.write(_as_csv([ExportedRun.__struct_fields__, *(row.values() for row in rows)]))


def _cells(point: Point) -> tuple[Any, ...]:
    value = point.value
    number = NON_FINITE[value] if isinstance(value, str) else value
    return point.metric, point.step, point.time, point.epoch, point.stage, number


def _as_csv(rows: Iterable[Iterable[Any]]) -> bytes:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


class JsonLines(Tables):
    """A JSON object for each row; NaN and infinities are strings, because JSON has none."""

    suffix = ".jsonl"

    def write_points(self, run: RunReader, file: BinaryIO) -> None:
        for points in run.points():
            file.write(_encoder.encode_lines(points))

    def write_runs(self, runs: Sequence[ExportedRun], file: BinaryIO) -> None:
        rows = [{**msgspec.structs.asdict(run), "params": msgspec.Raw(run.params.encode())} for run in runs]
        file.write(_encoder.encode_lines(rows))
