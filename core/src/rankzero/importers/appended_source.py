"""What a journal lacks of the events that it is to hold: it must be their beginning, line by line.

Where a run began and ended is not compared: a run that has grown was resumed. Texts and prints that stand last before
an end may have been half of what the source has by now; see `rankzero.importers.partial_lines`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from rankzero.events.structs import Event, Finish, Metrics, Params, decode
from rankzero.importers.event_lines import encoded
from rankzero.importers.partial_lines import MOST_OPEN, DifferentRunError, OpenLines
from rankzero.rundir.finding import complete_size

_FINISH = b'{"type":"finish"'
_START = b'{"type":"start"'
_MAY_BE_OPEN = (b'{"type":"text"', b'{"type":"console"')
_LONGEST_FINISH = 4096


class LoggedLine(NamedTuple):
    """A line that holds what was logged."""

    data: bytes
    """With its newline."""
    is_open: bool
    """Whether the source may have gone on behind it: it holds text, and after it nothing but text was imported."""


def last_finish(journal: Path) -> Finish | None:
    """Return the event that ends a journal, None if an import was killed while it appended."""
    with open(journal, "rb") as file:
        file.seek(max(0, complete_size(journal.parent) - _LONGEST_FINISH))
        last = file.read().splitlines(keepends=True)
    event = decode(last[-1]) if last and last[-1].startswith(_FINISH) and last[-1].endswith(b"\n") else None
    return event if isinstance(event, Finish) else None


def logged_lines(file: BinaryIO, size: int) -> Generator[LoggedLine, None, None]:
    """Yield the complete lines of a journal that hold what was logged, not where the run began and ended."""
    texts: deque[bytes] = deque()
    for line in file:
        size -= len(line)
        if size < 0:
            break
        if line.startswith(_MAY_BE_OPEN):
            texts.append(line)
            if len(texts) > MOST_OPEN:
                yield LoggedLine(texts.popleft(), False)
            continue
        is_end = line.startswith((_START, _FINISH))
        if texts:
            yield from [LoggedLine(text, is_end) for text in texts]
            texts.clear()
        if not is_end:
            yield LoggedLine(line, False)
    yield from [LoggedLine(text, True) for text in texts]


def beyond(old: Iterator[LoggedLine], events: Iterable[Event]) -> Iterator[Event]:
    """Yield the events that come after those in ``old``.

    Raises:
        DifferentRunError: ``old`` is not the beginning of ``events``; some may have been yielded then.
    """
    opened = OpenLines()
    for event in events:
        rest = opened.beyond(event)
        while rest is not None and (line := next(old, None)) is not None:
            if line.data == encoded(rest):
                rest = None
            elif line.is_open:
                opened.add(_decoded(line.data))
                rest = opened.beyond(rest)
            else:
                rest = _remainder(_decoded(line.data), rest)
        if rest is not None:
            yield rest
    if opened or next(old, None) is not None:
        raise DifferentRunError


def _decoded(line: bytes) -> Event:
    try:
        return decode(line)
    except (msgspec.MsgspecError, ValueError):
        raise DifferentRunError from None


def _remainder(former: Event, event: Event) -> Event:
    """Return what ``event`` has beyond ``former``.

    Values that came one after the other are one event; when the source was read before, it ended among them.
    """
    written = _decoded(encoded(event))
    match former, written:
        case (Metrics(values=had, step=step), Metrics(values=has)) if written.step == step:
            pass
        case (Params(values=had), Params(values=has)):
            pass
        case _:
            raise DifferentRunError
    if former.time != written.time:
        raise DifferentRunError
    return msgspec.structs.replace(written, values=_without(has, had))


def _without(has: Mapping[str, Any], had: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries that are only in ``has``, in which all of ``had`` must be."""
    if had.keys() - has.keys():
        raise DifferentRunError
    rest = {}
    for key, value in has.items():
        if key not in had:
            rest[key] = value
        elif isinstance(value, dict) and isinstance(had[key], dict):
            if inner := _without(value, had[key]):
                rest[key] = inner
        elif msgspec.json.encode(value) != msgspec.json.encode(had[key]):  # True is 1, and is not
            raise DifferentRunError
    return rest
