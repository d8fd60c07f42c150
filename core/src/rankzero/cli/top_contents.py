"""What ``rankzero top`` shows of runs, in rich's markup."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping

from rankzero.cli import terminal
from rankzero.cli.ls import STATUS_STYLES, describe, in_one_line
from rankzero.cli.show import METRIC_COLUMNS, metric_cells, split_metrics, system_lines
from rankzero.cli.top_screen import Asked, Contents
from rankzero.events.run_info import NODE, SYSTEM
from rankzero.messages import reason
from rankzero.reader.index.summary import MetricSummary, goal_of
from rankzero.reader.watching import LATELY, WatchedRun, WatchedRuns

_MOST_ROWS = 300
_MAX_NAME = 20
_MAX_TEXT = 200
_METRICS = 2  # in the row of a run
_BLOCKS = 8  # in their trends
_NARROW = 100  # characters of a screen; on a narrower one a row has one metric and the names of trackers
_SHORT_NAME = 14
_MOST_TRACKERS = 48  # characters of their states
_PADDING = 2  # characters beside the facts
_METRIC_BLOCKS = 24  # in the table of metrics


def contents(watched: WatchedRuns, asked: Asked) -> Contents:
    """Return what the screen shows."""
    runs = [run for run in watched.runs.values() if run.summary or run.problem]
    live = [run for run in runs if run.is_live]
    ended = [run for run in runs if not run.is_live and time.time() < run.written + LATELY]
    is_narrow = asked.width < _NARROW
    title = f"{len(live)} running · {len(ended)} ended in the last 24 h · {watched.directory}"
    chosen = [*live, *(run for run in ended if run.was_live or asked.has_ended)]
    matching = [run for run in chosen if _matches(asked.runs, _name(run), _project(run), _status(run))]
    shown = {str(run.dir): run for run in sorted(matching, key=_started, reverse=True)[:_MOST_ROWS]}
    if len(matching) > len(shown):
        title = f"the newest {len(shown)} of {len(matching)} runs · {title}"
    for what, words in (("metrics", asked.metrics), ("runs", asked.runs)):
        title = f"{what} with: {words} · {title}" if words else title
    selected = shown.get(asked.run or "") or next(iter(shown.values()), None)
    return Contents(
        terminal.printable(title),
        _used({key: _run_cells(run, is_narrow=is_narrow) for key, run in shown.items()}),
        "\n".join(_facts(selected, asked.width - _PADDING)) if selected else _nothing(asked),
        dict(_metric_rows(selected, asked.metrics)) if selected else {},
    )


def _nothing(asked: Asked) -> str:
    if asked.runs:
        return "[dim]no run has these words in its name, project or status[/]"
    return "[dim]no run is running" + ("" if asked.has_ended else "; a shows those that ended lately") + "[/]"


def _used(rows: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Leave out the columns that are empty in all rows, such as those of GPUs."""
    used = {heading for cells in rows.values() for heading, cell in cells.items() if cell}
    return {key: {heading: cell for heading, cell in cells.items() if heading in used} for key, cells in rows.items()}


def _matches(words: str, *texts: str) -> bool:
    return all(any(word in text.lower() for text in texts) for word in words.lower().split())


def _name(run: WatchedRun) -> str:
    return run.summary.info.name if run.summary else run.dir.name


def _project(run: WatchedRun) -> str:
    return run.summary.info.project if run.summary else run.dir.parent.name


def _status(run: WatchedRun) -> str:
    return run.summary.status if run.summary else "unreadable"


def _started(run: WatchedRun) -> float:
    return run.summary.started if run.summary else run.written


def _run_cells(run: WatchedRun, *, is_narrow: bool) -> dict[str, str]:
    summary = run.summary
    took = time.time() - summary.started - summary.paused if summary and run.is_live else summary.took if summary else 0
    gpu, gpu_memory, cpu, memory = _machine(summary.metrics if summary else {})
    cells = {
        "run": _short(_name(run), _SHORT_NAME if is_narrow else _MAX_NAME),
        "step": terminal.number(summary.step if summary else None),
        "steps/s": _pace(run),
        "time": terminal.duration(took),
        "trackers": _trackers(run, is_narrow=is_narrow) or ("[green]✓[/]" if run.deliveries else "[dim]–[/]"),
        "metrics": " ".join(_trends(run, is_narrow=is_narrow)),
        "gpu": gpu,
        "gpu mem": gpu_memory,
        "cpu": cpu,
        "memory": memory,
        "project": _short(_project(run), _MAX_NAME),
    }
    return cells | {"time": cells.pop("time")} if is_narrow else cells


