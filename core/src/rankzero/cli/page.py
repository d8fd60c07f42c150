"""``rankzero page``: write runs as one HTML file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import RUN_HELP, chosen_runs

_SUFFIXES = (".html", ".htm")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", re.IGNORECASE)


def page(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help=f"{RUN_HELP} Or a directory with runs. By default the newest run."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The .html file or directory to write to. By default a file with the name of the run.",
        ),
    ] = None,
    max_media: Annotated[
        str, typer.Option(metavar="SIZE", help="How much of images, audio, video and other files to embed.")
    ] = "50MB",
    open: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write runs as one HTML file: curves, a table of runs, media and console output.

    The page needs no network and no server, so that you can open it from disk, mail it or put it anywhere. It runs
    no script of a run.

    Example: rankzero page rankzero-runs/digits -o digits.html

    The exit status is 1 if a run could not be read.
    """
    from rankzero.errors import RankzeroError, RunNotFoundError
    from rankzero.reader.index.run_index import index_run
    from rankzero.reader.page.html import write_page
    from rankzero.reader.page.payload import default_path, indexed_run

    limit = parse_size(max_media)
    directory = output if output is not None and output.is_dir() else (output or Path()).parent
    if not directory.is_dir():
        raise typer.BadParameter(f"there is no directory {directory}: make it, or set another --output")
    if output is not None and output != directory and output.suffix.lower() not in _SUFFIXES:
        raise typer.BadParameter(f"--output {output} must end in .html, or be a directory that exists")
    found, unreadable = [], []
    for run_dir in chosen_runs(runs):
        try:
            found.append(indexed_run(index_run(run_dir)))
        except (RankzeroError, OSError) as error:
            unreadable.append(f"{run_dir}: {terminal.error_text(error)}")
    for message in unreadable:
        terminal.say(f"rankzero: {message}", err=True)
    if not found:
        raise RunNotFoundError("there is no run that can be read")
    path = directory / default_path(found) if output is None or output == directory else output
    written = write_page(found, path, limit)
    terminal.say(f"{written.path} ({terminal.size(written.size)}) has {terminal.counted(len(found), 'run')}")
    if written.files_left_out:
        files, size = terminal.counted(written.files_left_out, "file"), terminal.size(written.bytes_left_out)
        terminal.say(f"left out: {files} with {size}, the oldest of each key; embed more with --max-media", err=True)
    if open:
        import webbrowser

        webbrowser.open(written.path.resolve().as_uri())
    if unreadable:
        raise typer.Exit(1)


def parse_size(text: str) -> int:
    """Parse a size such as ``50MB``."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"--max-media must be a size such as 50MB, not {text!r}")
    return int(float(found[1]) * 1000 ** " KMGT".index(found[2].upper() or " "))
