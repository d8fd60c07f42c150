"""The last line of a terminal, which makes way for what is printed.

While it is there, the ``write`` of ``sys.stdout`` and ``sys.stderr`` (of the objects, since logging handlers hold them)
wipes it away first and draws it again behind. It is itself written with the ``write`` of the stream's class, past
everything that was put in front: past this, and past `rankzero.capture.console.Capture`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from rankzero.recorder.progress_loops import ShownLoop

Render = Callable[[str, ShownLoop, Sequence[str], int], str]
"""(description, loop, metrics, columns) → one line, not longer than that."""

_WIPE = "\r\x1b[2K"
_COLUMNS = 80


class TerminalLine:
    """A screen of one line on standard error: the innermost loop's."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._stream: Any = sys.stderr
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a signal handler may print in the middle of drawing
        self._line = ""
        self._is_drawn = False
        self._printing = 0
        self._is_line_free = True
        self._hooks: list[_Hook] = []

    def show(self, loops: Sequence[ShownLoop], metrics: Sequence[str]) -> None:
        if os.getpid() != self._pid:
            return
        self._hook_streams()
        line = self._render(_title(loops), loops[-1], metrics, self._columns()) if loops else ""
        with self._lock:
            self._line = line
            self._draw()

    def close(self) -> None:
        for hook in self._hooks:
            hook.restore()
        if self._is_drawn and os.getpid() == self._pid:
            with self._lock:
                self._is_drawn = False
                self._write("\n")

    def _draw(self) -> None:
        if self._printing or not self._is_line_free:
            return
        if self._line or self._is_drawn:
            self._write((_WIPE if self._is_drawn else "") + self._line)
        self._is_drawn = bool(self._line)

    def _write(self, text: str) -> None:
        type(self._stream).write(self._stream, text)
        self._stream.flush()

    def _columns(self) -> int:
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError):
            columns = 0
        return (columns or _COLUMNS) - 1  # some terminals wrap a line that is full

    def _hook_streams(self) -> None:
        hooked = [hook.stream for hook in self._hooks]
        for stream in (sys.stdout, sys.stderr):
            if not any(stream is each for each in hooked) and is_terminal(stream):
                hooked.append(stream)
                self._hooks.append(_Hook(stream, self))

    def before_print(self) -> None:
        """Make way. Nobody is kept from printing while another thread does: what is printed may be waited for."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._printing += 1
            if self._is_drawn:
                self._is_drawn = False
                with suppress(Exception):
                    self._write(_WIPE)

    def after_print(self, stream: Any, text: Any) -> None:
        """Come back, unless ``text`` has left its line unfinished."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._printing -= 1
            if isinstance(text, str):
                self._is_line_free = text.endswith(("\n", "\r"))
            with suppress(Exception):
                if self._is_line_free and not self._printing:
                    stream.flush()
                    self._draw()


def _title(loops: Sequence[ShownLoop]) -> str:
    return ", ".join(loop.description for loop in loops if not loop.has_ended) or loops[-1].description


def is_terminal(stream: Any) -> bool:
    """Return whether ``stream`` writes to a terminal."""
    try:
        return bool(stream.isatty())
    except Exception:  # None, closed, or something else's idea of a stream
        return False


class _Hook:
    """A stream whose ``write`` tells a line when something is printed; one that does not allow it is left alone."""

    def __init__(self, stream: Any, line: TerminalLine) -> None:
        self.stream = stream
        self._line: TerminalLine | None = line
        self._before: Any = None
        self._write: Any = None
        with suppress(AttributeError, TypeError):
            attributes = vars(stream)
            self._before = attributes.get("write")
            self._write = attributes["write"] = self._telling(stream.write)

    def _telling(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **kwargs: Any) -> Any:
            line = self._line
            if line is None or not args or not args[0]:
                return original(*args, **kwargs)
            line.before_print()
            try:
                return original(*args, **kwargs)
            finally:
                line.after_print(self.stream, args[0])

        return write

    def restore(self) -> None:
        """Tell no more, and give the stream back its ``write``, unless somebody has put theirs in front."""
        self._line = None
        if self._write is None or vars(self.stream).get("write") is not self._write:
            return
        if self._before is None:
            del self.stream.write
        else:
            self.stream.write = self._before
