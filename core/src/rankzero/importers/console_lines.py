"""Join the pieces in which another tool stored console output to lines."""

from __future__ import annotations

from collections import defaultdict

from rankzero.capture.console import Lines
from rankzero.events.structs import Console


class ConsoleLines:
    """Joins the pieces of each stream to lines, with the times of their last pieces."""

    def __init__(self) -> None:
        self._lines: defaultdict[str, Lines] = defaultdict(Lines)
        self._times: dict[str, float] = {}

    def add(self, name: str, piece: str, time: float) -> Console | None:
        """Add a piece of a stream, whose name ends in ``stdout`` or ``stderr``; return the lines that it completes."""
        self._times[name] = time
        lines = self._lines[name].add(piece)
        return None if lines is None else _event(time, lines, name)

    def partial(self) -> list[Console]:
        """Return the lines that are not complete, and forget them."""
        rests = ((name, lines.rest()) for name, lines in self._lines.items())
        return [_event(self._times[name], rest, name) for name, rest in rests if rest]


def _event(time: float, text: str, name: str) -> Console:
    return Console(time, text, name.rpartition("/")[2])
