"""fastai logs to a run: pass a `RankzeroCallback` to a Learner or to ``fit``."""

from __future__ import annotations

from typing import Any

from fastai.learner import Callback

from rankzero.integrations.lazy_run import TrainingRun
from rankzero.integrations.values import log_values, model_sizes
from rankzero.run.run import Run


class RankzeroCallback(Callback):  # type: ignore[misc]  # to mypy, fastai is Any
    """Logs losses and hyperparameters of the optimizer after each batch, and metrics after each epoch.

    The names are ``train/loss``, ``lr_0``, ``val/loss``, ``val/accuracy``, …; the step is the number of training
    batches so far. A later ``fit`` with the same callback continues the run.

    Args:
        loggers: the ``loggers`` of `rankzero.start`; or a Run, which the callback does not end.
        run: the same as a Run as ``loggers``.
        **settings: further arguments of `rankzero.start`.
    """

    order = 51  # after the Recorder

    def __init__(self, loggers: Any = None, *, run: Run | None = None, **settings: Any) -> None:
        super().__init__()
        self._training_run = TrainingRun(loggers, run=run, **settings)
        self._batches = 0

    @property
    def rankzero_run(self) -> Run:
        """The run; reading this begins it. ``run`` is a switch of fastai's callbacks."""
        return self._training_run.run

    def before_fit(self) -> None:
        self.run = not hasattr(self.learn, "lr_finder") and not hasattr(self, "gather_preds")
        if self.run:
            self._training_run.begin_training(_params(self.learn))

    def after_batch(self) -> None:
        if self.training:
            self._batches += 1
            hypers = {f"{name}_{i}": value for i, group in enumerate(self.opt.hypers) for name, value in group.items()}
            log_values(self.rankzero_run, {"train/loss": self.smooth_loss, **hypers}, self._batches)

    def after_epoch(self) -> None:
        named = dict(zip(self.recorder.metric_names, self.recorder.log, strict=False))
        values = {
            _name(name): value
            for name, value in named.items()
            if name not in ("epoch", "train_loss", "time") and value is not None
        }
        log_values(self.rankzero_run, values, self._batches, epoch=self.epoch)

    def after_fit(self) -> None:
        if self.run:
            self._training_run.end_training()


def _name(name: str) -> str:
    """Return the name of a metric, which fastai computes on validation data unless the name says ``train_``."""
    return f"train/{name[6:]}" if name.startswith("train_") else f"val/{name.removeprefix('valid_')}"


def _params(learn: Any) -> dict[str, Any]:
    trained = (each for each in learn.model.parameters() if each.requires_grad)
    return {
        "epochs": learn.n_epoch,
        "batch_size": learn.dls.bs,
        "loss": repr(learn.loss_func),
        "optimizer": learn.opt.hypers[-1],
        **model_sizes(learn.model.parameters(), trained),
    }
