"""What several commands take on their command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rankzero.cli import terminal

Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option", "-o", metavar="KEY=VALUE",
        help="An option of the logger; may be repeated. A secret is better written '${ENV_NAME}'.",
    ),
]  # fmt: skip
To = Annotated[
    list[str] | None,
    typer.Option("--to", metavar="NAME", help="A logger to deliver to, instead of those the run was started with."),
]
RUN_HELP = "A run's directory, id or name, or the beginning of one; … stands for what ls leaves out."
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Also deliver runs that you did not start here to where their journals say."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def parse_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Return what ``KEY=VALUE`` pairs say; a value that is JSON (a number, true, a list) is taken as such."""
    import msgspec

    options: dict[str, Any] = {}
    for pair in pairs or ():
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"--option takes KEY=VALUE, not {key!r}")
        try:
            options[key.strip()] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            options[key.strip()] = value
    return options


def consent(trust: bool) -> Callable[[str], bool] | None:
    """Return what asks the user whether a run may go where its journal says; None where nobody can be asked."""
    import sys

    if trust:
        return lambda what: True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return lambda what: typer.confirm(f"rankzero: {terminal.printable(what)}. Deliver it there?", err=True)


def runs_directory(directory: Path | None) -> Path:
    """Return the directory given, or the one where runs are kept."""
    from rankzero.config.resolving import find_runs_directory

    return directory or find_runs_directory()


def chosen_run(wanted: str | None) -> Path:
    """Return the directory of the run that was asked for, the newest if none was.

    Raises:
        RunNotFoundError: there is no such run, or more than one.
    """
    from rankzero.rundir.finding import find_run

    return find_run(wanted, runs_directory(None))
