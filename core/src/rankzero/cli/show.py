"""``rankzero show``: show a run in the terminal or as JSON."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rankzero.cli import terminal
from rankzero.cli.arguments import RUN_HELP, Json, chosen_run, runs_directory
from rankzero.cli.ls import COMPLETE, STATUS_STYLES, describe, run_as_json
from rankzero.events.run_info import NODE, SYSTEM
from rankzero.messages import reason

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod, RenderableType

    from rankzero.reader.index.run_index import RunIndex
    from rankzero.reader.index.summary import MetricSummary, RunSummary
    from rankzero.reader.run_data import RunData
    from rankzero.reader.series import Series
    from rankzero.rundir.finding import Delivered

METRIC_COLUMNS = ("metric", "last", "at step", "min", "max", "points", "trend")
_DROPPABLE = ("trend", "points", "at step", "min", "max")
_LEAST_NAME = 24  # characters, before a column is left out
_GAP = 2  # characters between columns
_LEAST_BLOCKS, _MOST_BLOCKS = 8, 40  # in a trend
_MAX_ROWS = 40
_UNITS: dict[str, Callable[[float], str]] = {
    "percent": lambda value: f"{terminal.number(value)} %",
    "gb": lambda value: terminal.size(value * 1e9),
    "watts": lambda value: f"{terminal.number(value)} W",
    "celsius": lambda value: f"{terminal.number(value)} °C",
}
"""End of a system metric's name → how its value is printed."""
_MAX_TEXT = 401  # characters of a command line or a parameter


def show(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help=f"{RUN_HELP} By default the newest run.")] = None,
    plot: Annotated[list[str] | None, typer.Option(metavar="METRIC", help="Plot this metric; may be repeated.")] = None,
    json: Json = False,
) -> None:
    """Show a run.

    Prints its environment, parameters, metrics and files, and the state of each delivery.

    Example: rankzero show amber-otter-12 --plot train/loss

    The exit status is 1 if a delivery fails, events were rejected, lost or damaged, or a plot cannot be drawn; 2 if
    there is no such run or metric.
    """
    from rankzero.reader.index.run_index import index_run
    from rankzero.rundir.finding import delivered
    from rankzero.rundir.positions import served_keys

    index = index_run(chosen_run(run))
    data = index.data()
    served = served_keys(data.dir)  # before the positions: a courier that ends meanwhile has saved its own
    deliveries = delivered(data.dir, list(data.loggers), index.summary.journal.read, data.lines)
    if json:
        terminal.print_json(_as_json(data, index.summary, deliveries))
    else:
        console = terminal.console()
        for part in _parts(data, index, deliveries, served, console):
            terminal.show(part, console)
        for name in plot or ():
            terminal.show_plot(name, {"": index.curves[name]} if name in index.curves else {}, index.curves, console)
    has_problem = any(each.position.problem or each.position.rejected for each in deliveries.values())
    if has_problem or data.losses or data.damaged:
        raise typer.Exit(1)


def _parts(
    data: RunData, index: RunIndex, deliveries: dict[str, Delivered], served: Sequence[str], console: Console
) -> Iterator[RenderableType]:
    yield from _heading(data)
    yield from _environment(data)
    if data.params:
        yield ""
        yield _params(data)
    metrics, system = split_metrics(index.summary.metrics)
    if metrics:
        yield ""
        yield metrics_table(index, console.width)
    if system:
        yield ""
        yield from system_lines(system, console.width)
    files = files_line(data)
    if files:
        yield ""
        yield files
    if deliveries:
        yield ""
        yield _deliveries(deliveries)
        for key, each in deliveries.items():
            for note in _notes(data, key, each, is_served=key in served):
                yield f"{terminal.escape(key)}: {note}"
        for key, each in deliveries.items():
            if each.position.view:
                yield f"view it in {terminal.escape(key)}: [bold]{terminal.escape(each.position.view)}[/]"
    for loss in data.losses:
        lost = f"{terminal.counted(loss.count, 'log call')} lost at {terminal.when(loss.since)}: {loss.reason}"
        yield f"[red]{terminal.escape(lost)}[/]"
    if data.damaged:
        yield f"[red]{terminal.skipped(data.damaged)}[/]"


