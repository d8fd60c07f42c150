"""``rankzero import``: import runs of another tool."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from rankzero.cli import terminal
from rankzero.cli.arguments import Json, load_hooks, parse_options
from rankzero.cli.sync import progress_bars, sync
from rankzero.messages import OnceWarner

log = logging.getLogger("rankzero.import")

_MAX_NAME = 24  # so that a bar fits beside it
_IDLE = 600.0  # seconds without new events until a run that is followed gets its end

if TYPE_CHECKING:
    from rankzero.importers.base import FoundRun, Importer
    from rankzero.importers.writing import Imported, OpenRuns


class CommandThatListsImporters(TyperCommand):
    """A command whose help lists the installed importers."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help; plugins are loaded only for this."""
        self.epilog = "Installed importers: " + (", ".join(_load_importers()) or "none")
        super().format_help(ctx, formatter)


def import_(
    name: Annotated[str | None, typer.Argument(help="The importer; without it, importers are listed.")] = None,
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCE", help="What to read: files or directories.")
    ] = None,
    dir: Annotated[Path | None, typer.Option(help="The directory of runs to import into.")] = None,
    project: Annotated[str | None, typer.Option(help="The project of the imported runs, instead of their own.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of the importer; may be repeated."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be imported; write nothing.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what is written later, until Ctrl-C.")] = False,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="NAME", help="A logger to deliver the runs to at once; may be repeated."),
    ] = None,
    json: Json = False,
) -> None:
    """Import runs of another tool.

    What is read is never changed. Each run becomes an ordinary run, which --to NAME, or later `rankzero sync RUN
    --to NAME`, delivers to any tracker. The import can be repeated: only new data is appended.

    Example: rankzero import NAME old-project/

    The exit status is 1 if data could not be imported; it is named. Without NAME, installed importers are listed.
    """
    from rankzero.config.prepared import prepare
    from rankzero.config.resolving import resolve
    from rankzero.delivery.destinations import logger_from_config
    from rankzero.errors import ConfigError
    from rankzero.importers.registry import make_importer
    from rankzero.importers.writing import OpenRuns, project_name

    offered = _load_importers()
    if name is None:
        if json:
            terminal.print_json([{"name": each, "reads": summary} for each, summary in offered.items()])
        else:
            _list(offered)
        return
    if not sources:
        raise typer.BadParameter(f"name the files or directories to read: rankzero import {name} SOURCE")
    if dry_run and (follow or to):
        raise typer.BadParameter("--dry-run writes nothing that --follow or --to could deliver")
    if json and (follow or to):
        raise typer.BadParameter("--json is for imports without --follow and --to")
    if project is not None and project_name(project) != project:
        raise ConfigError(f"--project {project!r} cannot be used as the name of a directory")
    for logger in to or ():  # a wrong name after a long import would come too late
        prepare(logger_from_config(logger, {}), online=True)
    options = parse_options(option)
    importer = make_importer(name, options)
    found = _find(importer, sources, waits=follow)
    if project is None and (unnamed := sum(each.project is None for each in found)):
        runs = terminal.counted(unnamed, "run")
        typer.echo(f"the project of {runs} is unknown: using {name!r}; set another with --project", err=True)
    importing = _Importing(dir or resolve().dir, lambda each: project or each.project or name, options, dry_run)
    if follow:
        importing.open_runs = OpenRuns()
    try:
        is_complete = importing.run(found, json=json)
        if follow:
            _follow(f"{name} in {', '.join(sources)}", partial(importer.find, sources), importing, to)
    finally:
        if importing.open_runs is not None:
            importing.open_runs.close()
    if to and (undelivered := [str(run) for run in importing.run_dirs.values() if not _is_delivered(run, to)]):
        sync(undelivered, to)
    if not is_complete:
        raise typer.Exit(1)


def _is_delivered(run_dir: Path, to: Sequence[str]) -> bool:
    from rankzero.rundir.finding import delivered

    return all(each.is_complete for each in delivered(run_dir, list(to)).values())


def _find(importer: Importer, sources: Sequence[str], *, waits: bool) -> list[FoundRun]:
    """Return the runs; with ``waits``, none if there is no run yet."""
    from rankzero.errors import RunNotFoundError

    try:
        return list(importer.find(sources))
    except RunNotFoundError as error:
        if not waits:
            raise
        terminal.say(f"waiting: {error}", err=True)
        return []


def _load_importers() -> dict[str, str]:
    """Return name → summary of the installed importers."""
    from rankzero.importers.registry import installed_importers

    load_hooks()
    return {name: next(iter(owners.values())).summary for name, owners in installed_importers().items()}


def _list(offered: dict[str, str]) -> None:
    if not offered:
        typer.echo("no importer is installed")
        return
    columns = {
        "importer": list(map(terminal.escape, offered)),
        "reads": list(map(terminal.escape, offered.values())),
    }
    typer.echo("\n".join(terminal.table_lines(columns, terminal.console(), folded="reads")))


