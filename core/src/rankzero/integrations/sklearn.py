"""scikit-learn (1.9 and later) logs to a run: pass a `RankzeroCallback` to ``set_callbacks`` of an estimator."""

from __future__ import annotations

from typing import Any

from rankzero.integrations.lazy_run import TrainingRun
from rankzero.integrations.values import log_values
from rankzero.run.run import Run


class RankzeroCallback(TrainingRun):
    """Logs the parameters of an estimator, its scores after each iteration, and the results of a search.

    Each ``fit`` is a run. The callback is for estimators that support callbacks, such as ``LogisticRegression``,
    ``Pipeline`` and ``GridSearchCV``.

    Args:
        loggers: the ``loggers`` of `rankzero.start`; or a Run, which the callback does not end.
        run: the same as a Run as ``loggers``.
        scoring: the scores to compute on the training data after each iteration, as in ``GridSearchCV``; None for none.
        **settings: further arguments of `rankzero.start`.
    """

    def __init__(self, loggers: Any = None, *, run: Run | None = None, scoring: Any = None, **settings: Any) -> None:
        super().__init__(loggers, run=run, **settings)
        self._scoring = [scoring] if isinstance(scoring, str) else scoring

    def setup(self, estimator: Any, context: Any) -> None:
        self.begin_training({"class": type(estimator).__name__, **estimator.get_params()}, of_new_model=True)

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    teardown = on_fit_task_begin

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, X: Any = None, y: Any = None, fitted_estimator: Any = None
    ) -> None:
        if context.parent is None:
            self._end_of_fit(estimator)
        elif self._scoring is not None and fitted_estimator is not None and X is not None:
            from sklearn.metrics import check_scoring

            scores = check_scoring(fitted_estimator, self._scoring)(fitted_estimator, X, y)
            scores = scores if isinstance(scores, dict) else {"score": scores}
            log_values(self.run, {f"train/{name}": score for name, score in scores.items()}, context.task_id)

    def _end_of_fit(self, estimator: Any) -> None:
        if (results := getattr(estimator, "cv_results_", None)) is not None:
            rows = zip(*results.values(), strict=True)
            self.run.log_table("cv_results", list(results), [[_cell(value) for value in row] for row in rows])
        if hasattr(estimator, "best_params_"):
            self.run.log_hyperparams({"best_params": estimator.best_params_})
            self.run.log_metrics({"best_score": estimator.best_score_})
        self.end_training()


def _cell(value: Any) -> Any:
    return repr(value) if isinstance(value, dict) else value
