"""``rankzero clean``: compress the journals of old runs, and delete files that the trackers have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import Json, runs_directory

if TYPE_CHECKING:
    from rankzero.delivery.cleaning import Cleaning

_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip())
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is no age: write minutes, hours, days or weeks, such as 30m, 12h, 30d or 4w"
        )
    return float(match[1]) * _SECONDS[match[2]]


def clean(
    directory: Annotated[Path | None, typer.Argument(help="By default the directory of runs.")] = None,
    older_than: Annotated[str, typer.Option(help="Only runs that ended so long ago: 30m, 12h, 30d, 4w.")] = "30d",
    media: Annotated[bool, typer.Option("--media", help="Delete images, tables and other media.")] = False,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="Delete snapshots of checkpoints.")] = False,
    rejected: Annotated[bool, typer.Option("--rejected", help="Also runs that a tracker rejected events of.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it. Otherwise only print what would be done.")] = False,
    json: Json = False,
) -> None:
    """Compress the journals of old runs that are delivered everywhere, and delete their media if you want that.

    Every command reads compressed journals, and a run that is resumed gets its journal back. Deleted files stay only in
    the trackers that take them; those that are in no tracker are not deleted.

    Example: rankzero clean --older-than 30d --media

    The exit status is 1 if a run could not be cleaned.
    """
    from rankzero.delivery.cleaning import plan
    from rankzero.errors import RankzeroError
    from rankzero.rundir.finding import find_runs
    from rankzero.rundir.layout import CHECKPOINTS, MEDIA

    age = _seconds(older_than)
    delete = [name for name, wanted in ((MEDIA, media), (CHECKPOINTS, checkpoints)) if wanted]
    top = runs_directory(directory)
    plans, failed = [], False
    for run_dir in find_runs(top):
        try:
            plans.append(plan(run_dir, age, delete, rejected=rejected))
        except (RankzeroError, OSError) as error:
            failed = True
            terminal.say(f"{run_dir}: {terminal.error_text(error)}", err=True)
    needed = [each for each in plans if each.is_needed]
    if json:
        terminal.print_json([_as_json(each) for each in plans])
    elif not yes:
        _print(needed, delete)
    say = partial(terminal.say, err=json)
    for why, count in Counter(each.why_not for each in plans if each.why_not).items():
        say(f"{terminal.counted(count, 'run')} left unchanged: {why}")
    if not needed:
        say(f"nothing to clean in {top}")
    elif not yes:
        say("Nothing was changed. To do it, add --yes")
    else:
        failed |= not _clean(needed, say)
    if failed:
        raise typer.Exit(1)


def _print(needed: list[Cleaning], delete: list[str]) -> None:
    if not needed:
        return
    columns = {
        "run": [terminal.escape(each.info.name) for each in needed],
        "compress": [terminal.size(each.journal) if each.journal else "–" for each in needed],
        **{f"delete {name}": [_deleted(each, name) for each in needed] for name in delete},
        "directory": [f"[dim]{terminal.escape(str(each.run_dir))}[/]" for each in needed],
    }
    for line in terminal.table_lines(columns, terminal.console(), droppable=("directory",)):
        typer.echo(line)


def _deleted(each: Cleaning, name: str) -> str:
    if name in each.kept:
        return "in no tracker"
    return terminal.size(each.deleted[name]) if name in each.deleted else "–"


def _as_json(each: Cleaning) -> dict[str, Any]:
    return {
        "id": each.info.id,
        "name": each.info.name,
        "dir": str(each.run_dir.resolve()),
        "compress_bytes": each.journal,
        "delete_bytes": each.deleted,
        "in_no_tracker": each.kept,
        "unchanged_because": each.why_not or None,
    }


def _clean(needed: list[Cleaning], say: Callable[[str], None]) -> bool:
    """Clean the directories; return whether all could be cleaned."""
    from rankzero.errors import RankzeroError

    freed, cleaned = 0, 0
    for each in needed:
        try:
            freed += each.clean()
            cleaned += 1
        except (RankzeroError, OSError) as error:
            terminal.say(f"{each.run_dir}: not cleaned: {terminal.error_text(error)}", err=True)
    say(f"{terminal.counted(cleaned, 'run')} cleaned, {terminal.size(freed)} freed")
    for name, count in Counter(name for each in needed for name in each.kept).items():
        say(f"{name} of {terminal.counted(count, 'run')} not deleted: in no tracker")
    return cleaned == len(needed)
