"""The rows of a run: the number that each has in W&B, and the summaries of metrics.

W&B's client drops rows whose number is below that of the last one. So the number of a row is that of the event's line
in the journal, and what is logged, in whichever order of steps, is at the metric that `rankzero_wandb.opening.STEP`
names. Rows that a script logs itself on the live run take the next numbers; then ours move on, which is noted. The
times of rows that W&B has, and that were not acknowledged, show which of them are ours.

The client computes min, max, mean and first, too, but one NaN makes all of them NaN for ever, and a client that goes on
with a run begins anew. Here only finite values count, and what is known goes on.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from rankzero.errors import NotAFileError
from rankzero.files.writing import read_own, write_file
from rankzero.loggers.summaries import find_definition
from rankzero.values import Number, as_float


class Definition(msgspec.Struct, frozen=True):
    """What `define_metric` was given."""

    name: str
    """A name, or the beginning of names and a ``*``."""
    step_metric: str
    kinds: tuple[str, ...] | None = None
    """What its summary is; W&B's own, the last value, if None."""


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
    """What is kept of a run between two openings, in a small file beside the journal."""

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


class Summaries:
    """Computes the summaries that the definitions in a state ask for, and keeps their values there."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._kinds: dict[str, tuple[str, ...] | None] = {}
        self._changed = set(state.values)

    def define(self, definition: Definition) -> None:
        """Add the definition of a metric, or of those whose names begin alike."""
        others = [each for each in self._state.definitions if each.name != definition.name]
        self._state.definitions = [*others, definition]
        self._kinds.clear()
        self._changed.update(self._state.values)

    def add(self, metrics: Mapping[str, Any], line: int | None) -> None:
        """Count the numbers in a row, once however often its line of the journal is delivered."""
        if not self._state.definitions or (line is not None and line < self._state.line):
            return
        if line is not None:
            self._state.line = line + 1
        values = self._state.values
        for name, value in metrics.items():
            if self._kinds_for(name) and isinstance(value, int | float) and math.isfinite(as_float(value)):
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
            kinds = {each.name: each.kinds for each in self._state.definitions}
            defined = find_definition(name, kinds)
            self._kinds[name] = None if defined is None else kinds[defined]
        return self._kinds[name]


ReadTimes = Callable[[int, int], frozenset[float]]
"""Returns the times of the rows that W&B has, from one number to before another."""


class History:
    """Writes rows to one opening of a run, each once however often it is delivered.

    Args:
        run: W&B's run.
        state: which numbers rows have; changed in place.
        save: called when it has changed.
        read_times: asks W&B; None if it cannot be asked.
    """

    def __init__(self, run: Any, state: State, save: Callable[[], None], read_times: ReadTimes | None = None) -> None:
        self._run = run
        self.state = state
        self._save = save
        self._held = int(run.starting_step)  # W&B has the rows before this one
        self._next_line = 0
        self._lock = threading.RLock()
        self._times: frozenset[float] | None = None  # of rows that are perhaps the script's, or before a gap
        self.next_number = self._held
        self.logged = 0
        """How many rows W&B's client was given."""
        if state.is_shared:
            self._lock_log()
        if read_times is not None and (state.is_shared or state.has_gaps) and state.next_number < self._held:
            self._times = read_times(state.next_number, self._held)

    def share(self) -> None:
        """Let the script log rows, too."""
        with self._lock:
            if not self.state.is_shared:
                self.state.is_shared = True
                self._lock_log()
                self._save()

    def _lock_log(self) -> None:
        """Have the script's rows wait while one of ours gets its number."""
        log, lock = self._run.log, self._lock

        def log_alone(*args: Any, **kwargs: Any) -> None:
            with lock:
                log(*args, **kwargs)

        self._run.log = log_alone

    def log(self, values: Mapping[str, Any], line: int | None, *, has_files: bool = False) -> None:
        """Log the row that a line of the journal becomes, unless W&B has it.

        A row that W&B has is given to its client all the same if it has files, which may not have arrived: the row is
        dropped there, and the files are uploaded.
        """
        with self._lock:
            if line is None:  # one that was refused, and comes again after later ones
                self._run.log(dict(values))
                self.logged += 1
                self.next_number = self._run._local_step
            elif line >= self._next_line:  # others are handed over, but not acknowledged yet
                self._log(values, line, has_files)
                self._next_line = line + 1

    def _log(self, values: Mapping[str, Any], line: int, has_files: bool) -> None:
        number, is_held = self.state.number(line), self._is_held(line, values)
        if not is_held and self._run._local_step > number:
            number = self._move(line)
        if not is_held or has_files:
            self._hand_over(values, number, is_held=is_held)

    def _is_held(self, line: int, values: Mapping[str, Any]) -> bool:
        number = self.state.number(line)
        if self._times is None or number < self.state.next_number:
            return number < self._held
        return values.get("_timestamp") in self._times

    def _move(self, line: int) -> int:
        """Give the lines from this one on other numbers; return that of this one."""
        # One more than the script's next: a row that it has not committed would become one with ours.
        number = int(self._run._local_step) + 1
        self.state.shifts.append((line, number - line))
        self._save()
        return number

    def _hand_over(self, values: Mapping[str, Any], number: int, *, is_held: bool) -> None:
        before = self._run._local_step
        self._run._local_step = number  # stands in the names of files, which must be the same every time
        try:
            self._run.log(dict(values), step=number, commit=True)
        finally:
            self._run._local_step = before
        if not is_held:
            self._run._local_step = self.next_number = number + 1
            self.logged += 1

    def note_acknowledged(self) -> None:
        """Have the state say that W&B has all rows."""
        self.state.next_number = max(self.state.next_number, self.next_number)
        self.state.has_gaps = False
