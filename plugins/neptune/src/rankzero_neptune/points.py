"""The points of a series, and which of them Neptune would refuse.

Neptune takes a point only if its step is greater than that of the point before, and its time not earlier.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

AS_TEXT = "_as_text"
"""What is added to the name of a metric for the series of texts with what its own series cannot hold."""

Value = float | str


class Point(NamedTuple):
    """One value of a series."""

    value: Value
    step: float | None
    time: int
    """Unix time in milliseconds."""

    @property
    def is_odd(self) -> bool:
        """Whether it is a NaN or an infinity, which no series takes."""
        return isinstance(self.value, float) and not math.isfinite(self.value)

    @property
    def as_text(self) -> Point:
        """The same as a text without a step of its own, ``step 3: NaN``."""
        text = self.value if isinstance(self.value, str) else spelled(self.value)
        return Point(text if self.step is None else f"step {self.step:.17g}: {text}", None, self.time)


def at(step: float | None) -> str:
    """Return the last part of the path of a file that belongs to a step, ``step_3``."""
    return "no_step" if step is None else f"step_{step:.17g}"


def milliseconds(time: float) -> int:
    """Return a Unix time in seconds as Neptune keeps it."""
    return round(time * 1000)


def spelled(value: float) -> str:
    """Return a float as a text from which it can be had again."""
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


class _Held(NamedTuple):
    """A point that Neptune has."""

    value: Value
    time: int
    before: int
    """The time of the point before it."""

    def may_be(self, point: Point) -> bool:
        """Return whether it is this point, with its own time or, if that was earlier, that of the point before."""
        return self.value == point.value and self.time == max(point.time, self.before)


class Tail:
    """What is known of a series: its last point, and those that may be logged again after a crash.

    Args:
        held: points that Neptune has, the oldest first.
    """

    def __init__(self, held: Iterable[Point] = ()) -> None:
        held = list(held)
        self._step = held[-1].step if held else None
        self._time = held[-1].time if held else 0
        self._value = held[-1].value if held else None
        self._with_step: dict[float | None, _Held] = {}
        self._without_step: dict[Value, list[_Held]] = {}
        self._found: Point | None = None  # the last one that was logged and that Neptune has
        before = -1
        for point in held:
            known = _Held(point.value, point.time, before)
            self._with_step[point.step] = known
            self._without_step.setdefault(point.value, []).append(known)
            before = point.time

    def fit(self, points: Iterable[Point]) -> tuple[list[Point], list[Point]]:
        """Return which points to log, and which Neptune would refuse.

        Refused are NaN and infinities, too.

        In neither are those that it has, and one that says of a step what the point before says of it: Lightning
        logs the epoch with everything else. A time before that of the point before becomes that.
        """
        fitting: list[Point] = []
        refused: list[Point] = []
        for point in points:
            if self._is_held(point) or self._was_just_said(point):
                continue
            if point.is_odd:
                refused.append(point)
                continue
            if point.step is not None and self._step is not None and point.step <= self._step:
                refused.append(point)
                continue
            self._time = max(self._time, point.time)
            self._step = self._next_step if point.step is None else point.step
            self._value = point.value
            fitting.append(point if point.time == self._time else point._replace(time=self._time))
        return fitting, refused

    @property
    def _next_step(self) -> float:
        """The step that Neptune gives to a point without one."""
        return 0.0 if self._step is None else math.floor(self._step) + 1.0

    def _is_held(self, point: Point) -> bool:
        if point.step is not None:
            known = self._with_step.get(point.step)
            if known is None or not known.may_be(point):
                return False
            del self._with_step[point.step]  # the next one like it was logged twice
            self._found = point
            return True
        alike = self._without_step.get(point.value, [])
        found = next((each for each in alike if each.may_be(point)), None)
        if found is None:
            return False
        alike.remove(found)
        return True

    def _was_just_said(self, point: Point) -> bool:
        said = (self._value, self._step), self._found and self._found[:2]
        return point.step is not None and point[:2] in said
