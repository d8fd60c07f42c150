"""torchtune logs to a run: ``metric_logger._component_`` is ``rankzero.integrations.torchtune.RankzeroLogger``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankzero.integrations.lazy_run import LazyRun
from rankzero.integrations.values import log_values


class RankzeroLogger(LazyRun):
    """A metric logger, with the names and steps of the recipe; the recipe's config are the parameters of the run.

    The arguments are those of `rankzero.start`; or a Run, which the logger does not end.
    """

    def log(self, name: str, data: Any, step: int) -> None:
        log_values(self.run, {name: data}, step)

    def log_dict(self, payload: Mapping[str, Any], step: int) -> None:
        log_values(self.run, payload, step)

    def log_config(self, config: Any) -> None:
        self.run.log_hyperparams(config)
