"""``rankzero compare``: show what differs between runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import RUN_HELP, Json, chosen_run
from rankzero.cli.ls import STATUS_STYLES, run_as_json
from rankzero.events.run_info import SYSTEM

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rankzero.reader.comparing import Comparison
    from rankzero.reader.index.summary import MetricSummary

_MOST_ROWS = 40
_MOST_TEXT = 60  # characters of a value


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN", help=RUN_HELP, show_default=False)],
    plot: Annotated[
        list[str] | None, typer.Option(metavar="METRIC", help="Plot this metric of all runs; may be repeated.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what differs between runs.

    Prints parameters, environment, git state and packages that differ, and the metrics of all runs side by side: the
    last value, and the best one if `define_metric` gave the metric a goal, else the smallest and the largest.

    Example: rankzero compare amber-otter-12 brisk-heron-3 --plot val/loss
    """
    from rankzero.reader.comparing import compare as compared
    from rankzero.reader.index.run_index import index_run

    directories = list(dict.fromkeys(chosen_run(run).resolve() for run in runs))
    if len(directories) < 2:
        raise typer.BadParameter("name two or more different runs")
    indexes = [index_run(each) for each in directories]
    found = compared([index.summary for index in indexes])
    if json:
        terminal.print_json(_as_json(found))
        return
    console = terminal.console()
    for part in _parts(found):
        terminal.show(part, console)
    for name in plot or ():
        having = zip(_titles(found), indexes, strict=True)
        curves = {title: index.curves[name] for title, index in having if name in index.curves}
        terminal.show_plot(name, curves, found.metrics, console)


def _parts(found: Comparison) -> Iterator[RenderableType]:
    yield _table("run", found, _facts(found))
    for title, values in (
        ("parameter", found.params),
        ("environment", found.environment),
        ("package", found.packages),
    ):
        if values:
            yield ""
            yield _table(title, found, {name: [_shown(each) for each in row] for name, row in values.items()})
        if title == "parameter" and found.same_params:
            yield f"[dim]{terminal.counted(found.same_params, 'parameter')} the same[/]"
    if metrics := dict(_metrics(found)):
        yield ""
        yield _table("metric", found, metrics)
    if system := sum(name.startswith(SYSTEM) for name in found.metrics):
        yield f"[dim]{terminal.counted(system, 'system metric')}: --json, or --plot NAME[/]"


def _facts(found: Comparison) -> dict[str, list[str]]:
    labels = {
        "project": [run.info.project for run in found.runs],
        "group": [run.info.group or "" for run in found.runs],
        "tags": [", ".join(run.tags) for run in found.runs],
    }
    return {
        **{name: list(map(terminal.escape, each)) for name, each in labels.items() if any(each)},
        "status": [f"[{STATUS_STYLES.get(run.status, 'red')}]{terminal.escape(run.status)}[/]" for run in found.runs],
        "started": [terminal.when(run.started) for run in found.runs],
        "took": [terminal.duration(run.took) for run in found.runs],
        "step": [terminal.number(run.step) for run in found.runs],
    }


def _metrics(found: Comparison) -> Iterator[tuple[str, list[str]]]:
    for name, row in found.metrics.items():
        if name.startswith(SYSTEM):
            continue
        yield name, _numbers(row, "last")
        if found.goal(name):
            yield f"{name} (best)", _marked(found.best(name), is_least=found.goal(name) == "minimize")
        elif any(each and each.count > 1 for each in row):
            yield f"{name} (min)", _numbers(row, "min")
            yield f"{name} (max)", _numbers(row, "max")


def _numbers(row: Sequence[MetricSummary | None], which: str) -> list[str]:
    return [terminal.number(None if each is None else getattr(each, which)) for each in row]


def _marked(values: Sequence[float | None], *, is_least: bool) -> list[str]:
    known = [each for each in values if each is not None]
    best = (min if is_least else max)(known, default=None)
    return [f"[green]{terminal.number(each)}[/]" if each == best else terminal.number(each) for each in values]


def _table(title: str, found: Comparison, rows: Mapping[str, Sequence[str]]) -> RenderableType:
    """Return a table with a column for each run; the cells are in rich's markup."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title, overflow="fold")
    for name in _titles(found):
        table.add_column(terminal.escape(name), overflow="fold")
    for name, row in list(rows.items())[:_MOST_ROWS]:
        table.add_row(terminal.escape(name), *row)
    if len(rows) > _MOST_ROWS:
        table.add_row(f"[dim]… {len(rows) - _MOST_ROWS} more: --json[/]")
    return table


def _titles(found: Comparison) -> list[str]:
    """Return the names of the runs, or their ids if several have the same name."""
    names = [run.info.name for run in found.runs]
    if len(set(names)) == len(names):
        return names
    ids = [run.info.id for run in found.runs]
    return ids if len(set(ids)) == len(ids) else [str(run.dir) for run in found.runs]


def _shown(value: Any) -> str:
    return "[dim]–[/]" if value is None else terminal.escape(terminal.cut(str(value), _MOST_TEXT))


def _as_json(found: Comparison) -> dict[str, Any]:
    import msgspec

    def numbers(each: MetricSummary | None) -> dict[str, Any] | None:
        return None if each is None else msgspec.structs.asdict(each)

    return {
        "runs": [run_as_json(run) for run in found.runs],
        "params": found.params,
        "environment": found.environment,
        "packages": found.packages,
        "metrics": {
            name: {"goal": found.goal(name), "best": found.best(name), "runs": [numbers(each) for each in row]}
            for name, row in found.metrics.items()
        },
    }
