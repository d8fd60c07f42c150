"""Hydra tells runs which job they belong to, and ends them with its status: add `RankzeroCallback` to its callbacks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode

from rankzero.plugins.hookspecs import hookimpl
from rankzero.plugins.registry import get_plugins
from rankzero.run.run import Run

if TYPE_CHECKING:
    from omegaconf import DictConfig

_GROUP = "RANKZERO_GROUP"


class RankzeroCallback(Callback):  # type: ignore[misc]  # to mypy, Hydra is Any
    """Cares for the runs that a job starts with `rankzero.start`.

    A run has the overrides and the output directory of its job as parameters. The runs of a sweep are a group with the
    name of its directory, unless ``RANKZERO_GROUP`` is set. A run that the job leaves open ends with the job: as
    ``failed`` if it raised.
    """

    def __init__(self) -> None:
        self._job: dict[str, Any] = {}
        self._runs: list[Run] = []
        self._has_set_group = False

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        hydra = HydraConfig.get()
        self._job = {"overrides": hydra.overrides.task, "output_dir": hydra.runtime.output_dir}
        if hydra.mode == RunMode.MULTIRUN and _GROUP not in os.environ:
            os.environ[_GROUP] = "/".join(Path(hydra.sweep.dir).parts[-2:])
            self._has_set_group = True
        get_plugins().manager.register(self)

    @hookimpl
    def rankzero_run_started(self, run: Run) -> None:
        self._runs.append(run)
        run.log_hyperparams({"hydra": self._job})

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        get_plugins().manager.unregister(self)
        if self._has_set_group:
            self._has_set_group = False
            del os.environ[_GROUP]
        for run in self._runs:
            run.finish("success" if job_return.status == JobStatus.COMPLETED else "failed")
        self._runs.clear()
