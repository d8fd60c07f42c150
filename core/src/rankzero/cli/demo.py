"""``rankzero demo``: train a small network, and show the logged run."""

from __future__ import annotations

import math
import os
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rankzero.cli import terminal
from rankzero.cli.show import files_line, metrics_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from rankzero.reader.index.run_index import RunIndex


def demo(
    logger: Annotated[
        list[str] | None, typer.Option("--logger", metavar="NAME", help="The logger to use; may be repeated.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="The number of epochs.")] = 20,
    dir: Annotated[Path | None, typer.Option(help="The directory of runs.")] = None,
) -> None:
    """Train a small network on handwritten digits, and show the logged run.

    Example: rankzero demo --logger csv --epochs 20
    """
    import logging

    from rankzero.cli.demo_training import load_digits, make_classifier, steps_per_epoch, train
    from rankzero.reader.index.run_index import index_run
    from rankzero.run.start import start

    console = terminal.console()
    # The messages of start() and finish() are printed below.
    logging.getLogger("rankzero").setLevel(logging.WARNING)
    digits = load_digits()
    with console.status("loading the training library") if console.is_terminal else nullcontext():
        model = make_classifier()
    run = start(logger, project="digits", tags=["demo"], dir=dir)
    console.print(f"Training on {len(digits.train_y):,} handwritten digits with {model.library}.")
    if model.library != "PyTorch":
        console.print("[dim]PyTorch is not installed. rankzero does not need it.[/]")
    bars = _progress_bars(console)
    task = bars.add_task("training", total=epochs * steps_per_epoch(digits), state="")

    def advance(loss: float, accuracy: float) -> None:
        measured = "" if math.isnan(accuracy) else f"  accuracy {accuracy:.3f}"
        bars.update(task, advance=1, state=f"loss {loss:.3f}{measured}")

    with run, bars:
        train(run, model, digits, epochs, advance)
    _show(index_run(run.dir), console, run.loggers)


def _progress_bars(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[state]}"),
        console=console,
        disable=not console.is_terminal,
    )


def _show(index: RunIndex, console: Console, loggers: tuple[str, ...]) -> None:
    data = index.data()
    path = shlex.quote(_short(data.dir))
    console.print(f"\n[bold]{data.info.name}[/] was logged:\n")
    console.print(metrics_table(index, console.width))
    console.print(f"\n{files_line(data)}\n", soft_wrap=True)
    curves = {name: {"": index.curves[name]} for name in ("train/loss", "val/accuracy")}
    drawing = terminal.plot(curves, console.width)
    if drawing:
        console.print(drawing, markup=False, style="cyan", no_wrap=True, crop=False)
    console.print(
        f"\nThe run is in [bold]{terminal.escape(path)}[/]. Loggers: {', '.join(loggers) or 'none'}.",
        soft_wrap=True,
    )
    views = {key: each.view for key, each in data.deliveries.items() if each.view}
    if views:
        console.print("\nView it:")
    for key, view in views.items():
        console.print(f"  [bold]{terminal.escape(view)}[/]", soft_wrap=True)
        console.print(f"      [dim]in {terminal.escape(key)}[/]")
    console.print("\nNext:")
    for command, purpose in _next_commands(path, loggers):
        console.print(f"  [bold]{terminal.escape(command)}[/]", soft_wrap=True)
        console.print(f"      [dim]{purpose}[/]")


def _next_commands(path: str, loggers: tuple[str, ...]) -> list[tuple[str, str]]:
    from rankzero.plugins.registry import get_plugins

    path = terminal.argument(path)

    others = (
        info.name
        for info in get_plugins().available().values()
        if info.kind == "logger" and not info.problem and info.name not in loggers
    )
    if other := next(filter(_is_usable, others), None):
        send = (f"rankzero sync {path} --to {other}", f"send this run to {other}, with its original times")
    else:
        send = ("rankzero loggers", "list the loggers that can be installed")
    return [
        (f"rankzero page {path} --open", "open its curves, images and tables in the browser"),
        (f"rankzero show {path}", "show parameters, metrics and deliveries of the run"),
        (f"rankzero export {path} --output metrics.csv", "export its metrics for a spreadsheet or pandas"),
        send,
    ]


def _is_usable(name: str) -> bool:
    """Return whether a logger works without options and with the login on this machine."""
    from rankzero.plugins.registry import get_plugins

    try:
        get_plugins().load_logger(name)().check_login()
    except Exception:
        return False
    return True


def _short(path: Path) -> str:
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
