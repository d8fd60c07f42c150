"""`WandbLogger`: writes a run to Weights & Biases."""

from __future__ import annotations

import inspect
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from rankzero.errors import ConfigError, PluginNotInstalledError
from rankzero.events.run_info import RunInfo
from rankzero.messages import did_you_mean
from rankzero.plugins.entry_points import is_installed
from rankzero.rank import is_rank_zero
from rankzero.values import Number, to_jsonable, to_number
from rankzero_wandb.courier_session import CourierSession
from rankzero_wandb.direct_session import DirectSession
from rankzero_wandb.login import check_login
from rankzero_wandb.media import in_portions
from rankzero_wandb.media_verbs import MediaVerbs
from rankzero_wandb.opening import STEP
from rankzero_wandb.session import Session
from rankzero_wandb.settings import Settings, check, check_for_client, resolved_options
from rankzero_wandb.summaries import Definition, kinds_of

_NO_NAME = "(no name)"
"""What has an empty key is called, which W&B's client would leave out."""

_RESERVED = frozenset(["_runtime", "_step", "_timestamp", "_wandb", STEP])


class WandbLogger(MediaVerbs):
    """Writes to Weights & Biases; takes the arguments of Lightning's logger of this name.

    Used directly it does what Lightning's does. Under a Run each value is in W&B once, with its own time, whatever
    happened to W&B, to the courier or to training; and what W&B shows of a process is that of the training process.

    Args:
        name: the run's name; ``$WANDB_NAME``, the Run's name, or one that W&B makes up, if not given.
        save_dir: where W&B's client makes its directory ``wandb``; ``$WANDB_DIR``, the Run's directory, or the working
            directory, if not given.
        version: the same as ``id``.
        offline: write W&B's files and send nothing: ``rankzero sync`` or ``wandb sync`` does that later.
        dir: the same as ``save_dir``.
        id: W&B's id of the run, which is continued if there is one; ``$WANDB_RUN_ID``, the Run's id, or one that W&B
            makes up, if not given.
        anonymous: without effect, for W&B no longer has anonymous runs.
        project: W&B's project; the Run's, ``$WANDB_PROJECT`` as it is now, or ``lightning_logs``, if not given.
        log_model: upload what a ModelCheckpoint saves: what it has left at the end (True), each when it is saved
            (``"all"``), or nothing.
        experiment: a run that ``wandb.init`` returned, to log to.
        prefix: put before the names of metrics, with a ``-``.
        checkpoint_name: the artifact of checkpoints; ``model-RUN_ID`` if not given.
        add_file_policy: in direct use, whether W&B copies a checkpoint (``mutable``) before it uploads it, or trusts
            that it stays as it is (``immutable``).
        environment: ``WANDB_…`` variables that count more than those of this process: where a run is delivered later,
            those of the training process.
        **kwargs: further arguments of ``wandb.init``: entity, group, job_type, tags, notes, config, settings, …

    Raises:
        PluginNotInstalledError: a package is missing.
        ConfigError: an argument makes no sense.
    """

    LOGGER_JOIN_CHAR = "-"
    finalize_acknowledges = True
    batch_bytes = 1 << 21  # W&B's client sends rows once a second
    counts_lines = True
    captures = frozenset(["console"])
    unpicklable = frozenset(["experiment"])  # W&B's client cannot read it again in the same process
    known_options: ClassVar[frozenset[str]] = frozenset(
        [
            "allow_val_change", "config", "entity", "force", "fork_from", "group", "job_type", "mode", "monitor_gym",
            "notes", "reinit", "resume", "resume_from", "save_code", "settings", "sync_tensorboard", "tags",
            "tensorboard",
        ]
    )  # fmt: skip

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
        environment: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if not is_installed("wandb"):
            raise PluginNotInstalledError("WandbLogger needs wandb: pip install wandb")
        if not isinstance(offline, bool):
            raise ConfigError(f"offline is True or False, not {offline!r}")
        if log_model not in (True, False, "all"):
            raise ConfigError(f'log_model is True, False or "all", not {log_model!r}')
        if add_file_policy not in ("mutable", "immutable"):
            raise ConfigError(f'add_file_policy is "mutable" or "immutable", not {add_file_policy!r}')
        unknown = sorted(set(kwargs) - self.known_options)
        if unknown:
            parameters = self.known_options.union(inspect.signature(WandbLogger).parameters) - {"kwargs"}
            raise ConfigError(
                f"WandbLogger takes no argument {unknown[0]!r}.{did_you_mean(unknown[0], parameters)} "
                f"It takes: {', '.join(sorted(parameters))}"
            )
        mode = kwargs.pop("mode", None)
        if isinstance(kwargs.get("tags"), str):
            kwargs["tags"] = [kwargs["tags"]]
        directory = save_dir or dir
        self.log_model = log_model
        self.add_file_policy = add_file_policy
        self._checkpoint_name = checkpoint_name
        self._prefix = prefix + self.LOGGER_JOIN_CHAR if prefix else ""
        settings = Settings(
            project=project,
            name=name,
            id=version or id,
            save_dir=None if directory is None else os.fspath(directory),
            mode="offline" if offline else mode,
            init=kwargs,
            environment=environment,
            project_variable=os.environ.get("WANDB_PROJECT"),
        )
        check(settings)
        self._session: Session = DirectSession(settings, experiment)
        if not settings.has_console:
            self.captures = type(self).captures - {"console"}

    # Identity

    @property
    def name(self) -> str | None:
        """The project."""
        return self._session.settings.project_of(self.run_info)

    @property
    def version(self) -> str | None:
        """W&B's id of the run; None before one is made up."""
        return self._session.id

    @property
    def save_dir(self) -> str:
        """The directory in which W&B's client makes its ``wandb``."""
        return self._session.settings.directory_of(self.run_info)

    @property
    def experiment(self) -> Any:
        """W&B's ``Run``."""
        if isinstance(self._session, CourierSession):
            self._session.share()
        return self._session.run

    def how_to_view(self) -> str | None:
        return self._session.url

    # Login, offline

    def check_login(self) -> None:
        settings = self._session.settings
        if self._session.is_open and self.run_info is None:
            raise ConfigError(
                "experiment=... is for a logger that is used directly; a Run opens the W&B run itself: give it the id"
            )
        check_for_client(settings)
        if settings.is_online:
            check_login(settings.base_url, settings.for_client.get("api_key"), settings.entity)

    def resolved_options(self) -> dict[str, Any]:
        return resolved_options(self._session.settings)

    @property
    def is_offline(self) -> bool:
        return self._session.settings.is_offline

    @property
    def is_disabled(self) -> bool:
        return self._session.settings.is_disabled

    def go_online(self) -> None:
        if self.is_offline:
            self._session.settings = self._session.settings._replace(mode="online")

    # Delivery

    def attach(self, run: RunInfo) -> None:
        super().attach(run)
        self._session = CourierSession(self._session.settings, run)

    def watermark(self) -> int | None:
        """For an offline logger, begin anew where its files do: what a client that died has left is not whole."""
        session = self._session
        return session.lines_ended_offline if isinstance(session, CourierSession) and self.is_offline else None

    def flush(self) -> None:
        self._session.wait()

    def finalize(self, status: str) -> None:
        super().finalize(status)
        self._session.end(status, self._line)

    def close(self) -> None:
        """Release everything; in direct use the run has ended then."""
        self._session.close()

    # Numbers, params, tags

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        values = {self._key(key): _plain(value) for key, value in metrics.items() if value is not None}
        context = self.context
        if context.epoch is not None:
            values = {self._prefix + "epoch": context.epoch, **values}
        if not values:
            return
        self._session.log(values, step, context)
        self._session.summarise(
            {key: value for key, value in values.items() if isinstance(value, int | float)}, context
        )

    def _key(self, key: Any) -> str:
        name = f"{self._prefix}{key}" or _NO_NAME
        if name not in _RESERVED:
            return name
        self.warner.warn(
            f"name {name}", f"W&B means something else by {name!r}; the metric is {'metrics/' + name!r} there"
        )
        return f"metrics/{name}"

    def _log_rich(self, key: str, value: Any, step: int | None) -> None:
        self._session.log(in_portions(self._key(key), value), step, self.context, has_files=True)

    def _log_word(self, key: str, text: str, step: int | None) -> None:
        self._session.log({self._key(key): text}, step, self.context)

    def log_hyperparams(
        self, params: Mapping[str, Any] | Namespace | None = None, metrics: Mapping[str, Number] | None = None
    ) -> None:
        """Add hyperparameters to the run's config, nested as they are."""
        self._session.configure(
            to_jsonable(vars(params) if isinstance(params, Namespace) else params or {}), self._line
        )
        if metrics:
            self.log_metrics(dict(metrics), step=0)

    def log_tags(self, tags: Sequence[str]) -> None:
        run = self._session.run
        run.tags = tuple(dict.fromkeys([*(run.tags or ()), *tags]))
        self._session.settle(self._line)

    def define_metric(
        self, name: str, step_metric: str | None = None, summary: str | None = None, goal: str | None = None
    ) -> None:
        """Say which metric is the x-axis of ``name``, the step if none is, and what W&B's table of runs shows of it.

        Args:
            name: a metric, or the beginning of names and a ``*``.
            step_metric: a metric.
            summary: ``min``, ``max``, ``mean``, ``first`` or ``last``, or several of them with commas between;
                ``none``; or ``best``. Only finite values count.
            goal: ``minimize`` or ``maximize``: what is ``best``.
        """
        kinds, problem = kinds_of(summary, goal)
        if problem:
            shown = "; W&B shows its last value" if kinds is None else ""
            self.warner.warn(f"define {name}", f"define_metric({name!r}): {problem}{shown}")
        axis = STEP if step_metric in (None, STEP) else self._prefix + str(step_metric)
        self._session.define(Definition(self._prefix + name, axis, kinds), self._line)

    @property
    def _line(self) -> int | None:
        return self.context.line

    # Console, alerts, watching

    def log_console(self, text: str, stream: str) -> None:
        if self._session.is_new(self._line):
            self._session.run.write_logs(text)

    def alert(self, title: str, text: str = "", level: str = "INFO") -> None:
        """Have W&B send a message to whom the project's settings name."""
        if self._session.is_new(self._line):
            self._session.run.alert(title, text, level=level)

    def watch(self, model: Any, log: str | None = "gradients", log_freq: int = 100, log_graph: bool = True) -> None:
        """Log the model's gradients and parameters as training goes on; W&B's client hooks into the model."""
        self._session.run.watch(model, log=log, log_freq=log_freq, log_graph=log_graph)

    def unwatch(self, model: Any = None) -> None:
        self._session.run.unwatch(model)

    # Artifacts

    def use_artifact(self, artifact: str, artifact_type: str | None = None) -> Any:
        """Note that the run uses an artifact, ``ENTITY/PROJECT/model-RUN_ID:best``, and return it."""
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
            artifact_type: its type, to be sure.
            use_artifact: note that the active run uses it, if there is one.
        """
        if not is_rank_zero():
            return ""
        import wandb

        if wandb.run is not None and use_artifact:
            found = wandb.run.use_artifact(artifact, type=artifact_type)
        else:
            found = wandb.Api().artifact(artifact, type=artifact_type)
        return str(found.download(root=None if save_dir is None else os.fspath(save_dir)))


def _plain(value: Any) -> Any:
    """Return a number as one, and what W&B has a type for as it is."""
    number = to_number(value)
    return value if number is None else number
