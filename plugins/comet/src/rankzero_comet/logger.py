"""`CometLogger`: writes a run to Comet."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from rankzero.events.run_info import MetricsRow, RunInfo, TrackedMetrics, TrackedPoint
from rankzero.loggers.adapter import TrackerLogger
from rankzero_comet.courier import CourierSession
from rankzero_comet.direct import DirectSession, start
from rankzero_comet.errors import ERRORS, read_failure
from rankzero_comet.options import DEPRECATED, CometOptions, renamed
from rankzero_comet.server import key_and_address, read_points
from rankzero_comet.session import ANNOTATIONS, CometSession, metric_name

_EPOCH = "epoch"


class CometLogger(TrackerLogger):
    """Writes to Comet; accepts the arguments of Lightning's `CometLogger`.

    Used directly, it passes everything to ``comet_ml``, which sends in the background. Under a Run, data counts as
    delivered only when Comet's server has confirmed it, and each value keeps the time at which it was logged.

    Args:
        api_key: the key; that of ``comet login`` or ``$COMET_API_KEY`` if not given.
        workspace: the workspace; ``$COMET_WORKSPACE``, or the user's own, if not given.
        project: the project; the Run's, or ``$COMET_PROJECT_NAME``, if not given.
        experiment_key: the key of the experiment, 32 to 50 letters and digits; ``$COMET_EXPERIMENT_KEY``, the Run's
            id, or one that Comet generates, if not given.
        mode: continue the experiment (``get``), create it (``create``), or create it unless it exists
            (``get_or_create``, the default). Under a Run ``create`` means ``get_or_create``.
        online: False sends nothing. In direct use ``comet_ml`` writes an archive for ``comet upload``; under a Run
            ``rankzero sync`` delivers the journal later.
        prefix: put before the names of metrics, followed by ``_``.
        log_model: upload the checkpoints of a ModelCheckpoint: those that exist at the end (True), each one when it is
            saved (``"all"``), or none (False). If not given, ``"all"`` under a Run and False in direct use.
        url: Comet's server, ``https://comet.example.org/clientlib/``; ``$COMET_URL_OVERRIDE``, or the hosted service,
            if not given. In direct use ``comet_ml`` uses it for the whole process.
        environment: ``COMET_…`` variables that take precedence over those of this process and Comet's files; a run
            that is delivered later has those of the training process.
        **kwargs: arguments of ``comet_ml.ExperimentConfig``: name, tags, offline_directory, log_code, …; and
            former names of Lightning's logger: project_name, experiment_name, save_dir, offline.

    Raises:
        PluginNotInstalledError: a package is missing.
        ConfigError: an argument is invalid.
    """

    LOGGER_JOIN_CHAR = "_"

    sdk = "comet_ml"
    tracker = "Comet"
    options_class = CometOptions
    errors = ERRORS
    read_failure = staticmethod(read_failure)
    epoch_metric = None
    media_options: ClassVar[Mapping[str, frozenset[str]]] = {"image": frozenset([ANNOTATIONS])}
    draws_models = True
    scratch = "flushed"
    known_options: ClassVar[frozenset[str]] = CometOptions.names().union(DEPRECATED)
    supports_join = True
    batch_bytes = 1 << 15  # a batch of metrics is one request, of about as many values as Comet's client sends
    captures = frozenset(["console"])

    options: CometOptions

    def __init__(
        self,
        *,
        api_key: str | None = None,
        workspace: str | None = None,
        project: str | None = None,
        experiment_key: str | None = None,
        mode: Literal["get_or_create", "get", "create"] | None = None,
        online: bool | None = None,
        prefix: str | None = None,
        log_model: bool | Literal["all"] | None = None,
        url: str | None = None,
        environment: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            prefix=prefix,
            log_model=log_model,
            api_key=api_key,
            workspace=workspace,
            experiment_key=experiment_key,
            mode=mode,
            url=url,
            environment=environment,
            **renamed({"project": project, "online": online, **kwargs}),
        )
        self._direct = self.options  # in direct use, with the experiment's key once it is known
        if not (self.options.sends and self.options.allows("auto_output_logging")):
            self.captures = frozenset()

    def __getstate__(self) -> dict[str, Any]:
        if self._direct["experiment_key"] is None:  # so that a copy continues the experiment
            self._direct = self._direct.replace(experiment_key=uuid.uuid4().hex, mode="get_or_create")
        return super().__getstate__()

    # The session

    def open(self, run: RunInfo | None) -> CometSession:
        return DirectSession(self._start) if run is None else CourierSession(self.options, run)

    def _start(self) -> Any:
        experiment = start(self._direct)
        key = self._direct.given.get("experiment_key") or experiment.get_key()
        project = self._direct["project"] or getattr(experiment, "project_name", None)
        self._direct = self._direct.replace(experiment_key=key, project=project)
        if experiment.alive:  # users may change its name and tags, so they are set only once
            self._direct = self._direct.replace(mode="get_or_create", name=None, tags=None)
        elif not self.options.is_disabled:
            message = (
                "the experiment cannot be opened in Comet, and what is logged to it is lost; comet_ml printed why. "
                'With rankzero.start("comet") it would be delivered later'
            )
            self.warner.warn(message)
        return experiment

    # Identity

    @property
    def name(self) -> str | None:
        """The project; None for Comet's default."""
        return self._direct["project"] if self.run_info is None else self.options.project_of(self.run_info)

    @property
    def version(self) -> str | None:
        """The experiment's key; None before the experiment is opened."""
        if self.run_info is None:
            return self._direct.given.get("experiment_key")
        return self.options.key_of(self.run_info)

    @property
    def save_dir(self) -> str | None:
        """The directory in which ``comet_ml`` writes archives of offline experiments."""
        directory = self.options["offline_directory"]
        return None if directory is None else os.fspath(directory)

    # Login, offline

    def check_login(self) -> None:
        if self.options.sends:
            self.options.check_login()

    @property
    def is_offline(self) -> bool:
        return not self.options.allows("online") and not self.is_disabled

    @property
    def is_disabled(self) -> bool:
        return self.options.is_disabled

    def go_online(self) -> None:
        if self.is_offline:
            self.options = self.options.replace(online=True)

    # Metrics

    def named(self, row: MetricsRow) -> MetricsRow:
        """Return a row as Comet has it: an epoch logged among metrics becomes the epoch of the others."""
        values, context = row.values, row.context
        epoch = values.get(_EPOCH)
        if epoch is not None and len(values) > 1 and context.epoch is None and float(epoch).is_integer():
            values = {name: value for name, value in values.items() if name != _EPOCH}
            context = msgspec.structs.replace(context, epoch=int(epoch))
        return super().named(MetricsRow(values, row.step, context))

    @property
    def address(self) -> str:
        return key_and_address(self.options)[1]

    def read_points(self, run: RunInfo, names: Sequence[str]) -> TrackedMetrics:
        logged_names = {metric_name(name): name for name in names}
        epoch, values_by_name = self.prefix + _EPOCH, read_points(self.options, self.options.key_of(run), logged_names)
        points: dict[str, list[TrackedPoint] | None] = {
            logged_names[name]: [(each.step, each.value) for each in values] for name, values in values_by_name.items()
        }
        if epoch in names and any(each.epoch is not None for values in values_by_name.values() for each in values):
            points[epoch] = None  # see `named`
        return points

    def log_text_metric(self, key: str, value: Any, step: int | None) -> None:
        super().log_text_metric(self.prefix + key, value, step)
