"""Keras 3 logs to a run: pass a `RankzeroCallback` to ``fit``, with any backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras.callbacks import Callback
from keras.ops import convert_to_numpy

from rankzero.integrations.lazy_run import TrainingRun
from rankzero.integrations.values import log_values, model_sizes


class RankzeroCallback(TrainingRun, Callback):  # type: ignore[misc]  # to mypy, Keras is Any
    """Logs the metrics of each epoch as ``train/…`` and ``val/…``; the step is the number of batches so far.

    ``evaluate`` logs ``test/…``. A later ``fit`` with the same callback continues the run.

    The arguments are those of `rankzero.start`; or a Run, which the callback does not end.
    """

    _batches = 0  # in all epochs
    _batches_before = 0  # this epoch
    _is_fitting = False

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._is_fitting = True
        self.begin_training({**self.params, **_params(self.model)})
        self.model.summary(print_fn=lambda text, **_: self.run.log_text("model/summary", text, step=self._batches))

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._batches_before = self._batches

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._batches = self._batches_before + batch + 1  # it may be called for several batches at once

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        values = {_name(name): value for name, value in (logs or {}).items()}
        values.setdefault("learning_rate", float(convert_to_numpy(self.model.optimizer.learning_rate)))
        log_values(self.run, values, self._batches, epoch=epoch)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._is_fitting = False
        self.end_training()

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if not self._is_fitting:
            log_values(self.run, {f"test/{name}": value for name, value in (logs or {}).items()}, self._batches)


def _name(name: str) -> str:
    """Return the name of a metric that Keras calls ``loss``, ``val_loss`` or ``learning_rate``."""
    if name == "learning_rate":
        return name
    return f"val/{name[4:]}" if name.startswith("val_") else f"train/{name}"


def _params(model: Any) -> dict[str, Any]:
    optimizer = {**model.optimizer.get_config(), "name": type(model.optimizer).__name__}
    loss = model.loss if isinstance(model.loss, str) else getattr(model.loss, "name", repr(model.loss))
    return {"optimizer": optimizer, "loss": loss, **model_sizes(model.weights, model.trainable_weights)}
