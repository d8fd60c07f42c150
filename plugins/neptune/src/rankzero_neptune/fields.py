"""The fields of a Neptune run: which path is free for what, and which points a series takes.

A path holds one type, and nothing stands below it. A series takes a point only if its step is greater than that of the
point before, and its time not earlier.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from rankzero.values import to_json_number

AS_TEXT = "_as_text"
"""What is added to the name of a metric for the series of texts with the points that its own series does not take."""
SINGLE_TYPES = frozenset(["bool", "datetime", "float", "int", "string"])
"""Types of single values, of which one can replace another."""
LONGEST_POINT = 1000
"""Characters of a text in a series; Neptune's client cuts off the rest."""
LONGEST_STRING = 16_384
"""Characters of a text that is a single value."""

Value = float | str

_BELOW = "_parts"
_NO_NAME = "(no name)"
_LARGEST_INT = 2**63 - 1


# Values


def as_text(value: float) -> str:
    """Return a float as a text from which it can be read again."""
    return str(to_json_number(value))


def as_single(value: Any) -> bool | int | float | str:
    """Return a value of JSON as one that Neptune has a type for: what it has none for becomes a text."""
    if isinstance(value, int) and abs(value) > _LARGEST_INT:
        return str(value)
    return value if isinstance(value, bool | int | float | str) else str(value)


def milliseconds(time: float) -> int:
    """Return a Unix time in seconds as Neptune stores it."""
    return round(time * 1000)


# Paths


def joined(*parts: str) -> str:
    """Return parts of a path joined with ``/``, without empty ones, as Neptune does."""
    return "/".join(part for each in parts for part in each.split("/") if part)


def named(prefix: str, name: str) -> str:
    """Return the path of a name below a prefix; what ends with an empty name gets one."""
    path = f"{prefix}/{name}"
    return joined(path + _NO_NAME if path.endswith("/") else path)


class Paths:
    """The fields of a run, and free paths for new ones.

    Args:
        types: Neptune's types of the existing fields, by path.
        on_move: called with the wished path and the one that is used instead.
    """

    def __init__(self, types: Mapping[str, str], on_move: Callable[[str, str], object]) -> None:
        self._types: dict[str, str] = {}
        self._namespaces: set[str] = set()
        self._on_move = on_move
        for path, kind in types.items():
            self._add(path, kind)

    def type_of(self, path: str) -> str | None:
        """Return the type of a field, None if there is no field at this path."""
        return self._types.get(path)

    def claim(self, wished: str, kind: str) -> str:
        """Return the path for a field of this type: the wished one, or one beside it if that is taken."""
        path = wished
        while (better := self._moved(path, kind)) != path:
            path = better
        if path != wished:
            self._on_move(wished, path)
        self._add(path, kind)
        return path

    def free(self, path: str) -> None:
        """Forget the field at a path."""
        self._types.pop(path, None)

    def at(self, path: str) -> list[str]:
        """Return the paths of the fields at a path and below it."""
        return [each for each in self._types if each == path or each.startswith(f"{path}/")]

    def _moved(self, path: str, kind: str) -> str:
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
        """Whether it is NaN or an infinity, which no series takes."""
        return isinstance(self.value, float) and not math.isfinite(self.value)

    @property
    def as_text(self) -> Point:
        """The same as a text without a step of its own, ``step 3: NaN``."""
        text = self.value if isinstance(self.value, str) else as_text(self.value)
        return Point(text if self.step is None else f"step {self.step:.17g}: {text}", None, self.time)


class Tail:
    """The end of a series: its last point, and the points that a courier may log again after a crash.

    Args:
        held: points that Neptune has, the oldest first.
    """

    def __init__(self, held: Iterable[Point] = ()) -> None:
        self._last = Point(math.nan, None, 0)
        self._found: Point | None = None  # the last one that was logged and that Neptune has
        self._held: dict[tuple[Value, float | None], list[tuple[int, int]]] = {}  # its time, and that of the one before
        before = -1
        for point in held:
            self._last = point
            for step in {point.step, None}:  # it may have been logged without a step
                self._held.setdefault((point.value, step), []).append((point.time, before))
            before = point.time

    def fit(self, points: Iterable[Point]) -> tuple[list[Point], list[Point]]:
        """Return the points to log, and those that Neptune would refuse, among them NaN and infinities.

        Left out are points that Neptune has, and one that repeats the step and value of the point before: Lightning
        logs the epoch with everything else. A time before that of the point before becomes that.
        """
        fitting: list[Point] = []
        refused: list[Point] = []
        for point in points:
            last = self._last
            if self._is_held(point) or self._is_repeated(point):
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

    def _is_held(self, point: Point) -> bool:
        """Return whether Neptune has a point, with its own time or, if that was earlier, that of the point before."""
        alike = self._held.get(point[:2], [])
        found = next((each for each in alike if each[0] == max(point.time, each[1])), None)
        if found is None:
            return False
        alike.remove(found)  # the next one like it was logged twice
        if point.step is not None:
            self._found = point
        return True

    def _is_repeated(self, point: Point) -> bool:
        return point.step is not None and point[:2] in (self._last[:2], self._found and self._found[:2])
