"""Texts and prints that were imported before the source had all of them.

An importer gathers many short texts into one table, and pieces of a printed line into that line. At the end of the
source it yields what it has gathered so far. When the source has grown, the whole comes at another place and is
longer: what is new is then the rest.
"""

from __future__ import annotations

import msgspec

from rankzero.events.structs import Console, Event, Text

MOST_OPEN = 10_000
"""So many series of texts may be half imported."""


class DifferentRunError(Exception):
    """The journal is not the beginning of what was found."""


class OpenLines:
    """Events of a journal for which the source must still have the whole."""

    def __init__(self) -> None:
        self._texts: dict[tuple[object, ...], Text] = {}
        self._prints: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._texts or self._prints)

    def add(self, event: Event) -> None:
        """Add an event of the journal.

        Raises:
            DifferentRunError: a source cannot go on behind it.
        """
        if isinstance(event, Console) and "\n" not in event.text:
            self._prints.setdefault(event.stream, []).append(event.text)
        elif isinstance(event, Text):
            identity = _identity(event)
            former = self._texts.get(identity)
            rows = [*former.data, *event.data] if former else event.data
            self._texts[identity] = msgspec.structs.replace(event, data=rows)
        else:
            raise DifferentRunError
        if len(self._texts) > MOST_OPEN:
            raise DifferentRunError

    def beyond(self, event: Event) -> Event | None:
        """Return what an event of the source has beyond the added ones, all of it if it has to do with none of them.

        Raises:
            DifferentRunError: it stands where one of them stood, and does not begin with it.
        """
        if isinstance(event, Console) and self._prints:
            return _beyond_prints(event, self._prints.pop(event.stream, []))
        if isinstance(event, Text) and self._texts:
            former = self._texts.pop(_identity(event), None)
            return event if former is None else _beyond_rows(event, former)
        return event


def _identity(text: Text) -> tuple[object, ...]:
    return text.time, text.key, text.step, tuple(text.columns)


def _beyond_rows(event: Text, former: Text) -> Text | None:
    count = len(former.data)
    if msgspec.json.encode(event.data[:count]) != msgspec.json.encode(former.data):
        raise DifferentRunError
    return msgspec.structs.replace(event, data=event.data[count:]) if len(event.data) > count else None


def _beyond_prints(event: Console, pieces: list[str]) -> Console | None:
    """Return what is new; a line that does not begin with a piece was overwritten, as progress bars are."""
    text = event.text
    for piece in pieces:
        if text == piece:
            return None
        if text.startswith(piece):
            text = text[len(piece) :].removeprefix("\n")
    return msgspec.structs.replace(event, text=text)
