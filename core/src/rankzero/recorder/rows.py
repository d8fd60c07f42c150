"""Write the values of steps and epochs as rows of the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rankzero.messages import OnceWarner, warn_user
from rankzero.rank import is_rank_zero
from rankzero.recorder.exchange import is_distributed
from rankzero.recorder.latest_values import LatestValues, is_reduced, waits_for_ranks
from rankzero.recorder.log_options import Phase
from rankzero.recorder.loop import Loop
from rankzero.recorder.metrics import Label, LoggedMetric, TorchMetric
from rankzero.recorder.syncing import Syncing
from rankzero.values import to_number


class MetricsWriter(Protocol):
    """The methods of a run that a recorder uses."""

    @property
    def version(self) -> str:
        """The run's id."""

    def call_at_end(self, close: Callable[[str], object]) -> None:
        """Call ``close(status)`` when the run ends."""

    def follow(self, loop_step: Callable[[], int | None]) -> None:
        """Log data without a step at the step that ``loop_step`` returns, unless it is None."""

    def rewind(self, step: int) -> None:
        """Supersede the data of later steps."""

    def log_metrics(
        self, metrics: Mapping[str, Any], step: int | None = None, *, epoch: int | None = None, stage: str | None = None
    ) -> None:
        """Log numbers at a step."""


class Rows:
    """Writes rows, and keeps the newest values.

    Args:
        run: the run to write to.
        syncing: reduces over ranks.
        latest: the newest values.
    """

    def __init__(self, run: MetricsWriter, syncing: Syncing, latest: LatestValues) -> None:
        self._run = run
        self._syncing = syncing
        self._latest = latest
        self.shown: dict[str, Any] = {}
        """The metrics of the progress bar."""
        self._warner = OnceWarner()

    def write_step(
        self, loop: Loop, step: int, epoch: int, *, beside: Mapping[str, Any] | None = None, is_alone: bool = False
    ) -> None:
        """Write the values of a step.

        Args:
            loop: where they were logged.
            step: the x-axis.
            epoch: of the row.
            beside: other values of the row.
            is_alone: do not reduce over ranks.
        """
        fresh = [metric for metric in loop.metrics() if metric.is_fresh]
        values = {} if is_alone else self._syncing.step_values(loop.stage, fresh)
        for label in values if loop.phase is Phase.TRAIN else ():
            self._latest.note(label, values[label])
        values = {metric.step: metric.newest for metric in fresh} | values
        for metric in fresh:
            metric.is_fresh = False
        row = {**(beside or {}), **_for_loggers(values)}
        self.write(row, step, epoch, loop.stage, may_name_step=loop.phase is Phase.TRAIN)

    def reduce_for(self, loop: Loop, name: str, *, is_over: bool) -> None:
        """Reduce the step value with this name, if that was not done; the other ranks must take part.

        Args:
            loop: of training.
            name: the name to read; after the loop, the logged name is that of the epoch's value.
            is_over: whether the loop has ended.
        """
        waiting = [metric for metric in loop.metrics() if waits_for_ranks(metric)]
        named = [each for each in waiting if name == each.step.name or (name == each.step.plain_name and not is_over)]
        if named:
            self._syncing.step_values(loop.stage, named)
        if is_over:
            self._latest.note_plain({metric.step.name: metric.newest for metric in named})

    def complete(self, loop: Loop, step: int, epoch: int, *, is_alone: bool = False) -> None:
        """Write the epoch values of a loop that has ended, and reset its metrics.

        Args:
            loop: where they were logged.
            step: the x-axis.
            epoch: of the row.
            is_alone: do not reduce over ranks.
        """
        metrics = [metric for metric in loop.metrics() if metric.on_epoch]
        if is_alone:
            metrics = self._without_reduced(metrics)
        values = {} if is_alone else self._syncing.epoch_values(loop.stage, loop.metrics())
        for metric in metrics:
            if metric.epoch not in values:
                values[metric.epoch] = metric.epoch_value()
                self._warn_of_one_rank(metric)
        for metric in loop.metrics():
            metric.reset()
        if loop.is_kept:
            self._latest.note_steps(loop)
            self._note(values)
            for metric in metrics:
                if metric.given.rank_zero_only:
                    self._latest.hide(metric.epoch)
            self.write(_for_loggers(values), step, epoch, loop.stage)

    def takes_others(self, loop: Loop) -> bool:
        """Return whether the other ranks must take part in `complete`."""
        metrics = list(loop.metrics())
        return self._syncing.takes_part(loop.stage, metrics) or any(map(_needs_others, metrics))

    def _without_reduced(self, metrics: list[LoggedMetric]) -> list[LoggedMetric]:
        missing = [metric for metric in metrics if _needs_others(metric)]
        if missing and is_rank_zero():
            names = ", ".join(repr(metric.epoch.name) for metric in missing)
            warn_user(
                f"a loop was left by break, and the run ended before the ranks reduced {names}, which is not recorded. "
                "Any call of the recorder after the loop reduces it"
            )
        return [metric for metric in metrics if metric not in missing]

    def _note(self, values: Mapping[Label, Any]) -> None:
        for label, value in values.items():
            self._latest.note(label, value)
            if label.in_progress_bar:
                self.shown[label.name] = value

    def write(
        self, row: dict[str, Any], step: int, epoch: int, stage: str | None, *, may_name_step: bool = True
    ) -> None:
        """Write a row, unless it is empty; a metric named ``step`` is its x-axis."""
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

    def _warn_of_one_rank(self, metric: LoggedMetric) -> None:
        is_meant = isinstance(metric, TorchMetric) or metric.given.sync_dist or metric.given.rank_zero_only
        if not is_meant and is_distributed():
            self._warn_once(
                f"one rank {metric.name}",
                f"the metric {metric.name!r} is the epoch's value over the batches of rank zero only; "
                "log it with sync_dist=True to reduce it over all ranks",
            )

    def _warn_once(self, topic: str, message: str) -> None:
        if is_rank_zero():
            self._warner.warn(topic, message)


def _for_loggers(values: Mapping[Label, Any]) -> dict[str, Any]:
    return {label.name: value for label, value in values.items() if label.reaches_loggers}


def _needs_others(metric: LoggedMetric) -> bool:
    return is_reduced(metric) or (isinstance(metric, TorchMetric) and is_distributed())
