"""``rankzero sync``: deliver runs now."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import Options, To, Trust, chosen_run, consent, parse_options

if TYPE_CHECKING:
    from rankzero.delivery.sync_job import Errand

_LOOK_EVERY = 0.1


def sync(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Directories, ids or names of runs, as for show.")],
    to: To = None,
    option: Options = None,
    timeout: Annotated[float, typer.Option(help="Seconds to keep trying a tracker that fails.")] = 60.0,
    again: Annotated[
        bool, typer.Option("--again", help="Deliver from the beginning, also what was delivered.")
    ] = False,
    trust: Trust = False,
) -> None:
    """Deliver runs now.

    They go to the loggers that they were started with, or to others. What a logger already has is not sent
    again, unless you say so with --again, as when a tracker was wiped. With other options a logger is another
    target, which gets all of the run. A run that is being delivered by another process is watched.

    A tracker that refuses your login, or does not have the project, ends it at once; other failures are retried.

    Example: rankzero sync rankzero-runs/digits/2025… --to csv

    A run that you did not start on this machine goes where your own configuration says. Where its journal names another
    place, you are asked first; without a terminal it needs --trust.

    The exit status is 1 if something could not be delivered, or is not delivered yet.
    """
    from rankzero.delivery.choosing import choose_loggers
    from rankzero.delivery.sync_job import Errand, LoginCheck, begin_again, prepare

    options = parse_options(option)
    agreed = consent(trust)
    run_dirs = [chosen_run(run) for run in runs]
    # All loggers are made sure of first: a wrong name at the end would come too late.
    specs = [(each, spec) for each in run_dirs for spec in choose_loggers(each, to or (), options, consent=agreed)]
    orders = [prepare(each, spec) for each, spec in specs]
    login = LoginCheck()
    for (_, spec), each in zip(specs, orders, strict=True):
        login.ask(spec, each, again=again)
    if again:
        for each in orders:
            begin_again(each)
    if not deliver_now([Errand(each, patience=timeout) for each in orders], "; --again sends it once more"):
        raise typer.Exit(1)


def deliver_now(errands: Sequence[Errand], hint: str = "") -> bool:
    """Run errands with a progress bar each; return whether everything arrived.

    Args:
        errands: what to deliver.
        hint: what to say where there was nothing to deliver.
    """
    from rankzero.delivery.sync_job import act_as_rank_zero
    from rankzero.plugins.registry import get_plugins

    act_as_rank_zero()
    # What was kept offline is sent from the beginning.
    before = [0 if position.offline else position.line for position in (errand.position for errand in errands)]
    for problem in get_plugins().load_hooks():
        terminal.say(f"rankzero: {problem}", err=True)
    try:
        with progress_bars() as bars:
            tasks = [
                (errand, bars.add_task(terminal.printable(errand.title), total=None, note="")) for errand in errands
            ]
            waiting = list(tasks)
            while waiting:
                waiting = [(errand, task) for errand, task in waiting if not _look(errand, bars, task)]
                time.sleep(_LOOK_EVERY if waiting else 0)
    finally:
        for errand in errands:
            errand.stop()
        for errand in errands:
            errand.join()
    arrived = [_report(errand, lines, hint) for errand, lines in zip(errands, before, strict=True)]
    return all(arrived)


def progress_bars() -> Any:
    """Return bars for errands, on standard error; nothing is shown where that is no terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    console = terminal.console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
        TextColumn("[yellow]{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def update_bar(errand: Errand, bars: Any, task: Any) -> None:
    """Show how far an errand is."""
    position, target = errand.position, errand.target
    note = "another courier delivers it" if errand.is_elsewhere else terminal.reason(position.problem or "")
    bars.update(task, total=target, completed=min(position.offset, target), note=terminal.escape(note))


def _look(errand: Errand, bars: Any, task: Any) -> bool:
    is_over = errand.tend()
    update_bar(errand, bars, task)
    return is_over


def _report(errand: Errand, lines_before: int, hint: str) -> bool:
    """Print how an errand ended; return whether everything arrived."""
    from rankzero.rundir.finding import events_behind

    why, rejection = errand.shortfall, errand.rejection
    if why:
        behind = terminal.counted(events_behind(errand.run_dir, errand.position), "event")
        terminal.say(f"{errand.title}: {behind} not delivered: {terminal.reason(why)}", err=True)
    if rejection:
        terminal.say(f"{errand.run_name}: {rejection}", err=True)
    if damage := errand.damage:
        terminal.say(f"{errand.run_name}: {damage}", err=True)
    if why or rejection or damage:
        return False
    if errand.had_all:
        terminal.say(f"{errand.run_name}: {errand.key} has all of it already{hint}")
    else:
        position = errand.position
        terminal.say(f"{errand.title}: delivered, {terminal.counted(position.line - lines_before, 'event')}")
        if position.view:
            terminal.say(f"view it in {errand.key}: {position.view}")
    return True
