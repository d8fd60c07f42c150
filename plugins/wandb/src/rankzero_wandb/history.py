"""The rows of a run, each of them in W&B once however often it is delivered.

W&B's client drops rows whose number is below that of the last one. So the number of a row is that of the event's line
in the journal, and what is logged, in whichever order of steps, is at the metric that `rankzero_wandb.opening.STEP`
names. Rows that a script logs itself on the live run take the next numbers; then ours move on, which is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rankzero_wandb.state import State
from rankzero_wandb.upload_log import UploadLog


class History:
    """Writes rows to one opening of a run.

    Args:
        run: W&B's run.
        state: which numbers rows have; changed in place.
        save: called when it has changed.
        uploads: what was uploaded.
    """

    def __init__(self, run: Any, state: State, save: Callable[[], None], uploads: UploadLog) -> None:
        self._run = run
        self._state = state
        self._save = save
        self._uploads = uploads
        self._held = self._next_number = int(run.starting_step)  # W&B has the rows before this one
        self._next_line = 0
        self._logged = 0

    def log(self, values: Mapping[str, Any], line: int, *, has_files: bool = False) -> None:
        """Log the row that a line of the journal becomes, unless W&B has it.

        A row that W&B has is given to its client all the same if it has files, which may not have arrived: the row is
        dropped there, and the files are uploaded.
        """
        if line < self._next_line:
            return  # handed over, but not acknowledged yet
        number = self._state.number(line)
        self._count_others()
        if number >= self._held and self._next_number > number:
            self._state.shifts.append((line, self._next_number - line))
            self._save()
            number = self._next_number
        if number >= self._held or has_files:
            self._hand_over(values, number)
        self._next_line = line + 1

    def _hand_over(self, values: Mapping[str, Any], number: int) -> None:
        self._run._local_step = number  # stands in the names of files, which must be the same every time
        try:
            self._run.log(dict(values), step=number, commit=True)
            if number >= self._held:
                self._logged += 1
                self._next_number = number + 1
        finally:
            self._run._local_step = self._next_number

    def is_acknowledged(self) -> bool:
        """Return whether W&B has all rows."""
        self._count_others()
        self._uploads.read()
        return self._uploads.rows >= self._logged

    def _count_others(self) -> None:
        """Take note of rows that the script logged itself."""
        others = self._run._local_step - self._next_number
        if others > 0:
            self._logged += others
            self._next_number += others
