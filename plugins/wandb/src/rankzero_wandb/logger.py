"""`WandbLogger`: writes a run to Weights & Biases."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from rankzero.errors import ConfigError
from rankzero.events.run_info import SYSTEM, RunInfo, TrackedMetrics
from rankzero.files.writing import read_own_json
from rankzero.loggers.adapter import Session, TrackerLogger
from rankzero.rank import is_rank_zero
from rankzero.values import as_list, to_jsonable, to_number
from rankzero_wandb.confirmation import ReadBack
from rankzero_wandb.courier import CourierSession, DisabledSession, state_file
from rankzero_wandb.opening import ERRORS, read_failure
from rankzero_wandb.options import INIT_ARGUMENTS, WandbOptions, address_of, check_login
from rankzero_wandb.rows import State
from rankzero_wandb.session import DirectSession, metric_name


class WandbLogger(TrackerLogger):
    """Writes to Weights & Biases; accepts the arguments of Lightning's `WandbLogger`.

    Used directly, it works like Lightning's. Under a Run, each value arrives in W&B exactly once, with the time at
    which it was logged, also after crashes and outages; W&B shows the environment of the training process.

    Args:
        name: the run's name; ``$WANDB_NAME``, the Run's name, or one that W&B generates, if not given.
        save_dir: where W&B's client creates ``wandb``; ``$WANDB_DIR``, the Run's directory, or the working directory,
            if not given.
        version: the same as ``id``.
        offline: write W&B's files and send nothing; ``rankzero sync`` or ``wandb sync`` sends them later.
        dir: the same as ``save_dir``.
        id: W&B's id of the run; an existing run is resumed. ``$WANDB_RUN_ID``, the Run's id, or one that W&B
            generates, if not given.
        anonymous: ignored; W&B no longer has anonymous runs.
        project: W&B's project; the Run's, ``$WANDB_PROJECT``, or ``lightning_logs``, if not given.
        log_model: upload the checkpoints of a ModelCheckpoint: those that exist at the end (True), each one when it is
            saved (``"all"``), or none (False).
        experiment: the run to log to, from ``wandb.init``.
        prefix: put before the names of metrics, followed by ``-``.
        checkpoint_name: the name of the artifact with the checkpoints; ``model-RUN_ID`` if not given.
        add_file_policy: in direct use, whether W&B copies a checkpoint before uploading it (``mutable``), or expects
            that the file does not change (``immutable``).
        rewind: under a Run, delete superseded rows from W&B when the Run is rewound; see `Run.rewind`. W&B then forgets
            the console lines and system metrics from before, and not every server can do it. Otherwise W&B keeps both.
        environment: ``WANDB_…`` variables that take precedence over those of this process; a run that is delivered
            later has those of the training process.
        **kwargs: further arguments of ``wandb.init``: entity, group, job_type, tags, notes, config, settings, …

    Raises:
        PluginNotInstalledError: a package is missing.
        ConfigError: an argument is invalid.
    """

    sdk = "wandb"
    tracker = "W&B"
    options_class = WandbOptions
    errors = ERRORS
    read_failure = staticmethod(read_failure)
    statuses: ClassVar[Mapping[str, Any]] = {"success": 0, "aborted": 255, "failed": 1}
    media_options = None
    writes_offline = True
    finalize_acknowledges = True
    batch_bytes = 1 << 22  # W&B's client sends rows once a second
    counts_lines = True
    captures = frozenset(["console"])
    unpicklable = frozenset(["experiment"])  # W&B's client cannot unpickle a run in the process that pickled it
    known_options = INIT_ARGUMENTS | {"mode"}

    options: WandbOptions

    def __init__(
        self,
        name: str | None = None,
        save_dir: str | os.PathLike[str] | None = None,
        version: str | None = None,
        offline: bool = False,
        dir: str | os.PathLike[str] | None = None,
        id: str | None = None,
        anonymous: bool | None = None,
        project: str | None = None,
        log_model: bool | Literal["all"] = False,
        experiment: Any = None,
        prefix: str = "",
        checkpoint_name: str | None = None,
        add_file_policy: Literal["mutable", "immutable"] = "mutable",
        rewind: bool = False,
        environment: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        directory = save_dir or dir
        if "tags" in kwargs:
            kwargs["tags"] = as_list(kwargs["tags"])
        if offline is True:
            kwargs["mode"] = "offline"
        super().__init__(
            prefix=prefix,
            log_model=log_model,
            name=name,
            save_dir=None if directory is None else os.fspath(directory),
            offline=offline,
            id=version or id,
            project=project,
            checkpoint_name=checkpoint_name,
            add_file_policy=add_file_policy,
            rewind=rewind,
            environment=environment,
            **kwargs,
        )
        self._direct = DirectSession(self, experiment)
        self._url: str | None = None
        self._first_params: tuple[int | None, dict[str, Any]] | None = None
        wanted = {"console": self.options.sends_console, "rewind": rewind}
        self.captures = frozenset(name for name, is_wanted in wanted.items() if is_wanted)

    def open(self, run: RunInfo | None) -> Session:
        if run is None:
            self._direct.open()
            session: Session = self._direct
        elif self.is_disabled:
            session = DisabledSession()
        else:
            line, params = self._first_params or (None, {})
            is_first = line is not None and line == self.context.line
            session = CourierSession(self, run, params if is_first else {}, line if is_first else None)
        self._url = session.url
        return session

    def read_points(self, run: RunInfo, names: Sequence[str]) -> TrackedMetrics:
        points_by_name = ReadBack.unopened(self.options, run).points({name: metric_name(name) for name in names})
        return {
            name: points or (None if name.startswith(SYSTEM) else points) for name, points in points_by_name.items()
        }

    # Identity

    @property
    def name(self) -> str | None:
        """The project."""
        return self.options.project_of(self.run_info)

    @property
    def version(self) -> str | None:
        """W&B's id of the run; None before W&B generates it."""
        return self._direct.id if self.run_info is None else self.options.id_of(self.run_info)

    @property
    def save_dir(self) -> str:
        """The directory in which W&B's client creates ``wandb``."""
        return self.options.directory_of(self.run_info)

    @property
    def address(self) -> str:
        return address_of(self.options)

    def how_to_view(self) -> str | None:
        return self._url

    # Login, offline

    def check_login(self) -> None:
        if self._direct.is_open and self.run_info is None:
            raise ConfigError(
                "experiment=... works only in direct use; a Run opens the W&B run itself: pass id=... instead"
            )
        self.options.check_settings()
        if not (self.is_offline or self.is_disabled):
            check_login(self.options)

    @property
    def is_offline(self) -> bool:
        return self.options.mode == "offline"

    @property
    def is_disabled(self) -> bool:
        return self.options.mode == "disabled"

    def go_online(self) -> None:
        if self.is_offline:
            self.options = self.options.replace(mode="online")

    def watermark(self) -> int | None:
        """Return the line after the last complete offline file; a killed client leaves an incomplete one."""
        if self.run_info is None or not self.is_offline:
            return None
        state = read_own_json(state_file(self.options, self.run_info), State)
        return 0 if state is None else state.ended

    # Metrics, hyperparameters, models

    def numbers_and_others(self, metrics: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return all values as metrics: W&B's client also accepts values that are not numbers."""
        return {str(key): _plain(value) for key, value in metrics.items() if value is not None}, {}

    def log_hyperparams(
        self, params: Mapping[str, Any] | Namespace | None = None, metrics: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        """Add hyperparameters to the run's config, nested as they are."""
        if self.run_info is not None:
            # Sent with the request that opens the run; only once, because W&B may refuse the request because of them.
            given = vars(params) if isinstance(params, Namespace) else params or {}
            self._first_params = None if self._first_params else (self.context.line, to_jsonable(given))
        super().log_hyperparams(params, metrics)

    def watch(self, model: Any, log: str | None = "gradients", log_freq: int = 100, log_graph: bool = True) -> None:
        """Log the model's gradients and parameters during training, with hooks of W&B's client."""
        self.experiment.watch(model, log=log, log_freq=log_freq, log_graph=log_graph)

    def unwatch(self, model: Any = None) -> None:
        """Remove the hooks of `watch`, from all models if none is given."""
        self.experiment.unwatch(model)

    # Artifacts

    def use_artifact(self, artifact: str, artifact_type: str | None = None) -> Any:
        """Declare an artifact, ``ENTITY/PROJECT/model-RUN_ID:best``, as an input of the run, and return it."""
        return self.experiment.use_artifact(artifact, type=artifact_type)

    @staticmethod
    def download_artifact(
        artifact: str,
        save_dir: str | os.PathLike[str] | None = None,
        artifact_type: str | None = None,
        use_artifact: bool = True,
    ) -> str:
        """Download an artifact, and return the directory in which its files are.

        Args:
            artifact: ``ENTITY/PROJECT/model-RUN_ID:best``, or with ``latest`` or ``v2``.
            save_dir: where to put it; W&B's ``artifacts`` if not given.
            artifact_type: the type that it must have; any if not given.
            use_artifact: declare it as an input of the active run, if there is one.
        """
        if not is_rank_zero():
            return ""
        import wandb

        if wandb.run is not None and use_artifact:
            version = wandb.run.use_artifact(artifact, type=artifact_type)
        else:
            version = wandb.Api().artifact(artifact, type=artifact_type)
        return str(version.download(root=None if save_dir is None else os.fspath(save_dir)))


def _plain(value: Any) -> Any:
    """Convert a value to a number, if possible."""
    number = to_number(value)
    return value if number is None else number
