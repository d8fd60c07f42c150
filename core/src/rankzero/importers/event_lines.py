"""Encode events as journal lines, always the same bytes for the same event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple

import msgspec

from rankzero.events.structs import Console, Event, Metrics, Params, Tags, Text, encode, encode_lines
from rankzero.values import flatten, to_jsonable

_BATCH = 200  # encoding many events at once takes half the time
_metrics_decoder = msgspec.json.Decoder(Metrics)


class MetricsLines(NamedTuple):
    """The journal lines of consecutive `Metrics`: they take less time than the events."""

    lines: bytes
    values: int
    """The number of values."""
    first: float
    """The time of the first line, Unix time in seconds."""
    time: float
    """The latest time."""

    def events(self) -> list[Metrics]:
        """Return the lines as events."""
        return _metrics_decoder.decode_lines(self.lines)


class ValuesJson(NamedTuple):
    """Metrics of the same names, as JSON."""

    start: bytes
    """Up to the first number, the same for all lines."""
    ends: list[bytes]
    """The rest of each line."""

    @classmethod
    def of(cls, columns: Mapping[str, list[float]]) -> ValuesJson:
        """Encode columns: name → the number in each line."""
        first, *others = (msgspec.json.encode(name) + b":" for name in columns)
        after = [*(b"," + name for name in others), b"}}\n"]
        ends = [_with_suffix(numbers, suffix) for numbers, suffix in zip(columns.values(), after, strict=True)]
        return cls(b',"values":{' + first, list(map(b"".join, zip(*ends, strict=True))) if others else ends[0])


def metrics_lines(
    times: list[float], steps: list[int], starts: list[bytes], ends: list[bytes], values: int
) -> MetricsLines:
    """Return lines, with the same bytes as `encoded` for `Metrics`.

    Args:
        times: the time of each line.
        steps: the step of each line.
        starts: `ValuesJson.start` for each line.
        ends: one of `ValuesJson.ends` for each line.
        values: the number of values.
    """
    parts = [b'{"type":"metrics","time":'] * (5 * len(times))
    parts[1::5] = _with_suffix(times, b',"step":')
    parts[2::5] = _with_suffix(steps, b"")
    parts[3::5] = starts
    parts[4::5] = ends
    return MetricsLines(b"".join(parts), values, times[0], max(times))


def _with_suffix(numbers: Sequence[float], suffix: bytes) -> list[bytes]:
    """Return each number as JSON, followed by ``suffix``."""
    listed = msgspec.json.encode(numbers)[1:-1]
    if b"null" in listed:  # NaN or infinity
        return [msgspec.json.encode(to_jsonable(number)) + suffix for number in numbers]
    return (listed.replace(b",", suffix + b"\0") + suffix).split(b"\0")  # one call for all


class Written(NamedTuple):
    """The numbers of values and files that were written."""

    values: int
    """Numbers, parameters and texts."""
    files: int


def append_events(file: BinaryIO, events: Iterable[Event | MetricsLines]) -> Written:
    """Write the journal lines of ``events``; return how many values and files they have."""
    values = files = 0
    for batch in _batches(events):
        if isinstance(batch, MetricsLines):
            file.write(batch.lines)
            values += batch.values
            continue
        file.write(_lines(batch))
        metrics = [event.values for event in batch if event.__class__ is Metrics]
        values += sum(map(len, metrics))
        for event in batch if len(metrics) < len(batch) else ():
            if event.has_files:
                files += len(getattr(event, "files", "1"))
            elif event.__class__ is not Metrics:
                values += _count(event)
    return Written(values, files)


def _batches(events: Iterable[Event | MetricsLines]) -> Iterator[list[Event] | MetricsLines]:
    """Yield events in lists, and lines as they are."""
    batch: list[Event] = []
    for each in events:
        if not isinstance(each, MetricsLines):
            batch.append(each)
            if len(batch) < _BATCH:
                continue
        yield batch
        batch = []
        if isinstance(each, MetricsLines):
            yield each
    yield batch


def one_by_one(events: Iterable[Event | MetricsLines]) -> Iterator[Event]:
    """Yield the events, those of lines one by one."""
    for each in events:
        if isinstance(each, MetricsLines):
            yield from each.events()
        else:
            yield each


def first_time(event: Event | MetricsLines) -> float:
    """Return the time of an event, or of the first line."""
    return event.first if isinstance(event, MetricsLines) else event.time


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
