"""Sort the points of a run by time, and combine those with one step and time to rows."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from rankzero.events.structs import Metrics
from rankzero.events.trust import LATEST
from rankzero.importers.base import Report
from rankzero.journal.tail import read_events

Point = tuple[int, int, str, float | None]
"""Unix time in milliseconds, step, metric, value; None for NaN."""

_LARGEST_STEP = 1 << 63
_FORGET = """
    DELETE FROM points WHERE rowid = (SELECT rowid FROM points
    WHERE time = ? AND step = ? AND name = ? AND value IS ? LIMIT 1)"""


def rows(points: Iterable[Point], imported: Iterable[Point]) -> Iterator[Metrics]:
    """Yield rows of the new points, by time; the points are sorted on disk, so their number is unlimited."""
    with closing(sqlite3.connect("", isolation_level=None)) as scratch:  # a temporary file
        scratch.execute("PRAGMA journal_mode = OFF")
        scratch.execute("CREATE TABLE points (time INTEGER, step INTEGER, name TEXT, value REAL)")
        scratch.execute("BEGIN")
        scratch.executemany("INSERT INTO points VALUES (?, ?, ?, ?)", points)
        for number, point in enumerate(imported):
            if not number:
                scratch.execute("CREATE INDEX by_time ON points (time, step, name)")
            scratch.execute(_FORGET, point)
        at: tuple[int, int] | None = None
        values: dict[str, Any] = {}
        for time, step, name, value in scratch.execute("SELECT * FROM points ORDER BY time, step, rowid"):
            if at != (time, step) or name in values:
                if at is not None:
                    yield Metrics(at[0] / 1000, at[1], values)
                at, values = (time, step), {}
            values[name] = math.nan if value is None else value
        if at is not None:
            yield Metrics(at[0] / 1000, at[1], values)


def checked(
    points: Iterable[Point], name_of: Callable[[str], str], left_out: Collection[str], report: Report
) -> Iterator[Point]:
    """Yield the points with their names in rankzero; report invalid points."""
    names: dict[str, str] = {}
    for time, step, known_as, value in points:
        name = names.get(known_as)
        if name is None:
            name = names[known_as] = name_of(known_as)
        if not (abs(time) < LATEST * 1000 and abs(step) < _LARGEST_STEP):
            report.leave_out(name, "its time or step is out of range")
        elif name not in left_out:
            yield time, step, name, None if value != value else value


def imported_points(journal: Path) -> Iterator[Point]:
    """Yield the points in a journal."""
    for _, event in read_events(journal):
        if isinstance(event, Metrics):
            for name, value in event.numbers().items():
                yield round(event.time * 1000), event.step or 0, name, None if value != value else float(value)
