"""The metrics of one loop over batches, or of the time between two loops."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from rankzero.errors import RecorderError
from rankzero.messages import OnceWarner
from rankzero.recorder.batch_size import batch_sizes
from rankzero.recorder.log_options import LogOptions, Phase
from rankzero.recorder.metrics import LoggedMetric, NumberMetric, TorchMetric, make_metric
from rankzero.recorder.values import checked, is_tensor

_UNKNOWN = object()


class Loop:
    """The metrics that are logged until the loop ends.

    Args:
        stage: ``train``, ``validate`` or ``test``; None between the loops.
        phase: the place of its log calls.
        warner: warns of log calls that are probably mistakes.
        is_kept: whether metrics reach loggers and can be read.
    """

    def __init__(self, stage: str | None, phase: Phase, warner: OnceWarner, *, is_kept: bool = True) -> None:
        self.stage = stage
        self.phase = phase
        self.is_kept = is_kept
        self._warner = warner
        self.batch_idx = -1
        self.loader_idx = 0
        self.dataloader_idx: int | None = None
        """The index that is added to names; None with one loader."""
        self.is_due = phase is Phase.EVALUATION
        """Whether this batch's step values are written when it ends."""
        self.is_in_batch = False
        self.has_logged = False
        """Whether anything was logged in this batch."""
        self.left_at: int | None = None
        """The step at which the loop was left early."""
        self._batch: Any = None
        self._batch_size: Any = _UNKNOWN
        self._metrics: dict[tuple[str, int | None], LoggedMetric] = {}
        self._by_written_name: dict[str, LoggedMetric] = {}

    def begin_loader(self, loader_idx: int, *, is_one_of_several: bool) -> None:
        """The next loader begins."""
        self.batch_idx = -1
        self.loader_idx = loader_idx
        self.dataloader_idx = loader_idx if is_one_of_several else None

    def begin_batch(self, batch: Any) -> None:
        """The next batch begins."""
        self._batch, self._batch_size = batch, _UNKNOWN
        self.batch_idx += 1
        self.is_in_batch, self.has_logged = True, False

    def end_batch(self) -> None:
        """The batch ends, and is released."""
        self._batch = None
        self.is_in_batch = False

    def add(self, name: str, value: Any, given: tuple[Any, ...], batch_size: Any) -> LoggedMetric:
        """Add a value that was logged.

        Args:
            name: the metric's.
            value: a number, a tensor of one element or a torchmetrics Metric.
            given: the options, in the order of `LogOptions`.
            batch_size: the weight of ``value`` in a mean; that of the batch if None.

        Raises:
            RecorderError: the value or an option is invalid in this phase, or contradicts an earlier call.
        """
        value = checked(name, value)
        metric = self._metrics.get((name, self.dataloader_idx))
        is_new = metric is None
        if metric is None:
            metric = self._new_metric(name, value, LogOptions(*given))
        elif metric.given != given:
            raise RecorderError(
                f"log({name!r}, …) was called twice {self.phase.value} with different options: "
                f"{_difference(metric.given, LogOptions(*given))}"
            )
        if isinstance(metric, NumberMetric):
            metric.add(value, self._weight(metric, batch_size))
        elif isinstance(metric, TorchMetric):
            metric.add(value)
            if metric.on_step and metric.last is None:
                self._warner.warn(
                    f"no step value {name}",
                    f"the metric {name!r} has no value of the step, because only its update() was called: call the "
                    "object itself, or log it with on_step=False, on_epoch=True",
                )
        if is_new:  # only now, so that a failed call adds nothing
            self._metrics[name, self.dataloader_idx] = metric
            self._by_written_name |= dict.fromkeys((metric.step.name, metric.epoch.name), metric)
        self.has_logged = True
        return metric

    def _new_metric(self, name: str, value: Any, options: LogOptions) -> LoggedMetric:
        metric = make_metric(name, value, options, self.phase, self.dataloader_idx)
        for written in (metric.step.name, metric.epoch.name):
            if (other := self._by_written_name.get(written)) is not None:
                raise RecorderError(
                    f"log({name!r}, …) {self.phase.value} would be written as {written!r}, as log({other.name!r}, …) "
                    "is already; give one of them another name"
                )
        if metric.on_epoch and is_tensor(value) and not value.is_floating_point():
            self._warner.warn(
                f"integer {name}",
                f"the metric {name!r} is a tensor of {value.dtype}, and is accumulated as floating point. Convert it "
                "yourself to silence this warning",
            )
        return metric

    def _weight(self, metric: NumberMetric, batch_size: Any) -> Any:
        if batch_size is not None:
            return checked(f"{metric.name}, batch_size", batch_size)
        if not metric.needs_weight or self.phase is Phase.EPOCH:
            return 1
        if self._batch_size is _UNKNOWN:
            self._batch_size = self._infer_batch_size()
        if self._batch_size is None:
            if not metric.on_epoch:
                return 1
            raise RecorderError(
                f"log({metric.name!r}, …): the mean over the epoch is weighted by batch size, which cannot be "
                f"inferred from a batch of type {type(self._batch).__name__}; pass it: log(…, batch_size=…)"
            )
        return self._batch_size

    def _infer_batch_size(self) -> int | None:
        sizes = batch_sizes(self._batch)
        first = next(sizes, None)
        if self.batch_idx == 0:  # to look at each batch would take too long
            self._warn_of_other_sizes(first, next((size for size in islice(sizes, 100) if size != first), None))
        return first

    def _warn_of_other_sizes(self, first: int | None, other: int | None) -> None:
        if other is not None:
            self._warner.warn(
                "batch size",
                f"the batch holds tensors of lengths {first} and {other}; means are weighted by the first. "
                "Pass the right one: log(…, batch_size=…)",
            )

    def metrics(self) -> Iterator[LoggedMetric]:
        """Yield the metrics, in the order in which they were first logged."""
        yield from self._metrics.values()

    def gathers(self, name: str) -> bool:
        """Return whether ``name`` is a value of this loop's epoch, or a step value that is reduced over ranks."""
        epochs = (metric.epoch for metric in self._metrics.values() if metric.on_epoch)
        steps = (metric.step for metric in self._metrics.values() if metric.on_step and metric.is_synced)
        return any(name in (label.name, label.plain_name) for label in (*epochs, *steps))


def _difference(before: LogOptions, now: LogOptions) -> str:
    pairs = zip(LogOptions._fields, before, now, strict=True)
    return ", ".join(f"{field}={one!r} and then {other!r}" for field, one, other in pairs if one != other)