def _heading(data: RunData) -> Iterator[str]:
    from rankzero.rundir.finding import name_of

    info, style = data.info, STATUS_STYLES.get(data.status, "red")
    status = f"[{style}]{terminal.escape(data.status)}[/]"
    yield f"[bold]{terminal.escape(info.name)}[/] · {terminal.escape(info.project)} · {status}"
    labels = [
        f"group {info.group}" if info.group is not None else "",
        f"part of {name_of(info.parent, Path(info.runs_dir))}" if info.parent is not None else "",
        ", ".join(data.tags),
    ]
    facts = [terminal.when(data.started), terminal.duration(data.took), *filter(None, labels)]
    yield f"[dim]{terminal.escape(' · '.join(facts))}[/]"
    if data.error:
        yield f"[red]{terminal.escape(terminal.cut(' '.join(data.error.split()), _MAX_TEXT))}[/]"
    if history := " · ".join(_history(data)):
        yield f"[dim]{history}[/]"
    yield f"[dim]{terminal.escape(str(data.dir))}[/]"
    if info.notes:
        yield terminal.escape(info.notes)


def _history(data: RunData) -> Iterator[str]:
    """Yield what the run began with, and what happened to it after its first start."""
    from rankzero.rundir.finding import name_of

    match data.params.get("forked_from"):
        case {"run": str(source), "step": int(step)}:
            name = name_of(source, Path(data.info.runs_dir))
            yield f"forked from {terminal.escape(name)} at step {terminal.number(step)}"
    if resumed := [each.time for each in data.starts if each.resumed]:
        paused = f" after a pause of {terminal.duration(data.paused)}" if len(resumed) == 1 else ""
        yield _last("resumed", f"at {terminal.when(resumed[-1])}{paused}", len(resumed))
    if data.rewinds:
        yield _last("rewound", f"to step {terminal.number(data.rewinds[-1].step)}", len(data.rewinds))


def _last(what: str, last: str, count: int) -> str:
    return f"{what} {last}" if count == 1 else f"{what} {count:,} times, last {last}"


def _environment(data: RunData) -> Iterator[str]:
    """Yield lines about the environment: command line, versions, machine."""
    from rankzero.capture.environment import read_environment

    found = read_environment(data.dir)
    if found is None:
        return
    texts = found.described()
    lines = (
        f"$ {terminal.cut(texts['command'], _MAX_TEXT)}" if "command" in texts else "",
        " · ".join(f"{label} {texts[label]}" for label in ("git", "Python", "torch") if label in texts),
        " · ".join(texts[label] for label in ("machine", "processor", "memory", "GPU") if label in texts),
    )
    for line in filter(None, lines):
        yield f"[dim]{terminal.escape(line)}[/]"


