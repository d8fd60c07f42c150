"""``rankzero export``: write a run's metrics to a CSV or Parquet file."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Annotated

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import RUN_HELP, chosen_run


class Format(enum.StrEnum):
    """The file formats."""

    CSV = "csv"
    PARQUET = "parquet"


def export(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help=f"{RUN_HELP} By default the newest run.")] = None,
    format: Annotated[Format | None, typer.Option(help="By default the ending of --output, else csv.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file; without it CSV is printed.")] = None,
) -> None:
    """Export a run's metrics as CSV or Parquet.

    The columns are name, step, time (Unix seconds) and value.

    Example: rankzero export rankzero-runs/digits/2025… --output metrics.parquet
    """
    from rankzero.reader import frames
    from rankzero.reader.run_data import read_run

    if format is None:
        format = _format_of(output)
    if format is Format.PARQUET and output is None:
        raise typer.BadParameter("--format parquet needs --output PATH")
    metrics = read_run(chosen_run(run)).metrics
    if format is Format.PARQUET:
        frames.write_parquet(metrics, str(output))
    elif output is None:
        frames.write_csv(metrics, sys.stdout)
    else:
        with open(output, "w", newline="", encoding="utf-8") as file:
            frames.write_csv(metrics, file)
    if output is not None:
        points = terminal.counted(sum(map(len, metrics.values())), "point")
        terminal.say(f"{points} of {terminal.counted(len(metrics), 'metric')} written to {output}", err=True)


def _format_of(output: Path | None) -> Format:
    ending = output.suffix.lower().removeprefix(".") if output is not None else ""
    if ending and ending not in set(Format):
        raise typer.BadParameter(f"--output {output} ends in .{ending}; use .csv or .parquet, or set --format")
    return Format(ending or Format.CSV)
