"""``rankzero query``: ask for runs with SQL."""

from __future__ import annotations

import csv
import sys
from typing import Annotated, Any

import msgspec
import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import Directory, Json, directory_or_run
from rankzero.values import to_jsonable

_UNLIMITED = 1_000_000
_EXACT = 1e6  # larger numbers, such as times, are printed in full


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="The query.")],
    directory: Directory = None,
    json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    allow_files: Annotated[
        bool, typer.Option("--allow-files", help="Let the query read and write files, and load extensions of DuckDB.")
    ] = False,
) -> None:
    """Ask for runs with SQL.

    The tables are runs, params (run, param, value), summaries (run, metric, count, last, min, max, …), metrics (a row
    for each point) and events (all else that was logged, as JSON). DuckDB answers; it reads nothing else.

    Example: rankzero query "select run, min from summaries where metric = 'val/loss' order by min limit 10"
    """
    from rankzero.reader.query import query as ask
    from rankzero.reader.runs import read_runs

    names, rows = ask(sql, read_runs(directory_or_run(directory)), allow_files=allow_files)
    if json:
        terminal.print_json([dict(zip(names, row, strict=True)) for row in rows])
    elif as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([names, *(map(_csv_cell, row) for row in rows)])
    elif names:
        _print(names, rows)


def _print(names: list[str], rows: list[tuple[Any, ...]]) -> None:
    """Print a table; if it is too wide for the terminal, a table of two columns for each row."""
    from rich.cells import cell_len

    console = terminal.console()
    columns: dict[str, list[str]] = {}
    for position, name in enumerate(map(terminal.escape, names)):
        unique = name if name not in columns else f"{name}_{position}"
        columns[unique] = [terminal.escape(_shown(row[position])) for row in rows]
    width = console.width
    console.width = _UNLIMITED
    lines = terminal.table_lines(columns, console)
    if max(map(cell_len, lines)) <= width:
        typer.echo("\n".join(lines))
    else:
        for row in zip(*columns.values(), strict=True):
            typer.echo("\n".join([*terminal.table_lines({"column": [*columns], "value": row}, console), ""]))
    if not rows:
        terminal.say("no rows", err=True)


def _csv_cell(value: Any) -> Any:
    """Return lists and structures as JSON, as exports have them."""
    return msgspec.json.encode(to_jsonable(value)).decode() if isinstance(value, list | dict) else value


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < _EXACT else f"{value:.15g}"
    return f"{value}"
