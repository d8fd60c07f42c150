"""The rows that a recorder wrote to a run, for the tests of the recorder."""

from typing import NamedTuple

from recorded import events_in

from rankzero.events.structs import Metrics


class Row(NamedTuple):
    """One row."""

    stage: str | None
    epoch: int | None
    step: int
    values: dict[str, float]


def rows(run, *stages):
    """Return the rows of a run, of some stages if any are named."""
    events = events_in(run.dir, Metrics)
    found = [Row(event.stage, event.epoch, event.step, event.numbers()) for event in events]
    return [row for row in found if not stages or row.stage in stages]


def series(run, name):
    """Return [(step, value), …] of one metric."""
    return [(row.step, row.values[name]) for row in rows(run) if name in row.values]
