"""``rankzero ps``: the couriers that are at work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankzero.commands import terminal
from rankzero.commands.arguments import Json, runs_directory

if TYPE_CHECKING:
    from rankzero.couriers import CourierAtWork


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
    from rankzero.couriers import at_work

    couriers = at_work(runs_directory(directory))
    if json:
        terminal.print_json([_as_json(each) for each in couriers])
    elif couriers:
        _print(couriers)
    else:
        terminal.say("no courier is at work", err=True)


def _print(couriers: list[CourierAtWork]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("run", "logger", "delivered", "since", "process"):
        table.add_column(heading, overflow="fold")
    table.add_column("", overflow="fold")
    for each in couriers:
        table.add_row(
            terminal.escape(terminal.argument(each.run_name)),
            terminal.escape(each.key),
            f"{_share(each):.0%}, {terminal.size(each.behind)} behind" if each.behind else "100%",
            terminal.when(each.note.began) if each.note else "–",
            terminal.escape(f"{each.pid} on {each.host}" if each.pid else "–"),
            f"[yellow]{terminal.escape(_state(each))}[/]" if each.problem else _state(each),
        )
    terminal.console().print(table)


def _share(each: CourierAtWork) -> float:
    return 1.0 - each.behind / each.size if each.size else 1.0


def _state(each: CourierAtWork) -> str:
    if each.problem:
        return f"retrying: {each.problem}"
    if each.behind:
        return "delivering"
    return "waiting for more" if each.is_live else "ending"


def _as_json(each: CourierAtWork) -> dict[str, Any]:
    return {
        "run": each.run_name,
        "id": each.run_id,
        "dir": str(each.run_dir),
        "logger": each.key,
        "pid": each.pid or None,
        "host": each.host or None,
        "since": each.note.began if each.note else None,
        "bytes": each.size,
        "behind_bytes": each.behind,
        "problem": each.problem,
    }
