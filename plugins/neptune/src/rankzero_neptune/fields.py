"""The fields of a Neptune run: paths of new fields, and the points that a series accepts.

A path has one field of one type, and no fields below it. A series accepts a point only if its step is greater than that
of the previous point, and its time is not earlier.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from rankzero.values import to_json_number

AS_TEXT = "_as_text"
"""Suffix of a metric's name for the series of texts with points that its own series refuses."""
SINGLE_TYPES = frozenset(["bool", "datetime", "float", "int", "string"])
"""Types of single values, which can replace each other."""
LONGEST_POINT = 1000
"""Characters of a text in a series; Neptune's client truncates longer ones."""
LONGEST_STRING = 16_384
"""Characters of a text that is a single value."""

Value = float | str

_BELOW = "_parts"
_NO_NAME = "(no name)"
_LARGEST_INT = 2**63 - 1


# Values


def as_text(value: float) -> str:
    """Return a float as a text without loss."""
    return str(to_json_number(value))


def as_single(value: Any) -> bool | int | float | str:
    """Return a JSON value unchanged if Neptune has a type for it; otherwise as a text."""
    if isinstance(value, int) and abs(value) > _LARGEST_INT:
        return str(value)
    return value if isinstance(value, bool | int | float | str) else str(value)


def milliseconds(time: float) -> int:
    """Return a Unix time in seconds as milliseconds."""
    return round(time * 1000)


# Paths


def joined(*parts: str) -> str:
    """Join parts of a path with ``/``, without empty ones, as Neptune does."""
    return "/".join(part for each in parts for part in each.split("/") if part)


def named(prefix: str, name: str) -> str:
    """Return the path of a name below a prefix; an empty name is replaced."""
    path = f"{prefix}/{name}"
    return joined(path + _NO_NAME if path.endswith("/") else path)


class Paths:
    """The fields of a run, and free paths for new ones.

    Args:
        types: Neptune's types of the existing fields, by path.
        on_other_path: called with the wanted path, and the one that is used instead.
    """

    def __init__(self, types: Mapping[str, str], on_other_path: Callable[[str, str], object]) -> None:
        self._types: dict[str, str] = {}
        self._namespaces: set[str] = set()
        self._on_other_path = on_other_path
        for path, kind in types.items():
            self._add(path, kind)

    def type_of(self, path: str) -> str | None:
        """Return the type of a field; None if there is no field at this path."""
        return self._types.get(path)

    def claim(self, wanted: str, kind: str) -> str:
        """Reserve and return a path for a field of this type: the wanted one, or one beside it if that is taken."""
        path = wanted
        while (better := self._alternative(path, kind)) != path:
            path = better
        if path != wanted:
            self._on_other_path(wanted, path)
        self._add(path, kind)
        return path

    def free(self, path: str) -> None:
        """Forget the field at a path."""
        self._types.pop(path, None)

    def at(self, path: str) -> list[str]:
        """Return the paths of the fields at a path and below it."""
        return [each for each in self._types if each == path or each.startswith(f"{path}/")]

    def _alternative(self, path: str, kind: str) -> str:
        for above in _above(path):
            if above in self._types:
                return f"{above}{_BELOW}{path.removeprefix(above)}"
        taken = self._types.get(path, kind)
        return f"{path}_{kind}" if taken != kind or path in self._namespaces else path

    def _add(self, path: str, kind: str) -> None:
        self._types[path] = kind
        self._namespaces.update(_above(path))


def _above(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


# Series


class Point(NamedTuple):
    """One value of a series."""

    value: Value
    step: float | None
    time: int
    """Unix time in milliseconds."""

    @property
    def is_non_finite(self) -> bool:
        """Whether the value is NaN or infinite, which no series accepts."""
        return isinstance(self.value, float) and not math.isfinite(self.value)

    @property
    def as_text(self) -> Point:
        """The point as a text without a step, ``step 3: NaN``."""
        text = self.value if isinstance(self.value, str) else as_text(self.value)
        return Point(text if self.step is None else f"step {self.step:.17g}: {text}", None, self.time)


class Tail:
    """The end of a series: its last point, and the points that a courier may log again after a crash.

    Args:
        existing: points that Neptune has, the oldest first.
    """

    def __init__(self, existing: Iterable[Point] = ()) -> None:
        self._last = Point(math.nan, None, 0)
        self._found: Point | None = None  # the last logged point that Neptune has
        self._existing: dict[
            tuple[Value, float | None], list[tuple[int, int]]
        ] = {}  # times of the point and of the previous one
        before = -1
        for point in existing:
            self._last = point
            for step in {point.step, None}:  # it may have been logged without a step
                self._existing.setdefault((point.value, step), []).append((point.time, before))
            before = point.time

    def fit(self, points: Iterable[Point]) -> tuple[list[Point], list[Point]]:
        """Return the points to log, and those that Neptune would refuse, including NaN and infinities.

        Points that Neptune has are left out. So is a point with the step and value of the previous one: Lightning logs
        the epoch with every metric. A point never gets an earlier time than the previous one.
        """
        fitting: list[Point] = []
        refused: list[Point] = []
        for point in points:
            last = self._last
            if self._exists(point) or self._is_repeated(point):
                continue
            is_late = point.step is not None and last.step is not None and point.step <= last.step
            if is_late or point.is_non_finite:
                refused.append(point)
                continue
            fitting.append(point if point.time >= last.time else point._replace(time=last.time))
            self._last = fitting[-1] if point.step is not None else fitting[-1]._replace(step=self._next_step)
        return fitting, refused

    @property
    def _next_step(self) -> float:
        """The step that Neptune gives to a point without one."""
        return 0.0 if self._last.step is None else math.floor(self._last.step) + 1.0

    def _exists(self, point: Point) -> bool:
        """Return whether Neptune has a point, with its own time or a later one of the previous point."""
        alike = self._existing.get(point[:2], [])
        times = next((each for each in alike if each[0] == max(point.time, each[1])), None)
        if times is None:
            return False
        alike.remove(times)  # an equal point that follows was logged twice
        if point.step is not None:
            self._found = point
        return True

    def _is_repeated(self, point: Point) -> bool:
        return point.step is not None and point[:2] in (self._last[:2], self._found and self._found[:2])
