"""The rows of a run, with their numbers in W&B (``_step``), and the summaries of metrics.

W&B's client drops a row whose number is lower than that of the previous one. So the number of a row is its line in the
journal, and its step, which need not increase, is the metric `rankzero_wandb.opening.STEP`. A row that a script logs
itself takes the next number; then the numbers of later journal lines are shifted, and the shift is saved. After a
crash, the times of unacknowledged rows in W&B tell which of them are from the journal.

The client could compute min, max, mean and first, but one NaN makes all of them NaN, and it starts over when a run is
resumed. Here only finite values count, and the summaries continue.
"""

from __future__ import annotations

import math
import re
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from rankzero.events.run_info import NODE, SYSTEM, MetricsRow
from rankzero.files.writing import write_file
from rankzero.loggers.summaries import find_definition
from rankzero.values import Number, as_float

_BYTES, _MEGABYTES = 1e9, 1e9 / (1 << 20)
_SYSTEM_NAMES = {
    r"memory_percent": ("memory_percent", 1.0),
    r"network_sent_gb": ("network.sent", _BYTES),
    r"network_received_gb": ("network.recv", _BYTES),
    r"process/memory_gb": ("proc.memory.rssMB", _MEGABYTES),
    r"gpu(\d+)/utilization_percent": (r"gpu.\1.gpu", 1.0),
    r"gpu(\d+)/memory_percent": (r"gpu.\1.memoryAllocated", 1.0),
    r"gpu(\d+)/memory_gb": (r"gpu.\1.memoryAllocatedBytes", _BYTES),
    r"gpu(\d+)/power_watts": (r"gpu.\1.powerWatts", 1.0),
    r"gpu(\d+)/temperature_celsius": (r"gpu.\1.temp", 1.0),
}
"""Name → name in W&B, and the factor that converts the value to W&B's unit."""


class Definition(msgspec.Struct, frozen=True):
    """The definition of a metric, from `define_metric`."""

    name: str
    """A name, or a prefix of names followed by ``*``."""
    step_metric: str
    kinds: tuple[str, ...] | None = None
    """What the summary contains; W&B's default, the last value, if None."""


class Values(msgspec.Struct):
    """Statistics of a metric's finite values."""

    first: Number
    last: Number
    min: Number
    max: Number
    total: float = 0.0
    count: int = 0

    def add(self, value: Number) -> None:
        """Add a value."""
        self.last = value
        self.min, self.max = min(self.min, value), max(self.max, value)
        self.total = min(max(self.total + value, -sys.float_info.max), sys.float_info.max)
        self.count += 1

    @property
    def mean(self) -> float:
        """The mean."""
        return self.total / self.count


class State(msgspec.Struct, omit_defaults=True):
    """The state of a run that is kept between sessions, in a small file beside the journal."""

    line: int = 0
    """The summaries contain the journal lines before this one."""
    definitions: list[Definition] = []
    values: dict[str, Values] = {}
    graphs: list[str] = []
    """The files of the model graphs that were logged, in order."""
    client: tuple[str, int] | None = None
    """Host and process id of the last courier that opened the run."""
    is_shared: bool = False
    """Whether the script may log rows to the W&B run itself."""
    next_number: int = 0
    """Rows with lower numbers are acknowledged."""
    has_gaps: bool = False
    """Whether rows from ``next_number`` on may be missing in W&B although it has later ones."""
    ended: int = 0
    """The journal lines before this one are in complete files of an offline run."""
    shifts: list[tuple[int, int]] = []
    """(line, shift): from this journal line on, the number of a row is its line plus the shift."""
    has_late_rows: bool = False
    """Whether rows were logged after those of later journal lines."""
    rewound_from: int | None = None
    """The rows from this journal line on are being deleted and logged again because of a rewind."""

    def number(self, line: int) -> int:
        """Return the number of the row of a journal line."""
        return line + next((shift for first, shift in reversed(self.shifts) if first <= line), 0)

    def save(self, path: Path) -> None:
        """Replace the file atomically."""
        write_file(path, msgspec.json.encode(self))


class Summaries:
    """Computes the summaries that are defined in a state, and keeps their values there."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._kinds: dict[str, tuple[str, ...] | None] = {}
        self._changed = set(state.values)

    def define(self, definition: Definition) -> None:
        """Add the definition of a metric, or of all metrics with a prefix."""
        others = [each for each in self._state.definitions if each.name != definition.name]
        self._state.definitions = [*others, definition]
        self._kinds.clear()
        self._changed.update(self._state.values)

    def add(self, metrics: Mapping[str, Any], line: int | None) -> None:
        """Add the numbers of a row, once even if its line is delivered again."""
        if not self._state.definitions or (line is not None and line < self._state.line):
            return
        if line is not None:
            self._state.line = line + 1
        values = self._state.values
        for name, value in metrics.items():
            if self._kinds_for(name) and isinstance(value, int | float) and math.isfinite(as_float(value)):
                values.setdefault(name, Values(value, value, value, value)).add(value)
                self._changed.add(name)

    def has(self, name: str) -> bool:
        """Return whether the summary of a metric is computed here, not by W&B's client."""
        return self._kinds_for(name) is not None

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
"""Returns the times of the rows ``first`` to ``end - 1`` in W&B."""


