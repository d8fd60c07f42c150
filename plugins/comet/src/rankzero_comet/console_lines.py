"""What a run printed and Comet does not have yet: gathered, for a request for each line would take minutes."""

from __future__ import annotations

from typing import NamedTuple

_TOGETHER = 1.0  # seconds: what was printed within it has one time in Comet
_MOST = 1 << 18  # characters in a request


class Portion(NamedTuple):
    """Lines that are sent together."""

    text: str
    stream: str
    time: float
    """Unix time in seconds, of the first line."""


class ConsoleLines:
    """Gathers lines, in order."""

    def __init__(self) -> None:
        self._portions: list[Portion] = []

    def add(self, text: str, stream: str, time: float) -> None:
        """Add lines, with a newline between them and none at the end."""
        if self._portions:
            last = self._portions[-1]
            is_near = last.stream == stream and 0 <= time - last.time < _TOGETHER
            if is_near and len(last.text) + len(text) < _MOST:
                self._portions[-1] = last._replace(text=f"{last.text}\n{text}")
                return
        self._portions.append(Portion(text, stream, time))

    def portions(self) -> list[Portion]:
        """Return what is to be sent."""
        return list(self._portions)

    def forget(self, portion: Portion) -> None:
        """Forget the first portion, which was sent."""
        assert self._portions[0] is portion
        del self._portions[0]

    def clear(self) -> None:
        """Forget everything."""
        self._portions.clear()
