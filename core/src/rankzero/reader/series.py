"""`Series`: the steps, times and values of a metric as arrays, built quickly and in little memory.

Rows with the same metric names form a group: they share one array of steps and one of times, and each name has one
array of values. A metric in several groups is merged from them, in the order of the journal.
"""

from __future__ import annotations

import heapq
import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from typing import Any

from rankzero.events.structs import Metrics
from rankzero.values import NON_FINITE, as_float

_NAN = array("d", [math.nan])


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The values of one metric: arrays of equal length, in the order of logging.

    They are read-only numpy arrays, or `array.array` where numpy is not installed.
    """

    step: Any
    """int64; if points have no step, float64 with NaN for those."""
    time: Any
    """float64, Unix time in seconds."""
    value: Any
    """int64 if all values are ints of 64 bits, otherwise float64."""
    epoch: Any = None
    """Like ``step``; None if no point has an epoch."""

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        return f"Series({len(self)} points, last {self.value[-1]} at step {self.step[-1]})"


class SeriesCollector:
    """Collects the metrics events of a journal into `Series`."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, ...], _Group] = {}
        self._taken = 0
        self._rewinds: list[tuple[int, int]] = []  # (number of rows before it, step)

    def add(self, rows: Sequence[Metrics]) -> None:
        """Add the next events; adding many at once is faster."""
        by_names: dict[tuple[str, ...], tuple[list[int], list[Metrics]]] = {}
        for index, row in enumerate(rows, self._taken):
            names = tuple(row.values)
            if names not in by_names:
                by_names[names] = ([], [])
            indices, together = by_names[names]
            indices.append(index)
            together.append(row)
        self._taken += len(rows)
        for names, (indices, together) in by_names.items():
            if names not in self._groups:
                self._groups[names] = _Group(len(names))
            self._groups[names].extend(indices, together)

    def rewind(self, step: int) -> None:
        """Leave out events with a later step, of those that were added so far."""
        self._rewinds.append((self._taken, step))

    def finish(self) -> dict[str, Series]:
        """Return the series by name, in the order of first occurrence, and empty the collector."""
        parts: dict[str, list[_Part]] = {}
        first: dict[str, tuple[int, int]] = {}
        if self._rewinds:
            self._leave_out_rewound()
        while self._groups:  # removed one by one, so that no metric is in memory twice
            names, group = self._groups.popitem()
            epoch = None if group.epoch.is_missing() else group.epoch
            for index, (name, column) in enumerate(zip(names, group.columns, strict=True)):
                part = _Part(group.order, group.step, group.time.numbers, column, epoch)
                parts.setdefault(name, []).append(part)
                first[name] = min(first.get(name, (self._taken, 0)), (group.order[0], index))
        return {name: _series(parts.pop(name)) for name in sorted(parts, key=first.__getitem__)}

    def _leave_out_rewound(self) -> None:
        limits = [*accumulate(reversed(self._rewinds), lambda later, this: (this[0], min(this[1], later[1])))][::-1]
        for group in self._groups.values():
            group.limit(limits)
        self._groups = {names: group for names, group in self._groups.items() if group.order}


class Column:
    """A growing array of numbers: int64 until a value does not fit, then float64."""

    def __init__(self) -> None:
        self.numbers: array[Any] = array("q")

    def widen(self) -> None:
        """Make it an array of float64."""
        if self.numbers.typecode == "q":
            self.numbers = array("d", self.numbers)

    def extend(self, values: Sequence[Any]) -> None:
        """Add numbers; None and texts are NaN, unless they are the name of an infinity."""
        if self.numbers.typecode == "q":
            try:
                self.numbers.extend(array("q", values))
                return
            except (TypeError, OverflowError):
                self.widen()
        try:
            self.numbers.extend(array("d", values))
        except (TypeError, OverflowError):
            has_none = values.count(None) == len(values)  # quicker than one by one
            self.numbers.extend(_NAN * len(values) if has_none else array("d", map(to_float, values)))

    def is_missing(self) -> bool:
        """Return whether no number is there."""
        return self.numbers.typecode == "d" and all(map(math.isnan, self.numbers))


def to_float(value: Any) -> float:
    """Convert a value of a `Metrics` event to a float."""
    if value is None:
        return math.nan
    if isinstance(value, str):
        return NON_FINITE.get(value, math.nan)
    return as_float(value)


class _Group:
    """The rows with the same metric names."""

    def __init__(self, width: int) -> None:
        self.order: array[int] = array("q")
        self.step = Column()
        self.time = Column()
        self.epoch = Column()
        self.columns = [Column() for _ in range(width)]

    def extend(self, indices: list[int], rows: list[Metrics]) -> None:
        self.order.extend(array("q", indices))
        self.step.extend([row.step for row in rows])
        self.time.extend([row.time for row in rows])
        self.epoch.extend([row.epoch for row in rows])
        values = zip(*[row.values.values() for row in rows], strict=True)
        for column, numbers in zip(self.columns, values, strict=True):
            column.extend(numbers)

    def limit(self, limits: list[tuple[int, int]]) -> None:
        """Keep only rows whose step is within the limit for their range: (end of the range, last step)."""
        keep: list[bool] = []
        for rows, last in limits:
            end = bisect_left(self.order, rows)
            keep += [not step > last for step in self.step.numbers[len(keep) : end]]  # also without a step: NaN
        keep += [True] * (len(self.order) - len(keep))
        self.order = array("q", compress(self.order, keep))
        for column in (self.step, self.time, self.epoch, *self.columns):
            column.numbers = array(column.numbers.typecode, compress(column.numbers, keep))


@dataclass(frozen=True, slots=True)
class _Part:
    """The part of a metric that one group has."""

    order: array[int]
    step: Column
    time: array[float]
    value: Column
    epoch: Column | None


def _series(parts: list[_Part]) -> Series:
    columns: list[list[array[Any]]] = [
        [part.step.numbers for part in parts],
        [part.time for part in parts],
        [part.value.numbers for part in parts],
    ]
    if any(part.epoch for part in parts):
        columns.append([part.epoch.numbers if part.epoch else _NAN * len(part.order) for part in parts])
    if len(parts) == 1:
        return Series(*(as_array(column[0]) for column in columns))
    orders = [part.order for part in parts]
    return Series(*(_merged(orders, column) for column in columns))


def _merged(orders: list[array[int]], columns: list[array[Any]]) -> Any:
    numpy = _numpy()
    if numpy is not None:
        order = numpy.argsort(numpy.concatenate([as_array(each) for each in orders]), kind="stable")
        result = numpy.concatenate([as_array(column) for column in columns])[order]
        result.flags.writeable = False
        return result
    typecode = "q" if all(column.typecode == "q" for column in columns) else "d"
    rows = heapq.merge(*map(zip, orders, columns))
    return array(typecode, (number for _, number in rows))


def is_integer(numbers: Any) -> bool:
    """Return whether a column of a series has integers."""
    return getattr(numbers, "typecode", None) == "q" or getattr(getattr(numbers, "dtype", None), "kind", "") == "i"


def as_array(numbers: array[Any]) -> Any:
    """Return a read-only numpy array with these numbers; the numbers themselves where numpy is not installed."""
    numpy = _numpy()
    if numpy is None:
        return numbers
    view = numpy.frombuffer(numbers, dtype=numpy.dtype(numbers.typecode))
    view.flags.writeable = False  # several series share their steps and times
    return view


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        return None
    return numpy
