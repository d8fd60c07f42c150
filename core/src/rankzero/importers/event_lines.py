"""Encode events as journal lines, always the same bytes for the same event."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, BinaryIO, NamedTuple

import msgspec

from rankzero.events.structs import Console, Event, Metrics, Params, Tags, Text, encode, encode_lines
from rankzero.values import flatten, to_json_number

_BATCH = 200  # encoding many events at once takes half the time
_metrics_decoder = msgspec.json.Decoder(Metrics)


class MetricsLines(NamedTuple):
    """The journal lines of consecutive `Metrics`; writing them takes less time than writing events."""

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


def values_of(columns: Mapping[str, list[float]]) -> Iterator[Any]:
    """Yield the values of each line, for `metrics_lines`.

    Args:
        columns: name → the number in each line.
    """
    return map(_values_type(*columns), *map(_as_json, columns.values()))


@lru_cache(256)
def _values_type(*names: str) -> Callable[..., Any]:
    """Return a function that puts numbers into an object that is encoded faster than a dict."""
    fields = {f"value{place}": name for place, name in enumerate(names)}
    try:
        return msgspec.defstruct("Values", fields, rename=fields, gc=False)
    except ValueError:  # a name has quotes
        return lambda *numbers: dict(zip(names, numbers, strict=True))


def _as_json(numbers: list[float]) -> Sequence[float | str]:
    return numbers if math.isfinite(sum(numbers)) else [to_json_number(number) for number in numbers]


def metrics_lines(times: list[float], steps: list[int], values: list[Any], count: int) -> MetricsLines:
    """Return lines, with the same bytes as `encoded` for `Metrics`.

    Args:
        times: the time of each line.
        steps: the step of each line.
        values: the values of each line, from `values_of`.
        count: the number of values.
    """
    return MetricsLines(encode_lines(list(map(Metrics, times, steps, values))), count, times[0], max(times))


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
