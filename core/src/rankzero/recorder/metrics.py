"""A metric of a loop: its last step value, and its value over the epoch so far."""

from __future__ import annotations

from typing import Any, NamedTuple

from rankzero.errors import RecorderError
from rankzero.recorder.log_options import LogOptions, Phase, levels, reduction_name
from rankzero.recorder.reduction import Reduction, make_reduction
from rankzero.recorder.values import is_metric, is_tensor

SUFFIX = "/dataloader_idx_"
"""Part of a metric's name if there are several dataloaders."""


class Label(NamedTuple):
    """The names of a value, and its display."""

    name: str
    """The written name."""
    plain_name: str
    """The logged name; differs from ``name`` if both step and epoch are written."""
    reaches_loggers: bool
    in_progress_bar: bool


class LoggedMetric:
    """A metric of one loop.

    Args:
        name: the logged name.
        options: the options of the log call.
        phase: the place of the log call.
        dataloader_idx: the loader's index, if it is added to the name.

    Raises:
        RecorderError: the options contradict each other, or are invalid in this phase.
    """

    def __init__(self, name: str, options: LogOptions, phase: Phase, dataloader_idx: int | None) -> None:
        self.name = name
        self.given = options
        self.on_step, self.on_epoch = levels(name, phase, options)
        self.reduce_fx = reduction_name(name, options.reduce_fx)
        suffix = "" if dataloader_idx is None else f"{SUFFIX}{dataloader_idx}"
        is_forked = self.on_step and self.on_epoch
        traits = (name + suffix, options.logger is None or bool(options.logger), bool(options.prog_bar))
        self.step = Label(f"{name}_step{suffix}" if is_forked else name + suffix, *traits)
        self.epoch = Label(f"{name}_epoch{suffix}" if is_forked else name + suffix, *traits)
        self.last: Any = None
        """The value of the last step that had one."""
        self.last_weight: Any = 1
        self.last_of_all: float | None = None
        """`last` reduced over all ranks, if that was done."""
        self.is_fresh = False
        """Whether `last` is newer than the last row."""

    @property
    def newest(self) -> Any:
        """The value of the last step that had one, over all ranks if it was reduced."""
        return self.last if self.last_of_all is None else self.last_of_all

    @property
    def is_synced(self) -> bool:
        """Whether the metric is reduced over all ranks."""
        return bool(self.given.sync_dist) and not self.given.rank_zero_only

    def step_reduction(self) -> Reduction:
        """Return the last step's value as a reduction over ranks."""
        raise NotImplementedError

    def epoch_value(self) -> Any:
        """Return the epoch's value on this rank, a Python number or a tensor; None if nothing was logged."""
        raise NotImplementedError

    def reset(self) -> None:
        """Begin a new epoch."""

    def _mixed(self) -> RecorderError:
        return RecorderError(
            f"a torchmetrics.Metric and a number are both logged as {self.name!r}; give one of them another name"
        )


class NumberMetric(LoggedMetric):
    """A metric of numbers or tensors."""

    def __init__(self, name: str, options: LogOptions, phase: Phase, dataloader_idx: int | None) -> None:
        super().__init__(name, options, phase, dataloader_idx)
        self.reduction = make_reduction(self.reduce_fx)
        self.needs_weight = self.reduction.is_weighted and (self.on_epoch or self.is_synced)

    def add(self, value: Any, weight: Any) -> None:
        """Add a value.

        Args:
            value: a Python number or a tensor without dimensions.
            weight: the batch's size, a Python number or a tensor.

        Raises:
            RecorderError: it is a torchmetrics Metric.
        """
        if is_metric(value):
            raise self._mixed()
        keep_graph = self.given.enable_graph
        if is_tensor(value):
            # A copy: the tensor may change later, and may be a view of a large one.
            value = value.clone() if keep_graph else value.detach().clone() if self.on_step else value.detach()
        if self.on_step:
            self.last = value
            self.last_weight = weight
            self.last_of_all = None
            self.is_fresh = True
        if self.on_epoch:
            self.reduction.add(value, weight, keep_graph=keep_graph)

    def step_reduction(self) -> Reduction:
        reduction = make_reduction(self.reduce_fx)
        reduction.add(self.last, self.last_weight)
        return reduction

    def epoch_value(self) -> Any:
        return self.reduction.value()


class TorchMetric(LoggedMetric):
    """A ``torchmetrics.Metric``, which reduces itself over batches and ranks."""

    metric: Any = None

    @property
    def is_synced(self) -> bool:
        return False

    def add(self, metric: Any) -> None:
        """Add the object after its ``forward``; after ``update`` alone there is no step value.

        Raises:
            RecorderError: it is not a Metric, or not the same as before.
        """
        if not is_metric(metric):
            raise self._mixed()
        if self.metric is not None and self.metric is not metric:  # == of Metrics is a Metric
            raise RecorderError(
                f"two torchmetrics.Metric objects are logged as {self.name!r}; give them different names"
            )
        self.metric = metric
        value = getattr(metric, "_forward_cache", None)
        if self.on_step and value is not None:
            self.last = self._one(value)
            self.is_fresh = True

    def epoch_value(self) -> Any:
        return self._one(self.metric.compute())

    def _one(self, value: Any) -> Any:
        if isinstance(value, int | float):
            return value
        if not is_tensor(value) or value.numel() != 1:
            what = f"a tensor of shape {tuple(value.shape)}" if is_tensor(value) else type(value).__name__
            raise RecorderError(
                f"the value of the metric {self.name!r} ({type(self.metric).__name__}) is not a single number but "
                f"{what}; log its parts by name: log_dict({{…}})"
            )
        return value.detach().reshape(())

    def reset(self) -> None:
        self.metric.reset()


def make_metric(name: str, value: Any, options: LogOptions, phase: Phase, dataloader_idx: int | None) -> LoggedMetric:
    """Return a new metric for the first log call with its name in a loop.

    Raises:
        RecorderError: as `LoggedMetric`, or the name is invalid.
    """
    if options.add_dataloader_idx and SUFFIX in name:
        raise RecorderError(
            f"log({name!r}, …): {SUFFIX!r} is added automatically; leave it out, or pass add_dataloader_idx=False"
        )
    kind = TorchMetric if is_metric(value) else NumberMetric
    return kind(name, options, phase, dataloader_idx if options.add_dataloader_idx else None)
