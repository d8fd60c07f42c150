"""What a process printed, which Neptune kept as a series of pieces → lines."""

from __future__ import annotations

from dataclasses import dataclass, field

from rankzero.events.structs import Console


@dataclass
class _Line:
    """A line that has not ended."""

    time: float = 0.0
    """Of its last piece."""
    pieces: list[str] = field(default_factory=list)


class Printed:
    """Puts the pieces of each stream together; of what a carriage return let the next piece overwrite, keeps the last.

    That is what progress bars print, often without ever ending a line: a piece costs the same however many came before.
    """

    def __init__(self) -> None:
        self._open: dict[str, _Line] = {}

    def take(self, name: str, piece: str, time: float) -> Console | None:
        """Take a piece of the stream ``name``; return the lines that it ended."""
        line = self._open.setdefault(name, _Line())
        line.time = time
        if "\n" not in piece and "\r" not in piece:
            line.pieces.append(piece)
            return None
        lines, newline, rest = "".join((*line.pieces, piece)).rpartition("\n")
        line.pieces = [_without_overwritten(rest)]
        return Console(time, _last_states(lines), _stream(name)) if newline else None

    def unended(self) -> list[Console]:
        """Return the lines that have not ended."""
        texts = [(line.time, _last_states("".join(line.pieces)), name) for name, line in self._open.items()]
        return [Console(time, text, _stream(name)) for time, text, name in texts if text]


def _stream(name: str) -> str:
    return name.rpartition("/")[2]


def _last_states(text: str) -> str:
    return "\n".join(line.removesuffix("\r").rpartition("\r")[2] for line in text.split("\n"))


def _without_overwritten(line: str) -> str:
    """Return the last state of a line that goes on; a carriage return at its end may belong to a newline."""
    body = line.removesuffix("\r")
    return body.rpartition("\r")[2] + line[len(body) :]
