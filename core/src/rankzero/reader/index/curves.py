"""`Curve`: the points of a metric, downsampled while they are added, so that no spike and no gap gets lost.

Consecutive points form buckets of equal size. Of each bucket the first, the smallest, the largest and the last point
are kept, as in M4 (Jugl et al., VLDB 2014), and the first and last that are NaN or infinite, where a line has a gap.
If there are more than `BUCKETS`, neighbours are merged: the smallest of a bucket is the smallest of its parts. So the
result depends on the points alone, not on how many were added at once.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from rankzero.events.structs import Metrics
from rankzero.reader.index.summary import MetricSummary, as_step
from rankzero.reader.series import Column, Series, SeriesCollector, as_array, is_integer

BUCKETS = 1024
_POINTS_AT_ONCE = 1 << 16


class Curve:
    """A metric's points, at most six of each bucket."""

    def __init__(self, summary: MetricSummary) -> None:
        self.summary = summary
        self.index: array[int] = array("q")
        """The number of each point that is kept, from 0."""
        self.step, self.time, self.epoch, self.value = Column(), Column(), Column(), Column()

    def series(self) -> Series:
        """Return a copy of the points that are kept."""
        step, time, value, epoch = (as_array(each.numbers[:]) for each in self._columns())
        return Series(step, time, value, None if self.epoch.is_missing() else epoch)

    def extend(self, points: Series) -> None:
        """Add points; there is at least one."""
        first = self.summary.count
        values = points.value.tolist()
        old, new = _shift(first), _shift(first + len(values))
        if new > old:
            self._merge(0, new)
        kept = _chosen(range(first, first + len(values)), values, new)
        self.index.extend([first + each for each in kept])
        for column, numbers in zip(
            self._columns(), (points.step, points.time, points.value, points.epoch), strict=True
        ):
            _append(column, numbers, kept)
        self._summarise(len(kept), points.step[0])
        self.summary.count += len(values)
        seam = first >> new  # the bucket to which points may have been added before
        self._merge(bisect_left(self.index, seam << new), new, bisect_left(self.index, (seam + 1) << new))

    def _columns(self) -> tuple[Column, Column, Column, Column]:
        return self.step, self.time, self.value, self.epoch

    def _summarise(self, count: int, first_step: float) -> None:
        """Bring the summary up to date with the newest points that are kept."""
        summary = self.summary
        steps, values = self.step.numbers[-count:], self.value.numbers[-count:]
        if not summary.count:
            summary.first_step = as_step(first_step)
        summary.last, summary.last_step = values[-1], as_step(steps[-1])
        summary.last_time = self.time.numbers[-1]
        for step, value in zip(steps, values, strict=True):
            if math.isfinite(value):
                if summary.min is None or value < summary.min:
                    summary.min, summary.min_step = value, as_step(step)
                if summary.max is None or value > summary.max:
                    summary.max, summary.max_step = value, as_step(step)

    def _merge(self, start: int, shift: int, end: int | None = None) -> None:
        """Keep only what is needed of the points that are kept from ``start`` to ``end``."""
        index = self.index[start:end]
        kept = _chosen(index, self.value.numbers[start:end], shift)
        if len(kept) < len(index):
            self.index[start:end] = array("q", [index[each] for each in kept])
            for column in self._columns():
                numbers = column.numbers[start:end]
                column.numbers[start:end] = array(numbers.typecode, [numbers[each] for each in kept])


def summarize_points(points: Series) -> MetricSummary:
    """Return a metric in numbers; it has at least one point."""
    summary = MetricSummary()
    Curve(summary).extend(points)
    return summary


