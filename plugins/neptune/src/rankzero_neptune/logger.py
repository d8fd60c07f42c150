"""`NeptuneLogger`: writes a run to a Neptune server."""

from __future__ import annotations

import os
import threading
import uuid
from typing import TYPE_CHECKING, Any

from rankzero.errors import ConfigError
from rankzero.events.run_info import RunInfo
from rankzero.loggers.adapter import TrackerLogger
from rankzero.loggers.options import Option, check_option
from rankzero.rank import rank_zero_only
from rankzero_neptune.client import ERRORS, read_failure, request_timeout
from rankzero_neptune.fields import joined
from rankzero_neptune.options import NeptuneOptions, check_login

if TYPE_CHECKING:
    from rankzero_neptune.delivery import DirectSession
    from rankzero_neptune.session import NeptuneSession

_joining = threading.Lock()


class NeptuneLogger(TrackerLogger):
    """Writes to a Neptune server; accepts the arguments of Lightning's `NeptuneLogger`.

    Neptune's hosted service ended on 5 March 2026: this is for servers with the same API.

    Used directly, it works like Lightning's, with Neptune's client. Under a Run, data counts as delivered when the
    server has confirmed it, and each value arrives exactly once, also after crashes and outages.

    Args:
        api_key: the API token; ``$NEPTUNE_API_TOKEN`` if not given.
        project: Neptune's project, ``workspace/name``; ``$NEPTUNE_PROJECT`` if not given. It must exist.
        name: the run's name; the Run's name, or ``Untitled``, if not given.
        run: a ``neptune.Run``, or a namespace of one, to log to.
        log_model_checkpoints: upload the checkpoints of a ModelCheckpoint, and delete those that it deletes.
        prefix: the namespace of all fields; may be empty.
        **neptune_run_kwargs: further arguments of ``neptune.init_run``: ``tags``, ``description``, ``mode``,
            ``with_id``, ``custom_run_id``, ``proxies``, ``capture_hardware_metrics``, … Under a Run those for
            capturing apply to `experiment`.

    Raises:
        PluginNotInstalledError: a package is missing.
        ConfigError: an argument is invalid.
    """

    LOGGER_JOIN_CHAR = "/"
    PARAMETERS_KEY = "hyperparams"

    sdk = "neptune"
    tracker = "Neptune"
    options_class = NeptuneOptions
    known_options = NeptuneOptions.names()
    errors = ERRORS
    read_failure = staticmethod(read_failure)
    reopens_after_failed_flush = True
    supports_join = True
    batch_bytes = 1 << 20
    captures = frozenset(["console"])
    unpicklable = frozenset(["run"])  # Neptune's client cannot unpickle it

    options: NeptuneOptions

    def __init__(
        self,
        *,
        api_key: str | None = None,
        project: str | None = None,
        name: str | None = None,
        run: Any = None,
        log_model_checkpoints: bool = True,
        prefix: str = "training",
        **neptune_run_kwargs: Any,
    ) -> None:
        check_option(Option("log_model_checkpoints", bool), log_model_checkpoints)
        check_option(Option("prefix", str), prefix)
        if isinstance(neptune_run_kwargs.get("tags"), str):
            neptune_run_kwargs["tags"] = [neptune_run_kwargs["tags"]]
        given = {"api_key": api_key, "project": project, "name": name, **neptune_run_kwargs}
        super().__init__(prefix=prefix, log_model="all" if log_model_checkpoints else False, **given)
        if not self.options.captures("stdout") and not self.options.captures("stderr"):
            self.captures = type(self).captures - {"console"}
        self._is_given = run is not None
        self._given: DirectSession | None = None
        self._name: str | None = None
        self._short_id: str | None = None
        self._id: str | None = None  # by which copies of the logger open the same run
        self._live: Any = None  # the user's run, beside the courier's
        self._delivers = False
        if run is not None:
            self._check_run(run)
            from rankzero_neptune.delivery import DirectSession

            self._given = DirectSession(self, run, is_given=True)
            self._name, self._short_id = self._given.name, self._given.short_id

    def _check_run(self, run: Any) -> None:
        if given := sorted(self.options.given):
            raise ConfigError(
                f"run=... cannot be combined with other arguments: leave out {', '.join(given)}, or leave out run=... "
                "to let the logger open a run with them"
            )
        if not hasattr(run, "get_root_object"):
            raise ConfigError(f"run must be what neptune.init_run returns, or a namespace of it, not {run!r}")

    def __getstate__(self) -> dict[str, Any]:
        if self._short_id is None:
            self._id = self._id or uuid.uuid4().hex
        return {**super().__getstate__(), "_given": None, "_live": None}

    # Identity

    @property
    def name(self) -> str | None:
        """The run's name; ``offline-name`` for an offline run, None before it is opened."""
        return self._name if self.run_info is None else self.options["name"] or self.run_info.name

    @property
    def version(self) -> str | None:
        """Neptune's short id of the run, ``RUN-1``; ``OFFLINE`` for an offline run, None before it is opened."""
        return "OFFLINE" if self._is_not_sent else self._short_id

    @property
    def save_dir(self) -> str:
        """The directory in which Neptune's client keeps its files."""
        return os.path.join(os.getcwd(), ".neptune")

    @property
    def run(self) -> Any:
        """The ``neptune.Run``: the same as `experiment`."""
        return self.experiment

    # Login, offline

    def check_login(self) -> None:
        if self.options.mode in ("offline", "debug"):
            return
        if self._is_given:
            raise ConfigError(
                "run=... works only in direct use; a Run opens the Neptune run itself: pass with_id=... instead"
            )
        check_login(self.options.token)
        _ = self.options.project

    @property
    def is_offline(self) -> bool:
        return self.options.mode == "offline"

    @property
    def is_disabled(self) -> bool:
        return self.options.mode == "debug"

    @property
    def _is_not_sent(self) -> bool:
        return self.run_info is not None and (self.is_offline or self.is_disabled)

    def go_online(self) -> None:
        if self.is_offline:
            self.options = self.options.replace(mode="async")

    # The session

    def attach(self, run: RunInfo) -> None:
        super().attach(run)
        self._short_id = None

    def open(self, run: RunInfo | None) -> NeptuneSession:
        from rankzero_neptune import delivery

        session: NeptuneSession
        if run is not None:
            session = delivery.CourierSession(self, run, is_known=self._short_id is not None)
        elif not self._is_given:
            session = delivery.DirectSession(self, delivery.init_run(self._options_to_reopen()), is_given=False)
        elif self._given is not None:
            session = self._given
        else:  # a copy
            raise delivery.given_run_ended(self._short_id)
        self._name, self._short_id = session.name, session.short_id
        return session

    def _options_to_reopen(self) -> NeptuneOptions:
        """Return options with which this logger, or a copy of it, opens the same run."""
        options = self.options
        if self.is_disabled:  # a debug run cannot be reopened
            return options
        if self._short_id is not None and not self.is_offline:
            return options.replace(custom_run_id=None, with_id=self._short_id, name=self._name)
        if options["with_id"] or options["custom_run_id"] or self._id is None:
            return options
        return options.replace(custom_run_id=self._id)

    @property
    def session(self) -> Any:
        session = super().session
        if getattr(session, "has_ended", False) and not self._is_given:  # the user stopped it
            self.discard()
            return super().session
        return session

    def open_experiment(self) -> Any:
        if self.run_info is None or self._is_not_sent:
            return super().open_experiment()
        with _joining, self.translated():
            if self._live is None:
                self._live = self.session.join()
            return self._live

    def flush(self) -> None:
        self._delivers = True
        super().flush()

    def finalize(self, status: str = "success") -> None:
        super().finalize(status)
        self._stop_live()

    def close(self) -> None:
        """Close the session; in direct use stop the run, unless the user opened it.

        The user's live run beside a courier stays open until `finalize`.
        """
        try:
            super().close()
        finally:
            if not self._delivers:
                self._stop_live()

    def _stop_live(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop(seconds=request_timeout())

    # Verbs

    @rank_zero_only
    def log_model_summary(self, model: Any, max_depth: int = -1) -> None:
        """Log the summary of a LightningModule under ``<prefix>/model/summary``.

        Args:
            model: the module.
            max_depth: the depth of submodules to show; -1 for all.
        """
        from lightning.pytorch.utilities.model_summary import ModelSummary

        self.note_use()
        text = str(ModelSummary(model, max_depth=max_depth))
        with self.writing() as session:
            session.upload_bytes(joined(session.prefix, "model/summary"), text.encode(), "txt")
