"""``rankzero top``: watch runs in the terminal while they train."""

from __future__ import annotations

import os
import sys

import typer

from rankzero.cli.arguments import Directory, directory_or_run


def top(
    directory: Directory = None,
) -> None:
    """Watch runs in the terminal while they train, also over SSH.

    A table has the runs that are running: step, speed, last values, the state of each tracker, GPU and memory. Below it
    are all metrics of the selected run. The keys are at the bottom of the screen; q quits.

    Example: rankzero top rankzero-runs
    """
    import importlib.util

    from rankzero.errors import PluginNotInstalledError, RankzeroError

    if importlib.util.find_spec("textual") is None:
        raise PluginNotInstalledError('rankzero top needs textual: pip install "rankzero[top]"')
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    if not all(each and each.isatty() for each in streams) or os.environ.get("TERM", "dumb") == "dumb":
        raise RankzeroError("rankzero top needs a terminal; to print runs once, use: rankzero ls")
    found = directory_or_run(directory)
    from rankzero.cli.top_contents import contents
    from rankzero.cli.top_screen import Top
    from rankzero.reader.watching import WatchedRuns

    screen = Top(WatchedRuns(found), contents)
    screen.run()
    if screen.failure:
        raise screen.failure
    raise typer.Exit(screen.return_code)