class SavedCurve(msgspec.Struct, array_like=True):
    """The columns of a curve as bytes."""

    types: Annotated[str, msgspec.Meta(pattern="^[qd]{3}$")]
    """The type codes of steps, values and epochs."""
    index: memoryview
    step: memoryview
    time: memoryview
    value: memoryview
    epoch: memoryview
    """Empty if no point has one."""

    @classmethod
    def of(cls, curve: Curve) -> SavedCurve:
        """Return the columns of a curve."""
        step, value, epoch = curve.step.numbers, curve.value.numbers, curve.epoch.numbers
        if curve.epoch.is_missing():
            epoch = array("d")
        types = step.typecode + value.typecode + epoch.typecode
        return cls(types, *map(as_bytes, (curve.index, step, curve.time.numbers, value, epoch)))

    def check(self) -> None:
        """Raise ValueError if the columns are not equally long."""
        size = self.index.nbytes
        columns = (self.step, self.time, self.value, self.epoch or self.value)
        if not size or size % 8 or any(each.nbytes != size for each in columns):
            raise ValueError("the columns of a curve differ in length")

    def curve(self, summary: MetricSummary) -> Curve:
        """Return the curve."""
        curve = Curve(summary)
        curve.index, curve.time.numbers = from_bytes("q", self.index), from_bytes("d", self.time)
        curve.step.numbers = from_bytes(self.types[0], self.step)
        curve.value.numbers = from_bytes(self.types[1], self.value)
        curve.epoch.numbers = from_bytes(self.types[2], self.epoch)
        if not self.epoch:
            curve.epoch.extend([None] * len(curve.index))
        return curve


def as_bytes(numbers: array[Any]) -> memoryview:
    """Return a copy of an array's memory."""
    return memoryview(numbers.tobytes())


def from_bytes(typecode: str, data: memoryview) -> array[Any]:
    """Return the array of which `as_bytes` returned the memory."""
    return array(typecode, data.tobytes())


class Curves(Mapping[str, Series]):
    """The curves of a run by metric, in the order of first occurrence; their series are made when asked for."""

    def __init__(self, saved: Mapping[str, SavedCurve], metrics: dict[str, MetricSummary]) -> None:
        self.metrics = metrics
        self._curves: dict[str, Curve | SavedCurve] = {**saved}
        self._rows: list[Metrics] = []
        self._waiting = 0

    def __getitem__(self, name: str) -> Series:
        return self._curve(name).series()

    def __iter__(self) -> Iterator[str]:
        return iter(self._curves)

    def __len__(self) -> int:
        return len(self._curves)

    def add(self, rows: Sequence[Metrics]) -> None:
        """Add points; `flush` must follow."""
        self._rows += rows
        self._waiting += sum([len(row.values) for row in rows])
        if self._waiting >= _POINTS_AT_ONCE:  # many at once are faster
            self.flush()

    def flush(self) -> None:
        """Add the points that wait to be added together."""
        collector = SeriesCollector()
        collector.add(self._rows)
        self._rows, self._waiting = [], 0
        for name, points in collector.finish().items():
            if name not in self._curves:
                self.metrics[name] = MetricSummary()
                self._curves[name] = Curve(self.metrics[name])
            self._curve(name).extend(points)

    def saved(self) -> dict[str, SavedCurve]:
        """Return all curves in the form for a file."""
        return {
            name: each if isinstance(each, SavedCurve) else SavedCurve.of(each) for name, each in self._curves.items()
        }

    def _curve(self, name: str) -> Curve:
        curve = self._curves[name]
        if isinstance(curve, SavedCurve):
            curve = self._curves[name] = curve.curve(self.metrics[name])
        return curve


def _shift(count: int) -> int:
    """Return the size of buckets for so many points, as the logarithm to the base 2."""
    return (max(0, count - 1) // BUCKETS).bit_length()


def _chosen(index: Sequence[int], values: Sequence[Any], shift: int) -> Sequence[int]:
    """Return the positions of the points to keep; ``index`` has their numbers in ascending order."""
    if not shift:
        return range(len(index))
    chosen: list[int] = []
    start = 0
    while start < len(index):
        end = bisect_left(index, ((index[start] >> shift) + 1) << shift, start)
        chosen += [start + each for each in _extremes(values[start:end])]
        start = end
    return chosen


def _extremes(values: Sequence[Any]) -> list[int]:
    """Return the positions of the first, the smallest, the largest and the last value, and of a gap's ends."""
    found = {0, len(values) - 1}
    if math.isfinite(sum(values)):
        return sorted(found | {values.index(min(values)), values.index(max(values))})
    gaps = [at for at, value in enumerate(values) if not math.isfinite(value)]
    finite = [at for at, value in enumerate(values) if math.isfinite(value)]
    if finite:
        found |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
    return sorted(found | {*gaps[:1], *gaps[-1:]})


def _append(column: Column, numbers: Any, kept: Sequence[int]) -> None:
    if numbers is None:
        column.extend([None] * len(kept))
        return
    if not is_integer(numbers):
        column.widen()
    column.extend([numbers[each] for each in kept])
