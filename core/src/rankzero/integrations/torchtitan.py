"""torchtitan logs to a run: ``Trainer.Config.metrics`` is a ``RankzeroMetricsProcessor.Config``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torchtitan.components.metrics import BaseLogger, LoggerContainer, MetricsProcessor

from rankzero.integrations.lazy_run import LazyRun
from rankzero.integrations.values import log_values


class RankzeroLogger(LazyRun, BaseLogger):  # type: ignore[misc]  # to mypy, torchtitan is Any
    """A logger of torchtitan.

    The arguments are those of `rankzero.start`; or a Run, which the logger does not end.
    """

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        log_values(self.run, metrics, step)


class RankzeroMetricsProcessor(MetricsProcessor):  # type: ignore[misc]
    """torchtitan's metrics processor, which also logs to a run.

    Rank zero logs. With pipeline parallelism only a rank of the last stage knows the loss.
    """

    @dataclass(kw_only=True, slots=True)
    class Config(MetricsProcessor.Config):  # type: ignore[misc]
        """The config of the metrics processor; rankzero's environment variables are the defaults."""

        loggers: str | None = None
        """The logger of the run, or several, comma-separated."""
        project: str | None = None
        """The project of the run."""

    logger: BaseLogger

    def __init__(self, config: Config, *, config_dict: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(config, config_dict=config_dict, **settings)
        loggers = config.loggers and config.loggers.split(",")
        theirs, self.logger = self.logger, LoggerContainer()
        for each in (theirs, RankzeroLogger(loggers, project=config.project, config=config_dict)):
            self.logger.add_logger(each)
