"""Read runs of a server, or of a database that is not SQLite, with MLflow's client."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from rankzero.errors import AccessError, RankzeroError
from rankzero.files.writing import inside, open_regular
from rankzero.importers.base import Report
from rankzero.loggers.sdk_errors import translated
from rankzero.secrets import mask_urls
from rankzero_mlflow.client import ERRORS, CheckedClient, read_failure
from rankzero_mlflow.importing.artifacts import Folder, StoredFile, local_folder
from rankzero_mlflow.importing.database import finite_as_logged
from rankzero_mlflow.importing.points import Point
from rankzero_mlflow.importing.run import Content, Details, MlflowRun

_PAGE = 1000
_ENDED = ("FINISHED", "FAILED", "KILLED")


class MlflowServer:
    """A server; data that several runs share is read once."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.client = CheckedClient(uri, has_courier=False)
        self.models = functools.cache(self._models)

    def runs(self) -> Iterator[ServerRun]:
        """Yield the runs, including deleted ones."""
        from mlflow.entities import ViewType

        every = {"run_view_type": ViewType.ALL, "order_by": ["attributes.start_time"]}
        for experiment in _pages(self.client.search_experiments, view_type=ViewType.ALL):
            for run in _pages(self.client.search_runs, experiment_ids=[experiment.experiment_id], **every):
                yield ServerRun(self, run, experiment)

    def _models(self, experiment_id: str) -> list[Any]:
        return _if_known(lambda: list(_pages(self.client.search_logged_models, experiment_ids=[experiment_id])))

    @functools.cached_property
    def versions(self) -> dict[str, list[dict[str, Any]]]:
        """Run → versions of registered models."""
        found: dict[str, list[dict[str, Any]]] = {}
        for model in _if_known(lambda: list(_pages(self.client.search_registered_models))):
            aliases = dict(self.client.get_registered_model(model.name).aliases)
            for each in _pages(self.client.search_model_versions, filter_string=f"name = '{model.name}'"):
                names = [alias for alias, version in aliases.items() if str(version) == str(each.version)]
                about = {"name": each.name, "version": str(each.version), "aliases": names, "source": each.source}
                found.setdefault(each.run_id, []).append(about)
        return found


class ServerRun(MlflowRun):
    """A run on a server, which does not return the order of arrival of points."""

    rereads = True

    def __init__(self, server: MlflowServer, run: Any, experiment: Any) -> None:
        info = run.info
        details = Details(
            info.run_id,
            info.run_name or "",
            experiment.name,
            info.status,
            info.start_time or None,
            info.end_time or None,
        )
        super().__init__(details, f"{mask_urls(server.uri)}: {details.name or details.id}")
        self.is_deleted = "deleted" in (info.lifecycle_stage, experiment.lifecycle_stage)
        self._server = server
        self._run = run

    def read(self) -> Content:
        run, content = self._run, Content(dict(self._run.data.params), dict(self._run.data.tags))
        content.versions = self._server.versions.get(self._details.id, [])
        for used in run.inputs.dataset_inputs if run.inputs else ():
            context = {each.value for each in used.tags if each.key == "mlflow.data.context"}
            found = {**dict(used.dataset), "context": next(iter(context), None)}
            content.datasets.append({name: str(value) for name, value in found.items() if value is not None})
        content.artifacts = self._folder(run.info.artifact_uri, f"{self._details.id}/artifacts", content)
        for model in self._server.models(run.info.experiment_id):
            if model.source_run_id == self._details.id:
                end = f"models/{model.model_id}/artifacts"
                folder = self._folder(model.artifact_location, end, content)
                if folder is not None:
                    folder.name, folder.model_id = model.name, model.model_id
                    folder.metadata = {"model_id": model.model_id}
                    content.models.append(folder)
        return content

    def _folder(self, uri: str, end: str, content: Content) -> Folder | None:
        if uri.startswith(("/", "file:")):
            return local_folder(uri, end, (), content.leave_out)
        return ServerFolder(uri=uri, tracking_uri=self._server.uri)

    def points(self, known: Any, report: Report) -> Iterator[Point]:
        self.ended_at = self._state()
        if known is not None and known == self.ended_at and self._details.status in _ENDED:
            return
        for name in self._run.data.metrics:
            for each in self._server.client.get_metric_history(self._details.id, name):
                yield each.timestamp, each.step, name, finite_as_logged(each.value)

    def _state(self) -> str:
        """Return a text that changes when a run that has ended gets more metrics."""
        latest = sorted(repr((each.key, each.value, each.timestamp, each.step)) for each in self._run.data._metric_objs)
        return hashlib.sha256(repr((self._details, latest)).encode()).hexdigest()


@dataclass
class ServerFolder(Folder):
    """Artifacts on a server or a storage service."""

    uri: str = field(kw_only=True)
    tracking_uri: str = field(kw_only=True)

    def files(self) -> Iterator[StoredFile]:
        folders: list[str | None] = [None]
        while folders:
            folder = folders.pop()
            with translated(ERRORS, read=read_failure):
                listed = self._repository.list_artifacts(folder)
            for each in listed:
                if each.is_dir:
                    folders.append(each.path)
                else:
                    yield StoredFile(each.path, each.file_size)

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        with tempfile.TemporaryDirectory(prefix="rankzero-import-") as scratch:
            inside(Path(scratch), path)
            with translated(ERRORS, read=read_failure):
                where = self._repository.download_artifacts(path, scratch)
            with open_regular(where) as file:
                yield file

    @functools.cached_property
    def _repository(self) -> Any:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(self.uri, tracking_uri=self.tracking_uri)


def _pages(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(max_results=_PAGE, page_token=token, **arguments)
        yield from page
        if not (token := page.token):
            return


def _if_known(search: Callable[[], list[Any]]) -> list[Any]:
    """Return the result of a search; an empty list if the server is too old for it."""
    try:
        return search()
    except RankzeroError as error:
        if isinstance(error, AccessError) or getattr(error.__cause__, "status_code", None) in (404, 501):
            return []
        raise