def _params(data: RunData) -> RenderableType:
    from rich.table import Table

    from rankzero.values import flatten

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("parameter", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, value in flatten(data.params):
        table.add_row(terminal.escape(name), terminal.escape(terminal.cut(str(value), _MAX_TEXT)))
    return table


def metrics_table(index: RunIndex, width: int) -> RenderableType:
    """Return a table of the metrics with their last, minimum and maximum values and trends."""
    from rich.table import Table

    metrics, _ = split_metrics(index.summary.metrics)

    def rows(blocks: int) -> list[dict[str, str]]:
        cells = (metric_cells(*each, index.curves[each[0]], blocks) for each in list(metrics.items())[:_MAX_ROWS])
        return [dict(zip(METRIC_COLUMNS, each, strict=True)) for each in cells]

    widths = _widths_that_fit(rows(_LEAST_BLOCKS), width)
    room = width - sum(widths.values()) - _GAP * (len(widths) - 1)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in widths:
        justify: JustifyMethod = "left" if heading in ("metric", "trend") else "right"
        table.add_column(heading, justify=justify, no_wrap=heading != "metric", overflow="fold")
    for row in rows(max(_LEAST_BLOCKS, min(_LEAST_BLOCKS + room, _MOST_BLOCKS, width - 70))):
        table.add_row(*(row[heading] for heading in widths))
    if len(metrics) > _MAX_ROWS:
        table.add_row(f"[dim]… {len(metrics) - _MAX_ROWS} more: --json[/]")
    return table


def _widths_that_fit(rows: Sequence[Mapping[str, str]], width: int) -> dict[str, int]:
    """Return the widths of the columns for which there is room without shortening a number; names may wrap."""
    from rich.text import Text

    widths = {
        heading: max(len(heading), *(Text.from_markup(row[heading]).cell_len for row in rows))
        for heading in METRIC_COLUMNS
    }
    too_wide = max(0, widths["metric"] - _LEAST_NAME)
    for heading in _DROPPABLE:
        if sum(widths.values()) - too_wide + _GAP * (len(widths) - 1) <= width:
            break
        del widths[heading]
    return widths


def metric_cells(name: str, metric: MetricSummary, curve: Series, blocks: int) -> tuple[str, ...]:
    """Return a row with `METRIC_COLUMNS` in rich's markup, with a trend of at most ``blocks`` characters."""
    return (
        terminal.escape(name),
        terminal.number(metric.last),
        terminal.number(metric.last_step),
        terminal.number(metric.min),
        terminal.number(metric.max),
        f"{metric.count:,}",
        f"[cyan]{terminal.sparkline(curve.value, blocks)}[/]",
    )


def split_metrics(metrics: Mapping[str, MetricSummary]) -> tuple[dict[str, MetricSummary], dict[str, MetricSummary]]:
    """Return the metrics of training, and those of the system, which have no step."""
    system = {name: each for name, each in metrics.items() if name.startswith(SYSTEM) and each.last_step is None}
    return {name: each for name, each in metrics.items() if name not in system}, system


def system_lines(metrics: Mapping[str, MetricSummary], width: int) -> Iterator[str]:
    """Yield the last measurement of each machine, process and GPU of the training, in lines of at most this width."""
    groups: dict[str, list[str]] = {}
    for name, metric in metrics.items():
        group, _, what = name.removeprefix(SYSTEM).rpartition("/")
        words, _, unit = what.rpartition("_")
        words = words.replace("_", " ") if unit in _UNITS else what
        value = _UNITS.get(unit, terminal.number)(metric.last)
        groups.setdefault(group or "machine", []).append(f"{words} {value}")
    for group, values in sorted(groups.items(), key=_node_number)[:_MAX_ROWS]:
        first, *others = values
        lines = [f"{group.replace('/', ' ')}: {first}"]
        for value in others:
            longer = f"{lines[-1]} · {value}"
            lines[-1:] = [longer] if len(longer) <= width else [lines[-1], f"  {value}"]
        yield from (f"[dim]{terminal.escape(terminal.cut(line, _MAX_TEXT))}[/]" for line in lines)
    if len(groups) > _MAX_ROWS:
        yield f"[dim]… {len(groups) - _MAX_ROWS} more: --json[/]"


def _node_number(group: tuple[str, list[str]]) -> int:
    node = re.match(NODE, group[0])
    return int(node[1]) if node else 0


def files_line(data: RunData) -> str:
    """Return the numbers of media, tables and files, and the checkpoints with aliases."""
    from rankzero.rundir.layout import MEDIA

    counts = Counter(f"{file.kind}s" for files in data.media.values() for file in files)
    for kind in ("tables", "texts", "histograms"):
        counts[kind] = sum(map(len, getattr(data, kind).values()))
    counts["graphs"], counts["artifacts"] = len(data.graphs), len(data.artifacts)
    counts["checkpoints"] = len({each.path for each in data.checkpoints if os.path.exists(each.path)})
    counts["deleted checkpoints"] = sum(not os.path.exists(each.path) for each in data.checkpoints)
    parts = [f"{count} {kind if count > 1 else kind.removesuffix('s')}" for kind, count in counts.items() if count]
    if not (data.dir / MEDIA).exists() and (data.media or data.tables or data.graphs or data.artifacts):
        parts.append("files of media deleted")
    lines = [" · ".join(parts).replace("1 audios", "1 audio")] if parts else []
    for checkpoint in data.checkpoints:
        if checkpoint.aliases:
            score = f", score {terminal.number(checkpoint.score)}" if checkpoint.score is not None else ""
            step = f" at step {checkpoint.step}" if checkpoint.step is not None else ""
            aliases = ", ".join(checkpoint.aliases)
            path = checkpoint.path.removeprefix(f"{data.dir}/") if os.path.exists(checkpoint.path) else "deleted"
            lines.append(f"{terminal.escape(aliases)}: [dim]{terminal.escape(path)}[/]{step}{score}")
    return "\n".join(lines)


def _deliveries(deliveries: dict[str, Delivered]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("logger", overflow="fold")
    table.add_column("delivered", overflow="fold")
    for key, each in deliveries.items():
        words, style = describe(each)
        words = f"{COMPLETE} all" if words == COMPLETE else words
        table.add_row(terminal.escape(key), f"[{style}]{words}[/]")
    return table


def _notes(data: RunData, key: str, delivered: Delivered, *, is_served: bool) -> Iterator[str]:
    """Yield what is wrong with a delivery, and what to do."""
    from rankzero.rundir.positions import describe_rejected

    position, sync = delivered.position, f"rankzero sync {terminal.escape(terminal.argument(_reference(data)))}"
    if position.disabled:
        return
    if position.problem:
        yield _red(reason(position.problem))
    if position.rejected:
        yield _red(describe_rejected(data.dir, key, position.rejected))
    if delivered.behind and not is_served:
        yield f"[yellow]no courier is running; deliver with: {sync}[/]"
    if position.offline:
        yield f"[yellow]offline, only on this machine; send with: {sync}[/]"


def _reference(data: RunData) -> str:
    """Return the run's argument for other commands: its id, or its path if it is in another directory of runs."""
    is_below = runs_directory(None).resolve() in data.dir.parents
    return data.dir.name if is_below else str(data.dir)


def _red(text: str) -> str:
    return f"[red]{terminal.escape(text)}[/]"


def _as_json(data: RunData, summary: RunSummary, deliveries: dict[str, Delivered]) -> dict[str, Any]:
    import msgspec

    from rankzero.capture.environment import read_environment

    environment = read_environment(data.dir)
    return run_as_json(summary) | {
        "notes": data.info.notes,
        "resumed": [each.time for each in data.starts if each.resumed],
        "rewinds": [{"step": each.step, "time": each.time} for each in data.rewinds],
        "environment": msgspec.to_builtins(environment) if environment else None,
        "params": data.params,
        "metrics": {name: msgspec.structs.asdict(metric) for name, metric in summary.metrics.items()},
        "media": {key: len(files) for key, files in data.media.items()},
        "tables": {key: len(tables) for key, tables in data.tables.items()},
        "histograms": {key: len(histograms) for key, histograms in data.histograms.items()},
        "artifacts": [artifact.path for artifact in data.artifacts],
        "checkpoints": [
            {
                "path": each.path,
                "step": each.step,
                "score": each.score,
                "aliases": each.aliases,
                "exists": os.path.exists(each.path),
            }
            for each in data.checkpoints
        ],
        "deliveries": {key: each.as_json() for key, each in deliveries.items()},
        "lost": sum(loss.count for loss in data.losses),
        "damaged": data.damaged,
    }
