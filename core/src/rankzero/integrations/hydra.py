"""Hydra: runs get the overrides and the status of their job. Add `RankzeroCallback` to Hydra's callbacks."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode

from rankzero.integrations.lazy_run import numbered
from rankzero.plugins.hookspecs import hookimpl
from rankzero.plugins.registry import get_plugins
from rankzero.processes import environment_of
from rankzero.run.run import Run

if TYPE_CHECKING:
    from omegaconf import DictConfig

_GROUP, _RUN_ID = "RANKZERO_GROUP", "RANKZERO_RUN_ID"


class RankzeroCallback(Callback):  # type: ignore[misc]  # to mypy, Hydra is Any
    """Sets parameters, group and status of the runs that a job starts with `rankzero.start`.

    A run has the overrides and the output directory of its job as parameters. The runs of a sweep are a group with the
    name of its directory, unless ``RANKZERO_GROUP`` is set, and ``RANKZERO_RUN_ID`` gets the number of the job. A run
    that the job leaves open ends with the job: as ``failed`` if it raised.
    """

    def __init__(self) -> None:
        self._job: dict[str, Any] = {}
        self._runs: list[Run] = []
        self._environment = ExitStack()  # restores the variables

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        hydra = HydraConfig.get()
        self._job = {"overrides": hydra.overrides.task, "output_dir": hydra.runtime.output_dir}
        if hydra.mode == RunMode.MULTIRUN:
            variables = {_GROUP: os.environ.get(_GROUP, "/".join(Path(hydra.sweep.dir).parts[-2:]))}
            if run_id := numbered({}, hydra.job.num).get("run_id"):
                variables[_RUN_ID] = run_id
            self._environment.enter_context(environment_of(variables))
        get_plugins().manager.register(self)

    @hookimpl
    def rankzero_run_started(self, run: Run) -> None:
        self._runs.append(run)
        run.log_hyperparams({"hydra": self._job})

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        get_plugins().manager.unregister(self)
        self._environment.close()
        for run in self._runs:
            run.finish("success" if job_return.status == JobStatus.COMPLETED else "failed")
        self._runs.clear()
