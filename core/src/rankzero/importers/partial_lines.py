"""Texts and console lines that were imported while the source had only a part of them.

An importer collects short texts in a table, and pieces of console output in a line. At the end of the source it yields
what it has collected. When the source is imported again, the complete event is longer and may come later: only its
remainder is new.
"""

from __future__ import annotations

import msgspec

from rankzero.events.structs import Console, Event, Text

MAX_PARTIAL = 10_000
"""The maximum number of partial texts."""


class DifferentRunError(Exception):
    """The journal is not the beginning of the source's events."""


class PartialLines:
    """Partial events of a journal whose complete events the source must still yield."""

    def __init__(self) -> None:
        self._texts: dict[tuple[object, ...], Text] = {}
        self._console: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._texts or self._console)

    def add(self, event: Event) -> None:
        """Add a partial event of the journal.

        Raises:
            DifferentRunError: the event cannot be partial.
        """
        if isinstance(event, Console) and "\n" not in event.text:
            self._console.setdefault(event.stream, []).append(event.text)
        elif isinstance(event, Text):
            identity = _identity(event)
            former = self._texts.get(identity)
            rows = [*former.data, *event.data] if former else event.data
            self._texts[identity] = msgspec.structs.replace(event, data=rows)
        else:
            raise DifferentRunError
        if len(self._texts) > MAX_PARTIAL:
            raise DifferentRunError

    def remainder(self, event: Event) -> Event | None:
        """Return an event of the source without the part that is in the journal; None if nothing is left.

        Raises:
            DifferentRunError: the event does not begin with its part in the journal.
        """
        if isinstance(event, Console) and self._console:
            return _remaining_lines(event, self._console.pop(event.stream, []))
        if isinstance(event, Text) and self._texts:
            former = self._texts.pop(_identity(event), None)
            return event if former is None else _remaining_rows(event, former)
        return event


def _identity(text: Text) -> tuple[object, ...]:
    return text.time, text.key, text.step, tuple(text.columns)


def _remaining_rows(event: Text, former: Text) -> Text | None:
    count = len(former.data)
    if msgspec.json.encode(event.data[:count]) != msgspec.json.encode(former.data):
        raise DifferentRunError
    return msgspec.structs.replace(event, data=event.data[count:]) if len(event.data) > count else None


def _remaining_lines(event: Console, pieces: list[str]) -> Console | None:
    """Return the new text; a line that does not begin with a piece was overwritten, as by a progress bar."""
    text = event.text
    for piece in pieces:
        if text == piece:
            return None
        if text.startswith(piece):
            text = text[len(piece) :].removeprefix("\n")
    return msgspec.structs.replace(event, text=text)
