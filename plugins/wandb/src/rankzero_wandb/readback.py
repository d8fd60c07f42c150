"""What W&B holds of a run, asked of the service itself: files and settings, of which its client reports nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rankzero_wandb.failures import translated

MARK = "rankzero"
"""The key of a run's config under which rankzero notes what concerns itself."""

MOST_NAMES = 50
"""How many files can be asked for in a request."""


class ReadBack:
    """Asks for one run.

    Args:
        run: W&B's run.
    """

    def __init__(self, run: Any) -> None:
        self._path = f"{run.entity}/{run.project}/{run.id}"
        self._settings = run.settings

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        """Return the sizes in bytes of those of up to `MOST_NAMES` files, by their paths in the run, that W&B has."""
        with translated("W&B cannot be asked for a run's files"):
            files = self._ask().files(names=sorted(names), per_page=MOST_NAMES)
            return {file.name: int(file.size) for file in files}

    def line(self) -> int:
        """Return the line of the journal up to which W&B has the settings; -1 if it has none."""
        with translated("W&B cannot be asked for a run's settings"):
            mark = self._ask().config.get(MARK)
        return mark.get("line", -1) if isinstance(mark, dict) else -1

    def _ask(self) -> Any:
        import wandb

        api = wandb.Api(overrides={"base_url": self._settings.base_url}, api_key=self._settings.api_key)
        return api.run(self._path)
