"""One description of a training, its data and its log calls, for Lightning's Trainer and for a loop written by hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryPrecision

NUMBERS = {
    "float": float,
    "int": lambda value: round(10 * value),
    "bool": lambda value: value > 0,
    "float32": lambda value: torch.tensor(value),
    "float64": lambda value: torch.tensor(value, dtype=torch.float64),
    "bfloat16": lambda value: torch.tensor(value, dtype=torch.bfloat16),
    "float16": lambda value: torch.tensor(value, dtype=torch.float16),
    "int64": lambda value: torch.tensor(round(10 * value)),
    "shape (1,)": lambda value: torch.tensor([value]),
    "shape (1, 1)": lambda value: torch.tensor([[value]]),
    "with graph": lambda value: torch.tensor(value, requires_grad=True) * 2,
}
METRICS: dict[str, Callable[[str], Any]] = {
    "mean metric": lambda name: MeanMetric(),
    "updated metric": lambda name: MeanMetric(),
    "accuracy": lambda name: BinaryAccuracy(),
    "collection": lambda name: MetricCollection([BinaryAccuracy(), BinaryPrecision()], prefix=f"{name}/"),
}
ON_STEP_BY_DEFAULT = {"train": (True, False), "validate": (False, True), "test": (False, True), "epoch": (False, True)}


@dataclass(frozen=True)
class Logged:
    """One name and how it is logged.

    Args:
        name: the name; with ``add_dataloader_idx=False`` the loader's index is appended by the caller, as one must.
        place: ``train``, ``validate``, ``test``: in the body of that loop; ``epoch``: between the loops of an epoch.
        kind: a key of `NUMBERS` or `METRICS`.
        options: of the log call.
        every: it is logged in every so many batches only, beginning with batch ``first``.
        is_sized: whether the call says ``batch_size=``, and something else than the batch's size.
        in_dict: whether ``log_dict`` logs it, together with ``<name>2``.
    """

    name: str
    place: str = "train"
    kind: str = "float32"
    options: dict[str, Any] = field(default_factory=dict)
    every: int = 1
    first: int = 0
    is_sized: bool = False
    in_dict: bool = False

    @property
    def levels(self) -> tuple[bool, bool]:
        """What (on_step, on_epoch) amount to."""
        defaults = ON_STEP_BY_DEFAULT[self.place]
        given = self.options.get("on_step"), self.options.get("on_epoch")
        on_step, on_epoch = (default if each is None else each for each, default in zip(given, defaults, strict=True))
        return on_step, on_epoch


@dataclass(frozen=True)
class Training:
    """A training: sizes of its batches, when it logs, validates and tests, and what it logs."""

    logged: tuple[Logged, ...]
    epochs: int = 2
    batches: tuple[int, ...] = (4, 4, 4, 4, 3)
    accumulate: int = 1
    log_every: int = 1
    validation: tuple[tuple[int, ...], ...] = ()
    """The sizes of the batches of each loader."""
    validate_every: int | None = None
    """In batches of a training epoch; None: at the end of it."""
    sanity_batches: int = 0
    stop_after: int | None = None
    """The epoch after which training is stopped early."""
    test: tuple[tuple[int, ...], ...] = ()
    has_lengths: bool = True

    def loader(self, sizes: tuple[int, ...]) -> Any:
        return Loader(sizes) if self.has_lengths else Unsized(sizes)


class Unsized:
    """Batches of these sizes."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return ({"x": torch.ones(size, 2), "y": torch.ones(size)} for size in self.sizes)


class Loader(Unsized):
    """Batches of these sizes, and it says how many."""

    def __len__(self) -> int:
        return len(self.sizes)


class LogCalls:
    """Makes the log calls of a training; a value depends on how many batches came before it, and on nothing else."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._counts: Counter[str] = Counter()
        self.metrics: dict[str, Any] = {}
        for each in training.logged:
            if each.kind in METRICS:
                loaders = len({"validate": training.validation, "test": training.test}.get(each.place, "1"))
                for index in range(loaders):
                    self.metrics[self.metric_key(each, index)] = METRICS[each.kind](each.name)
        self.step_names: set[tuple[str, str]] = set()
        """(place, name in a row) of all step values so far."""
        self.fresh: set[tuple[str, str]] = set()
        """Of those that came since they were last taken out of here."""

    @staticmethod
    def metric_key(logged: Logged, dataloader_idx: int) -> str:
        return f"{logged.place}_{logged.name}_{dataloader_idx}"

    def make(self, place: str, target: Any, *, batch_idx: int = 0, dataloader_idx: int = 0, loaders: int = 1) -> None:
        """Log what is to be logged in a batch (or between loops) with the methods of ``target``."""
        count = self._counts[place]
        self._counts[place] += 1
        for number, each in enumerate(self._training.logged):
            if each.place == place and batch_idx % each.every == each.first % each.every:
                self._log(each, number, count, target, dataloader_idx, loaders)

    def _log(self, each: Logged, number: int, count: int, target: Any, dataloader_idx: int, loaders: int) -> None:
        options = dict(each.options)
        if each.is_sized:
            options["batch_size"] = 1 + count % 3
        name = each.name
        if loaders > 1 and not options.get("add_dataloader_idx", True):
            name = f"{name}_{dataloader_idx}"
        value = math.sin(1 + 5 * number + count) + 0.01 * count
        if each.name == "step":
            value = 100.0 + 3 * count
        if each.kind in NUMBERS:
            logged = NUMBERS[each.kind](value)
            if each.in_dict:
                target.log_dict({name: logged, f"{name}2": NUMBERS[each.kind](value / 2)}, **options)
            else:
                target.log(name, logged, **options)
            names = [name, f"{name}2"] if each.in_dict else [name]
        else:
            names = self._log_metric(each, name, value, target, options, dataloader_idx)
        suffix = f"/dataloader_idx_{dataloader_idx}" if loaders > 1 and options.get("add_dataloader_idx", True) else ""
        if each.levels[0]:
            fork = "_step" if each.levels[1] else ""
            names_in_row = {(each.place, f"{name}{fork}{suffix}") for name in names}
            self.step_names |= names_in_row
            self.fresh |= names_in_row

    def _log_metric(
        self, each: Logged, name: str, value: float, target: Any, options: dict[str, Any], dataloader_idx: int
    ) -> list[str]:
        metric = self.metrics[self.metric_key(each, dataloader_idx)]
        if each.kind == "updated metric":
            metric.update(value)
        elif each.kind == "mean metric":
            metric(value)
        else:
            guesses = torch.tensor([0.3 + value / 5, 0.6 - value / 5, 0.9, 0.2 + value / 4])
            metric(guesses.clamp(0, 1), torch.tensor([1, 0, 1, 0]))
        if each.kind == "collection":
            target.log_dict(metric, **options)
            return [str(key) for key in metric]
        target.log(name, metric, **options)
        return [name]


@dataclass(frozen=True, order=True)
class Point:
    """One value of a row."""

    stage: str
    name: str
    step: int
    epoch: int | None
    value: float


@dataclass
class Outcome:
    """The result of a training."""

    points: list[Point] = field(default_factory=list)
    metrics: list[dict[str, float]] = field(default_factory=list)
    """What callbacks (or the hand-written loop) read after each epoch."""
    batch_metrics: list[dict[str, float]] = field(default_factory=list)
    """What they read at the end of each training batch."""
    test_metrics: dict[str, float] = field(default_factory=dict)
    """What they read after the test."""
