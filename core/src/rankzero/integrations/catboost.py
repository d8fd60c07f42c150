"""CatBoost logs to a run: pass a `RankzeroCallback` to ``fit``."""

from __future__ import annotations

import math
from typing import Any

from rankzero.integrations.lazy_run import TrainingRun
from rankzero.integrations.values import log_values


class RankzeroCallback(TrainingRun):
    """Logs the metrics of each data set, as ``learn/RMSE``; the step is the iteration, from 0. Each training is a run.

    The arguments are those of `rankzero.start`; or a Run, which the callback does not end. CatBoost does not pass
    the parameters of the model to a callback: pass ``config=model.get_params()``.
    """

    says_when_it_ends = False
    _iteration = math.inf
    _computed = 0

    def after_iteration(self, info: Any) -> bool:
        histories = {f"{data}/{name}": each for data, metrics in info.metrics.items() for name, each in metrics.items()}
        if info.iteration <= self._iteration:
            self.begin_training(of_new_model=True)
            self._computed = 0
        before, self._computed = self._computed, max(map(len, histories.values()), default=0)
        if self._computed > before:  # not after each iteration, with ``metric_period``
            log_values(self.run, {name: each[-1] for name, each in histories.items()}, info.iteration - 1)
        self._iteration = info.iteration
        return True
