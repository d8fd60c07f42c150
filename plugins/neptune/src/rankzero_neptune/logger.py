"""`NeptuneLogger`: writes a run to a Neptune server."""

from __future__ import annotations

import inspect
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from rankzero.errors import ConfigError, PluginNotInstalledError
from rankzero.events.run_info import MetricsRow, RunInfo
from rankzero.plugins.entry_points import is_installed
from rankzero.rank import rank_zero_only
from rankzero.values import Number, flatten, restore_non_finite, to_jsonable
from rankzero_neptune.checkpoints import Checkpoints
from rankzero_neptune.courier_session import CourierSession
from rankzero_neptune.direct_session import DirectSession
from rankzero_neptune.kept_session import KeptSession
from rankzero_neptune.login import check_login
from rankzero_neptune.media_verbs import MediaVerbs
from rankzero_neptune.paths import joined, named
from rankzero_neptune.points import AS_TEXT, Point, milliseconds
from rankzero_neptune.session import Session
from rankzero_neptune.settings import INIT_OPTIONS, Settings, check, check_run, resolved_options
from rankzero_neptune.values import LONGEST_STRING, as_float, parts, storable


class NeptuneLogger(MediaVerbs):
    """Writes to a Neptune server; takes the arguments of Lightning's logger of this name.

    Neptune's hosted service ended on 5 March 2026: this is for servers that speak its API.

    Used directly it does what Lightning's did, by Neptune's client. Under a Run what is logged counts as delivered
    when the server has answered, and each value is there once, whatever happened to the server, the courier or
    training.

    Args:
        api_key: the API token; ``$NEPTUNE_API_TOKEN`` if not given.
        project: Neptune's project, ``workspace/name``; ``$NEPTUNE_PROJECT`` if not given. It must exist.
        name: the run's name; the Run's name, or ``Untitled``, if not given.
        run: a ``neptune.Run``, or a namespace of one, to log to.
        log_model_checkpoints: upload what a ModelCheckpoint saves, and delete what it has deleted.
        prefix: the namespace of all that is logged; may be empty.
        **neptune_run_kwargs: further arguments of ``neptune.init_run``: ``tags``, ``description``, ``mode``,
            ``with_id``, ``custom_run_id``, ``proxies``, ``capture_hardware_metrics``, … Under a Run those about
            capturing are for `experiment`.

    Raises:
        PluginNotInstalledError: a package is missing.
        ConfigError: an argument makes no sense.
    """

    LOGGER_JOIN_CHAR = "/"
    PARAMETERS_KEY = "hyperparams"
    supports_join = True
    batch_bytes = 1 << 20
    captures = frozenset(["console"])
    unpicklable = frozenset(["run"])  # Neptune's client cannot read it again in another process
    secret_options: ClassVar[frozenset[str]] = frozenset(["api_key", "proxies"])
    known_options: ClassVar[frozenset[str]] = INIT_OPTIONS

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
        super().__init__()
        if not is_installed("neptune"):
            raise PluginNotInstalledError("NeptuneLogger needs neptune: pip install neptune")
        if isinstance(neptune_run_kwargs.get("tags"), str):
            neptune_run_kwargs["tags"] = [neptune_run_kwargs["tags"]]
        settings = Settings(api_key, project, name, neptune_run_kwargs)
        parameters = set(inspect.signature(NeptuneLogger).parameters) - {"neptune_run_kwargs"}
        check(settings, INIT_OPTIONS | parameters)
        if not isinstance(log_model_checkpoints, bool):
            raise ConfigError(f"log_model_checkpoints is True or False, not {log_model_checkpoints!r}")
        if not isinstance(prefix, str):
            raise ConfigError(f"prefix is a text, not {prefix!r}")
        if run is not None:
            check_run(run, {"api_key": api_key, "project": project, "name": name, **neptune_run_kwargs})
        self.log_model = "all" if log_model_checkpoints else False
        if not settings.captures("stdout") and not settings.captures("stderr"):
            self.captures = type(self).captures - {"console"}
        self._prefix = prefix
        self._use(DirectSession(settings, self.warner.warn, run))

    def _use(self, session: Session) -> None:
        self._session = session
        self._checkpoints = Checkpoints(session, joined(self._prefix, "model"))

    # Identity

    @property
    def name(self) -> str | None:
        """The run's name; ``offline-name`` for an offline run, None before it is opened."""
        return self._session.name

    @property
    def version(self) -> str | None:
        """Neptune's short id of the run, ``RUN-1``; ``OFFLINE`` for an offline run, None before it is opened."""
        return self._session.short_id

    @property
    def save_dir(self) -> str:
        """The directory in which Neptune's client keeps its files."""
        return os.path.join(os.getcwd(), ".neptune")

    @property
    def experiment(self) -> Any:
        """The ``neptune.Run``."""
        return self._session.experiment

    @property
    def run(self) -> Any:
        """The ``neptune.Run``: the same as `experiment`."""
        return self.experiment

    def how_to_view(self) -> str | None:
        return self._session.url

    # Login, offline

    def check_login(self) -> None:
        settings = self._session.settings
        if settings.mode in ("offline", "debug"):
            return
        if isinstance(self._session, DirectSession) and self._session.is_given:
            raise ConfigError(
                "run=... is for a logger that is used directly; a Run opens the Neptune run itself: give it with_id"
            )
        check_login(settings.api_key)
        if settings.qualified_project is None:
            raise ConfigError(
                "the Neptune project is not set (the project of the Run is another): set NEPTUNE_PROJECT, "
                'or start({"neptune": {"project": "WORKSPACE/NAME"}}); it must exist on the server'
            )

    def resolved_options(self) -> dict[str, Any]:
        return resolved_options(self._session.settings)

    @property
    def is_offline(self) -> bool:
        return self._session.settings.is_offline

    def go_online(self) -> None:
        if self.is_offline:
            self._session.settings = self._session.settings.online()

    # Delivery

    def attach(self, run: RunInfo) -> None:
        super().attach(run)
        settings = self._session.settings
        kept = settings.mode in ("offline", "debug")
        self._use((KeptSession if kept else CourierSession)(settings, self.warner.warn, run))

    def flush(self) -> None:
        self._session.wait()

    def finalize(self, status: str) -> None:
        super().finalize(status)
        self._session.end(joined(self._prefix, "status"), status)

    def close(self) -> None:
        """Release everything; in direct use the run is stopped then, unless the user gave it."""
        self._session.close()

    # Numbers

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        numbers, others = self.numbers_and_others(metrics)
        for key, value in others.items():
            self._log_word(key, str(value), step)
        self.log_metrics_batch([MetricsRow(numbers, step, self.context)])

    def log_metrics_batch(self, rows: Sequence[MetricsRow]) -> None:
        points: dict[str, list[Point]] = {}
        for row in rows:
            time = milliseconds(row.context.time)
            step = None if row.step is None else float(row.step)
            values = row.values if row.context.epoch is None else {"epoch": row.context.epoch, **row.values}
            for key, number in values.items():
                points.setdefault(key, []).append(Point(as_float(number), step, time))
        for key, logged in points.items():
            self._log_series(key, logged)

    def _log_series(self, key: str, points: list[Point]) -> None:
        path = self._path(key)
        if any(point.is_odd for point in points):
            self.warner.warn(
                f"NaN {path}",
                f"Neptune has no NaN and no infinity in a series: those of {key!r} are text in {path + AS_TEXT!r}",
            )
        self._session.log_points(path, points)

    # Console, params, tags

    def log_console(self, text: str, stream: str) -> None:
        time, settings = milliseconds(self.context.time), self._session.settings
        if settings.captures(stream):
            points = [Point(part, None, time) for line in text.split("\n") for part in parts(line)]
            self._session.log_points(joined(settings.monitoring_namespace, stream), points)

    def log_hyperparams(
        self, params: Mapping[str, Any] | Namespace | None = None, metrics: Mapping[str, Number] | None = None
    ) -> None:
        """Set hyperparameters, nested as they are, under ``<prefix>/hyperparams``."""
        given = vars(params) if isinstance(params, Namespace) else params or {}
        self._assign_all(joined(self._prefix, self.PARAMETERS_KEY), restore_non_finite(to_jsonable(given)))
        if metrics:
            self.log_metrics(dict(metrics), step=0)

    def _assign_all(self, path: str, values: Mapping[str, Any]) -> None:
        for key, value in flatten(to_jsonable(values)):
            plain = storable(value)
            where = named(path, key)
            if isinstance(plain, str) and len(plain) > LONGEST_STRING:
                self.warner.warn(f"long {where}", f"Neptune takes 16,384 characters in a text; {where!r} is a file")
                with self._scratched():
                    self._upload_bytes(f"{where}_whole", plain.encode(), ".txt")
                plain = plain[:LONGEST_STRING]
            self._session.assign(where, plain)

    def log_tags(self, tags: Sequence[str]) -> None:
        self._session.add_strings("sys/tags", tags)

    @rank_zero_only
    def log_model_summary(self, model: Any, max_depth: int = -1) -> None:
        """Log the summary of a LightningModule under ``<prefix>/model/summary``.

        Args:
            model: the module.
            max_depth: how deep to look into it; -1 for all.
        """
        from lightning.pytorch.utilities.model_summary import ModelSummary

        self.note_use()
        text = str(ModelSummary(model, max_depth=max_depth))
        with self._scratched():
            self._upload_bytes(self._path("model/summary"), text.encode(), ".txt")
