"""``rankzero export``: write runs as tables, or in the format of another tool."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import RUN_HELP, chosen_runs, load_hooks

if TYPE_CHECKING:
    from rankzero.reader.exporting.base import Exporter
    from rankzero.reader.exporting.tables import Tables

_ENDINGS = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet", ".duckdb": "duckdb", ".db": "duckdb"}
_PRINTED = ("csv", "jsonl")
_DELIVERED_AT_ONCE = 8


def export(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help=f"{RUN_HELP} Or a directory with runs. By default the newest run."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="csv, jsonl, parquet, duckdb, a format of a plugin, or a logger that writes only files. By "
            "default the ending of --output, else csv."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file, or a directory for many runs. By default one run is printed."),
    ] = None,
) -> None:
    """Export runs as tables: CSV, JSON lines, Parquet or DuckDB, or in the format of another tool.

    One run becomes a file with a row for each point of a metric: metric, step, time (Unix seconds), epoch, stage and
    value. Many runs become a directory, or a DuckDB database, with these tables and one of the runs with their
    parameters; if you export again, only runs that changed are written.

    Example: rankzero export rankzero-runs --format parquet --output exports

    The exit status is 1 if a run could not be exported.
    """
    from rankzero.reader.exporting.registry import TABLES, make_exporter

    if output is not None and not output.parent.is_dir():
        raise typer.BadParameter(f"there is no directory {output.parent}: make it, or set another --output")
    name = format or _format_of(output)
    is_file = name in TABLES and (output is None or bool(output.suffix and not output.is_dir()))
    if not is_file:
        load_hooks()
    exporter = None if is_file else make_exporter(name, output or Path())
    if output is None and name not in _PRINTED:
        raise typer.BadParameter(f"--format {name} needs --output PATH")
    found = chosen_runs(runs)
    if is_file:
        _export_one(found, TABLES[name], output)
    elif exporter is not None:
        _export_all(found, exporter)
    else:
        _deliver(found, name, str(output))


def _format_of(output: Path | None) -> str:
    ending = output.suffix.lower() if output is not None else ""
    if ending and ending not in _ENDINGS:
        raise typer.BadParameter(f"--output {output} ends in {ending}; use {', '.join(_ENDINGS)}, or set --format")
    return _ENDINGS.get(ending, "csv")


def _export_one(found: Sequence[Path], tables: Tables, output: Path | None) -> None:
    """Write the metrics of one run to a file or to standard output."""
    from rankzero.files.writing import replacing
    from rankzero.reader.exporting.base import RunReader

    if len(found) != 1:
        raise typer.BadParameter(f"{len(found)} runs do not fit into one file: name a directory with --output")
    run = RunReader(found[0])
    if output is None:
        tables.write_points(run, sys.stdout.buffer)
        run.summary()
        _say_damaged(run.damaged)
        return
    with replacing(output) as file:
        tables.write_points(run, file)
        points = run.summary().points
    terminal.say(f"{terminal.counted(points, 'point')} written to {output}", err=True)
    _say_damaged(run.damaged)


def _say_damaged(count: int, prefix: str = "") -> None:
    if count:
        terminal.say(prefix + terminal.skipped(count), err=True)


def _export_all(found: Sequence[Path], exporter: Exporter) -> None:
    """Write the runs that changed, with a progress bar, and print what was done."""
    from rankzero.cli.sync import progress_bars
    from rankzero.reader.exporting.export import export_runs

    with progress_bars() as bars:
        task = bars.add_task("exporting", total=None, note="")
        result = export_runs(
            found, exporter, lambda size: bars.update(task, total=size), lambda size: bars.advance(task, size)
        )
    for directory, error in result.failed.items():
        terminal.say(f"{directory}: not exported: {terminal.error_text(error)}", err=True)
    for directory, count in result.damaged.items():
        _say_damaged(count, f"{directory}: ")
    written = f"{terminal.counted(result.written, 'run')} with {terminal.counted(result.points, 'point')}"
    unchanged = f", {result.unchanged:,} unchanged" if result.unchanged else ""
    terminal.say(f"{written} written to {exporter.output}{unchanged}")
    if result.failed:
        raise typer.Exit(1)


def _deliver(found: Sequence[Path], logger: str, output: str) -> None:
    """Deliver the runs to a logger that writes only files: it continues its files."""
    from rankzero.cli.sync import sync

    is_complete = True
    for first in range(0, len(found), _DELIVERED_AT_ONCE):
        runs = [str(each) for each in found[first : first + _DELIVERED_AT_ONCE]]
        try:
            sync(runs, [logger], [f"save_dir={json.dumps(output)}"])
        except typer.Exit:
            is_complete = False
    if not is_complete:
        raise typer.Exit(1)
