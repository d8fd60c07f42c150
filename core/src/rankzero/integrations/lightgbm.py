"""LightGBM logs to a run: pass a `RankzeroCallback` to ``train``, ``cv`` or ``fit``."""

from __future__ import annotations

from typing import Any

from rankzero.integrations.lazy_run import TrainingRun
from rankzero.integrations.values import log_values


class RankzeroCallback(TrainingRun):
    """Logs the metrics of each data set that is evaluated, as ``valid_0/l2``; the step is the iteration.

    ``cv`` logs ``valid/l2-mean`` and ``valid/l2-stdv``. Each training is a run, with the parameters of LightGBM.

    The arguments are those of `rankzero.start`; or a Run, which the callback does not end.
    """

    order = 25  # before early stopping, which raises
    says_when_it_ends = False  # not when it stops early

    def __call__(self, env: Any) -> None:
        if env.iteration == env.begin_iteration:
            self.begin_training(env.params, of_new_model=True)
        values = dict[str, float]()
        for data, metric, value, _, *deviation in env.evaluation_result_list or ():
            name = metric.replace(" ", "/", 1) if data == "cv_agg" else f"{data}/{metric}"  # the former before 4.7
            values |= {f"{name}-mean": value, f"{name}-stdv": deviation[0]} if deviation else {name: value}
        log_values(self.run, values, env.iteration)
