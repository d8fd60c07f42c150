"""One metric of a loop: its last step value, and what its epoch amounts to so far."""

from __future__ import annotations

from typing import Any, NamedTuple

from rankzero.errors import RecorderError
from rankzero.recorder.options import LogOptions, Place, levels, reduction_name
from rankzero.recorder.reduction import Reduction, make_reduction
from rankzero.recorder.values import is_metric, is_tensor

SUFFIX = "/dataloader_idx_"
"""What names the dataloader of a metric, where there are several."""


class Label(NamedTuple):
    """Under which name a value goes where."""

    name: str
    """As it is written."""
    plain_name: str
    """As it was logged; another one than ``name`` if step and epoch are written both."""
    reaches_loggers: bool
    in_progress_bar: bool


class Entry:
    """What is kept of one name in one loop.

    Args:
        name: as it was logged.
        options: as they were given with it.
        place: where.
        dataloader_idx: the loader's index, where there are several and their names are to differ.

    Raises:
        RecorderError: the options contradict each other or do not suit the place.
    """

    def __init__(self, name: str, options: LogOptions, place: Place, dataloader_idx: int | None) -> None:
        self.name = name
        self.given = options
        self.on_step, self.on_epoch = levels(name, place, options)
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
        """`last` over all ranks, once that was reduced."""
        self.is_fresh = False
        """Whether `last` has come since a row was written."""

    @property
    def newest(self) -> Any:
        """The value of the last step that had one: over all ranks, if that was reduced."""
        return self.last if self.last_of_all is None else self.last_of_all

    @property
    def is_synced(self) -> bool:
        """Whether it is to be reduced over all ranks."""
        return bool(self.given.sync_dist) and not self.given.rank_zero_only

    def step_reduction(self) -> Reduction:
        """Return the last step's value, ready to be reduced over ranks."""
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


class NumberEntry(Entry):
    """Numbers and tensors, reduced here."""

    def __init__(self, name: str, options: LogOptions, place: Place, dataloader_idx: int | None) -> None:
        super().__init__(name, options, place, dataloader_idx)
        self.reduction = make_reduction(self.reduce_fx)
        self.needs_weight = self.reduction.is_weighted and (self.on_epoch or self.is_synced)

    def add(self, value: Any, weight: Any) -> None:
        """Take in a value.

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
            # A copy, for the value may be written into later, and may be a small part of something large.
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


class MetricEntry(Entry):
    """A ``torchmetrics.Metric``: it reduces by itself, over batches and ranks."""

    metric: Any = None

    @property
    def is_synced(self) -> bool:
        return False

    def add(self, metric: Any) -> None:
        """Take in the metric after its ``forward``; after its ``update`` alone there is no step value.

        Raises:
            RecorderError: it is no Metric, or another one than before.
        """
        if not is_metric(metric):
            raise self._mixed()
        if self.metric is not None and self.metric is not metric:  # == of Metrics is a Metric
            raise RecorderError(f"two torchmetrics.Metric objects are logged as {self.name!r}; give each a name")
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
                f"the value of the metric {self.name!r} ({type(self.metric).__name__}) is no single number but {what}; "
                "log its parts by name: log_dict({…})"
            )
        return value.detach().reshape(())

    def reset(self) -> None:
        self.metric.reset()


def make_entry(name: str, value: Any, options: LogOptions, place: Place, dataloader_idx: int | None) -> Entry:
    """Return the entry for what is first logged under ``name`` in a loop.

    Raises:
        RecorderError: as `Entry`, or the name is none that can be logged.
    """
    if options.add_dataloader_idx and SUFFIX in name:
        raise RecorderError(
            f"log({name!r}, …): {SUFFIX!r} is added by itself; leave it out, or say add_dataloader_idx=False"
        )
    kind = MetricEntry if is_metric(value) else NumberEntry
    return kind(name, options, place, dataloader_idx if options.add_dataloader_idx else None)
