"""Join the pieces in which another tool stored console output to lines."""

from __future__ import annotations

from dataclasses import dataclass, field

from rankzero.events.structs import Console


@dataclass
class _PartialLine:
    time: float = 0.0
    """The time of the last piece."""
    pieces: list[str] = field(default_factory=list)


class ConsoleLines:
    """Joins the pieces of each stream to lines, and drops text that a carriage return overwrote.

    Progress bars print such text, often without ever ending the line. Each piece takes the same time.
    """

    def __init__(self) -> None:
        self._partial: dict[str, _PartialLine] = {}

    def add(self, name: str, piece: str, time: float) -> Console | None:
        """Add a piece of a stream, whose name ends in ``stdout`` or ``stderr``; return the lines that it completes."""
        line = self._partial.setdefault(name, _PartialLine())
        line.time = time
        if "\n" not in piece and "\r" not in piece:
            line.pieces.append(piece)
            return None
        lines, newline, rest = "".join((*line.pieces, piece)).rpartition("\n")
        body = rest.removesuffix("\r")  # a carriage return at the end may belong to a newline
        line.pieces = [body.rpartition("\r")[2] + rest[len(body) :]]
        return _event(time, lines, name) if newline else None

    def partial(self) -> list[Console]:
        """Return the lines that are not complete."""
        events = (_event(line.time, "".join(line.pieces), name) for name, line in self._partial.items())
        return [event for event in events if event.text]


def _event(time: float, text: str, name: str) -> Console:
    lines = (line.removesuffix("\r").rpartition("\r")[2] for line in text.split("\n"))
    return Console(time, "\n".join(lines), name.rpartition("/")[2])
