"""Accelerate logs to a run: with `RankzeroTracker`, or by ``log_with="rankzero"``.

Importing this module makes the name known to Accelerate from 1.15 on, as does the environment variable
``RANKZERO_INTEGRATIONS=accelerate``. It also makes ``Accelerator.load_state`` rewind the run.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator, tracking
from accelerate.tracking import GeneralTracker

from rankzero.integrations.lazy_run import LazyRun
from rankzero.integrations.values import log_values
from rankzero.messages import describe
from rankzero.rank import rank_zero_warn_user
from rankzero.run.run import Run

_STEP_FILE = "rankzero.json"
"""In a checkpoint: the id of the run, and the last step before the checkpoint was saved."""


class RankzeroTracker(LazyRun, GeneralTracker):  # type: ignore[misc]  # to mypy, Accelerate is Any
    """Logs the data of an Accelerator to a run, which begins on first use.

    Its methods can be called on each rank; only rank zero logs.

    Args:
        run_name: the project of the run, as Accelerate passes it; or a Run, which the tracker does not end.
        run: the same as a Run as ``run_name``.
        **settings: the arguments of `rankzero.start`, including ``loggers``.

    Raises:
        ConfigError: an argument is invalid.
        PluginError: a logger is not installed, or is broken.
    """

    name = "rankzero"
    requires_logging_directory = False
    main_process_only = False  # a Run itself knows which rank logs

    def __init__(self, run_name: str | Run | None = None, *, run: Run | None = None, **settings: Any) -> None:
        given = run_name if isinstance(run_name, Run) else run
        project = {} if run_name is None or given is not None else {"project": run_name}
        super().__init__(run=given, **{**project, **settings})

    @property
    def tracker(self) -> Run:
        """The run, with the name that Accelerate expects."""
        return self.run

    def start(self) -> None:
        """Begin the run, if it has not begun yet."""
        _ = self.run

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """Log hyperparameters."""
        self.run.log_hyperparams(values)

    def log(self, values: Mapping[str, Any], step: int | None = None, **context: Any) -> None:
        """Log numbers and texts.

        Args:
            values: name → value.
            step: the step; by default one more than the last one.
            **context: ``epoch`` and ``stage``, as in `rankzero.Run.log_metrics`; ``log_kwargs={"rankzero": {…}}`` of
                ``Accelerator.log`` is passed here.
        """
        log_values(self.run, values, step, **context)

    def log_images(self, values: Mapping[str, Any], step: int | None = None, **extra: Any) -> None:
        """Log images.

        Args:
            values: name → an array or PIL image, a list of them, or a batch (N, H, W, C).
            step: the step.
            **extra: ``caption``, a list of texts; see `rankzero.Run.log_image`.
        """
        for name, images in values.items():
            self.run.log_image(name, images, step=step, **extra)

    def log_table(
        self,
        table_name: str,
        columns: Sequence[str] | None = None,
        data: Iterable[Iterable[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
        **_: Any,
    ) -> None:
        """Log a table, given by columns and rows or as a dataframe."""
        self.run.log_table(table_name, columns, data, dataframe, step)

    def log_figure(self, figure: Any, artifact_file: str, step: int | None = None, **_: Any) -> None:
        """Log a figure of matplotlib or plotly under the name ``artifact_file``."""
        self.run.log_figure(artifact_file, figure, step)

    def log_artifact(self, local_path: str | os.PathLike[str], artifact_path: str | None = None) -> None:
        """Log a file or directory; its name has the directory ``artifact_path`` before it."""
        self.run.log_artifact(local_path, artifact_path and f"{artifact_path}/{Path(local_path).name}")

    def log_artifacts(self, local_dir: str | os.PathLike[str], artifact_path: str | None = None) -> None:
        """Log the content of a directory with the name ``artifact_path``."""
        self.run.log_artifact(local_dir, artifact_path)

    def log_checkpoint(self, path: str | os.PathLike[str], *details: Any, **named_details: Any) -> None:
        """Log the directory that ``save_state()`` returns; its files are linked, and may be deleted afterwards.

        The arguments are those of `rankzero.Run.log_checkpoint`.
        """
        self.run.log_checkpoint(path, *details, automatic=True, **named_details)

    def finish(self) -> None:
        """End the run, unless it was given."""
        self._end_own_run()

    def _save_step(self, models: Any, weights: Any, directory: str) -> None:
        if self.run.is_active:
            try:
                Path(directory, _STEP_FILE).write_text(json.dumps({"run": self.run.id, "step": self.run.step}))
            except OSError as error:
                rank_zero_warn_user(f"resuming from {directory} will not rewind the run: {describe(error)}")

    def _rewind(self, models: Any, directory: str) -> None:
        path = Path(directory, _STEP_FILE)
        if self.run.is_active and path.exists():  # the checkpoint may be older than the tracker
            try:
                saved = json.loads(path.read_text())
                if saved["run"] == self.run.id:
                    self.run.rewind(saved["step"])
            except (OSError, ValueError, LookupError, TypeError) as error:
                rank_zero_warn_user(f"the run is not rewound, because {path} cannot be read: {describe(error)}")


def _with_rewinds(init_trackers: Callable[..., None]) -> Callable[..., None]:
    """Return a function that also makes the checkpoints of an Accelerator save and restore the step of its run.

    A tracker does not know its Accelerator.
    """

    @functools.wraps(init_trackers)
    def init(accelerator: Accelerator, *args: Any, **kwargs: Any) -> None:
        init_trackers(accelerator, *args, **kwargs)
        for tracker in accelerator.trackers:
            if isinstance(tracker, RankzeroTracker):
                accelerator.register_save_state_pre_hook(tracker._save_step)
                accelerator.register_load_state_pre_hook(tracker._rewind)

    return init


Accelerator.init_trackers = _with_rewinds(Accelerator.init_trackers)

if hasattr(tracking, "register_tracker_class") and RankzeroTracker.name not in tracking.LOGGER_TYPE_TO_CLASS:
    tracking.register_tracker_class(RankzeroTracker)
