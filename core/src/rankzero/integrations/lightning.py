"""Lightning rewinds a run if ``Trainer.fit`` restores a checkpoint from before the run's last step.

Lightning adds the callback to each Trainer: the package ``rankzero`` has it as an entry point of
``lightning.pytorch.callbacks_factory``.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from rankzero.run.run import Run

# The Trainer that asks for callbacks belongs to one of two packages, and importing the other one takes seconds.
_package: Any = sys.modules.get("lightning.pytorch") or importlib.import_module("pytorch_lightning")


class RewindRuns(_package.Callback):  # type: ignore[misc]  # to mypy, Lightning is Any
    """Rewinds the runs that are loggers of a Trainer to the step of the checkpoint that it restored."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Rewind the runs, if a checkpoint was restored."""
        if trainer.ckpt_path is None:
            return
        # Metrics are logged at the number of the batch. With several optimizers the global step is larger than that.
        last = min(trainer.global_step - 1, trainer.fit_loop.epoch_loop._batches_that_stepped)
        for logger in trainer.loggers:
            if isinstance(logger, Run):
                logger.rewind(last)
