"""Format the output of commands: tables, numbers, times, sparklines, plots, and safe text."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from rankzero.reader.series import Series

_BLOCKS = "▁▂▃▄▅▆▇█"
_NEEDS_QUOTES = re.compile(r"^$|^[~#=]|[\s!\"$&'()*;<>?\[\\\]`{|}]")
_PIPE_WIDTH = 200
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters, characters that change the direction of text, and lone surrogates."""
_MAX_PLOT_WIDTH = 100
_PLOT_COLORS = (37, 33, 208, 35, 161, 99)
"""Cyan, blue, orange, green, red and violet, which can be read on black and on white."""


def console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, or wide enough for all columns without a terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def show(part: RenderableType, console: Console) -> None:
    """Print text or a table without trailing spaces."""
    import typer

    typer.echo("\n".join(_lines(part, console)))


def _lines(part: RenderableType, console: Console) -> list[str]:
    from rich.text import Text

    with console.capture() as captured:
        console.print(part, soft_wrap=isinstance(part, str | Text))
    return [line.rstrip() for line in captured.get().removesuffix("\n").split("\n")]


def table_lines(
    columns: Mapping[str, Sequence[str]],
    console: Console,
    *,
    droppable: Sequence[str] = (),
    folded: str = "",
    right: str = "",
) -> list[str]:
    """Format a table as lines, headings first.

    Args:
        columns: heading → cells, in rich's markup.
        console: sets the width.
        droppable: headings of columns to leave out, in this order, until the others fit.
        folded: heading of the column whose cells may wrap.
        right: heading of the column that is aligned on the right.
    """
    shown = {name: _Column(name, cells, console, is_right=name == right) for name, cells in columns.items()}
    for heading in droppable:
        if _width(shown) <= console.width:
            break
        shown.pop(heading, None)
    if _width(shown) > console.width:
        return _lines(_table({heading: columns[heading] for heading in shown}, folded, right), console)
    # rich takes a millisecond for each row
    rows = zip(*(each.cells for each in shown.values()), strict=True)
    widths = [each.width for each in shown.values()]
    return ["  ".join(line).rstrip() for row in rows for line in zip(*_equally_high(row, widths), strict=True)]


class _Column:
    """A column of a table, with its heading, as text with escape sequences for colours."""

    def __init__(self, heading: str, cells: Sequence[str], console: Console, *, is_right: bool) -> None:
        self._console = console
        self._around: dict[str, tuple[str, str]] = {}
        cells = [f"[bold]{heading}[/]", *cells]
        styled = {cell: [self._styled(line) for line in cell.split("\n")] for cell in dict.fromkeys(cells)}
        self.width = max(width for lines in styled.values() for _, width in lines)
        padded = {cell: [self._padded(*line, is_right=is_right) for line in lines] for cell, lines in styled.items()}
        self.cells = [padded[cell] for cell in cells]
        """The lines of each cell, as wide as the column."""

    def _padded(self, text: str, width: int, *, is_right: bool) -> str:
        padding = " " * (self.width - width)
        return padding + text if is_right else text + padding

    def _styled(self, cell: str) -> tuple[str, int]:
        """Return a line and its width."""
        found = _ONE_STYLE.fullmatch(cell)
        if not found:
            parts = _IN_ONE_STYLE.findall(cell)
            if "".join(parts) != cell:  # nested or escaped
                return self._rendered(cell)
            texts, widths = zip(*map(self._styled, parts), strict=True)
            return "".join(texts), sum(widths)
        style, text = found[1] or "", found[2]
        if style not in self._around:
            before, _, after = self._rendered(f"[{style}]x[/]")[0].partition("x") if style else ("", "", "")
            self._around[style] = before, after
        before, after = self._around[style]
        return before + text + after, _cell_len(text)

    def _rendered(self, cell: str) -> tuple[str, int]:
        text = self._console.render_str(cell, emoji=False)
        return _lines(text, self._console)[0], text.cell_len


