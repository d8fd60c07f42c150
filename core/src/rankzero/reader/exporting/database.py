"""Write the tables of metrics and runs to a DuckDB database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rankzero.errors import RunError
from rankzero.reader.exporting.arrow import as_stream, point_schema, point_tables, run_table
from rankzero.reader.exporting.base import SCHEMA, ExportedRun, Exporter, RunReader
from rankzero.reader.frames import import_or_explain

_CONFIG = {"memory_limit": "256MB", "threads": 2, "preserve_insertion_order": False}
_TABLES = """
create table if not exists rankzero_schema (version integer);
create table if not exists metrics (
    project varchar, run varchar, metric varchar, step bigint, time double, epoch bigint, stage varchar, value double
);
create table if not exists runs (
    project varchar, run varchar, name varchar, "group" varchar, parent varchar, tags varchar[], params json,
    status varchar, started double, finished double, updated double, notes varchar, program varchar, directory varchar,
    points bigint, journal_bytes bigint
);
"""


class DuckDBExporter(Exporter):
    """One database with the tables ``metrics`` and ``runs``; a run is replaced in one transaction."""

    def open(self) -> None:
        self.output.parent.mkdir(parents=True, exist_ok=True)
        names = ", ".join(f'"{name}"' for name in ExportedRun.__struct_fields__)
        with self._explained():
            self._database: Any = import_or_explain("duckdb").connect(str(self.output), config=_CONFIG)
            self._database.execute(_TABLES)
            versions = self._database.execute("select version from rankzero_schema").fetchall()
            if not versions:
                self._database.execute("insert into rankzero_schema values (?)", [SCHEMA])
            elif versions != [(SCHEMA,)]:
                raise RunError(f"{self.output} was written by another version of rankzero: use another file")
            rows = self._database.execute(f"select {names} from runs").fetchall()
        self.runs = {run.key: run for run in (ExportedRun(*row) for row in rows)}

    def write(self, run: RunReader) -> None:
        with self._explained():
            self._database.execute("begin")
            try:
                exported = self._replace(run)
                self._database.execute("commit")
            except BaseException:
                self._database.execute("rollback")
                raise
        self.runs[run.key] = exported

    def _replace(self, run: RunReader) -> ExportedRun:
        for table in ("metrics", "runs"):
            self._database.execute(f"delete from {table} where project = ? and run = ?", run.key)
        self._insert("metrics", "?, ?, *", as_stream(point_schema(), point_tables(run.rows())), run.key)
        exported = run.summary()
        self._insert("runs", "*", run_table([exported]))
        return exported

    def _insert(self, table: str, columns: str, rows: Any, values: Sequence[str] = ()) -> None:
        """Insert all rows with one statement, so that DuckDB writes them while it reads them."""
        self._database.register("new_rows", rows)
        self._database.execute(f"insert into {table} select {columns} from new_rows", values)
        self._database.unregister("new_rows")

    def close(self) -> None:
        with self._explained():
            self._database.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise DuckDB's errors as rankzero's, and Ctrl-C, of which DuckDB makes an error, as what it was."""
        try:
            yield
        except (RuntimeError, import_or_explain("duckdb").Error) as error:
            if "interrupt" in str(error).lower():
                raise KeyboardInterrupt from error
            raise RunError(f"{self.output}: {error}") from error
