"""What has to outlive an opening of a run: kept in a small file beside the journal."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from rankzero.errors import NotAFileError
from rankzero.files.writing import read_own, write_file
from rankzero_wandb.summaries import Definition, Values

_UNUSABLE = re.compile(r"[^\w.-]+")


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


class StateFile:
    """Reads and writes the state of one run.

    Args:
        run_dir: the run's directory.
        target: which run of W&B it is: a run may go to several.
    """

    def __init__(self, run_dir: str, target: str) -> None:
        self._path = Path(run_dir, f"wandb-{_UNUSABLE.sub('-', target)}.json")

    def load(self) -> State | None:
        """Return the state, None if none was saved."""
        try:
            return msgspec.json.decode(read_own(self._path), type=State)
        except (FileNotFoundError, NotAFileError, msgspec.MsgspecError):
            return None

    def save(self, state: State) -> None:
        """Replace the file at once."""
        write_file(self._path, msgspec.json.encode(state))
