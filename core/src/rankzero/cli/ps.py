"""``rankzero ps``: list running couriers."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import Json, runs_directory
from rankzero.messages import reason

if TYPE_CHECKING:
    from rankzero.delivery.active_couriers import CourierAtWork
    from rankzero.rundir.finding import Delivered

_LONGEST_NAME = 20


def ps(
    directory: Annotated[
        Path | None, typer.Argument(help="Where to look as well; by default where runs are kept.")
    ] = None,
    json: Json = False,
) -> None:
    """List the couriers that are at work.

    That is yours, wherever their runs are, and those of the runs below a directory: which run they deliver to which
    logger, how much of it is delivered, and why one has to try again.

    Example: rankzero ps
    """
    from rankzero.delivery.active_couriers import at_work

    couriers = at_work(runs_directory(directory))
    if json:
        terminal.print_json([_as_json(each) for each in couriers])
    elif couriers:
        _print(couriers)
    else:
        terminal.say("no courier is at work", err=True)


def _print(couriers: list[CourierAtWork]) -> None:
    console = terminal.console()
    here = platform.node()
    columns = {
        "run": [terminal.argument(terminal.cut(terminal.printable(each.run_name), _LONGEST_NAME)) for each in couriers],
        "logger": [each.key for each in couriers],
        "delivered": [_delivered(each) for each in couriers],
        "since": [terminal.when(each.note.began) if each.note else "–" for each in couriers],
        "process": [_process(each, here) for each in couriers],
        "state": [_state(each) for each in couriers],
    }
    escaped = {heading: [*map(terminal.escape, cells)] for heading, cells in columns.items()}
    heading, *rows = terminal.table_lines(escaped, console, droppable=["since", "process"])
    typer.echo(heading)
    for each, row in zip(couriers, rows, strict=True):
        typer.echo(row)
        if each.problem:
            terminal.say(f"  {reason(each.problem, console.width - 2)}")


def _delivered(each: CourierAtWork) -> str:
    if not each.behind:
        return "all of it"
    delivered = _state_of_delivery(each)
    line = delivered.position.line
    if line <= 1:  # the first event says only which run it is
        return "nothing yet"
    return f"{line:,} of {terminal.counted(line + delivered.behind, 'event')}"


def _state_of_delivery(each: CourierAtWork) -> Delivered:
    import msgspec

    from rankzero.rundir.finding import Delivered
    from rankzero.rundir.positions import load_position

    position = msgspec.structs.replace(load_position(each.run_dir, each.key), problem=each.problem)
    return Delivered(each.run_dir, position, each.behind, is_retried=True)


def _process(each: CourierAtWork, here: str) -> str:
    if not each.pid:
        return "–"
    return str(each.pid) if each.host == here else f"{each.pid} on {each.host}"


def _state(each: CourierAtWork) -> str:
    if each.problem:
        return "retrying"
    if each.behind:
        return "delivering"
    return "waiting" if each.is_live else "ending"


def _as_json(each: CourierAtWork) -> dict[str, Any]:
    run = {"id": each.run_id, "name": each.run_name, "dir": str(each.run_dir), "logger": each.key}
    since = each.note.began if each.note else None
    process = {"pid": each.pid or None, "host": each.host or None, "since": since}
    return run | _state_of_delivery(each).as_json() | process