class History:
    """Writes rows in one session, each once even if it is delivered again.

    Args:
        run: W&B's run.
        state: the numbers of rows; changed in place.
        save: called when the state has changed.
        read_times: queries W&B; None if it cannot be queried.
    """

    def __init__(self, run: Any, state: State, save: Callable[[], None], read_times: ReadTimes | None = None) -> None:
        self._run = run
        self.state = state
        self._save = save
        self._held = int(run.starting_step)  # W&B has the rows before this one
        self._next_line = 0
        self._lock = threading.RLock()
        self._times: frozenset[float] | None = None  # of rows whose numbers do not tell if they are from the journal
        self._fills_gaps = state.has_gaps and not state.is_shared
        self._newest: dict[str, Any] = {}
        self.next_number = self._held
        self.logged = 0
        """The number of rows that were passed to W&B's client."""
        if state.is_shared:
            self._guard_log()
        if read_times is not None and (state.is_shared or state.has_gaps) and state.next_number < self._held:
            self._times = read_times(state.next_number, self._held)

    def share(self) -> None:
        """Allow the script to log rows, too."""
        with self._lock:
            if not self.state.is_shared:
                self.state.is_shared = True
                self._guard_log()
                self._save()

    def _guard_log(self) -> None:
        """Make the script's ``run.log`` wait while a row of the journal gets its number."""
        log, lock = self._run.log, self._lock

        def log_with_lock(*args: Any, **kwargs: Any) -> None:
            with lock:
                log(*args, **kwargs)

        self._run.log = log_with_lock

    def log(self, values: Mapping[str, Any], line: int | None, *, has_files: bool = False) -> None:
        """Log the row of a journal line, unless W&B has it.

        A row with files is passed to W&B's client even then: the client drops the row, but uploads files that may be
        missing.
        """
        with self._lock:
            if line is None:  # a rejected event that is delivered again, after later ones
                self._run.log(dict(values))
                self.logged += 1
                self.next_number = self._run._local_step
                self.state.has_late_rows = True
            elif line >= self._next_line:  # earlier lines were passed to the client, and await confirmation
                self._log(values, line, has_files)
                self._next_line = line + 1

    def _log(self, values: Mapping[str, Any], line: int, has_files: bool) -> None:
        number, is_in_wandb = self.state.number(line), self._is_in_wandb(line, values)
        if not is_in_wandb and self._run._local_step > number:
            number = self._shift(line)
        if not is_in_wandb or has_files:
            self._log_numbered(values, number, is_in_wandb=is_in_wandb)
        if self._fills_gaps:
            self._note_newest(values, is_in_wandb=is_in_wandb)

    def _note_newest(self, values: Mapping[str, Any], *, is_in_wandb: bool) -> None:
        for name, value in values.items():
            if is_in_wandb and isinstance(value, int | float | str) and name != "_timestamp":
                self._newest[name] = value
            else:
                self._newest.pop(name, None)

    def take_newest(self) -> dict[str, Any]:
        """Return the newest values that are not those of the newest row, because rows before them were missing."""
        newest, self._newest = self._newest, {}
        return newest

    def _is_in_wandb(self, line: int, values: Mapping[str, Any]) -> bool:
        number = self.state.number(line)
        if self._times is None or number < self.state.next_number:
            return number < self._held
        return values.get("_timestamp") in self._times

    def _shift(self, line: int) -> int:
        """Shift the numbers of lines from this one on, and return the number of this one."""
        # Not the script's next number: its uncommitted row would be merged with this one.
        number = int(self._run._local_step) + 1
        self.state.shifts.append((line, number - line))
        self._save()
        return number

    def _log_numbered(self, values: Mapping[str, Any], number: int, *, is_in_wandb: bool) -> None:
        before = self._run._local_step
        self._run._local_step = number  # part of file names, which must not change when a row is logged again
        try:
            self._run.log(dict(values), step=number, commit=True)
        finally:
            self._run._local_step = before
        if not is_in_wandb:
            self._run._local_step = self.next_number = number + 1
            self.logged += 1

    def acknowledge(self) -> None:
        """Record in the state that W&B has all rows."""
        self.state.next_number = max(self.state.next_number, self.next_number)
        self.state.has_gaps = False
        self.state.rewound_from = None


# System metrics


def send_system_metrics(run: Any, row: MetricsRow) -> None:
    """Send a row of system metrics as W&B's own, which it shows on a separate tab, with the time of the row."""
    interface = run._interface
    stats = interface._make_stats(dict(_in_wandb(name, value) for name, value in row.values.items()))
    stats.timestamp.FromMicroseconds(round(row.context.time * 1e6))
    interface._publish(interface._make_record(stats=stats))


def _in_wandb(name: str, value: float) -> tuple[str, float]:
    name = name.removeprefix(SYSTEM)
    if match := re.fullmatch(rf"({NODE})/(.+)", name):
        known, value = _in_wandb(match[3], value)
        return f"{known}/l:{match[1]}", value  # as W&B's client does for nodes that have labels
    for pattern, (known, units) in _SYSTEM_NAMES.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(known), value * units
    return name.replace("/", "."), value
