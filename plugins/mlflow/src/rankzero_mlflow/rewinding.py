"""Replace an MLflow run by a new one after a rewind, because MLflow deletes runs, but no points.

1. `MlflowSession.rewind` finds that MLflow has something superseded; the courier then starts again at the first line.
2. `find_successor` creates the new run. Its tag `REWOUND_AT` shows that it does not replace the old run yet.
3. When the courier is at the rewind again, the new run has everything before it, and `retire` deletes the old run.

If the courier is killed meanwhile, the next one finds the new run by its tag `REWOUND_FROM`, and continues.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from rankzero.errors import AccessError
from rankzero.events.structs import MediaEvent
from rankzero.messages import OnceWarner
from rankzero_mlflow.client import RUN_TAG, CheckedClient, NotThereError
from rankzero_mlflow.media import CELLS

REWOUND_FROM = "rankzero.rewound_from"
"""The tag with MLflow's id of the run that this one replaces."""

REWOUND_TO = "rankzero.rewound_to"
"""The tag with MLflow's id of the run that replaces this one."""

REWOUND_AT = "rankzero.rewound_at"
"""The tag of a run that does not replace the old one yet: the journal line of the rewind."""

_MARK = re.compile(r"/step-(?:none|-?\d+)-(\d+)|\+step\+(-?\d+)\+timestamp\+(\d+)\+")  # in the paths of media
_MOST_NAMES = 5


def find_successor(client: CheckedClient, old: Any, rewound_at: int | None) -> Any:
    """Return the ``Run`` that is to replace ``old``; None if there is none, and no rewind for which to create it.

    Args:
        client: the client.
        old: MLflow's ``Run``.
        rewound_at: the journal line of a rewind that is not followed yet; None if there is none.
    """
    from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS, MLFLOW_RUN_NAME

    info = old.info
    found = client.search_runs([info.experiment_id], f"tags.`{REWOUND_FROM}` = '{info.run_id}'")
    if found or rewound_at is None:
        return found[0] if found else None
    tags = {name: text for name, text in old.data.tags.items() if not name.startswith("rankzero.")}
    for name in (MLFLOW_LOGGED_ARTIFACTS, MLFLOW_RUN_NAME):  # MLflow refuses the name twice
        tags.pop(name, None)
    tags |= {REWOUND_FROM: info.run_id, REWOUND_AT: str(rewound_at)}
    return client.create_run(info.experiment_id, info.start_time, tags, info.run_name)


class Superseded:
    """What rewinds have superseded, by which it is found in MLflow."""

    def __init__(self) -> None:
        self._points: dict[str, set[tuple[int, int]]] = {}  # name → (step, milliseconds)
        self._marks: set[tuple[str | None, ...]] = set()

    def add_points(self, points: Iterable[Any]) -> None:
        """Add points, as MLflow's ``Metric``."""
        for point in points:
            self._points.setdefault(point.key, set()).add((point.step, point.timestamp))

    def add_media(self, media: MediaEvent, line: int) -> None:
        """Add the media of a journal line."""
        step = getattr(media, "step", None) or 0
        self._marks |= {(str(line), None, None), (None, str(step), str(round(media.time * 1000)))}

    def is_in(self, client: CheckedClient, run_id: str) -> bool:
        """Return whether MLflow's run has any of it."""
        latest = {each.key: each.step for each in client.get_run(run_id).data._metric_objs}
        for name, points in self._points.items():
            if name in latest and latest[name] >= min(points)[0]:
                history = client.get_metric_history(run_id, name)
                if not points.isdisjoint((each.step, each.timestamp) for each in history):
                    return True
        return any(map(self._has_file, _files_of(client, run_id) if self._marks else ()))

    def names_only_in(self, client: CheckedClient, old: Any, run_id: str) -> list[str]:
        """Return the names of what only the ``Run`` ``old`` has, and not the other run, although it is not superseded.

        These are files that were deleted on this machine, and what was logged with MLflow's own client.
        """
        data = client.get_run(run_id).data
        files = {*_files_of(client, old.info.run_id)} - {*_files_of(client, run_id)}
        return [
            *sorted(old.data.params.keys() - data.params.keys()),
            *sorted(old.data.metrics.keys() - data.metrics.keys() - self._points.keys()),
            *sorted(path for path in files if not self._has_file(path) and not path.startswith(CELLS)),
        ]

    def _has_file(self, path: str) -> bool:
        mark = _MARK.search(path)
        return mark is not None and mark.groups() in self._marks


def retire(client: CheckedClient, old: Any, run_id: str, superseded: Superseded, warner: OnceWarner) -> None:
    """End the ``Run`` that another one replaces, and delete it, unless only it has something; may be repeated.

    Args:
        client: the client.
        old: MLflow's ``Run``.
        run_id: MLflow's id of the run that replaces it.
        superseded: what the new run need not have.
        warner: warns if the old run is not deleted.
    """
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    if old.info.lifecycle_stage == "active":
        old_id = old.info.run_id
        for child in client.search_runs([old.info.experiment_id], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{old_id}'"):
            client.set_tag(child.info.run_id, MLFLOW_PARENT_RUN_ID, run_id)
        why_not = _why_not_delete(superseded.names_only_in(client, old, run_id))
        client.set_tag(old_id, REWOUND_TO, run_id)
        client.set_terminated(old_id, "KILLED")
        _remove_tag(client, old_id, RUN_TAG)
        try:
            if why_not is None:
                client.delete_run(old_id)
        except AccessError as error:
            why_not = str(error)
        if why_not is not None:
            warner.warn("retire", f"MLflow's run {run_id} replaces {old_id}, which is not deleted: {why_not}")
    _remove_tag(client, run_id, REWOUND_AT)


def _why_not_delete(names: list[str]) -> str | None:
    more = f", and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return f"only it has {', '.join(names[:_MOST_NAMES])}{more}" if names else None


def _remove_tag(client: CheckedClient, run_id: str, tag: str) -> None:
    with suppress(NotThereError):  # it was removed, but the courier was killed, or the answer was lost
        client.delete_tag(run_id, tag)


def _files_of(client: CheckedClient, run_id: str, folder: str | None = None) -> Iterator[str]:
    """Yield the paths of a run's artifacts."""
    for each in client.list_artifacts(run_id, folder):
        yield from _files_of(client, run_id, each.path) if each.is_dir else [each.path]
