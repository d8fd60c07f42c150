"""``rankzero import``: import runs of another tool from disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from rankzero.cli import terminal
from rankzero.cli.arguments import parse_options

_MAX_NAME = 24  # so that a bar fits beside it

if TYPE_CHECKING:
    from rankzero.importers.base import FoundRun
    from rankzero.importers.writing import Imported


class CommandThatListsImporters(TyperCommand):
    """A command whose help lists the installed importers."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help; plugins are loaded only for this."""
        self.epilog = "Installed importers: " + (", ".join(_load_importers()) or "none")
        super().format_help(ctx, formatter)


def import_(
    name: Annotated[str | None, typer.Argument(help="The importer; without it, importers are listed.")] = None,
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="Files or directories to read.")] = None,
    dir: Annotated[Path | None, typer.Option(help="The directory of runs to import into.")] = None,
    project: Annotated[str | None, typer.Option(help="The project of the imported runs, instead of their own.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of the importer; may be repeated."),
    ] = None,
) -> None:
    """Import runs of another tool from disk.

    The files that are read are never changed. Each run becomes an ordinary run, which `rankzero sync RUN --to NAME`
    delivers to any tracker. The import can be repeated: only new data is appended.

    Example: rankzero import NAME old-project/

    The exit status is 1 if data could not be imported; it is named. Without NAME, installed importers are listed.
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
        raise typer.BadParameter(f"name the files or directories to read: rankzero import {name} PATH")
    if project is not None and project_name(project) != project:
        raise ConfigError(f"--project {project!r} cannot be used as the name of a directory")
    found = list(make_importer(name, parse_options(option)).find(paths))
    if project is None and (unnamed := sum(each.project is None for each in found)):
        runs = terminal.counted(unnamed, "run")
        typer.echo(f"the project of {runs} is unknown: using {name!r}; set another with --project", err=True)
    if not _import_all(found, dir or resolve().dir, lambda each: project or each.project or name):
        raise typer.Exit(1)


def _load_importers() -> dict[str, str]:
    """Return name → summary of the installed importers."""
    from rankzero.importers.registry import installed_importers
    from rankzero.plugins.registry import get_plugins

    for problem in get_plugins().load_hooks():
        typer.echo(f"rankzero: {problem}", err=True)
    return {name: next(iter(owners.values())).summary for name, owners in installed_importers().items()}


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
    """Import runs one after the other and print each result; return whether everything was imported."""
    from rankzero.rundir.finding import find_runs

    known = {run.name: run for run in find_runs(directory)}
    is_complete = True
    for each in found:
        result = _import_one(each, directory, project_of(each), known)
        if not isinstance(result, Exception):
            known.setdefault(result.info.id, Path(result.info.dir))
        is_complete &= _print_result(each, result)
    return is_complete


def _import_one(found: FoundRun, directory: Path, project: str, known: dict[str, Path]) -> Imported | Exception:
    """Import a run with a progress bar, which is removed before the result is printed."""
    from rankzero.cli.sync import progress_bars
    from rankzero.importers.writing import import_run

    with progress_bars() as bars:
        task = bars.add_task(terminal.cut(Path(found.source).name, _MAX_NAME), total=found.size or None, note="")
        try:
            return import_run(found, directory, project, partial(bars.advance, task), known)
        except Exception as error:  # a run that cannot be read must not stop the import of others
            return error


def _print_result(found: FoundRun, result: Imported | Exception) -> bool:
    """Print the result of an import; return whether all of the run was imported."""
    from rankzero.importers.base import SkipRun

    if isinstance(result, SkipRun):
        terminal.say(f"{found.source}: skipped: {result}")
        return True
    if isinstance(result, Exception):
        terminal.say(f"{found.source}: not imported: {_reason(result)}", err=True)
        return False
    if (refusal := _refusal(result)) is not None:
        terminal.say(f"{found.source}: not imported: {refusal}", err=True)
        return False
    _print_imported(result)
    return not result.report.left_out


def _reason(error: Exception) -> str:
    from rankzero.errors import RankzeroError

    return f"{error}" if isinstance(error, RankzeroError | OSError) else f"{type(error).__name__}: {error}"


def _refusal(result: Imported) -> str | None:
    """Return why an existing run was not changed, None otherwise."""
    from rankzero.importers.writing import Outcome

    info = result.info
    if result.outcome is Outcome.DIFFERENT:
        return (
            f"the run {info.name} in {info.dir} was imported from other data, or the source has changed since. The "
            "run was not changed. Import into another directory with --dir, or delete that run first."
        )
    if result.outcome is Outcome.OTHER_PROJECT:
        return (
            f"the run exists in another project, in {info.dir}, and was not changed. Name that project with "
            "--project, import into another directory with --dir, or delete that run first."
        )
    return None


def _print_imported(result: Imported) -> None:
    from rankzero.importers.writing import Outcome

    name, outcome = result.info.name, result.outcome
    counts = f"{terminal.counted(result.values, 'value')}, {terminal.counted(result.files, 'file')}"
    what = "already imported, nothing is new" if outcome is Outcome.UNCHANGED else f"{outcome.value}: {counts}"
    terminal.say(f"{name}: {what}; it is in {result.info.dir}")
    for (left_out, why), count in result.report.left_out.items():
        times = f" ({count:,} times)" if count > 1 else ""
        terminal.say(f"{name}: left out: {left_out}{times}: {why}", err=True)
