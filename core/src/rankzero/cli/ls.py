"""``rankzero ls``: list the runs below a directory."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import Json, runs_directory

if TYPE_CHECKING:
    from rankzero.reader.index.summary import RunSummary
    from rankzero.rundir.finding import Delivered

_MAX_NAME = 20
_MOST_SIZED = 1000  # finding out the size of a directory takes as long as the rest of its line
_Listed = tuple["RunSummary", dict[str, "Delivered"]]
_DROPPABLE = ("size", "took", "project", "step", "started")
_GAPS = 6  # characters between the columns that are never left out
_LEAST_ROOM, _MOST_ROOM = 20, 72  # characters for the states of deliveries

STATUS_STYLES = {"success": "green", "running": "cyan", "unknown": "yellow"}
COMPLETE, _BETWEEN, _MORE = "✓", " · ", " · …"
_DELIVERY_STYLES = {"delivered": "green", "failed": "red", "disabled": "dim"}


def ls(
    directory: Annotated[Path | None, typer.Argument(help="By default the directory of runs.")] = None,
    json: Json = False,
) -> None:
    """List runs, the newest last.

    Example: rankzero ls rankzero-runs/digits
    """
    from rankzero.errors import RankzeroError
    from rankzero.reader.index.run_index import summarize_runs
    from rankzero.rundir.finding import delivered

    directory = runs_directory(directory)
    unreadable: dict[Path, Exception] = {}
    with _no_garbage_collection():
        runs = summarize_runs(directory.resolve(), quick=True, unreadable=unreadable)
        found = [(run, delivered(run.info.dir, run.loggers, run.journal.read)) for run in runs]
        if json:
            terminal.print_json([_as_json(*each, has_size=len(found) <= _MOST_SIZED) for each in found])
        elif found:
            _print(found)
        else:
            terminal.say(f"no runs in {directory}", err=True)
    for run_dir, error in unreadable.items():
        is_explained = isinstance(error, RankzeroError | OSError)
        why = f"{error}" if is_explained else f"{run_dir} cannot be read: {terminal.error_text(error)}"
        terminal.say(f"rankzero: {why}", err=True)
    if unreadable:
        raise typer.Exit(1)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pause the search for garbage among many new objects, which are all in use."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _print(found: list[_Listed]) -> None:
    from rankzero.rundir.finding import disk_usage

    console = terminal.console()
    is_narrow = console.width < 120
    has_sizes = not is_narrow and len(found) <= _MOST_SIZED
    length = _MAX_NAME if is_narrow else 2 * _MAX_NAME
    names = [terminal.argument(terminal.cut(run.info.name, length)) for run, _ in found]
    ids = [run.info.id for run, _ in found]
    ids = _suffixes(ids) if is_narrow else ids
    others = sum(max(map(len, each)) for each in (names, [run.status for run, _ in found], ids))
    room = min(max(console.width - others - _GAPS, _LEAST_ROOM), _MOST_ROOM)
    columns = {
        "run": [*map(terminal.escape, names)],
        "project": [terminal.escape(run.info.project) for run, _ in found],
        "status": [f"[{STATUS_STYLES.get(run.status, 'red')}]{terminal.escape(run.status)}[/]" for run, _ in found],
        "started": [terminal.when(run.started) for run, _ in found],
        "took": [terminal.duration(run.took) for run, _ in found],
        "step": [terminal.number(run.step) for run, _ in found],
        **({"size": [terminal.size(disk_usage(Path(run.info.dir))) for run, _ in found]} if has_sizes else {}),
        "delivered": [in_one_line(deliveries, room) or "[dim]–[/]" for _, deliveries in found],
        "id": [f"[dim]{terminal.escape(each)}[/]" for each in ids],
    }
    lines = terminal.table_lines(columns, console, droppable=_DROPPABLE, folded="delivered", right="step")
    typer.echo("\n".join(lines))


def _suffixes(ids: list[str]) -> list[str]:
    """Return the ends of ids, as long as needed to be unique."""
    length = next(size for size in itertools.count(8) if len({each[-size:] for each in ids}) == len({*ids}))
    return [f"…{each[-length:]}" if len(each) > length + 1 else each for each in ids]


def in_one_line(deliveries: Mapping[str, Delivered], room: int) -> str:
    """Return the states of deliveries in rich's markup, first of those that are not complete.

    Args:
        deliveries: the key of each logger → how far it is.
        room: the number of characters; what does not fit is replaced by an ellipsis.
    """
    parts, complete, shown = [], [], list[str]()
    for key, each in deliveries.items():
        words, style = describe(each)
        if words == COMPLETE:
            complete.append(key)
        else:
            parts.append((f"{key} {words}", style))
    if complete:
        parts.append((f"{', '.join(complete)} {COMPLETE}", _DELIVERY_STYLES["delivered"]))
    for number, (text, style) in enumerate(parts, 1):
        left = room if number == len(parts) else room - len(_MORE)
        if shown and len(text) > left:
            return _BETWEEN.join(shown) + _MORE
        shown.append(f"[{style}]{terminal.escape(terminal.cut(text, left))}[/]")
        room -= len(text) + len(_BETWEEN)
    return _BETWEEN.join(shown)


def describe(delivered: Delivered) -> tuple[str, str]:
    """Return the state of a delivery in words, and their style."""
    behind, rejected, status = delivered.behind, delivered.position.rejected, delivered.status
    words = [] if status in ("behind", "delivered") else [status]
    words += [f"{behind:,} behind"] if behind else []
    words += [f"{rejected:,} rejected"] if rejected else []
    style = "red" if rejected else _DELIVERY_STYLES.get(status, "yellow") if words else _DELIVERY_STYLES["delivered"]
    return ", ".join(words) or COMPLETE, style


def _as_json(run: RunSummary, deliveries: dict[str, Delivered], *, has_size: bool) -> dict[str, Any]:
    from rankzero.rundir.finding import disk_usage

    return run_as_json(run) | {
        "size": disk_usage(run.dir) if has_size else None,
        "deliveries": {key: each.as_json() for key, each in deliveries.items()},
    }


def run_as_json(run: RunSummary) -> dict[str, Any]:
    """Return the summary of a run for ``--json``."""
    return {
        "id": run.info.id,
        "name": run.info.name,
        "project": run.info.project,
        "dir": run.info.dir,
        "group": run.info.group,
        "parent": run.info.parent,
        "tags": run.tags,
        "status": run.status,
        "error": run.error or None,
        "started": run.started,
        "finished": run.finished,
        "updated": run.updated,
        "took": run.took,
        "step": run.step,
    }
