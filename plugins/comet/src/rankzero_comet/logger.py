"""`CometLogger`: writes a run to Comet."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec

from rankzero.errors import ConfigError, PluginNotInstalledError
from rankzero.events.run_info import MetricsRow, RunInfo
from rankzero.plugins.entry_points import is_installed
from rankzero.values import Number, to_jsonable
from rankzero_comet.courier_session import CourierSession
from rankzero_comet.direct_session import DirectSession
from rankzero_comet.login import check_login
from rankzero_comet.media_verbs import MediaVerbs
from rankzero_comet.session import NoSession, Session
from rankzero_comet.settings import DEPRECATED, OPTIONS, Settings, check, renamed, resolved_options

_EPOCH = "epoch"


class CometLogger(MediaVerbs):
    """Writes to Comet; takes the arguments of Lightning's logger of this name.

    Used directly it tells ``comet_ml`` what is logged. Under a Run each request is acknowledged by Comet's server
    before it counts as delivered, and every value keeps its own time.

    Args:
        api_key: the key; that of ``comet login`` or ``$COMET_API_KEY`` if not given.
        workspace: the workspace; ``$COMET_WORKSPACE``, or the user's own, if not given.
        project: the project; the Run's, or ``$COMET_PROJECT_NAME``, if not given.
        experiment_key: the key of the experiment, 32 to 50 letters and digits; ``$COMET_EXPERIMENT_KEY``, the Run's
            id, or one that Comet makes up, if not given.
        mode: go on with the experiment (``get``), start another (``create``), or whatever is possible
            (``get_or_create``, the default). Under a Run ``create`` is ``get_or_create``: the key is the Run's own.
        online: False sends nothing. In direct use ``comet_ml`` writes an archive for ``comet upload``; a Run has
            everything in its journal, and ``rankzero sync`` delivers it.
        prefix: put before the names of metrics, with a ``_``.
        log_model: upload what a ModelCheckpoint saves: what it has left at the end (True), each when it is saved
            (``"all"``), or nothing (False). If not given, each under a Run and nothing in direct use.
        url: Comet's server, ``https://comet.example.org/clientlib/``; ``$COMET_URL_OVERRIDE``, or the hosted service,
            if not given. In direct use ``comet_ml`` uses it for all of the process.
        environment: ``COMET_…`` variables that count more than those of this process and Comet's files: where a run is
            delivered later, those of the training process.
        **kwargs: arguments of ``comet_ml.ExperimentConfig``: name, tags, offline_directory, log_code, … And by the
            names that Lightning's logger had before: project_name, experiment_name, save_dir, offline.

    Raises:
        PluginNotInstalledError: a package is missing.
        ConfigError: an argument makes no sense.
    """

    secret_options = frozenset(["api_key"])
    known_options: ClassVar[frozenset[str]] = OPTIONS.union(DEPRECATED)
    supports_join = True
    batch_bytes = 1 << 15  # a batch of metrics is one request, of about as many values as Comet's client sends
    captures = frozenset(["console"])

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
        super().__init__()
        if not is_installed("comet_ml"):
            raise PluginNotInstalledError("CometLogger needs comet_ml: pip install comet-ml")
        if log_model not in (True, False, "all", None):
            raise ConfigError(f'log_model is True, False or "all", not {log_model!r}')
        given = renamed({"project": project, "online": online, **kwargs})
        settings = Settings(
            api_key, workspace, given.pop("project"), experiment_key, mode, given.pop("online"), url, environment, given
        )
        check(settings)
        if not isinstance(prefix, str | None):
            raise ConfigError(f"prefix is a text, not {prefix!r}")
        self.log_model = log_model
        self._prefix = f"{prefix}_" if prefix else ""
        self._session: Session = DirectSession(settings)
        if not settings.is_online or settings.is_disabled:
            self.captures = frozenset()
        elif not settings.wants("auto_output_logging"):
            self.captures = type(self).captures - {"console"}

    # Identity

    @property
    def name(self) -> str | None:
        """The project; None for the one that Comet takes."""
        return self._session.project

    @property
    def version(self) -> str | None:
        """The experiment's key; None before there is one."""
        return self._session.key

    @property
    def save_dir(self) -> str | None:
        """Where ``comet_ml`` writes the archive of an experiment that stays offline."""
        return self._session.settings.offline_directory

    @property
    def experiment(self) -> Any:
        """Comet's ``Experiment``; that of a Run, from another process, too."""
        return self._session.experiment

    def how_to_view(self) -> str | None:
        return self._session.url

    # Login, offline

    def check_login(self) -> None:
        settings = self._session.settings
        if settings.is_online and not settings.is_disabled:
            check_login(settings)

    def resolved_options(self) -> dict[str, Any]:
        return resolved_options(self._session.settings)

    @property
    def is_offline(self) -> bool:
        settings = self._session.settings
        return not settings.is_online and not settings.is_disabled

    @property
    def is_disabled(self) -> bool:
        return self._session.settings.is_disabled

    def go_online(self) -> None:
        if self.is_offline:
            self._session.settings = self._session.settings._replace(online=True)

    # Delivery

    def attach(self, run: RunInfo) -> None:
        super().attach(run)
        settings = self._session.settings
        if settings.is_online and not settings.is_disabled:
            self._session = CourierSession(settings, run)
        else:
            self._session = NoSession(settings, settings.key_of(run), settings.project_of(run))

    def flush(self) -> None:
        self._session.wait()
        if self.run_info is not None:
            self._clear_scratch()

    def finalize(self, status: str) -> None:
        super().finalize(status)
        self._session.end(status, self.context)

    def close(self) -> None:
        """Release everything; in direct use the experiment has ended then."""
        self._session.close()
        self._clear_scratch()

    # Numbers, params, tags

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        numbers, others = self.numbers_and_others(metrics)
        for key, value in others.items():
            self.log_text(self._prefix + key, columns=["value"], data=[[value]], step=step)
        if numbers:
            self.log_metrics_batch([MetricsRow(numbers, step, self.context)])

    def log_metrics_batch(self, rows: Sequence[MetricsRow]) -> None:
        self._session.log_metrics(map(self._row, rows))

    def _row(self, row: MetricsRow) -> MetricsRow:
        """Return a row as Comet has it: an epoch that frameworks log as a metric is none, but belongs to the others."""
        values, context = row.values, row.context
        epoch = values.get(_EPOCH)
        if epoch is not None and len(values) > 1 and context.epoch is None and float(epoch).is_integer():
            values = {name: value for name, value in values.items() if name != _EPOCH}
            context = msgspec.structs.replace(context, epoch=int(epoch))
        return MetricsRow({self._prefix + name: value for name, value in values.items()}, row.step, context)

    def log_hyperparams(
        self, params: Mapping[str, Any] | Namespace | None = None, metrics: Mapping[str, Number] | None = None
    ) -> None:
        """Log hyperparameters; Comet names those of nested dictionaries ``optimizer|lr``."""
        plain = to_jsonable(vars(params) if isinstance(params, Namespace) else params or {})
        if plain:
            self._session.log_params(plain, self.context)
            if any(isinstance(value, Mapping) and value for value in plain.values()):
                self._session.log_other("hasNestedParams", True, self.context)  # Comet shows them as a tree then
        if metrics:
            self.log_metrics(metrics, step=0)

    def log_tags(self, tags: Sequence[str]) -> None:
        self._session.add_tags(tags)

    # Console, alerts

    def log_console(self, text: str, stream: str) -> None:
        self._session.log_console(text, stream, self.context)

    def alert(self, title: str, text: str = "", level: str = "INFO") -> None:
        """Have Comet send a message to the user."""
        self._session.notify(title, text, level)
