"""Optuna's trials are runs: decorate the objective with `log_trials`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from optuna.trial import BaseTrial

from rankzero.errors import ConfigError
from rankzero.integrations.lazy_run import numbered
from rankzero.integrations.values import log_values
from rankzero.run.run import Run
from rankzero.run.start import check, start


class LoggedTrial(BaseTrial):  # type: ignore[misc]  # to mypy, Optuna is Any
    """A trial of Optuna, such as a Trial or FixedTrial, with its run."""

    run: Run
    """The run of the trial."""

    def report(self, value: float, step: int) -> None:
        super().report(value, step)
        self.run.log_metrics({"intermediate_value": value}, step)


def _with_run(trial: Any, run: Run) -> LoggedTrial:
    logged: LoggedTrial = object.__new__(type("LoggedTrial", (LoggedTrial, type(trial)), {}))
    logged.__dict__.update(trial.__dict__, run=run)  # Trial() would draw parameters again
    return logged


def log_trials(loggers: Any = None, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator of an objective, a function or method: each call of it is a run in the group of the study.

    The run has the parameters of the trial, the reported values as ``intermediate_value``, and the result as ``value``,
    or with the metric names of the study. It ends as ``success``, as ``aborted`` if the trial is pruned, or as
    ``failed``. The objective is given a `LoggedTrial`, so it can log more with ``trial.run``.

    Args:
        loggers: the ``loggers`` of `rankzero.start`.
        **settings: further arguments of `rankzero.start`. By default the name is that of the study and the number of
            the trial, and the group is the name of the study; a FixedTrial has none. A run id, also that of
            ``RANKZERO_RUN_ID``, gets the number of the trial.

    Raises:
        ConfigError: an argument is invalid.
        PluginError: a logger is not installed, or is broken.
    """
    if isinstance(loggers, FunctionType):
        raise ConfigError("write @log_trials(), with parentheses")
    check(loggers, **settings)

    def decorate(objective: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(objective)
        def logged(*arguments: Any, **named_arguments: Any) -> Any:
            trial: Any = next(
                (each for each in (*arguments, *named_arguments.values()) if isinstance(each, BaseTrial)), None
            )
            if trial is None:
                raise TypeError("the objective needs an Optuna trial among its arguments")
            study = getattr(trial, "study", None)  # a FixedTrial has none
            number = trial.number if study else f"trial-{trial.number}"
            named = {"name": f"{study.study_name}-{number}", "group": study.study_name} if study else {"name": number}
            with start(loggers, **numbered({**named, **settings}, number)) as run:
                given = _with_run(trial, run)
                try:
                    result = objective(
                        *(given if each is trial else each for each in arguments),
                        **{name: given if each is trial else each for name, each in named_arguments.items()},
                    )
                finally:
                    run.log_hyperparams(trial.params)
                _log_result(run, result, study and study.metric_names)
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