_ONE_STYLE = re.compile(r"(?:\[(\w+)\](?=.*\[/\]$))?([^\[\\]*)(?:\[/\])?")
_IN_ONE_STYLE = re.compile(r"\[\w+\][^\[\\]*\[/\]|[^\[\\]+")


def _cell_len(text: str) -> int:
    if text.isascii():  # without control characters
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _width(columns: Mapping[str, _Column]) -> int:
    return sum(each.width for each in columns.values()) + 2 * (len(columns) - 1)


def _equally_high(cells: Sequence[list[str]], widths: Sequence[int]) -> Sequence[list[str]]:
    """Return the lines of the cells of a row, with empty lines for those that have fewer."""
    lines = max(map(len, cells))
    if lines == 1:
        return cells
    return [each + [" " * width] * (lines - len(each)) for each, width in zip(cells, widths, strict=True)]


def _table(columns: Mapping[str, Sequence[str]], folded: str, right: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for each in columns:
        table.add_column(each, justify="right" if each == right else "left", no_wrap=each != folded, overflow="fold")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def error_text(error: Exception) -> str:
    """Return the message of an error; with its type, if it is none that rankzero or the system explains."""
    from rankzero.errors import RankzeroError

    return f"{error}" if isinstance(error, RankzeroError | OSError) else f"{type(error).__name__}: {error}"


def cut(text: str, length: int) -> str:
    """Shorten a text to ``length`` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def printable(text: str) -> str:
    """Escape control characters, so that a text is one line and cannot change the terminal's state."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def escape(text: str) -> str:
    """Escape a text of users for rich and for the terminal; it may have several lines."""
    if text.isprintable() and "[" not in text and "\\" not in text:
        return text
    from rich.markup import escape

    return escape("\n".join(map(printable, text.split("\n"))))


def say(text: str, *, err: bool = False) -> None:
    """Print a line that may contain text of users; control characters are escaped."""
    import typer

    typer.echo(printable(text), err=err)


def argument(text: str) -> str:
    """Quote a text as an argument for a shell command, if necessary."""
    return shlex.quote(text) if _NEEDS_QUOTES.search(text) else text


def print_json(value: Any) -> None:
    """Print a value as JSON; NaN and infinities are strings."""
    import msgspec
    import typer

    from rankzero.values import to_jsonable

    text = msgspec.json.format(msgspec.json.encode(to_jsonable(value)).decode(), indent=2)
    # JSON escapes only characters below U+0020.
    typer.echo(_BEYOND_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


_BEYOND_JSON = re.compile(_CONTROL.pattern.replace("\x00-\x1f", ""))


def number(value: float | None) -> str:
    """Format a number for people: four significant digits, or an integer with thousands separators."""
    if value is None:
        return "–"
    is_whole = isinstance(value, int) or (value.is_integer() and abs(value) < 1e6)
    return f"{int(value):,}" if is_whole else f"{value:.4g}"


def counted(count: int, noun: str) -> str:
    """Format a count: ``1 event``, ``1,200 events``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def skipped(damaged: int) -> str:
    """Say how many damaged lines were skipped."""
    return f"skipped {counted(damaged, 'damaged line')} of the journal"


def size(count: float) -> str:
    """Format a number of bytes: ``12 kB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def duration(seconds: float) -> str:
    """Format a duration: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
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
    """Format a local time; with the date if it is not today."""
    try:
        local = time.localtime(timestamp)
    except (OverflowError, ValueError, OSError):
        return "?"
    is_today = local[:3] == time.localtime()[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M", local)


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """Draw the trend of numbers as a line of blocks, with gaps where no number is finite."""
    means = _means(values, width)
    finite = [value for value in means if value is not None]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    span = high / 2 - low / 2  # halved, because the difference may overflow
    share = [None if value is None else (value / 2 - low / 2) / span if span else 0.0 for value in means]
    return "".join(" " if each is None else _BLOCKS[round(each * (len(_BLOCKS) - 1))] for each in share)


def _means(values: Sequence[float], width: int) -> list[float | None]:
    count = len(values)
    columns = min(width, count)
    means: list[float | None] = []
    for column in range(columns):
        first, last = column * count // columns, (column + 1) * count // columns
        every = max(1, (last - first) // 30)  # thirty points are enough for a mean
        finite = [float(value) for value in values[first:last:every] if math.isfinite(value)]
        mean = sum(value / len(finite) for value in finite)
        means.append(min(max(mean, min(finite)), max(finite)) if finite else None)  # not rounded beyond them
    return means


def show_plot(name: str, curves: Mapping[str, Series], known: Iterable[str], console: Console) -> None:
    """Draw a metric of one run or several over each other.

    Args:
        name: the metric.
        curves: the name of each run that has the metric, and its curve.
        known: the metrics that there are.
        console: where to draw.

    Raises:
        ConfigError: there is no such metric.
        PluginNotInstalledError: plotext is not installed.
        RankzeroError: the curves cannot be drawn.
    """
    from rankzero.errors import ConfigError, PluginNotInstalledError, RankzeroError
    from rankzero.messages import did_you_mean

    if importlib.util.find_spec("plotext") is None:
        raise PluginNotInstalledError("--plot needs plotext: pip install plotext")
    if not curves:
        raise ConfigError(f"there is no metric {name!r}.{did_you_mean(name, known)}")
    drawing = plot({name: curves}, console.width, is_colored=bool(console.color_system) and not console.no_color)
    if drawing is None:
        raise RankzeroError(f"{name!r} cannot be drawn: it has no finite values, or plotext is older than version 6")
    from rich.text import Text

    console.print()
    console.print(Text.from_ansi(drawing))


def plot(
    panels: Mapping[str, Mapping[str, Series]], width: int, height: int = 12, *, is_colored: bool = False
) -> str | None:
    """Draw panels side by side, with curves over steps, or over seconds if there are none.

    Args:
        panels: the title of each panel, and its curves by name; several are drawn over each other.
        width: of the terminal.
        height: in lines.
        is_colored: whether several curves have colors, with escape sequences; otherwise they are drawn with digits.

    Returns:
        The drawing; None if plotext fails or is missing.
    """
    try:
        import plotext

        names: list[str] = []
        figure = plotext.figure
        figure.clear()
        figure.plot_size(min(width, _MAX_PLOT_WIDTH), height)
        if len(panels) > 1:
            figure.subplots(1, len(panels))
        for column, (title, curves) in enumerate(panels.items(), 1):
            panel = figure.subplot(1, column) if len(panels) > 1 else figure
            panel.theme("colorless")
            panel.title(title)
            points = {name: found for name, each in curves.items() if (found := _points(each))[0]}
            panel.ruler("x").ticks(*_ticks([x for xs, _ in points.values() for x in xs]))
            for number, (name, (x, y)) in enumerate(points.items(), 1):
                color = _PLOT_COLORS[number % len(_PLOT_COLORS)]
                digit = str(number % 10)
                has_dots = is_colored or len(curves) == 1
                marker = plotext.marker("braille", color if len(curves) > 1 else None) if has_dots else digit
                panel.draw(panel.signal(x, y, marker=marker).lines())
                sample = f"\x1b[38;5;{color}m━━\x1b[0m" if is_colored else digit
                names += [f"{sample} {printable(name)}"] if len(curves) > 1 else []
        drawing: str = figure.build().string(colorless=not is_colored)
        figure.clear()
        return "\n".join([drawing.rstrip("\n"), *([" · ".join(names)] if names else [])])
    except Exception:  # a failed plot must not fail the command
        return None


def _points(series: Series) -> tuple[list[float], list[float]]:
    x = series.step.tolist()
    if not any(map(math.isfinite, x)):
        x = [time - series.time[0] for time in series.time.tolist()]
    pairs: Iterable[tuple[float, float]] = zip(x, series.value.tolist(), strict=True)
    finite = [(float(x), float(y)) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]
    return [x for x, _ in finite], [y for _, y in finite]


def _ticks(x: list[float]) -> tuple[list[float], list[str]]:
    low, high = min(x), max(x)
    positions = sorted({round(low + (high - low) * part / 4) for part in range(5)})
    return [float(position) for position in positions], [str(position) for position in positions]
