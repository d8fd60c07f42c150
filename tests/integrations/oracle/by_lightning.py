"""Runs a training with Lightning's Trainer."""

from __future__ import annotations

from typing import Any

import torch
from integrations.oracle.training import LogCalls, Outcome, Point, Training
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger

QUIET = {
    "accelerator": "cpu",
    "devices": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}
STAGES = {"train": "train", "sanity_check": "validate", "validate": "validate", "test": "test"}


class Module(LightningModule):
    def __init__(self, training: Training, calls: LogCalls, outcome: Outcome) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.training_described, self.calls, self.outcome = training, calls, outcome
        self.logged_metrics = torch.nn.ModuleDict(calls.metrics)

    def training_step(self, batch, batch_idx):
        self.calls.make("train", self, batch_idx=batch_idx)
        return (batch["x"] * self.weight).mean()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self._evaluate("validate", self.training_described.validation, batch_idx, dataloader_idx)

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        self._evaluate("test", self.training_described.test, batch_idx, dataloader_idx)

    def _evaluate(self, place, loaders, batch_idx, dataloader_idx):
        self.calls.make(place, self, batch_idx=batch_idx, dataloader_idx=dataloader_idx, loaders=len(loaders))

    def on_train_batch_end(self, *args):
        self.outcome.batch_metrics.append(self.metrics_of_callbacks())

    def on_train_epoch_start(self):
        if self.current_epoch:
            self.outcome.metrics.append(self.metrics_of_callbacks())

    def on_train_epoch_end(self):
        self.calls.make("epoch", self)
        self.trainer.should_stop = self.current_epoch == self.training_described.stop_after

    def on_train_end(self):
        self.outcome.metrics.append(self.metrics_of_callbacks())

    def metrics_of_callbacks(self):
        return {name: float(value) for name, value in self.trainer.callback_metrics.items()}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Collector(Logger):
    """Collects what the Trainer hands to a logger; each step value only in the first row after it was logged."""

    name, version = "collector", 0

    def __init__(self, calls: LogCalls, outcome: Outcome) -> None:
        super().__init__()
        self.calls, self.outcome = calls, outcome
        self.trainer: Any = None

    def log_hyperparams(self, params, *args):
        pass

    def log_metrics(self, metrics, step):
        stage = STAGES[self.trainer.state.stage.value]
        epoch = metrics.pop("epoch", None)
        stale = self.calls.step_names - self.calls.fresh
        self.outcome.points += [
            Point(stage, name, step, epoch, value) for name, value in metrics.items() if (stage, name) not in stale
        ]
        self.calls.fresh -= {(stage, name) for name in metrics}


def run_with_lightning(training: Training) -> Outcome:
    outcome, calls = Outcome(), LogCalls(training)
    collector = Collector(calls, outcome)
    collector.trainer = trainer = Trainer(
        logger=collector,
        max_epochs=training.epochs,
        accumulate_grad_batches=training.accumulate,
        log_every_n_steps=training.log_every,
        val_check_interval=training.validate_every,
        num_sanity_val_steps=training.sanity_batches,
        **QUIET,
    )
    module = Module(training, calls, outcome)
    validation = [training.loader(sizes) for sizes in training.validation]
    trainer.fit(module, training.loader(training.batches), validation or None)
    if training.test:
        trainer.test(module, [training.loader(sizes) for sizes in training.test], verbose=False)
        outcome.test_metrics = module.metrics_of_callbacks()
    return outcome
