"""Capture console output: what this process writes to ``sys.stdout`` and ``sys.stderr``, line by line.

`Capture` wraps the ``write`` method of the objects ``sys.stdout`` and ``sys.stderr`` and does not replace the objects,
so that it also captures logging handlers that hold a stream. It does not capture what a subprocess or a C library
writes to the file descriptors.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from typing import Any

from rankzero.messages import is_uncaptured

Record = Callable[[str, str], object]
"""Called with lines (a newline between them, none at the end) and ``stdout`` or ``stderr``."""

_LONGEST = 1 << 20  # characters; a longer line is split
_LOCK_TIMEOUT = 0.05  # seconds


class Capture:
    """Calls ``record`` with each printed line as soon as it is complete; a carriage return overwrites a line.

    It never raises into a ``print()``, and does not capture what ``record`` itself prints.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._is_closed = False
        self._begin()
        for name in ("stdout", "stderr"):
            _listen(self, name)

    def after_fork(self) -> None:
        """Continue in a forked child, without the incomplete lines, which belong to the parent."""
        global _changing
        _changing = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a signal handler may print while the lock is held
        self._recording_thread = 0
        self._waiting: deque[tuple[str, str]] = deque()
        self._lines = {"stdout": Lines(), "stderr": Lines()}

    def receive(self, name: str, text: str) -> None:
        """Capture text that was written to the stream ``name``."""
        thread = get_ident()
        if thread == self._recording_thread or is_uncaptured(thread):
            return
        self._waiting.append((name, text))
        # With a short timeout: the recording thread may need a lock that this thread holds, such as that of a logging
        # handler. If it expires, the recording thread records these lines, too.
        while self._waiting and self._lock.acquire(timeout=_LOCK_TIMEOUT):
            try:
                self._recording_thread = thread
                self._record_waiting()
            finally:
                self._recording_thread = 0
                self._lock.release()

    def receive_error(self, error: BaseException) -> None:
        """Capture an error whose traceback Python prints after the capture has ended, or never."""
        import traceback

        with suppress(Exception):
            self.receive("stderr", "".join(traceback.format_exception(error)))

    def _record_waiting(self) -> None:
        while self._waiting:
            name, text = self._waiting.popleft()
            lines = self._lines[name].add(text)
            if lines is not None and not self._is_closed:
                self._try_to_record(lines, name)

    def _try_to_record(self, lines: str, name: str) -> None:
        with suppress(Exception):
            self._record(lines, name)

    def close(self) -> None:
        """Record the incomplete lines, and end the capture."""
        _stop_listening(self)
        is_mine = self._lock.acquire(timeout=1.0)
        try:
            self._record_waiting()
            for name, lines in self._lines.items():
                rest = lines.rest()
                if rest.strip() and not self._is_closed:
                    self._try_to_record(rest, name)
            self._is_closed = True
        finally:
            if is_mine:
                self._lock.release()


class Lines:
    """Joins written pieces to lines; of what carriage returns overwrote, as in a progress bar, only the last state."""

    def __init__(self) -> None:
        self._pieces: list[str] = []  # of the incomplete line
        self._size = 0

    def add(self, text: str) -> str | None:
        """Return the lines that ``text`` completes, with a newline between them; None if it completes none."""
        end = text.rfind("\n")
        if end < 0:
            self._keep(text)
            return self.rest() if self._size > _LONGEST else None
        lines = "".join([*self._pieces, text[:end]])
        self._pieces, self._size = [], 0
        if end + 1 < len(text):
            self._keep(text[end + 1 :])
        return "\n".join(map(_shown, lines.split("\n"))) if "\r" in lines else lines

    def rest(self) -> str:
        """Return the incomplete line."""
        rest = "".join(self._pieces)
        self._pieces, self._size = [], 0
        return _shown(rest)

    def _keep(self, text: str) -> None:
        self._pieces.append(text)
        self._size += len(text)
        if "\r" in text:  # a progress bar: keep only its last state
            line = "".join(self._pieces)
            self._pieces = [line[_last_state(line) :]]
            self._size = len(self._pieces[0])


def _last_state(line: str) -> int:
    return line.rstrip("\r").rfind("\r") + 1


def _shown(line: str) -> str:
    return line[_last_state(line) :].rstrip("\r")


class _Stream:
    """A stream whose ``write`` is captured.

    Raises:
        AttributeError, TypeError: the ``write`` of the stream cannot be replaced.
    """

    def __init__(self, stream: Any, name: str) -> None:
        self.stream = stream
        self.listeners: tuple[Capture, ...] = ()
        # Not with setattr(): a wrapper may forward it to the wrapped stream, and then call the new method twice.
        self._attributes = vars(stream)
        self._before = self._attributes.get("write")
        self._write = self._attributes["write"] = self._captured(stream.write, name)
        if stream.write is not self._write:
            self.restore()
            raise AttributeError("write")

    def _captured(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        def write(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            try:
                for listener in self.listeners:
                    listener.receive(name, args[0])
            except Exception:
                pass
            return result

        return write

    def restore(self) -> None:
        """Restore the original ``write``, unless other code has replaced it since."""
        if self._attributes.get("write") is not self._write:
            return
        if self._before is None:
            del self._attributes["write"]
        else:
            self._attributes["write"] = self._before


_streams: list[_Stream] = []
_changing = threading.Lock()


def capture_current_streams() -> None:
    """Make each `Capture` also capture the current ``sys.stdout`` and ``sys.stderr``, after they were replaced."""
    for listener in {listener for captured in list(_streams) for listener in captured.listeners}:
        for name in ("stdout", "stderr"):
            _listen(listener, name)


def _listen(listener: Capture, name: str) -> None:
    """Make ``listener`` capture ``sys.NAME``, if possible."""
    stream = getattr(sys, name)
    with _changing:
        captured = next((each for each in _streams if each.stream is stream), None)
        if captured is None:
            try:
                captured = _Stream(stream, name)
            except (AttributeError, TypeError):
                return
            _streams.append(captured)
        if listener not in captured.listeners:  # stderr may be the same object as stdout
            captured.listeners = (*captured.listeners, listener)


def _stop_listening(listener: Capture) -> None:
    with _changing:
        for captured in list(_streams):
            captured.listeners = tuple(each for each in captured.listeners if each is not listener)
            if not captured.listeners:
                _streams.remove(captured)
                captured.restore()
