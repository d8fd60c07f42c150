"""What W&B holds of a run, asked of the service itself: files and settings, of which its client reports nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from rankzero_wandb.failures import translated

MARK = "rankzero"
"""The key of a run's config under which rankzero notes what concerns itself."""

MOST_NAMES = 50
"""How many files can be asked for in a request."""


class ReadBack:
    """Asks for one run.

    Args:
        path: ``ENTITY/PROJECT/ID``, or without the entity if that is the user's own.
        base_url: of the server; the client's default if None.
        api_key: the key; that of the user's login if None.
    """

    def __init__(self, path: str, base_url: str | None, api_key: str | None) -> None:
        self._path = path
        self._overrides = {"base_url": base_url} if base_url else {}
        self._api_key = api_key
        self._found: Any = None

    @classmethod
    def of(cls, run: Any) -> ReadBack:
        """Return what asks for a run that is open."""
        return cls(f"{run.entity}/{run.project}/{run.id}", run.settings.base_url, run.settings.api_key)

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        """Return the sizes in bytes of those of up to `MOST_NAMES` files, by their paths in the run, that W&B has."""
        with translated("W&B cannot be asked for a run's files"):
            files = self._run(is_fresh=False).files(names=sorted(names), per_page=MOST_NAMES)
            return {file.name: int(file.size) for file in files}

    def line(self) -> int:
        """Return the line of the journal up to which W&B has the settings; -1 if it has none."""
        line = self.mark().get("line", -1)
        return line if isinstance(line, int) else -1

    def mark(self) -> Mapping[str, Any]:
        """Return what the run's config says of rankzero."""
        with translated("W&B cannot be asked for a run's settings"):
            mark = self._run(is_fresh=True).config.get(MARK)
        return mark if isinstance(mark, dict) else {}

    def last_number(self) -> int:
        """Return the number of the last row that W&B has."""
        with translated("W&B cannot be asked for a run's rows"):
            self._found = None  # loading it again does not bring the rows
            return int(self._run(is_fresh=False).lastHistoryStep)

    def times(self, first: int, end: int) -> frozenset[float]:
        """Return the times of the rows with numbers from ``first`` to before ``end``."""
        with translated("W&B cannot be asked for a run's rows"):
            rows = self._run(is_fresh=True).scan_history(min_step=first, max_step=end)
            return frozenset(row["_timestamp"] for row in rows if "_timestamp" in row)

    def _run(self, *, is_fresh: bool) -> Any:
        """Return W&B's answer, asked for anew if it must be; of W&B's API there is one, as each holds connections."""
        import wandb

        if self._found is None:
            self._found = wandb.Api(overrides=self._overrides, api_key=self._api_key).run(self._path)
        elif is_fresh:
            self._found.load(force=True)
        return self._found
