"""What W&B holds of a run, asked of the service itself: its client reports nothing of files and settings, and takes
any answer for success.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from rankzero_wandb.failures import translated

MARK = "rankzero"
"""The key of a run's config under which rankzero notes what concerns itself."""

MOST_NAMES = 50
"""How many files can be asked for in a request."""

_PROGRESS = """query RunState($project: String!, $entity: String!, $name: String!) {
    project(name: $project, entityName: $entity) { run(name: $name) { historyLineCount state } }
}"""


class Progress(NamedTuple):
    """How far a run is in W&B."""

    rows: int
    """How many rows W&B has."""
    has_ended: bool


class ReadBack:
    """Asks for one run.

    Args:
        path: ``ENTITY/PROJECT/ID``, or without the entity if that is the user's own.
        base_url: of the server; the client's default if None.
        api_key: the key; that of the user's login if None.
    """

    def __init__(self, path: str, base_url: str | None, api_key: str | None) -> None:
        self._path = path
        self._api: Any = None
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

    def progress(self) -> Progress:
        """Return how far the run is, with one small request."""
        with translated("W&B cannot be asked for a run's rows"):
            entity, project, name = self._path.split("/")
            variables = {"entity": entity, "project": project, "name": name}
            found = self._client()._service_api.execute_graphql(_PROGRESS, variables)
            run = (found.get("project") or {}).get("run") or {}
        return Progress(int(run.get("historyLineCount") or 0), run.get("state", "running") != "running")

    def last_number(self) -> int:
        """Return the number of the last row that W&B has."""
        with translated("W&B cannot be asked for a run's rows"):
            return int(self._run(is_fresh=False).lastHistoryStep)

    def times(self, first: int, end: int) -> frozenset[float]:
        """Return the times of the rows with numbers from ``first`` to before ``end``."""
        with translated("W&B cannot be asked for a run's rows"):
            rows = self._run(is_fresh=True).scan_history(min_step=first, max_step=end)
            return frozenset(row["_timestamp"] for row in rows if "_timestamp" in row)

    def _run(self, *, is_fresh: bool) -> Any:
        """Return W&B's answer, asked for anew if it must be."""
        if self._found is None:
            self._found = self._client().run(self._path)
        elif is_fresh:
            self._found.load(force=True)
        return self._found

    def _client(self) -> Any:
        """Return W&B's API, of which there is one, as each holds connections."""
        import wandb

        if self._api is None:
            self._api = wandb.Api(overrides=self._overrides, api_key=self._api_key)
        return self._api
