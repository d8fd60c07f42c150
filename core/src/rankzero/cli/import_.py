"""``rankzero import``: make ordinary runs of what another tool left on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from rankzero.cli import terminal
from rankzero.cli.arguments import parse_options

_LONGEST_NAME = 24

if TYPE_CHECKING:
    from rankzero.importers.base import FoundRun
    from rankzero.importers.writing import Imported


class CommandThatListsImporters(TyperCommand):
    """Says in its help which importers are installed."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help; which plugins there are is looked up only now."""
        self.epilog = "Installed importers: " + (", ".join(_load_importers()) or "none")
        super().format_help(ctx, formatter)


def import_(
    name: Annotated[str | None, typer.Argument(help="The importer; without one, those installed are listed.")] = None,
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="Files or directories to read.")] = None,
    dir: Annotated[Path | None, typer.Option(help="Where to keep the runs; by default where runs are kept.")] = None,
    project: Annotated[str | None, typer.Option(help="The project of the runs, instead of their own.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of the importer; may be repeated."),
    ] = None,
) -> None:
    """Make runs of what another tool left on disk.

    What is read is never changed. Each run found there becomes an ordinary run, which `rankzero sync RUN --to NAME`
    delivers to any tracker. It can be repeated: a run that was imported is left alone, and gets only what is new.

    Example: rankzero import NAME old-project/

    The exit status is 1 if something could not be taken, which is named. Without a name, the importers that are
    installed are listed.
    """
    from rankzero.config.resolving import resolve
    from rankzero.errors import ConfigError
    from rankzero.importers.registry import make_importer
    from rankzero.importers.writing import project_name

    offered = _load_importers()
    if name is None:
        _list(offered)
        return
    if not paths:
        raise typer.BadParameter(f"say what to read: rankzero import {name} PATH")
    if project is not None and project_name(project) != project:
        raise ConfigError(f"--project becomes the name of a directory, which {project!r} cannot be")
    found = list(make_importer(name, parse_options(option)).find(paths))
    if project is None and (unnamed := sum(each.project is None for each in found)):
        of = terminal.counted(unnamed, "run")
        typer.echo(f"of {of} the project is not known: it is {name!r} then, or what --project says", err=True)
    if not _import_all(found, dir or resolve().dir, lambda each: project or each.project or name):
        raise typer.Exit(1)


def _load_importers() -> dict[str, str]:
    """Return name → summary of the importers that are installed."""
    from rankzero.importers.registry import offered_importers
    from rankzero.plugins.registry import get_plugins

    for problem in get_plugins().load_hooks():
        typer.echo(f"rankzero: {problem}", err=True)
    return {name: next(iter(owners.values())).summary for name, owners in offered_importers().items()}


def _list(offered: dict[str, str]) -> None:
    from rich.table import Table

    if not offered:
        typer.echo("no importer is installed")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("importer", no_wrap=True)
    table.add_column("reads")
    for name, summary in offered.items():
        table.add_row(terminal.escape(name), terminal.escape(summary))
    terminal.show(table, terminal.console())


def _import_all(found: Sequence[FoundRun], directory: Path, project_of: Callable[[FoundRun], str]) -> bool:
    """Import runs, one after the other, and say what became of each; return whether all of them were taken."""
    from rankzero.rundir.finding import find_runs

    known = {run.name: run for run in find_runs(directory)}
    taken = True
    for each in found:
        result = _import_one(each, directory, project_of(each), known)
        if not isinstance(result, Exception):
            known.setdefault(result.info.id, Path(result.info.dir))
        taken &= _tell(each, result)
    return taken


def _import_one(found: FoundRun, directory: Path, project: str, known: dict[str, Path]) -> Imported | Exception:
    """Import a run with a progress bar, which is gone when what became of it is said."""
    from rankzero.cli.sync import progress_bars
    from rankzero.importers.writing import import_run

    with progress_bars() as bars:
        task = bars.add_task(_shortened(Path(found.source).name), total=found.size or None, note="")
        try:
            return import_run(found, directory, project, partial(bars.advance, task), known)
        except Exception as error:  # one run that cannot be read must not keep the others from being rescued
            return error


def _shortened(name: str) -> str:
    """Return a name that leaves room for a bar beside it."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _tell(found: FoundRun, result: Imported | Exception) -> bool:
    """Say what became of a run; return whether all of it was taken."""
    from rankzero.importers.base import SkipRun

    if isinstance(result, SkipRun):
        terminal.say(f"{found.source}: passed over: {result}")
        return True
    if isinstance(result, Exception):
        terminal.say(f"{found.source}: not imported: {_reason(result)}", err=True)
        return False
    if (refusal := _refusal(result)) is not None:
        terminal.say(f"{found.source}: not imported: {refusal}", err=True)
        return False
    _tell_taken(result)
    return not result.report.not_taken


def _reason(error: Exception) -> str:
    from rankzero.errors import RankzeroError

    return f"{error}" if isinstance(error, RankzeroError | OSError) else f"{type(error).__name__}: {error}"


def _refusal(result: Imported) -> str | None:
    """Return why a run was left as it is, None if it was not."""
    from rankzero.importers.writing import Outcome

    info = result.info
    if result.outcome is Outcome.DIFFERENT:
        return (
            f"{info.dir} holds the run {info.name}, imported from something else or before this changed, and was left "
            "as it is. Import it elsewhere with --dir, or delete that run first."
        )
    if result.outcome is Outcome.ELSEWHERE:
        return (
            f"it is in {info.dir} already, in another project, and was left as it is. Name that project with "
            "--project, import it elsewhere with --dir, or delete that run first."
        )
    return None


def _tell_taken(result: Imported) -> None:
    from rankzero.importers.writing import Outcome

    name, outcome = result.info.name, result.outcome
    counts = f"{terminal.counted(result.values, 'value')}, {terminal.counted(result.files, 'file')}"
    what = "imported already, nothing is new" if outcome is Outcome.UNCHANGED else f"{outcome.value}: {counts}"
    terminal.say(f"{name}: {what}; it is in {result.info.dir}")
    for (left_out, why), count in result.report.not_taken.items():
        times = f" ({count:,} times)" if count > 1 else ""
        terminal.say(f"{name}: not taken: {left_out}{times}: {why}", err=True)
