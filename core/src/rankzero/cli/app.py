"""The ``rankzero`` command line: registers the commands, and prints each error as one line."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated

import typer

from rankzero.cli import (
    check,
    clean,
    compare,
    deliver,
    demo,
    export,
    import_,
    loggers,
    ls,
    page,
    ps,
    query,
    show,
    stop,
    sync,
    terminal,
    top,
    view,
)
from rankzero.errors import ConfigError, RankzeroError, RunNotFoundError
from rankzero.integrations import unwatch

OK, PROBLEM, USAGE, INTERRUPTED = 0, 1, 2, 130
"""The exit statuses."""

app = typer.Typer(
    name="rankzero",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="View, deliver and export training runs.\n\nExit status: 0 success, 1 a problem was found, 2 wrong usage.",
)

for _module in (
    demo,
    ls,
    top,
    show,
    compare,
    page,
    view,
    query,
    export,
    sync,
    deliver,
    ps,
    stop,
    clean,
    loggers,
    check,
):
    app.command()(getattr(_module, _module.__name__.rpartition(".")[2]))
app.command("import", cls=import_.CommandThatListsImporters)(import_.import_)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rankzero {metadata.version('rankzero')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    unwatch()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # the terminal may not be UTF-8
    warnings.showwarning = _show_warning
    silent = logging.NullHandler()  # the commands print errors themselves
    logging.getLogger("rankzero").addHandler(silent)
    try:
        status = app(args=arguments, standalone_mode=False)
    except RankzeroError as error:
        status = USAGE if isinstance(error, ConfigError | RunNotFoundError) else PROBLEM
        return _fail(str(error), status, notes=getattr(error, "__notes__", ()))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except OSError as error:
        return _fail(str(error), PROBLEM)
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own, or click's in older versions of typer
            return _fail(error.format_message(), USAGE, hint=_help_for(error))
        if sys.flags.dev_mode:
            raise
        traceback = "for the traceback run: python -X dev -m rankzero.cli.app ..."
        return _fail(f"internal error, please report it: {type(error).__name__}: {error} ({traceback})", PROBLEM)
    finally:
        logging.getLogger("rankzero").removeHandler(silent)
    return status if isinstance(status, int) else OK


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: object = None,
) -> None:
    terminal.say(f"{category.__name__}: {message}", err=True)


def _fail(message: str, status: int, hint: str = "", notes: Sequence[str] = ()) -> int:
    if message:  # empty if the help was printed
        line = " ".join(message.split()).replace(": Value error, ", ": ")  # pydantic adds this to typer's messages
        stop = "." if hint and line[-1:] not in ".!?" else ""
        terminal.say(f"rankzero: {line}{stop}{hint}", err=True)
    for note in "\n".join(notes).splitlines():
        terminal.say(note, err=True)
    return status


def _help_for(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f" See: {context.command_path} --help" if context else ""


if __name__ == "__main__":  # python -m rankzero.cli.app, where the script is not on the path
    sys.exit(main())
