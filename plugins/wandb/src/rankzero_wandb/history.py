"""The rows of a run, each of them in W&B once however often it is delivered.

W&B's client drops rows whose number is below that of the last one. So the number of a row is that of the event's line
in the journal, and what is logged, in whichever order of steps, is at the metric that `rankzero_wandb.opening.STEP`
names. Rows that a script logs itself on the live run take the next numbers; then ours move on, which is noted. Which of
the rows that W&B has, and that were not acknowledged, are ours, their times tell.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from rankzero_wandb.readback import ReadBack
from rankzero_wandb.state import State
from rankzero_wandb.upload_log import UploadLog

_ASK_EVERY = (0.25, 4.0)  # seconds, at first and at most: W&B may take a moment to count what it was sent


class History:
    """Writes rows to one opening of a run.

    Args:
        run: W&B's run.
        state: which numbers rows have; changed in place.
        save: called when it has changed.
        uploads: what was uploaded.
        read_back: what W&B says itself; None if it cannot be asked: then what was uploaded is in W&B.
    """

    def __init__(
        self, run: Any, state: State, save: Callable[[], None], uploads: UploadLog, read_back: ReadBack | None = None
    ) -> None:
        self._run = run
        self._state = state
        self._save = save
        self._uploads = uploads
        self._read_back = read_back
        self._held = self._next_number = int(run.starting_step)  # W&B has the rows before this one
        self._next_line = 0
        self._logged = 0
        self._lock = threading.RLock()
        self._asked_at = -math.inf
        self._asked_of = 0  # rows that were sent
        self._ask_after = _ASK_EVERY[0]
        self._times: frozenset[float] | None = None  # of rows that are perhaps the script's, or before a gap
        if state.is_shared:
            self.share()
        has_doubts = state.is_shared or state.has_gaps
        if has_doubts and read_back is not None and state.next_number < self._held:
            self._times = read_back.times(state.next_number, self._held)

    def share(self) -> None:
        """Let the script log rows, too, but none while one of ours gets its number."""
        log, lock = self._run.log, self._lock

        def log_alone(*args: Any, **kwargs: Any) -> None:
            with lock:
                log(*args, **kwargs)

        self._run.log = log_alone

    def log(self, values: Mapping[str, Any], line: int, *, has_files: bool = False) -> None:
        """Log the row that a line of the journal becomes, unless W&B has it.

        A row that W&B has is given to its client all the same if it has files, which may not have arrived: the row is
        dropped there, and the files are uploaded.
        """
        if line < self._next_line:
            return  # handed over, but not acknowledged yet
        with self._lock:
            self._log(values, line, has_files)
        self._next_line = line + 1

    def _log(self, values: Mapping[str, Any], line: int, has_files: bool) -> None:
        number, is_held = self._state.number(line), self._is_held(line, values)
        if not is_held and self._run._local_step > number:
            number = self._move(line)
        if not is_held or has_files:
            self._hand_over(values, number, is_held=is_held)

    def append(self, values: Mapping[str, Any]) -> None:
        """Log a row that comes from no journal."""
        self._run.log(dict(values))
        self._logged += 1
        self._next_number = self._run._local_step

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
            self._run._local_step = self._next_number = number + 1
            self._logged += 1

    @property
    def is_sent(self) -> bool:
        """Whether W&B's client has sent all rows, and was answered."""
        return self._uploads.rows >= self._logged

    def is_acknowledged(self) -> bool:
        """Return whether W&B has all rows."""
        self._uploads.read()
        if self._logged == 0 or self._read_back is None:
            return self.is_sent
        return self.is_sent and self._has_arrived(self._read_back)

    def _has_arrived(self, read_back: ReadBack) -> bool:
        if self._uploads.rows != self._asked_of:
            self._asked_of, self._ask_after = self._uploads.rows, _ASK_EVERY[0]
        elif time.monotonic() - self._asked_at < self._ask_after:
            return False
        else:
            self._ask_after = min(2 * self._ask_after, _ASK_EVERY[1])
        if self._state.is_shared:  # the rows that were sent are not only ours
            has_arrived = read_back.last_number() >= self._next_number - 1
        else:
            has_arrived = read_back.progress().rows >= self._uploads.end
        self._asked_at = time.monotonic()
        return has_arrived

    def note_acknowledged(self) -> None:
        """Have the state say that W&B has all rows."""
        self._state.next_number = max(self._state.next_number, self._next_number)
        self._state.has_gaps = False
