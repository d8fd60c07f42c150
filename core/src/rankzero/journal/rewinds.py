"""Find the rewinds of a journal, and what they supersede; nearly always there are none, which is found out quickly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import msgspec

from rankzero.events.structs import AnyEvent, Event, MediaEvent, Metrics, Params, Rewind, decode, decode_after_fragment
from rankzero.journal.opening import stat_journal
from rankzero.journal.tail import Line, chunks_of_lines, complete_lines, read_events, split_lines

_REWIND = b'"type":"rewind"'
_STEP = re.compile(rb'"step":(\d+)')  # also of what is nested: a rewind too many supersedes nothing
_NEWEST = 1 << 24  # bytes


def read_rewinds(path: Path, offset: int = 0, end: int | None = None) -> dict[int, Rewind]:
    """Return end of the line → event of each rewind between two byte offsets of a journal, by default all."""
    return find_rewinds(chunks_of_lines(path, end, offset))


def find_rewinds(chunks: Iterable[tuple[int, bytes]]) -> dict[int, Rewind]:
    """Return the same as `read_rewinds` of chunks of lines, given with their byte offsets."""
    return {
        end: event
        for offset, chunk in chunks
        if _REWIND in chunk
        for end, line in split_lines(offset, chunk)
        if _REWIND in line and isinstance(event := _decode(line), Rewind)
    }


def has_later_steps(path: Path, step: int) -> bool:
    """Return whether a step above ``step`` stands in the newest lines of a journal, since the last rewind."""
    size = stat_journal(path).st_size
    newest = b"".join(complete_lines(path, size, max(0, size - _NEWEST)))
    return any(int(found) > step for found in _STEP.findall(newest, max(0, newest.rfind(_REWIND))))


def _decode(line: bytes) -> AnyEvent | None:
    try:
        return decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # whoever reads the events reports it
        return decode_after_fragment(line)


def is_superseded(line_end: int, event: Event, rewinds: Mapping[int, Rewind]) -> bool:
    """Return whether one of the rewinds, which are given as `read_rewinds` does, supersedes the event of a line.

    Only the places of lines in the journal count, because clocks are set back.
    """
    return any(line_end < end and rewind.supersedes(event) for end, rewind in rewinds.items())


def read_rows(path: Path, first: int, end: int) -> Iterator[tuple[Line, AnyEvent]]:
    """Yield the metrics and media of the lines ``first`` to ``end - 1``, except for those that a rewind superseded.

    Initial values that came with hyperparameters are metrics at step 0.
    """
    rewinds = read_rewinds(path)
    for line, event in read_events(path):
        if not first <= line.number < end or is_superseded(line.end, event, rewinds):
            continue
        if isinstance(event, Metrics | MediaEvent):
            yield line, event
        elif isinstance(event, Params) and event.metrics:
            yield line, Metrics(event.time, 0, dict(event.metrics))


def read_superseded(path: Path, end: int) -> Iterator[tuple[Line, AnyEvent]]:
    """Yield the events of the lines before ``end`` that a rewind of the journal superseded."""
    rewinds = read_rewinds(path)
    for line, event in read_events(path):
        if line.number < end and is_superseded(line.end, event, rewinds):
            yield line, event


def rewind_limits(path: Path, end: int | None = None) -> list[int]:
    """Return for each rewind in a journal, up to the offset ``end``, the last step that survives it and later ones."""
    steps = [rewind.step for rewind in read_rewinds(path, end=end).values()]
    return [*accumulate(reversed(steps), min)][::-1]


def superseded(rows: list[Metrics], limits: Sequence[int]) -> list[Metrics]:
    """Return the rows that `surviving` leaves out."""
    return [row for row in rows if row.step is not None and row.step > limits[0]] if limits else []


def surviving(rows: list[Metrics], limits: Sequence[int]) -> list[Metrics]:
    """Return the rows that survive the next rewind, and so all later ones; ``limits`` begin with that of the next."""
    return [row for row in rows if row.step is None or row.step <= limits[0]] if limits else rows
