"""A logger that is used directly: Comet's own ``Experiment`` is told, which sends in the background."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rankzero import rank_zero_warn
from rankzero.events.run_info import LogContext, MetricsRow
from rankzero_comet.files import AUDIO, HISTOGRAM, IMAGE, TEXT, VIDEO, Artifact, Upload
from rankzero_comet.joining import is_ours, start
from rankzero_comet.names import Names, flat_params
from rankzero_comet.session import Session
from rankzero_comet.settings import Settings


class DirectSession(Session):
    """Writes to an experiment as ``comet_ml`` does.

    Args:
        settings: what the user said.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._opened: Any = None
        self._key = settings.experiment_key
        self._names = Names()

    def __getstate__(self) -> dict[str, Any]:
        if self._key is None and self.settings.known_key is None:
            self._key = uuid.uuid4().hex  # by which a copy goes on with the experiment
            self.settings = self.settings._replace(mode="get_or_create")
        return {**self.__dict__, "_opened": None}

    # Identity

    @property
    def key(self) -> str | None:
        return self._key

    @property
    def project(self) -> str | None:
        return self.settings.project or getattr(self._opened, "project_name", None)

    @property
    def url(self) -> str | None:
        return getattr(self._opened, "url", None)

    @property
    def experiment(self) -> Any:
        if self._opened is None or self._opened.ended:
            self._opened = start(self.settings._replace(experiment_key=self._key))
            self._key = self._key or self._opened.get_key()
            if self._opened.alive:
                self._note_that_it_is_there()
            elif not self.settings.is_disabled:
                rank_zero_warn(
                    "Comet did not let the experiment begin, and what is logged to it is lost; its client said why. "
                    'Under rankzero.start("comet") it would be delivered later'
                )
        return self._opened

    def _note_that_it_is_there(self) -> None:
        """From now on go on with the experiment, without saying again what a person may have changed in Comet."""
        config = {name: value for name, value in self.settings.config.items() if name not in ("name", "tags")}
        self.settings = self.settings._replace(mode="get_or_create", config=config)

    # What is logged

    def log_metrics(self, rows: Iterable[MetricsRow]) -> None:
        for row in rows:
            values = {self._names.known_as(name): value for name, value in row.values.items()}
            self.experiment.log_metrics(values, step=row.step, epoch=row.context.epoch)

    def log_params(self, params: Mapping[str, Any], context: LogContext) -> None:
        known = {}
        for name, value in flat_params(params):
            name = self._names.known_as(name)
            known[name], is_whole = self._names.short(name, value)
            if not is_whole:
                self.experiment.log_asset_data(str(value), name=f"params/{name}.txt")
        self.experiment.log_parameters(known)

    def log_other(self, name: str, value: Any, context: LogContext) -> None:
        self.experiment.log_other(name, value)

    def add_tags(self, tags: Sequence[str]) -> None:
        self.experiment.add_tags(list(tags))

    def upload(self, file: Upload) -> None:
        experiment, path = self.experiment, str(file.path)
        told = {"step": file.step, "metadata": file.metadata or None}
        if file.type == IMAGE:
            experiment.log_image(path, name=file.name, **told)
        elif file.type == AUDIO:
            experiment.log_audio(path, file_name=file.name, **told)
        elif file.type == VIDEO:
            experiment.log_video(path, name=file.name, **told)
        elif file.type == TEXT:
            experiment.log_text(file.path.read_text(encoding="utf-8"), **told)
        elif file.type == HISTOGRAM:
            experiment._log_asset(path, file_name=file.name, asset_type=HISTOGRAM, **told)
        else:
            experiment.log_asset(path, file_name=file.name, **told)

    def log_html(self, html: str, context: LogContext) -> None:
        self.experiment.log_html(html)

    def set_graph(self, graph: str) -> None:
        self.experiment.set_model_graph(graph, overwrite=True)

    def log_artifact(self, artifact: Artifact) -> None:
        from comet_ml import OfflineExperiment

        experiment = self.experiment
        if isinstance(experiment, OfflineExperiment):  # whose archives hold no artifacts
            for name, path in artifact.files.items():
                experiment.log_asset(str(path), file_name=f"{artifact.name}/{name}", metadata=artifact.metadata or None)
        elif experiment.alive:
            with _said(f"the artifact {artifact.name!r} is not in Comet"):
                experiment.log_artifact(_made(artifact))

    def download(self, artifact: str, alias: str, directory: Path) -> list[Path]:
        from comet_ml.exceptions import ArtifactNotFound

        self.experiment.flush()  # what is on its way has no alias yet
        try:
            logged = self.experiment.get_artifact(artifact, version_or_alias=alias)
        except ArtifactNotFound as error:
            raise LookupError(f"no version of the artifact {artifact!r} has the alias {alias!r}") from error
        found = logged.download(str(directory), sync_mode=True)
        return [directory / asset.logical_path for asset in found.assets]

    def notify(self, title: str, text: str, level: str) -> None:
        self.experiment.send_notification(title, status=level, additional_data={"text": text} if text else None)

    # Ended

    def wait(self) -> None:
        if self._opened is not None and not self._opened.ended:  # that of the user may have: it would wait in vain
            self._opened.flush()

    def end(self, status: str, context: LogContext) -> None:
        """Send what waits; the experiment stays open, for frameworks log on after this."""
        self.wait()

    def close(self) -> None:
        self.wait()
        opened, self._opened = self._opened, None
        if opened is not None and is_ours(opened):
            with _said("not everything that was logged is in Comet"):
                opened.end()


def _made(artifact: Artifact) -> Any:
    from comet_ml import Artifact as CometArtifact

    made = CometArtifact(
        artifact.name, artifact.type, aliases=list(artifact.aliases), metadata=artifact.metadata or None
    )
    for name, path in artifact.files.items():
        made.add(str(path), logical_path=name)
    return made


@contextmanager
def _said(what: str) -> Iterator[None]:
    """Warn of what goes wrong between Comet's client and its server: training goes on."""
    import requests
    from comet_ml.exceptions import CometException

    try:
        yield
    except (CometException, requests.RequestException) as error:
        rank_zero_warn(f"{what}: {error}")
