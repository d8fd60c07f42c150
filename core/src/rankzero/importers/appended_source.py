"""Import a source again: compare its events with the journal, and find those that are new.

The journal must be the beginning of the events, line by line. Start and finish lines are not compared: each import
adds them. The last texts and console lines of an import may have been incomplete; see
`rankzero.importers.partial_lines`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec

from rankzero.events.structs import Event, Finish, Metrics, Params, decode
from rankzero.importers.event_lines import encoded
from rankzero.importers.partial_lines import MAX_PARTIAL, DifferentRunError, PartialLines
from rankzero.journal.opening import open_journal
from rankzero.rundir.finding import complete_size

_FINISH = b'{"type":"finish"'
_START = b'{"type":"start"'
_MAY_BE_PARTIAL = (b'{"type":"text"', b'{"type":"console"')
_MAX_FINISH_BYTES = 4096


class LoggedLine(NamedTuple):
    """A line of the journal with a logged event."""

    data: bytes
    """Including the newline."""
    may_be_partial: bool
    """Whether the source may have more of it: a text or console line with no other kind of event after it."""


def last_finish(journal: Path) -> Finish | None:
    """Return the last event of a journal if it is a `Finish`; None if an import was killed before it."""
    with open_journal(journal) as file:
        file.seek(max(0, complete_size(journal.parent) - _MAX_FINISH_BYTES))
        last = file.read().splitlines(keepends=True)
    event = decode(last[-1]) if last and last[-1].startswith(_FINISH) and last[-1].endswith(b"\n") else None
    return event if isinstance(event, Finish) else None


def logged_lines(file: BinaryIO, size: int) -> Generator[LoggedLine, None, None]:
    """Yield the complete lines of a journal except start and finish lines."""
    texts: deque[bytes] = deque()
    for line in file:
        size -= len(line)
        if size < 0:
            break
        if line.startswith(_MAY_BE_PARTIAL):
            texts.append(line)
            if len(texts) > MAX_PARTIAL:
                yield LoggedLine(texts.popleft(), False)
            continue
        is_end = line.startswith((_START, _FINISH))
        if texts:
            yield from [LoggedLine(text, is_end) for text in texts]
            texts.clear()
        if not is_end:
            yield LoggedLine(line, False)
    yield from [LoggedLine(text, True) for text in texts]


def new_events(old: Iterator[LoggedLine], events: Iterable[Event]) -> Iterator[Event]:
    """Yield the events that come after those of the journal, ``old``.

    Raises:
        DifferentRunError: ``old`` is not the beginning of ``events``; some events may have been yielded.
    """
    partial = PartialLines()
    for event in events:
        rest = partial.remainder(event)
        while rest is not None and (line := next(old, None)) is not None:
            if line.data == encoded(rest):
                rest = None
            elif line.may_be_partial:
                partial.add(_decoded(line.data))
                rest = partial.remainder(rest)
            else:
                rest = _remainder(_decoded(line.data), rest)
        if rest is not None:
            yield rest
    if partial or next(old, None) is not None:
        raise DifferentRunError


def _decoded(line: bytes) -> Event:
    try:
        return decode(line)
    except (msgspec.MsgspecError, ValueError):
        raise DifferentRunError from None


def _remainder(former: Event, event: Event) -> Event:
    """Return ``event`` without the values of ``former``, which was imported before the source had all of them."""
    written = _decoded(encoded(event))
    match former, written:
        case (Metrics(values=old, step=step), Metrics(values=new)) if written.step == step:
            pass
        case (Params(values=old), Params(values=new)):
            pass
        case _:
            raise DifferentRunError
    if former.time != written.time:
        raise DifferentRunError
    return msgspec.structs.replace(written, values=_without(new, old))


def _without(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of ``new`` that are not in ``old``; ``new`` must contain all of ``old``."""
    if old.keys() - new.keys():
        raise DifferentRunError
    rest = {}
    for key, value in new.items():
        if key not in old:
            rest[key] = value
        elif isinstance(value, dict) and isinstance(old[key], dict):
            if inner := _without(value, old[key]):
                rest[key] = inner
        elif msgspec.json.encode(value) != msgspec.json.encode(old[key]):  # in Python True equals 1
            raise DifferentRunError
    return rest
