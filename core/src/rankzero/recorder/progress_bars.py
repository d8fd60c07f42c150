"""Draw progress bars with rich or tqdm, which keep printed lines above them.

While bars are visible, rich and tqdm replace ``sys.stdout`` and ``sys.stderr``. The bars are drawn on a separate file,
so that they are not captured with the console output.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rankzero.capture.console import capture_current_streams


class Streams:
    """Replaces the streams that a program prints to while bars are visible.

    Args:
        replace: replaces ``sys.stdout`` and ``sys.stderr``.
    """

    def __init__(self, replace: Callable[[], None]) -> None:
        self._before = {"stdout": sys.stdout, "stderr": sys.stderr}
        replace()
        self._during = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._handlers = list(self._moved_handlers())
        capture_current_streams()

    def _moved_handlers(self) -> Iterator[tuple[Any, Any]]:
        for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
            for handler in getattr(logger, "handlers", ()):
                held = getattr(handler, "stream", None)
                for name, stream in self._before.items():
                    if held is stream is not self._during[name]:
                        handler.stream = self._during[name]
                        yield handler, stream

    def give_back(self) -> None:
        """Restore the original streams."""
        for name, stream in self._before.items():
            if getattr(sys, name) is self._during[name]:
                setattr(sys, name, stream)
        for handler, stream in self._handlers:
            if handler.stream in self._during.values():
                handler.stream = stream


def _terminal_file() -> Any:
    stream = sys.stderr
    return open(stream.fileno(), "w", buffering=1, encoding=stream.encoding, errors="replace", closefd=False)


def _is_terminal(name: str) -> bool:
    stream = getattr(sys, name)  # the program may have replaced it
    return stream is not None and stream is getattr(sys, f"__{name}__") and bool(stream.isatty())


class RichBars:
    """Bars such as ``epoch 3 ━━━━━━━━━━ 12/48 0:00:10 0:00:30 1.20it/s loss=0.1234``."""

    def __init__(self) -> None:
        from rich import progress as rich
        from rich.console import Console
        from rich.table import Column

        # Printed text must appear unchanged, neither as markup nor wrapped.
        console = Console(file=_terminal_file(), markup=False, emoji=False, highlight=False, soft_wrap=True)
        self._progress = rich.Progress(
            rich.TextColumn("{task.description}"),
            rich.BarColumn(bar_width=None, table_column=Column(ratio=1)),
            rich.MofNCompleteColumn(),
            rich.TimeElapsedColumn(),
            rich.TimeRemainingColumn(),
            rich.TextColumn("{task.fields[speed]}"),
            rich.TextColumn(
                "{task.fields[metrics]}",
                markup=False,
                table_column=Column(ratio=2, no_wrap=True, overflow="ellipsis"),
            ),
            expand=True,
            console=console,
            auto_refresh=False,
            redirect_stdout=_is_terminal("stdout"),
            redirect_stderr=_is_terminal("stderr"),
        )
        self.streams = Streams(self._progress.start)
        console.show_cursor(True)  # a program that is killed could not restore it

    def add(self, description: str, total: int | None) -> Any:
        """Return a new bar, below the others."""
        self._progress.add_task(description, total=total, speed="", metrics="")
        return self._progress.tasks[-1]

    def draw(self, bar: Any, done: int, metrics: str) -> None:
        """Draw a bar."""
        self._progress.update(bar.id, completed=done, metrics=metrics)
        speed = bar.finished_speed or bar.speed
        self._progress.update(bar.id, speed=f"{speed:.2f}it/s" if speed else "", refresh=True)

    def stop(self, bar: Any) -> None:
        """Stop the clock of a bar, which stays visible."""
        self._progress.stop_task(bar.id)

    def remove(self, bar: Any) -> None:
        """Remove a bar."""
        self._progress.remove_task(bar.id)

    def close(self) -> None:
        """Leave the bars as they are, and restore the streams."""
        try:
            sys.stdout.flush()  # an incomplete line
            sys.stderr.flush()
            self._progress.live.transient = not self._progress.tasks
            self._progress.stop()
        finally:
            self.streams.give_back()


class TqdmBars:
    """Bars such as ``epoch 3:  25%|██▌       | 12/48 [00:10<00:30,  1.20it/s, loss=0.1234]``, or widgets."""

    def __init__(self, *, is_notebook: bool) -> None:
        from tqdm import auto, contrib, std

        # Without the thread that redraws idle bars.
        base: Any = auto.tqdm if is_notebook else std.tqdm
        self._tqdm: Any = type("Bar", (base,), {"monitor_interval": 0})
        self._file = None if is_notebook else _terminal_file()
        self._ended: dict[Any, float | None] = {}  # bar → when its clock stopped

        self._printed: list[Any] = []

        def replace() -> None:
            for name in ("stdout", "stderr"):
                if self._file is not None and _is_terminal(name):
                    self._printed.append(contrib.DummyTqdmFile(self._file))
                    setattr(sys, name, self._printed[-1])

        self.streams = Streams(replace)

    def add(self, description: str, total: int | None) -> Any:
        bar = self._tqdm(desc=description, total=total, leave=False, file=self._file, dynamic_ncols=True)
        self._ended[bar] = None
        return bar

    def draw(self, bar: Any, done: int, metrics: str) -> None:
        ended = self._ended[bar]
        if ended is not None:
            self._ended[bar] = now = time.time()
            bar.start_t += now - ended
            bar.last_print_t = bar.start_t
        bar.n = done
        bar.set_postfix_str(metrics)

    def stop(self, bar: Any) -> None:
        self._ended[bar] = time.time()

    def remove(self, bar: Any) -> None:
        del self._ended[bar]
        bar.close()

    def close(self) -> None:
        try:
            for bar in list(self._ended):
                bar.leave = True
                self.remove(bar)
            for printed in self._printed:
                if any(printed._buf):
                    printed.write("\n")  # ends an incomplete line
        finally:
            self.streams.give_back()


Bars = RichBars | TqdmBars


def make_bars(kind: str) -> Bars:
    """Return an empty set of bars: ``rich``, ``tqdm``, or ``notebook`` for tqdm's in a notebook."""
    return RichBars() if kind == "rich" else TqdmBars(is_notebook=kind == "notebook")
