"""`query`: ask for runs with SQL; DuckDB reads of them only what the query needs.

The tables ``runs``, ``params`` and ``summaries`` come from the index of each run. ``metrics`` and ``events`` are read
from the journals while DuckDB scans them, so that a query which does not name them costs nothing for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import msgspec

from rankzero.errors import ConfigError
from rankzero.events.structs import MEDIA_EVENTS, Rewind, decode
from rankzero.journal.rewinds import find_rewinds, is_superseded
from rankzero.journal.tail import split_lines
from rankzero.reader.exporting.arrow import as_stream, point_schema, point_tables, run_table
from rankzero.reader.exporting.base import RunReader, fitting
from rankzero.reader.frames import import_or_explain
from rankzero.reader.index.run_index import index_run
from rankzero.reader.index.summary import MetricSummary, RunSummary, goal_of
from rankzero.reader.runs import as_row
from rankzero.values import flatten, to_jsonable

Result = tuple[list[str], list[tuple[Any, ...]]]
"""The names of the columns, and the rows."""

_EVENTS_AT_ONCE = 10_000


class _Event(msgspec.Struct):
    type: str
    time: float
    step: int | None = None


_decode_event = msgspec.json.Decoder(_Event).decode


def query(sql: str, runs: Sequence[RunSummary], *, allow_files: bool = False) -> Result:
    """Return the result of a query over runs.

    Args:
        sql: the query, over the tables ``runs``, ``params``, ``summaries``, ``metrics`` and ``events``.
        runs: the runs.
        allow_files: whether the query may read and write files of this machine, and load extensions.

    Raises:
        ConfigError: the query is empty, not valid, or has several results.
        PluginNotInstalledError: DuckDB is not installed.
        KeyboardInterrupt: the user has pressed Ctrl-C.
    """
    duckdb, pa = import_or_explain("duckdb"), import_or_explain("pyarrow")
    is_safe = {"enable_external_access": False, "lock_configuration": True} if not allow_files else {}
    with duckdb.connect(config={"python_enable_replacements": False, **is_safe}) as database:
        database.register("runs", run_table([as_row(run) for run in runs]))
        database.register("params", _params(pa, runs))
        database.register("summaries", _summaries(pa, runs))
        database.register("metrics", _Stream(_metric_schema(pa), lambda: _metrics(pa, runs)))
        database.register("events", _Stream(_event_schema(pa), lambda: _events(pa, runs)))
        try:
            return _interruptible(database, sql)
        except duckdb.Error as error:
            raise _explained(error) from error


def _interruptible(database: Any, sql: str) -> Result:
    """Run a query in a thread: DuckDB does not look for signals in the thread that runs it."""

    def run() -> Result:
        statements = database.extract_statements(sql)
        if not statements:
            raise ConfigError("the query is empty")
        if any(_only_selects(each) for each in statements[:-1]):
            raise ConfigError("the query has several results; ask one query at a time")
        result = database.execute(sql)
        return [column[0] for column in result.description or ()], result.fetchall()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            return running.result()
        except KeyboardInterrupt:
            database.interrupt()
            raise


def _only_selects(statement: Any) -> bool:
    return [each.name for each in statement.expected_result_type] == ["QUERY_RESULT"]


def _explained(error: Exception) -> ConfigError:
    """Return an error with DuckDB's message in one line, and the place in the query as a note."""
    message, _, place = f"{error}".partition("\n\nLINE ")
    explained = ConfigError(f"the query failed: {' '.join(message.split())}")
    if place:
        explained.add_note(f"LINE {place}")
    return explained


class _Stream:
    """A table that is made anew each time it is scanned."""

    def __init__(self, schema: Any, tables: Callable[[], Iterator[Any]]) -> None:
        self._schema = schema
        self._tables = tables

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return as_stream(self._schema, self._tables()).__arrow_c_stream__(requested_schema)


def _params(pa: Any, runs: Sequence[RunSummary]) -> Any:
    rows = [(run, name, value) for run in runs for name, value in flatten(run.params)]
    texts = [each if isinstance(each, str) else msgspec.json.encode(to_jsonable(each)).decode() for _, _, each in rows]
    return _table(pa, [run for run, _, _ in rows], param=[name for _, name, _ in rows], value=texts)


def _summaries(pa: Any, runs: Sequence[RunSummary]) -> Any:
    rows = [(run, name, metric) for run in runs for name, metric in run.metrics.items()]
    columns = {"goal": [goal_of(name, [run.definitions]) for run, name, _ in rows]} | {
        field: pa.array([getattr(metric, field) for _, _, metric in rows], pa.float64() if is_value else pa.int64())
        for field in MetricSummary.__struct_fields__
        for is_value in (field in ("last", "last_time", "min", "max"),)
    }
    return _table(pa, [run for run, _, _ in rows], metric=[name for _, name, _ in rows], **columns)


def _table(pa: Any, runs: Sequence[RunSummary], **columns: Any) -> Any:
    """Return a table that begins with the project and the id of each row's run."""
    arrays = {"project": [run.info.project for run in runs], "run": [run.info.id for run in runs], **columns}
    return pa.table(
        {name: each if isinstance(each, pa.Array) else pa.array(each, pa.string()) for name, each in arrays.items()}
    )


def _metric_schema(pa: Any) -> Any:
    return pa.schema([("project", pa.string()), ("run", pa.string()), *point_schema()])


def _metrics(pa: Any, runs: Sequence[RunSummary]) -> Iterator[Any]:
    for run in runs:
        for table in point_tables(RunReader(run.dir).rows()):
            for position, value in enumerate((run.info.project, run.info.id)):
                table = table.add_column(position, ("project", "run")[position], pa.repeat(value, len(table)))
            yield table.cast(_metric_schema(pa))


def _event_schema(pa: Any) -> Any:
    names = ("project", "run", "type", "time", "step", "event")
    return pa.schema([(name, {"time": pa.float64(), "step": pa.int64()}.get(name, pa.string())) for name in names])


def _events(pa: Any, runs: Sequence[RunSummary]) -> Iterator[Any]:
    """Yield all events that are not metrics, as JSON, without those that a rewind superseded."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        key = {"project": run.info.project, "run": run.info.id}
        index = index_run(run.dir)
        rewinds = find_rewinds(index.other_lines())
        for offset, chunk in index.other_lines():
            rows += [key | event for event in _events_in(offset, chunk, rewinds)]
            if len(rows) >= _EVENTS_AT_ONCE:
                yield pa.Table.from_pylist(rows, _event_schema(pa))
                rows = []
    yield pa.Table.from_pylist(rows, _event_schema(pa))


def _events_in(offset: int, chunk: bytes, rewinds: Mapping[int, Rewind]) -> Iterator[dict[str, Any]]:
    """Yield the events in lines of a journal, without metrics, damaged lines, and what a rewind superseded."""
    for end, line in split_lines(offset, chunk):
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            event, text = _decode_event(line), line.decode()
            is_gone = rewinds and event.type in MEDIA_EVENTS and is_superseded(end, decode(line), rewinds)
            if event.type != "metrics" and not is_gone:
                yield {"type": event.type, "time": event.time, "step": fitting(event.step), "event": text}
