"""The rows of a run, each of them in W&B once however often it is delivered.

W&B's client drops rows whose number is below that of the last one. So the number of a row is that of the event's line
in the journal, and what is logged, in whichever order of steps, is at the metric that `rankzero_wandb.opening.STEP`
names. Rows that a script logs itself on the live run take the next numbers; then ours move on, which is noted. Which of
the rows that W&B has, and that were not acknowledged, are ours, their times tell.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from rankzero_wandb.client import ReadBack
from rankzero_wandb.state import State


class History:
    """Writes rows to one opening of a run.

    Args:
        run: W&B's run.
        state: which numbers rows have; changed in place.
        save: called when it has changed.
        read_back: asks W&B itself; None if it cannot be asked.
    """

    def __init__(self, run: Any, state: State, save: Callable[[], None], read_back: ReadBack | None = None) -> None:
        self._run = run
        self._state = state
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
        has_doubts = state.is_shared or state.has_gaps
        if has_doubts and read_back is not None and state.next_number < self._held:
            self._times = read_back.times(state.next_number, self._held)

    @property
    def is_shared(self) -> bool:
        """Whether the script may log rows, too."""
        return self._state.is_shared

    def share(self) -> None:
        """Let the script log rows, too."""
        with self._lock:
            if not self._state.is_shared:
                self._state.is_shared = True
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
        number, is_held = self._state.number(line), self._is_held(line, values)
        if not is_held and self._run._local_step > number:
            number = self._move(line)
        if not is_held or has_files:
            self._hand_over(values, number, is_held=is_held)

    def _is_held(self, line: int, values: Mapping[str, Any]) -> bool:
        number = self._state.number(line)
        if self._times is None or number < self._state.next_number:
            return number < self._held
        return values.get("_timestamp") in self._times

    def _move(self, line: int) -> int:
        """Give the lines from this one on other numbers; return that of this one."""
        # One more than the script's next: a row that it has not committed would become one with ours.
        number = int(self._run._local_step) + 1
        self._state.shifts.append((line, number - line))
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
        self._state.next_number = max(self._state.next_number, self.next_number)
        self._state.has_gaps = False
