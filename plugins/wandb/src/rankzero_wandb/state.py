"""What is kept of a run between two openings, in a small file beside the journal; among it the summaries of metrics.

W&B's client computes min, max, mean and first, too, but one NaN makes all of them NaN for ever, and a client that goes
on with a run begins anew. Here only finite values count, and what is known goes on.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from rankzero.errors import NotAFileError
from rankzero.files.writing import read_own, write_file
from rankzero.values import Number

_KINDS = ("min", "max", "mean", "last", "first")
_BEST = {"minimize": "min", "maximize": "max"}


class Definition(msgspec.Struct, frozen=True):
    """What `define_metric` was given."""

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
        """Count one more."""
        self.last = value
        self.min, self.max = min(self.min, value), max(self.max, value)
        self.total = min(max(self.total + value, -sys.float_info.max), sys.float_info.max)
        self.count += 1

    @property
    def mean(self) -> float:
        """Their sum over their number."""
        return self.total / self.count


class State(msgspec.Struct, omit_defaults=True):
    """How far a run is in W&B, and what is known of its metrics."""

    line: int = 0
    """The lines of the journal before this one are in the summaries."""
    definitions: list[Definition] = []
    values: dict[str, Values] = {}
    graphs: list[str] = []
    """The files of the models whose structure was logged, in order."""
    client: tuple[str, int] | None = None
    """Host and process id of the courier that has opened the run last."""
    is_shared: bool = False
    """Whether the script may log rows itself, on the live run."""
    next_number: int = 0
    """The rows before the one with this number are acknowledged."""
    has_gaps: bool = False
    """Whether W&B may lack some of the rows from ``next_number`` on, and have later ones."""
    ended: int = 0
    """The lines of the journal before this one are in files of an offline run that has ended, and are whole."""
    shifts: list[tuple[int, int]] = []
    """(line, n): from this line of the journal on, the number of a row is that of its line and n."""

    def number(self, line: int) -> int:
        """Return the number of the row that a line of the journal becomes."""
        return line + next((shift for first, shift in reversed(self.shifts) if first <= line), 0)

    @classmethod
    def load(cls, path: Path) -> State | None:
        """Read a state, None if none was saved."""
        try:
            return msgspec.json.decode(read_own(path), type=cls)
        except (FileNotFoundError, NotAFileError, msgspec.MsgspecError):
            return None

    def save(self, path: Path) -> None:
        """Replace a file at once."""
        write_file(path, msgspec.json.encode(self))


def kinds_of(summary: str | None, goal: str | None) -> tuple[tuple[str, ...] | None, str | None]:
    """Return which summaries a definition asks for, and what is wrong with it.

    Args:
        summary: names with commas between them: min, max, mean, last, first; ``none``; or ``best``, which needs a goal.
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
    known = tuple(each for each in kinds if each in _KINDS)
    unknown = [each for each in kinds if each not in _KINDS]
    return known or None, f"there is no summary {', '.join(unknown)}" if unknown else None


class Summaries:
    """Computes the summaries that the definitions ask for.

    Args:
        state: has the definitions and the values; changed in place. Of definitions of one metric the last counts, and
            a name counts more than one with a ``*``.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._kinds: dict[str, tuple[str, ...] | None] = {}
        self._changed = set(state.values)

    def define(self, definition: Definition) -> None:
        """Add the definition of a metric, or of those whose names begin alike."""
        others = [each for each in self._state.definitions if each.name != definition.name]
        self._state.definitions = [*others, definition]
        self._kinds.clear()
        self._changed.update(name for name in self._state.values if definition.fits(name))

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Count the numbers in a row."""
        if not self._state.definitions:
            return
        values = self._state.values
        for name, value in metrics.items():
            if self._kinds_for(name) and _is_finite(value):
                values.setdefault(name, Values(value, value, value, value)).add(value)
                self._changed.add(name)

    def take_changed(self) -> dict[str, dict[str, Number]]:
        """Return the summaries that changed since the last call."""
        changed = {}
        for name in self._changed:
            if kinds := self._kinds_for(name):
                changed[name] = {kind: getattr(self._state.values[name], kind) for kind in kinds}
        self._changed.clear()
        return changed

    def _kinds_for(self, name: str) -> tuple[str, ...] | None:
        if name not in self._kinds:
            fitting = [each for each in self._state.definitions if each.fits(name)]
            exact = [each for each in fitting if each.name == name]
            self._kinds[name] = (exact or fitting)[-1].kinds if fitting else None
        return self._kinds[name]


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an int that no float can hold
        return False
