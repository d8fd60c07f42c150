"""How the commands show things: consoles, numbers, times, sparklines and plots."""

from __future__ import annotations

import math
import os
import re
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from rankzero.series import Series

_BLOCKS = "▁▂▃▄▅▆▇█"
_NEEDS_QUOTES = re.compile(r"^$|^[~#=]|[\s!\"$&'()*;<>?\[\\\]`{|}]")
_PIPE_WIDTH = 200
_WIDEST_PLOT = 100


def console(*, stderr: bool = False) -> Console:
    """Return the console to print to: as wide as the terminal, or wide enough where there is none."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def escape(text: str) -> str:
    """Return what people wrote so that rich does not read it as markup."""
    from rich.markup import escape

    return escape(text)


def argument(text: str) -> str:
    """Return what people wrote as an argument for a command that is pasted into a shell, in quotes only if need be."""
    return shlex.quote(text) if _NEEDS_QUOTES.search(text) else text


def print_json(value: Any) -> None:
    """Print JSON, and nothing else, on standard output; NaN and infinities as text."""
    import msgspec
    import typer

    from rankzero.values import to_jsonable

    typer.echo(msgspec.json.format(msgspec.json.encode(to_jsonable(value)), indent=2))


def number(value: float | None) -> str:
    """Return a number as it is read, not as it is computed with."""
    if value is None:
        return "–"
    is_whole = isinstance(value, int) or (value.is_integer() and abs(value) < 1e6)
    return f"{int(value):,}" if is_whole else f"{value:.4g}"


def counted(count: int, noun: str) -> str:
    """Return how many: ``1 event``, ``1,200 events``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size(count: float) -> str:
    """Return a number of bytes: ``12 kB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def duration(seconds: float) -> str:
    """Return how long: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    whole = round(max(0.0, seconds))
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    if whole < 60:
        return f"{whole} s"
    for large, small, limit in ((60, 1, 3600), (3600, 60, 86400), (86400, 3600, math.inf)):
        if whole < limit:
            names = {1: "s", 60: "min", 3600: "h", 86400: "d"}
            rest = whole % large // small
            return f"{whole // large} {names[large]}" + (f" {rest} {names[small]}" if rest else "")
    raise AssertionError


def when(timestamp: float) -> str:
    """Return a time of the local clock, the day only if it is not today."""
    moment = time.localtime(timestamp)
    is_today = moment[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M", moment)


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """Return the course of numbers as a line of blocks; a gap where none is finite."""
    means = _means(values, width)
    finite = [value for value in means if value is not None]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(" " if value is None else _BLOCKS[round((value - low) * scale)] for value in means)


def _means(values: Sequence[float], width: int) -> list[float | None]:
    count = len(values)
    columns = min(width, count)
    means: list[float | None] = []
    for column in range(columns):
        first, last = column * count // columns, (column + 1) * count // columns
        every = max(1, (last - first) // 1000)  # a thousand points tell the mean well enough
        finite = [float(value) for value in values[first:last:every] if math.isfinite(value)]
        means.append(sum(finite) / len(finite) if finite else None)
    return means


def plot(series: Mapping[str, Series], width: int, height: int = 12) -> str | None:
    """Return curves side by side as a drawing, or None where plotext is not installed."""
    try:
        import plotext

        figure = plotext.figure
        figure.clear()
        figure.plot_size(min(width, _WIDEST_PLOT), height)
        if len(series) > 1:
            figure.subplots(1, len(series))
        for column, (name, each) in enumerate(series.items(), 1):
            x, y = _points(each)
            panel = figure.subplot(1, column) if len(series) > 1 else figure
            panel.theme("colorless")
            panel.title(name)
            panel.ruler("x").ticks(*_ticks(x))
            panel.draw(panel.signal(x, y, marker="braille").lines())
        drawing: str = figure.build().string(colorless=True)
        figure.clear()
        return drawing.rstrip("\n")
    except Exception:  # a drawing is never worth an error
        return None


def _points(series: Series, most: int = 400) -> tuple[list[float], list[float]]:
    every = max(1, len(series) // most)
    pairs: Iterable[tuple[float, float]] = zip(series.step[::every], series.value[::every], strict=True)
    finite = [(float(x), float(y)) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]
    return [x for x, _ in finite], [y for _, y in finite]


def _ticks(x: list[float]) -> tuple[list[float], list[str]]:
    low, high = min(x), max(x)
    positions = sorted({round(low + (high - low) * part / 4) for part in range(5)})
    return [float(position) for position in positions], [str(position) for position in positions]
