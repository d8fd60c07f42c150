"""XGBoost logs to a run: pass a `RankzeroCallback` to ``train``, ``cv`` or an estimator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from xgboost import collective
from xgboost.callback import TrainingCallback

from rankzero.integrations.lazy_run import TrainingRun
from rankzero.integrations.values import log_values


class RankzeroCallback(TrainingRun, TrainingCallback):  # type: ignore[misc]  # to mypy, XGBoost is Any
    """Logs the metrics of each data set that is evaluated, as ``train/rmse``; the step is the number of the tree.

    ``cv`` logs ``train/rmse-mean`` and ``train/rmse-std``. Each training is a run, and the model's config are its
    parameters. Of several workers, that with XGBoost's rank zero logs.

    The arguments are those of `rankzero.start`; or a Run, which the callback does not end.
    """

    def before_training(self, model: Any) -> Any:
        if collective.get_rank() == 0:
            booster = model.cvfolds[0].bst if hasattr(model, "cvfolds") else model
            self.begin_training(_typed(json.loads(booster.save_config())["learner"]), of_new_model=True)
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Mapping[str, list[Any]]]) -> bool:
        values = dict[str, float]()
        for data, metrics in evals_log.items():
            for metric, history in metrics.items():
                if isinstance(history[-1], tuple):
                    values[f"{data}/{metric}-mean"], values[f"{data}/{metric}-std"] = history[-1]
                else:
                    values[f"{data}/{metric}"] = history[-1]
        if values and collective.get_rank() == 0:
            log_values(self.run, values, epoch)
        return False

    def after_training(self, model: Any) -> Any:
        if collective.get_rank() == 0:
            if not hasattr(model, "cvfolds") and model.attr("best_iteration") is not None:
                self.run.log_metrics({"best_score": float(model.attr("best_score"))}, int(model.attr("best_iteration")))
            self.end_training()
        return model


def _typed(value: Any) -> Any:
    """Return a config with numbers in the place of their texts."""
    if isinstance(value, dict):
        return {name: _typed(each) for name, each in value.items()}
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return value
