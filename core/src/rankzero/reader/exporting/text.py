"""Write tables as CSV and as lines of JSON."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any, BinaryIO

import msgspec

from rankzero.reader.exporting.base import ExportedRun, Point, RunReader, fitting
from rankzero.reader.exporting.tables import Tables

_encoder = msgspec.json.Encoder()


class CsvTables(Tables):
    """CSV with a header; NaN and infinities are ``nan``, ``inf`` and ``-inf``, what is missing is empty."""

    suffix = ".csv"

    def write_points(self, run: RunReader, file: BinaryIO) -> None:
        file.write(_as_csv([Point.__struct_fields__]).encode())
        quoted = functools.cache(lambda text: "" if text is None else _as_csv([[text]]).removesuffix("\n"))
        for rows in run.rows():
            lines: list[str] = []
            for row in rows:
                step, epoch = ("" if number is None else number for number in (fitting(row.step), row.epoch))
                middle = f",{step},{row.time},{epoch},{quoted(row.stage)},"
                lines += [f"{quoted(name)}{middle}{value}\n" for name, value in row.numbers().items()]
            file.write("".join(lines).encode())

    def write_runs(self, runs: Sequence[ExportedRun], file: BinaryIO) -> None:
        rows = ({**msgspec.structs.asdict(run), "tags": _encoder.encode(run.tags).decode()} for run in runs)
        file.write(_as_csv([ExportedRun.__struct_fields__, *(row.values() for row in rows)]).encode())


def _as_csv(rows: Iterable[Iterable[Any]]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


class JsonLines(Tables):
    """A JSON object for each row; NaN and infinities are strings, because JSON has none."""

    suffix = ".jsonl"

    def write_points(self, run: RunReader, file: BinaryIO) -> None:
        for rows in run.rows():
            points = [
                Point(name, step, row.time, row.epoch, row.stage, int(value) if value.__class__ is bool else value)
                for row in rows
                for step in (fitting(row.step),)
                for name, value in row.values.items()
            ]
            file.write(_encoder.encode_lines(points))

    def write_runs(self, runs: Sequence[ExportedRun], file: BinaryIO) -> None:
        rows = [{**msgspec.structs.asdict(run), "params": msgspec.Raw(run.params.encode())} for run in runs]
        file.write(_encoder.encode_lines(rows))
