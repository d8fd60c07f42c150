"""Encode events as journal lines, always the same bytes for the same event."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import BinaryIO, NamedTuple

from rankzero.events.structs import Console, Event, Metrics, Params, Tags, Text, encode, encode_lines
from rankzero.values import flatten

_BATCH = 200  # encoding many events at once takes half the time


class Written(NamedTuple):
    """The numbers of values and files that were written."""

    values: int
    """Numbers, parameters and texts."""
    files: int


def append_events(file: BinaryIO, events: Iterable[Event]) -> Written:
    """Write the journal lines of ``events``; return how many values and files they have."""
    values = files = 0
    remaining = iter(events)
    while batch := list(islice(remaining, _BATCH)):
        file.write(_lines(batch))
        metrics = [event.values for event in batch if event.__class__ is Metrics]
        values += sum(map(len, metrics))
        for event in batch if len(metrics) < len(batch) else ():
            if event.has_files:
                files += len(getattr(event, "files", "1"))
            elif event.__class__ is not Metrics:
                values += _count(event)
    return Written(values, files)


def encoded(event: Event) -> bytes:
    """Return the journal line of an event."""
    try:
        line = encode_lines([event])
    except (TypeError, ValueError):
        return encode(event)
    return encode(event) if b"null" in line else line  # perhaps a NaN


def _lines(events: list[Event]) -> bytes:
    try:
        lines = encode_lines(events)
    except (TypeError, ValueError):
        lines = b"null"
    return b"".join(map(encoded, events)) if b"null" in lines else lines


def _count(event: Event) -> int:
    match event:
        case Params(values=values):
            return sum(1 for _ in flatten(values))
        case Text(data=rows):
            return len(rows)
        case Tags(tags=tags):
            return len(tags)
        case Console(text=text):
            return text.count("\n") + 1
    return 1
