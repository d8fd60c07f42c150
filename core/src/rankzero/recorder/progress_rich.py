"""A loop as one line, drawn by rich."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rankzero.recorder.progress_loops import ShownLoop
from rankzero.recorder.terminal_line import Render

_SHORTEST_BAR, _LONGEST_BAR = 10, 40  # columns
_TOO_NARROW = 40  # columns, for a bar


def rich_line() -> Render:
    """Return what renders a loop as ``epoch 3 ━━━━━━━ 12/48 0:00:10<0:00:30 1.20it/s loss=0.1234``."""
    from rich.console import Console
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    console = Console(stderr=True)

    def render(description: str, loop: ShownLoop, metrics: Sequence[str], columns: int) -> str:
        begin = Text(f"{description} ")
        end = Text.assemble(_count(loop), " ", (_times(loop), "cyan"), " ", (_rate(loop), "magenta"))
        end.append("".join(f" {each}" for each in metrics))
        parts: list[Text | ProgressBar] = [begin, end]
        left = columns
        if loop.total and columns >= _TOO_NARROW:
            free = columns - begin.cell_len - end.cell_len - 1
            width = max(_SHORTEST_BAR, min(_LONGEST_BAR, free))
            parts = [begin, ProgressBar(loop.total, min(loop.done, loop.total), width=width), Text(" "), end]
            left -= width + 1
        begin.truncate(left // 2, overflow="ellipsis")
        end.truncate(left - begin.cell_len, overflow="ellipsis")
        with console.capture() as line:
            console.print(*parts, sep="", end="", no_wrap=True, overflow="ignore", crop=False)
        return line.get()

    return render


def _count(loop: ShownLoop) -> str:
    return str(loop.done) if loop.total is None else f"{loop.done}/{loop.total}"


def _times(loop: ShownLoop) -> str:
    if loop.total is None:
        return _clock(loop.elapsed)
    remaining = (loop.total - loop.done) * loop.elapsed / loop.done if 0 < loop.done <= loop.total else None
    return f"{_clock(loop.elapsed)}<{'?' if remaining is None else _clock(remaining)}"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))


def _rate(loop: ShownLoop) -> str:
    if not loop.done or not loop.elapsed:
        return "?it/s"
    rate = loop.done / loop.elapsed
    return f"{rate:.2f}it/s" if rate >= 1 else f"{1 / rate:.2f}s/it"
