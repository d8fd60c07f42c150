"""What a loop has gathered → rows of the run: of a step, and of an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rankzero.messages import OnceWarner, warn_user
from rankzero.rank import is_rank_zero
from rankzero.recorder.exchange import is_distributed
from rankzero.recorder.latest_values import Readings, is_reduced, waits_for_ranks
from rankzero.recorder.loop import Loop
from rankzero.recorder.metrics import Entry, Label, MetricEntry
from rankzero.recorder.options import Place
from rankzero.recorder.syncing import Syncing
from rankzero.values import to_number


class MetricsWriter(Protocol):
    """What a recorder asks of a run."""

    @property
    def version(self) -> str:
        """The run's id."""

    def call_at_end(self, close: Callable[[str], object]) -> None:
        """Have ``close(status)`` called when the run ends."""

    def log_metrics(
        self, metrics: Mapping[str, Any], step: int | None = None, *, epoch: int | None = None, stage: str | None = None
    ) -> None:
        """Log numbers at a step."""


class Rows:
    """Writes rows, and notes what was written.

    Args:
        run: where they go.
        syncing: reduces over ranks.
        readings: gets the newest values.
    """

    def __init__(self, run: MetricsWriter, syncing: Syncing, readings: Readings) -> None:
        self._run = run
        self._syncing = syncing
        self._readings = readings
        self.shown: dict[str, Any] = {}
        """What the progress bar shows."""
        self._warner = OnceWarner()

    def write_step(
        self, loop: Loop, step: int, epoch: int, *, beside: Mapping[str, Any] | None = None, is_alone: bool = False
    ) -> None:
        """Write what was logged for the step.

        Args:
            loop: where.
            step: the x-axis.
            epoch: beside it.
            beside: what else belongs into the row.
            is_alone: take part in no reduction over ranks.
        """
        fresh = [entry for entry in loop.entries() if entry.is_fresh]
        values = {} if is_alone else self._syncing.step_values(loop.stage, fresh)
        for label in values if loop.place is Place.TRAIN else ():
            self._readings.note(label, values[label])
        values = {entry.step: entry.newest for entry in fresh} | values
        for entry in fresh:
            entry.is_fresh = False
        row = {**(beside or {}), **_for_loggers(values)}
        self.write(row, step, epoch, loop.stage, may_name_step=loop.place is Place.TRAIN)

    def reduce_for(self, loop: Loop, name: str, *, is_over: bool) -> None:
        """Reduce the step value that is read as ``name``, if that was not done; it takes the other ranks.

        Args:
            loop: of training.
            name: after the loop, a name that is written both for steps and epochs is the epoch's.
            is_over: whether the loop has ended.
        """
        waiting = [entry for entry in loop.entries() if waits_for_ranks(entry)]
        named = [each for each in waiting if name == each.step.name or (name == each.step.plain_name and not is_over)]
        if named:
            self._syncing.step_values(loop.stage, named)
        if is_over:
            self._readings.note_plain({entry.step.name: entry.newest for entry in named})

    def complete(self, loop: Loop, step: int, epoch: int, *, is_alone: bool = False) -> None:
        """Write what the loop's values amount to, and begin anew.

        Args:
            loop: that has ended.
            step: the x-axis.
            epoch: beside it.
            is_alone: take part in no reduction over ranks.
        """
        entries = [entry for entry in loop.entries() if entry.on_epoch]
        if is_alone:
            entries = self._without_those_of_others(entries)
        values = {} if is_alone else self._syncing.epoch_values(loop.stage, loop.entries())
        for entry in entries:
            if entry.epoch not in values:
                values[entry.epoch] = entry.epoch_value()
                self._warn_of_one_rank(entry)
        for entry in loop.entries():
            entry.reset()
        if loop.is_kept:
            self._readings.note_steps(loop)
            self._note(values)
            for entry in entries:
                if entry.given.rank_zero_only:
                    self._readings.hide(entry.epoch)
            self.write(_for_loggers(values), step, epoch, loop.stage)

    def takes_others(self, loop: Loop) -> bool:
        """Return whether to `complete` the loop takes the other ranks."""
        entries = list(loop.entries())
        return self._syncing.takes_part(loop.stage, entries) or any(map(_needs_others, entries))

    def _without_those_of_others(self, entries: list[Entry]) -> list[Entry]:
        missing = [entry for entry in entries if _needs_others(entry)]
        if missing and is_rank_zero():
            names = ", ".join(repr(entry.epoch.name) for entry in missing)
            warn_user(
                f"a loop was left by break, and the run ended before the ranks reduced {names}: not recorded. "
                "Any call of the recorder after the loop would have done it"
            )
        return [entry for entry in entries if entry not in missing]

    def _note(self, values: Mapping[Label, Any]) -> None:
        for label, value in values.items():
            self._readings.note(label, value)
            if label.in_progress_bar:
                self.shown[label.name] = value

    def write(
        self, row: dict[str, Any], step: int, epoch: int, stage: str | None, *, may_name_step: bool = True
    ) -> None:
        """Write a row, if there is anything in it; a metric named ``step`` is its x-axis."""
        if may_name_step and "step" in row:
            step = self._named_step(row.pop("step"), step)
        if row:
            self._run.log_metrics(row, step, epoch=epoch, stage=stage)

    def _named_step(self, named: Any, step: int) -> int:
        number = to_number(named)
        if number is not None and math.isfinite(number):
            return int(number)
        self._warn_once("step", f"a metric named 'step' is the step of its row, and cannot be {number}")
        return step

    def _warn_of_one_rank(self, entry: Entry) -> None:
        is_meant = isinstance(entry, MetricEntry) or entry.given.sync_dist or entry.given.rank_zero_only
        if not is_meant and is_distributed():
            self._warn_once(
                f"one rank {entry.name}",
                f"the metric {entry.name!r} is logged for the whole epoch, and only of rank zero's batches; "
                "log it with sync_dist=True to have it of all ranks",
            )

    def _warn_once(self, topic: str, message: str) -> None:
        if is_rank_zero():
            self._warner.warn(topic, message)


def _for_loggers(values: Mapping[Label, Any]) -> dict[str, Any]:
    return {label.name: value for label, value in values.items() if label.reaches_loggers}


def _needs_others(entry: Entry) -> bool:
    return is_reduced(entry) or (isinstance(entry, MetricEntry) and is_distributed())
