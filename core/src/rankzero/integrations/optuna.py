"""Optuna's trials are runs: decorate the objective with `log_trials`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from optuna.trial import Trial

from rankzero.integrations.lazy_run import numbered
from rankzero.integrations.values import log_values
from rankzero.run.run import Run
from rankzero.run.start import check, start


class LoggedTrial(Trial):  # type: ignore[misc]  # to mypy, Optuna is Any
    """Optuna's Trial with the run that it is logged to."""

    def __init__(self, trial: Trial, run: Run) -> None:
        self.__dict__.update(trial.__dict__)  # Trial() would draw parameters again
        self.run = run
        """The run of the trial."""

    def report(self, value: float, step: int) -> None:
        super().report(value, step)
        self.run.log_metrics({"intermediate_value": value}, step)


def log_trials(loggers: Any = None, **settings: Any) -> Callable[[Callable[[Any], Any]], Callable[[Trial], Any]]:
    """Return a decorator of an objective: each call of it is a run in the group of the study.

    The run has the parameters of the trial, what it reports as ``intermediate_value``, and the result as ``value``, or
    under the metric names of the study. It ends as ``success``, as ``aborted`` if the trial is pruned, or as
    ``failed``. The objective is given a `LoggedTrial`, so it can log more with ``trial.run``.

    Args:
        loggers: the ``loggers`` of `rankzero.start`.
        **settings: further arguments of `rankzero.start`. By default the name is that of the study and the number of
            the trial, and the group is the name of the study. A run id, also that of ``RANKZERO_RUN_ID``, gets the
            number of the trial.

    Raises:
        ConfigError: an argument is invalid.
        PluginError: a logger is not installed, or is broken.
    """
    check(loggers, **settings)

    def decorate(objective: Callable[[Any], Any]) -> Callable[[Trial], Any]:
        @functools.wraps(objective)
        def logged(trial: Trial) -> Any:
            study = trial.study
            named = {"name": f"{study.study_name}-{trial.number}", "group": study.study_name}
            with start(loggers, **numbered({**named, **settings}, trial.number)) as run:
                try:
                    result = objective(LoggedTrial(trial, run))
                finally:
                    run.log_hyperparams(trial.params)
                _log_result(run, result, study.metric_names)
            return result

        return logged

    return decorate


def _log_result(run: Run, result: Any, names: Sequence[str] | None) -> None:
    values = list(result) if isinstance(result, Sequence) else [result]
    if names is None:
        names = ["value"] if len(values) == 1 else [f"value_{index}" for index in range(len(values))]
    if any(value is None or math.isnan(value) for value in values):
        run.finalize("failed")  # as Optuna does
    else:
        log_values(run, dict(zip(names, values, strict=True)))
