"""MLflow's ids of a run of rankzero: kept in its directory, so that no answer to a search makes a second run."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rankzero.errors import NotAFileError
from rankzero.files.writing import read_own, write_file

_NAME = "mlflow.runs.json"


class KeptIds:
    """Reads and writes the ids; a run may go to several places, and has an id in each.

    Args:
        run_dir: the run's directory.
    """

    def __init__(self, run_dir: str) -> None:
        self.path = Path(run_dir, _NAME)

    def get(self, place: str) -> str | None:
        """Return the id of the run in a place; None if none is known."""
        return self._load().get(place)

    def keep(self, place: str, run_id: str) -> None:
        """Write down the id of the run in a place."""
        write_file(self.path, msgspec.json.encode({**self._load(), place: run_id}))

    def _load(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(read_own(self.path), type=dict[str, str])
        except (FileNotFoundError, NotAFileError, msgspec.MsgspecError):
            return {}
