"""Composer logs to a run: pass a `RankzeroLogger` to the Trainer as one of its ``loggers``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from composer.core import State
from composer.loggers import Logger, LoggerDestination

from rankzero.integrations.lazy_run import TrainingRun
from rankzero.integrations.values import log_values


class RankzeroLogger(TrainingRun, LoggerDestination):  # type: ignore[misc]  # to mypy, Composer is Any
    """Logs metrics, hyperparameters, tables and images with Composer's names and steps.

    The arguments are those of `rankzero.start`; or a Run, which the logger does not end. By default the run's name is
    the Trainer's ``run_name``.
    """

    def init(self, state: State, logger: Logger) -> None:
        self._settings.setdefault("name", state.run_name)

    def log_hyperparameters(self, hyperparameters: Mapping[str, Any]) -> None:
        self.run.log_hyperparams(hyperparameters)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        log_values(self.run, metrics, step)

    def log_table(self, columns: list[str], rows: list[Any], name: str = "Table", step: int | None = None) -> None:
        self.run.log_table(name, columns, rows, step=step)

    def log_images(self, images: Any, name: str = "Images", *_: Any, step: int | None = None, **__: Any) -> None:
        self.run.log_image(name, images, step=step)

    def fit_start(self, state: State, logger: Logger) -> None:
        self.begin_training()

    def fit_end(self, state: State, logger: Logger) -> None:
        self.end_training()

    def close(self, *_: Any) -> None:
        super().close()
