"""``rankzero ls``: list the runs below a directory."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import Json, runs_directory

if TYPE_CHECKING:
    from rankzero.rundir.finding import Delivered, Glance

_MAX_NAME = 20
_DROPPABLE = ("took", "project", "step", "started")

STATUS_STYLES = {"success": "green", "running": "cyan", "unknown": "yellow"}


def ls(
    directory: Annotated[Path | None, typer.Argument(help="By default the directory of runs.")] = None,
    json: Json = False,
) -> None:
    """List runs, the newest last.

    Example: rankzero ls rankzero-runs/digits
    """
    from rankzero.errors import RankzeroError, RunNotFoundError
    from rankzero.rundir.finding import find_runs, glance

    is_given = directory is not None
    directory = runs_directory(directory)
    if is_given and not directory.is_dir():
        raise RunNotFoundError(f"there is no directory {directory}; name the directory of your runs: rankzero ls DIR")
    found, unreadable = [], []
    for run_dir in find_runs(directory):
        try:
            found.append(glance(run_dir))
        except (RankzeroError, OSError) as error:
            unreadable.append(str(error))
        except Exception as error:  # list the other runs in any case
            unreadable.append(f"{run_dir} cannot be read: {type(error).__name__}: {error}")
    found.sort(key=lambda each: each.info.started)
    if json:
        terminal.print_json([as_json(each) for each in found])
    elif found:
        _print(found)
    else:
        terminal.say(f"no runs in {directory}", err=True)
    for message in unreadable:
        terminal.say(f"rankzero: {message}", err=True)
    if unreadable:
        raise typer.Exit(1)


def _print(found: list[Glance]) -> None:
    console = terminal.console()
    is_narrow = console.width < 120
    length = _MAX_NAME if is_narrow else 2 * _MAX_NAME
    ids = [each.info.id for each in found]
    columns = {
        "run": [terminal.escape(terminal.argument(terminal.cut(each.info.name, length))) for each in found],
        "project": [terminal.escape(each.info.project) for each in found],
        "status": [f"[{STATUS_STYLES.get(each.status, 'red')}]{terminal.escape(each.status)}[/]" for each in found],
        "started": [terminal.when(each.info.started) for each in found],
        "took": [terminal.duration(each.updated - each.info.started) for each in found],
        "step": [terminal.number(each.step) for each in found],
        "delivered": [
            "\n".join(describe(each.info.dir, key, delivered) for key, delivered in each.deliveries.items())
            or "[dim]–[/]"
            for each in found
        ],
        "id": [f"[dim]{terminal.escape(each)}[/]" for each in (_suffixes(ids) if is_narrow else ids)],
    }
    for line in terminal.table_lines(columns, console, droppable=_DROPPABLE, folded="delivered", right="step"):
        typer.echo(line)


def _suffixes(ids: list[str]) -> list[str]:
    """Return the ends of ids, as long as needed to be unique."""
    length = next(size for size in itertools.count(8) if len({each[-size:] for each in ids}) == len({*ids}))
    return [f"…{each[-length:]}" if len(each) > length + 1 else each for each in ids]


def describe(run_dir: str, key: str, delivered: Delivered) -> str:
    """Return the state of a delivery in rich's markup."""
    from rankzero.rundir.finding import events_behind

    rejected = f", [red]{delivered.position.rejected} rejected[/]" if delivered.position.rejected else ""
    if delivered.behind:
        retrying = "retrying, " if delivered.is_retried else ""
        behind = terminal.counted(events_behind(Path(run_dir), delivered.position), "event")
        return f"[yellow]{terminal.escape(key)} {retrying}{behind} behind[/]{rejected}"
    if delivered.position.disabled:
        return f"[dim]{terminal.escape(key)} disabled[/]"
    if delivered.position.offline:
        return f"[yellow]{terminal.escape(key)} offline[/]{rejected}"
    return f"[green]{terminal.escape(key)} ✓[/]{rejected}"


def as_json(each: Glance) -> dict[str, Any]:
    """Return the summary of a run for ``--json``."""
    return {
        "id": each.info.id,
        "name": each.info.name,
        "project": each.info.project,
        "dir": each.info.dir,
        "group": each.info.group,
        "tags": list(each.info.tags),
        "status": each.status,
        "started": each.info.started,
        "updated": each.updated,
        "step": each.step,
        "deliveries": {key: delivery_as_json(delivered) for key, delivered in each.deliveries.items()},
    }


def delivery_as_json(delivered: Delivered) -> dict[str, Any]:
    """Return the state of a delivery for ``--json``."""
    position = delivered.position
    return {
        "behind_bytes": delivered.behind,
        "closed": position.closed,
        "offline": position.offline,
        "disabled": position.disabled,
        "rejected": position.rejected,
        "retrying": delivered.is_retried,
        "problem": position.problem,
        "view": position.view,
    }
