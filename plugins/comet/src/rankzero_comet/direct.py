"""Comet's own ``Experiment``, for direct use and for ``run.experiment``."""

from __future__ import annotations

import io
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rankzero.errors import TrackerUnavailableError
from rankzero.events.run_info import LogContext, MetricsRow
from rankzero.events.structs import Alert
from rankzero.rank import rank_zero_warn
from rankzero_comet.errors import opening
from rankzero_comet.options import CometOptions, load_sdk
from rankzero_comet.server import IMAGE, Upload, Version
from rankzero_comet.session import AUDIO, VIDEO, CometSession

CREATED_FROM = "rankzero"
"""What Comet shows under "Created from"."""

_SENT_BY_COURIER = (
    "log_code", "log_graph", "log_git_metadata", "log_git_patch", "log_env_details", "auto_output_logging",
    "parse_args",
)  # fmt: skip
"""Options that are switched off for ``run.experiment``, because the courier sends this data."""
_EXIT_TIMEOUT = "COMET_TIMEOUT_CLEANING"
"""Seconds for which Comet's client delays the end of a process if Comet does not respond; an hour if not set."""
_ours: weakref.WeakSet[Any] = weakref.WeakSet()
"""The experiments that loggers of this process opened; the user ends all others."""


def start(options: CometOptions) -> Any:
    """Open an experiment as `open_experiment` does; if Comet fails, return a disabled one, whose ``alive`` is False."""
    errors = load_sdk().exceptions
    import requests

    try:
        return open_experiment(options)
    except (requests.RequestException, errors.CometRestApiException, errors.InvalidAPIKey):  # comet_ml has printed why
        return open_experiment(options.replace(experiment_key=None, mode=None, disabled=True))


def open_experiment(options: CometOptions) -> Any:
    """Create or continue an experiment with ``comet_ml.start``, which would otherwise end those of other loggers."""
    comet_ml, given = load_sdk(), options.given
    key, mode = given.get("experiment_key"), given.get("mode")
    if "url" in given:
        os.environ["COMET_URL_OVERRIDE"] = given["url"]  # comet_ml has one server for the whole process
    for experiment in _ours if key and mode != "create" else ():
        if experiment.get_key() == key and not experiment.ended:
            return experiment
    _hide_other_experiment(key)
    running = comet_ml.get_running_experiment()
    experiment = comet_ml.start(
        api_key=given.get("api_key"),
        workspace=given.get("workspace"),
        project_name=given.get("project"),
        experiment_key=key,
        mode=mode,
        online=given.get("online"),
        experiment_config=comet_ml.ExperimentConfig(**options.config),
    )
    if experiment is not running:
        _ours.add(experiment)
        if not isinstance(experiment, comet_ml.ExistingExperiment):
            experiment.log_other("Created from", CREATED_FROM)
    return experiment


def join(options: CometOptions, key: str, project: str) -> Any:
    """Open an experiment to which a courier writes, without automatic logging of this process."""
    os.environ.setdefault(_EXIT_TIMEOUT, "60")
    switched_off = dict.fromkeys(_SENT_BY_COURIER, False)
    with opening():
        return open_experiment(
            options.replace(
                experiment_key=key, project=project, mode="get_or_create", name=None, tags=None, **switched_off
            )
        )


def _hide_other_experiment(key: str | None) -> None:
    """Hide another experiment from Comet's client, which can have only one open at a time."""
    from comet_ml.config import get_global_experiment, set_global_experiment

    running = get_global_experiment()
    if running is not None and (running in _ours or (key and running.get_key() != key)):
        set_global_experiment(None)


class DirectSession(CometSession):
    """Writes to an experiment with ``comet_ml``, which sends in the background.

    Args:
        start: opens the experiment; called again after the user has ended it.
    """

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start = start
        self._experiment = start()

    @property
    def key(self) -> str:  # type: ignore[override]
        return str(self._experiment.get_key())

    @property
    def url(self) -> str | None:  # type: ignore[override]
        return getattr(self._experiment, "url", None)

    @property
    def experiment(self) -> Any:
        if self._experiment.ended:
            self._experiment = self._start()
        return self._experiment

    def write_metrics(self, rows: Sequence[MetricsRow]) -> None:
        for row in rows:
            values = {self.name_in_comet(name): value for name, value in row.values.items()}
            self.experiment.log_metrics(values, step=row.step, epoch=row.context.epoch)

    def alert(self, alert: Alert, context: LogContext) -> None:
        details = {"text": alert.text} if alert.text else None
        self.experiment.send_notification(alert.title, status=alert.level, additional_data=details)

    def call(self, method: str, value: Any, *more: Any, context: LogContext) -> None:
        options = {"overwrite": True} if method == "set_model_graph" else {}
        getattr(self.experiment, method)(value, *more, **options)

    def send_params(self, params: Mapping[str, Any], context: LogContext) -> None:
        self.experiment.log_parameters(dict(params))

    def send_file(self, file: Upload) -> None:
        experiment = self.experiment
        content = io.BytesIO(file.content) if isinstance(file.content, bytes) else str(file.content)
        details = {"step": file.step, "metadata": dict(file.metadata) or None}
        if file.type in (IMAGE, VIDEO):
            log_shown = experiment.log_image if file.type == IMAGE else experiment.log_video
            log_shown(content, name=file.name, **details)
        elif file.type == AUDIO:
            experiment.log_audio(content, file_name=file.name, **details)
        else:  # as log_text, log_histogram_3d and log_asset do
            experiment._log_asset(content, file_name=file.name, asset_type=file.type, **details)

    def send_version(self, version: Version) -> None:
        from comet_ml import Artifact, OfflineExperiment

        experiment, metadata = self.experiment, version.metadata or None
        if isinstance(experiment, OfflineExperiment):  # its archives cannot contain artifacts
            for name, path in version.files.items():
                experiment.log_asset(str(path), file_name=f"{version.name}/{name}", metadata=metadata)
        elif experiment.alive:
            artifact = Artifact(version.name, version.type, aliases=list(version.aliases), metadata=metadata)
            for name, path in version.files.items():
                artifact.add(str(path), logical_path=name)
            with _warning(f"the artifact {version.name!r} is not in Comet"):
                experiment.log_artifact(artifact)

    def download(self, artifact: str, alias: str, directory: Path) -> list[Path]:
        from comet_ml.exceptions import ArtifactNotFound

        self.experiment.flush()  # versions get their aliases only when they are sent
        try:
            logged = self.experiment.get_artifact(artifact, version_or_alias=alias)
        except ArtifactNotFound as error:
            raise LookupError(f"no version of the artifact {artifact!r} has the alias {alias!r}") from error
        downloaded = logged.download(str(directory), sync_mode=True)
        return [directory / asset.logical_path for asset in downloaded.assets]

    def flush(self) -> None:
        experiment = self._experiment
        if experiment.alive and not experiment.ended and not experiment.flush():
            raise TrackerUnavailableError("Comet's client has not sent everything that was logged")

    def finish(self, status: str, time: float) -> None:
        """Send what is pending; the experiment stays open, because frameworks continue to log."""
        with _warning("not everything that was logged is in Comet"):
            self.flush()

    def close(self) -> None:
        self.finish("", 0)
        if self._experiment in _ours:
            with _warning("not everything that was logged is in Comet"):
                self._experiment.end()


@contextmanager
def _warning(what: str) -> Iterator[None]:
    """Turn errors of Comet's client and server into warnings."""
    import requests
    from comet_ml.exceptions import CometException

    try:
        yield
    except (CometException, requests.RequestException, TrackerUnavailableError) as error:
        rank_zero_warn(f"{what}: {error}")
