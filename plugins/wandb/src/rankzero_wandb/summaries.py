"""Min, max, mean and first of a metric, for W&B's table of runs.

W&B's client computes them too, but one NaN makes all of them NaN for ever, and a client that goes on with a run begins
anew. Here only finite values count, and what is known goes on.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping

import msgspec

from rankzero.values import Number

KINDS = ("min", "max", "mean", "last", "first")
"""What can be kept of a metric."""

_BEST = {"minimize": "min", "maximize": "max"}


class Definition(msgspec.Struct, frozen=True):
    """What `define_metric` said."""

    name: str
    """A name, or the beginning of names and a ``*``."""
    step_metric: str
    kinds: tuple[str, ...] | None = None
    """What its summary is; W&B's own, the last value, if None."""

    def fits(self, name: str) -> bool:
        """Return whether it is about a metric."""
        return name.startswith(self.name[:-1]) if self.name.endswith("*") else name == self.name


class Values(msgspec.Struct):
    """What is known of the finite values of a metric."""

    first: Number
    last: Number
    min: Number
    max: Number
    total: float = 0.0
    count: int = 0

    def add(self, value: Number) -> None:
        """Take one in."""
        self.last = value
        self.min, self.max = min(self.min, value), max(self.max, value)
        self.total = min(max(self.total + value, -sys.float_info.max), sys.float_info.max)
        self.count += 1

    @property
    def mean(self) -> float:
        """Their sum over their number."""
        return self.total / self.count


def kinds_of(summary: str | None, goal: str | None) -> tuple[tuple[str, ...] | None, str | None]:
    """Return what is to be kept of a metric, and what cannot be done of what was asked for.

    Args:
        summary: names of `KINDS` with commas between them, ``none``, or ``best``, which needs a ``goal``.
        goal: ``minimize`` or ``maximize``.
    """
    best = _BEST.get(goal or "")
    if summary in (None, "best"):
        if best:
            return (best,), None
        problem = f"goal={goal!r} is neither minimize nor maximize" if goal else 'summary="best" needs a goal'
        return None, problem if goal or summary else None
    kinds = tuple(each.strip() for each in str(summary).split(","))
    if kinds == ("none",):
        return (), None
    known = tuple(each for each in kinds if each in KINDS)
    unknown = [each for each in kinds if each not in KINDS]
    return known or None, f"there is no summary {', '.join(unknown)}" if unknown else None


class Summaries:
    """Keeps what the definitions ask for.

    Args:
        definitions: what was said of metrics; what is said last counts most, and a name for more than a ``*``.
        values: what is known, by metric; changed in place.
    """

    def __init__(self, definitions: Iterable[Definition], values: dict[str, Values]) -> None:
        self.definitions = list(definitions)
        self._values = values
        self._kinds: dict[str, tuple[str, ...] | None] = {}
        self._changed = set(values)

    def define(self, definition: Definition) -> None:
        """Take in what was said of a metric, or of those whose names begin alike."""
        self.definitions = [each for each in self.definitions if each.name != definition.name] + [definition]
        self._kinds.clear()
        self._changed.update(name for name in self._values if definition.fits(name))

    def add(self, values: Mapping[str, Number]) -> None:
        """Take in the metrics of a row."""
        for name, value in values.items():
            if not self._kinds_for(name) or not _is_finite(value):
                continue
            known = self._values.get(name)
            if known is None:
                known = self._values[name] = Values(value, value, value, value)
            known.add(value)
            self._changed.add(name)

    def take_changed(self) -> dict[str, dict[str, Number]]:
        """Return the summaries that changed since the last call."""
        changed = {}
        for name in self._changed:
            kinds = self._kinds_for(name)
            if kinds:
                changed[name] = {kind: getattr(self._values[name], kind) for kind in kinds}
        self._changed.clear()
        return changed

    def _kinds_for(self, name: str) -> tuple[str, ...] | None:
        if name not in self._kinds:
            fitting = [each for each in self.definitions if each.fits(name)]
            exact = [each for each in fitting if each.name == name]
            self._kinds[name] = (exact or fitting)[-1].kinds if fitting else None
        return self._kinds[name]


def _is_finite(value: Number) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that no float can hold
        return False