def _short(text: str, length: int = _MAX_TEXT) -> str:
    return terminal.escape(terminal.cut(terminal.printable(text), length))


def _pace(run: WatchedRun) -> str:
    if run.summary is None:
        return "[red]unreadable[/]"
    if not run.is_live:
        return f"[{STATUS_STYLES.get(run.summary.status, 'red')}]{_short(run.summary.status, _MAX_NAME)}[/]"
    speed, idle = run.speed()
    return f"[yellow]idle {terminal.duration(idle // 60 * 60)}[/]" if idle else terminal.number(speed)


def _trackers(run: WatchedRun, *, is_narrow: bool) -> str:
    """Return the states of the trackers that do not have everything; on a narrow screen only their names."""
    late = {key: each for key, each in run.deliveries.items() if describe(each)[1] in ("yellow", "red")}
    if is_narrow:
        return ", ".join(f"[yellow]{_short(key, _SHORT_NAME)}[/]" for key in late)
    return in_one_line(late, _MOST_TRACKERS)


def _trends(run: WatchedRun, *, is_narrow: bool) -> Iterator[str]:
    """Yield last values and trends: first of metrics with a goal, then of losses."""
    summary = run.summary
    metrics = split_metrics(summary.metrics)[0] if summary else {}
    definitions = [summary.definitions] if summary else []
    order = sorted(metrics, key=lambda name: (goal_of(name, definitions) is None, "loss" not in name.lower()))
    for name in order[: 1 if is_narrow else _METRICS]:
        trend = terminal.sparkline(run.curves[name].value, _BLOCKS) if name in run.curves else ""
        label = _short(name, _SHORT_NAME if is_narrow else _MAX_NAME)
        yield f"{label} {terminal.number(metrics[name].last)} [cyan]{trend:<{_BLOCKS}}[/]"


def _machine(metrics: Mapping[str, MetricSummary]) -> tuple[str, str, str, str]:
    """Return how much of all GPUs and their memory is used on average, and CPU and memory of the training process."""
    gpu, gpu_memory = (
        [each.last for name, each in metrics.items() if re.fullmatch(rf"{SYSTEM}({NODE}/)?gpu\d+/{what}", name)]
        for what in ("utilization_percent", "memory_percent")
    )
    cpu, memory = metrics.get(f"{SYSTEM}process/cpu_percent"), metrics.get(f"{SYSTEM}process/memory_gb")
    return (
        f"{sum(gpu) / len(gpu):.0f} %" if gpu else "",
        f"{sum(gpu_memory) / len(gpu_memory):.0f} %" if gpu_memory else "",
        f"{cpu.last:.0f} %" if cpu else "",
        terminal.size(memory.last * 1e9) if memory else "",
    )


def _facts(run: WatchedRun, width: int) -> Iterator[str]:
    """Yield lines about a run: where it is, its trackers, its machine, and what is wrong."""
    name, project, path = _short(_name(run)), _short(_project(run)), _short(str(run.dir))
    is_short = len(f"{name} · {project} · {path}") <= width
    yield f"[bold]{name}[/] · {project}" + (" · " if is_short else "\n") + f"[dim]{path}[/]"
    for key, each in run.deliveries.items():
        why = f": [red]{_short(reason(each.position.problem))}[/]" if each.position.problem else ""
        yield in_one_line({key: each}, _MAX_TEXT) + why
    if run.summary:
        if run.summary.error:
            yield f"[red]{_short(run.summary.error)}[/]"
        yield from system_lines(split_metrics(run.summary.metrics)[1], width)
        if run.summary.damaged:
            yield f"[red]{terminal.skipped(run.summary.damaged)}[/]"
    if run.problem:
        yield f"[red]{_short(terminal.error_text(run.problem))}[/]"


def _metric_rows(run: WatchedRun, words: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name and the cells of the metrics that have the words."""
    curves = run.load_curves()
    metrics = split_metrics(run.summary.metrics)[0] if run.summary else {}
    for name in [name for name in metrics if name in curves and _matches(words, name)][:_MOST_ROWS]:
        label = terminal.cut(terminal.printable(name), 2 * _MAX_NAME)
        cells = metric_cells(label, metrics[name], curves[name], _METRIC_BLOCKS)
        yield name, dict(zip(METRIC_COLUMNS, cells, strict=True))
