"""Write tables as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

from rankzero.reader.exporting.arrow import point_schema, point_tables, run_table
from rankzero.reader.exporting.base import SCHEMA, ExportedRun, RunReader
from rankzero.reader.exporting.tables import Tables
from rankzero.reader.frames import import_or_explain


class ParquetTables(Tables):
    """Parquet files with row groups of limited size, and the version of the schema in their metadata."""

    suffix = ".parquet"

    def write_points(self, run: RunReader, file: BinaryIO) -> None:
        write_tables(file, point_schema(), point_tables(run.rows()))

    def write_runs(self, runs: Sequence[ExportedRun], file: BinaryIO) -> None:
        table = run_table(runs)
        write_tables(file, table.schema, [table])


def write_tables(file: BinaryIO, schema: Any, tables: Any) -> None:
    """Write Arrow tables one after the other, each as a row group or more.

    Arrow's own types are not stored: to all readers a column of repeated texts is one of plain texts.
    """
    parquet = import_or_explain("pyarrow.parquet")
    with parquet.ParquetWriter(file, schema, store_schema=False) as writer:
        for table in tables:
            writer.write_table(table)
        writer.add_key_value_metadata({"rankzero.schema": str(SCHEMA)})
