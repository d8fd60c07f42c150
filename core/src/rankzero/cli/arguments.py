"""Options and arguments that several commands share."""

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
        help="An option of the logger; may be repeated. Write a secret as '${ENV_NAME}'.",
    ),
]  # fmt: skip
To = Annotated[
    list[str] | None,
    typer.Option("--to", metavar="NAME", help="A logger to deliver to, instead of the run's loggers; may be repeated."),
]
Directory = Annotated[
    str | None,
    typer.Argument(
        metavar="DIR",
        help="A directory with runs, or the directory, id or name of one run. By default the directory of runs.",
    ),
]
RUN_HELP = "The directory, id or name of a run; may be shortened, also with … as ls prints it."
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Deliver runs of other users to the destinations in their journals, without asking."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def parse_options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Parse ``KEY=VALUE`` pairs; a value that is valid JSON (a number, true, a list) is decoded."""
    import msgspec

    options: dict[str, Any] = {}
    for pair in pairs or ():
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"--option must be KEY=VALUE, not {key!r}")
        try:
            options[key.strip()] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            options[key.strip()] = value
    return options


def load_hooks() -> None:
    """Import the hook modules of plugins, and print which cannot be imported."""
    from rankzero.plugins.registry import get_plugins

    for problem in get_plugins().load_hooks():
        terminal.say(f"rankzero: {problem}", err=True)


def consent(trust: bool) -> Callable[[str], bool] | None:
    """Return a function that asks the user to approve a destination; None without a terminal."""
    import sys

    if trust:
        return lambda what: True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return lambda what: typer.confirm(f"rankzero: {terminal.printable(what)}. Deliver it there?", err=True)


def runs_directory(directory: Path | None, *, may_be_missing: bool = False) -> Path:
    """Return ``directory``, or the default directory of runs, which need not exist.

    Raises:
        RunNotFoundError: there is no such directory.
    """
    if directory is not None:
        if not (may_be_missing or directory.is_dir()):
            from rankzero.errors import RunNotFoundError

            raise RunNotFoundError(f"there is no directory {directory}; name the directory of your runs")
        return directory
    from rankzero.config.resolving import find_runs_directory

    return find_runs_directory()


def directory_or_run(wanted: str | None) -> Path:
    """Return a directory with runs, by default that of all runs; or the directory of a run by its id or name.

    Raises:
        RunNotFoundError: there is neither such a directory nor such a run.
    """
    return runs_directory(None) if wanted is None else Path(wanted) if Path(wanted).is_dir() else chosen_run(wanted)


def chosen_run(wanted: str | None) -> Path:
    """Return the directory of a run by its path, id or name; by default the newest run.

    Raises:
        RunNotFoundError: no run, or more than one, matches.
    """
    from rankzero.rundir.finding import find_run

    return find_run(wanted, runs_directory(None))


def chosen_runs(wanted: Sequence[str] | None) -> list[Path]:
    """Return the directories of runs: those in a directory, or by path, id or name; by default the newest run.

    Raises:
        RunNotFoundError: no run, or more than one, matches.
    """
    from rankzero.rundir.finding import find_runs

    found = []
    for each in wanted or (None,):
        found += (find_runs(Path(each)) if each and Path(each).is_dir() else []) or [chosen_run(each)]
    return list(dict.fromkeys(found))
