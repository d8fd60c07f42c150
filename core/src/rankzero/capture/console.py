"""Record console output: what this process writes to ``sys.stdout`` and ``sys.stderr``, line by line.

`Capture` puts a ``write`` of its own in front of that of the objects ``sys.stdout`` and ``sys.stderr``, not new objects
in their place: so it also sees a logging handler that has held the stream for long. What a subprocess or a C library
writes to the file descriptors it does not see.
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

_LONGEST = 1 << 20  # characters of a line that does not end, after which it is taken for one
_PATIENCE = 0.05  # seconds


class Capture:
    """Hands over each line that is printed as soon as it is complete; a carriage return overwrites a line.

    Nothing here raises into a ``print()``, and what ``record`` itself prints is not recorded.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._is_closed = False
        self._begin()
        for name in ("stdout", "stderr"):
            _listen(self, name)

    def after_fork(self) -> None:
        """Go on in a forked child; the lines that its parent had begun, the parent ends."""
        global _changing
        _changing = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a signal handler may print in the middle of everything
        self._recording_thread = 0
        self._waiting: deque[tuple[str, str]] = deque()
        self._lines = {"stdout": _Lines(), "stderr": _Lines()}

    def hear(self, name: str, text: str) -> None:
        """Take what was written to the stream ``name``."""
        thread = get_ident()
        if thread == self._recording_thread or is_uncaptured(thread):
            return
        self._waiting.append((name, text))
        # Not waiting for long: who records may want a lock that the one who prints holds, as logging handlers do.
        # What is left waiting then, that one records.
        while self._waiting and self._lock.acquire(timeout=_PATIENCE):
            try:
                self._recording_thread = thread
                self._record_waiting()
            finally:
                self._recording_thread = 0
                self._lock.release()

    def hear_error(self, error: BaseException) -> None:
        """Take an error whose traceback Python prints too late, or nobody does."""
        import traceback

        with suppress(Exception):
            self.hear("stderr", "".join(traceback.format_exception(error)))

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
        """Hand over what was printed without an end, and listen no more."""
        _leave(self)
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


class _Lines:
    """Puts lines together from what is written."""

    def __init__(self) -> None:
        self._pieces: list[str] = []  # of the line that has not ended
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
        """Return the line that has not ended."""
        rest = "".join(self._pieces)
        self._pieces, self._size = [], 0
        return _shown(rest)

    def _keep(self, text: str) -> None:
        self._pieces.append(text)
        self._size += len(text)
        if "\r" in text:  # a progress bar: only its last state is kept
            line = "".join(self._pieces)
            self._pieces = [line[_last_state(line) :]]
            self._size = len(self._pieces[0])


def _last_state(line: str) -> int:
    return line.rstrip("\r").rfind("\r") + 1


def _shown(line: str) -> str:
    return line[_last_state(line) :].rstrip("\r")


class _Stream:
    """A stream whose ``write`` is heard.

    Raises:
        AttributeError, TypeError: it has no ``write`` of its own that could be.
    """

    def __init__(self, stream: Any, name: str) -> None:
        self.stream = stream
        self.listeners: tuple[Capture, ...] = ()
        # Not by setattr(): a wrapper may pass that on to the stream that it wraps, and then call what is set there.
        self._attributes = vars(stream)
        self._before = self._attributes.get("write")
        self._write = self._attributes["write"] = self._heard(stream.write, name)
        if stream.write is not self._write:
            self.restore()
            raise AttributeError("write")

    def _heard(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        def write(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            try:
                for listener in self.listeners:
                    listener.hear(name, args[0])
            except Exception:
                pass
            return result

        return write

    def restore(self) -> None:
        """Give it back its ``write``, unless somebody has put theirs in front."""
        if self._attributes.get("write") is not self._write:
            return
        if self._before is None:
            del self._attributes["write"]
        else:
            self._attributes["write"] = self._before


_streams: list[_Stream] = []
_changing = threading.Lock()


def capture_current_streams() -> None:
    """Let each `Capture` also hear what ``sys.stdout`` and ``sys.stderr`` are now, after a program replaced them."""
    for listener in {listener for heard in list(_streams) for listener in heard.listeners}:
        for name in ("stdout", "stderr"):
            _listen(listener, name)


def _listen(listener: Capture, name: str) -> None:
    """Let ``listener`` hear ``sys.NAME``, if that can be."""
    stream = getattr(sys, name)
    with _changing:
        heard = next((each for each in _streams if each.stream is stream), None)
        if heard is None:
            try:
                heard = _Stream(stream, name)
            except (AttributeError, TypeError):
                return
            _streams.append(heard)
        if listener not in heard.listeners:  # stderr may be the same object as stdout
            heard.listeners = (*heard.listeners, listener)


def _leave(listener: Capture) -> None:
    with _changing:
        for heard in list(_streams):
            heard.listeners = tuple(each for each in heard.listeners if each is not listener)
            if not heard.listeners:
                _streams.remove(heard)
                heard.restore()