class _Importing:
    """Imports runs one after the other, and prints what became of each.

    Args:
        directory: the directory of all runs.
        project_of: returns the project of a run.
        options: those of the importer.
        dry_run: whether nothing is written.
    """

    open_runs: OpenRuns | None = None
    """The runs that are followed."""

    def __init__(
        self, directory: Path, project_of: Callable[[FoundRun], str], options: dict[str, Any], dry_run: bool
    ) -> None:
        from rankzero.rundir.finding import find_runs

        self._directory = directory
        self._project_of = project_of
        self._options = options
        self._dry_run = dry_run
        self._known = {run.name: run for run in find_runs(directory)}
        self.run_dirs: dict[str, Path] = {}
        """Id → directory of the imported runs."""

    def run(self, found: Sequence[FoundRun], *, json: bool) -> bool:
        """Import runs with a progress bar each, and print the results; return whether everything was imported."""
        results = []
        for number, each in enumerate(found, 1):
            name = terminal.cut(Path(each.source).name, _MAX_NAME)
            with progress_bars() as bars:  # removed before the result is printed
                task = bars.add_task(f"{number}/{len(found)} {name}", total=each.size or None, note="")
                result = self.import_(each, partial(bars.advance, task))
            if not json:
                _print_result(each, result, self._dry_run)
            results.append((each, result))
        if json:
            terminal.print_json([_as_json(*each) for each in results])
        return all(_is_complete(result) for _, result in results)

    def import_(self, found: FoundRun, on_progress: Callable[[int], None] | None = None) -> Imported | Exception:
        """Import a run; return the error if it cannot be imported."""
        from rankzero.importers.writing import Outcome, import_run

        try:
            project = self._project_of(found)
            result = import_run(
                found, self._directory, project, on_progress, self._known,
                options=self._options, dry_run=self._dry_run, open_runs=self.open_runs,
            )  # fmt: skip
        except Exception as error:  # a run that cannot be read must not stop the import of others
            return error
        run_dir = Path(result.info.dir)
        self._known.setdefault(result.info.id, run_dir)
        if result.outcome not in (Outcome.DIFFERENT, Outcome.OTHER_PROJECT):
            self.run_dirs[result.info.id] = run_dir
        return result


def _follow(what: str, find: Callable[[], Iterable[FoundRun]], importing: _Importing, to: Sequence[str] | None) -> None:
    """Import again and again, and deliver, until a signal comes."""
    from rankzero.cli.deliver import Watch
    from rankzero.errors import RankzeroError
    from rankzero.importers.base import SkipRun

    warner = OnceWarner(log.warning)

    def look() -> Iterable[Path]:
        try:
            for each in find():
                result = importing.import_(each)
                if isinstance(result, Exception):
                    problems = [] if isinstance(result, SkipRun) else [terminal.error_text(result)]
                else:
                    refusal = _refusal(result)
                    problems = [refusal] if refusal else _left_out(result)
                for problem in problems:
                    warner.warn(problem, f"{each.source}: {problem}")
        except (RankzeroError, OSError) as error:
            warner.warn(str(error), str(error))
        if importing.open_runs is not None:
            importing.open_runs.close(before=time.time() - _IDLE)
        return importing.run_dirs.values() if to else ()

    Watch(what, look, to or (), end=importing.open_runs.close if importing.open_runs else None).run()


def _is_complete(result: Imported | Exception) -> bool:
    """Return whether all of a run was imported, or it was skipped."""
    from rankzero.importers.base import SkipRun

    if isinstance(result, Exception):
        return isinstance(result, SkipRun)
    return _refusal(result) is None and not result.report.left_out


def _print_result(found: FoundRun, result: Imported | Exception, dry_run: bool) -> None:
    from rankzero.importers.base import SkipRun

    if isinstance(result, SkipRun):
        terminal.say(f"{found.source}: skipped: {result}")
    elif isinstance(result, Exception):
        terminal.say(f"{found.source}: not imported: {terminal.error_text(result)}", err=True)
    elif refusal := _refusal(result):
        terminal.say(f"{found.source}: not imported: {refusal}", err=True)
    else:
        _print_imported(result, dry_run)


def _as_json(found: FoundRun, result: Imported | Exception) -> dict[str, Any]:
    if isinstance(result, Exception):
        return {"source": str(found.source), "outcome": None, "problem": terminal.error_text(result)}
    return {
        "source": str(found.source),
        "outcome": result.outcome.value,
        "problem": _refusal(result),
        "id": result.info.id,
        "name": result.info.name,
        "project": result.info.project,
        "dir": result.info.dir,
        "values": result.values,
        "files": result.files,
        "left_out": [
            {"what": what, "why": why, "count": count} for (what, why), count in result.report.left_out.items()
        ],
    }


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


def _print_imported(result: Imported, dry_run: bool) -> None:
    from rankzero.importers.writing import Outcome

    name, outcome, where = result.info.name, result.outcome, result.info.dir
    counts = f"{terminal.counted(result.values, 'value')}, {terminal.counted(result.files, 'file')}"
    if outcome is Outcome.UNCHANGED:
        terminal.say(f"{name}: already imported, nothing is new; it is in {where}")
    elif dry_run:
        terminal.say(f"{name}: would be {outcome.value}: {counts}; into {where}")
    else:
        terminal.say(f"{name}: {outcome.value}: {counts}; it is in {where}")
    for problem in _left_out(result):
        terminal.say(f"{name}: {problem}", err=True)


def _left_out(result: Imported) -> list[str]:
    return [
        f"left out: {what}{f' ({count:,} times)' if count > 1 else ''}: {why}"
        for (what, why), count in result.report.left_out.items()
    ]
