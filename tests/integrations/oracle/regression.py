"""A small model that learns, by Lightning's Trainer and by hand: same data, seeds, optimizer and schedulers."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import torch
from integrations.oracle.by_lightning import QUIET
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import grad_norm
from recorded import events_in
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanAbsoluteError

import rankzero
from rankzero.events.structs import Metrics

EPOCHS, ACCUMULATE, LOG_EVERY = 8, 2, 2
Rows = dict[str, list[tuple[int, float]]]


def data() -> tuple[DataLoader, DataLoader]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(50, 3, generator=generator)
    targets = inputs.sum(1, keepdim=True) + 0.1 * torch.randn(50, 1, generator=generator)
    train = DataLoader(TensorDataset(inputs[:38], targets[:38]), 5, shuffle=True, generator=generator)
    return train, DataLoader(TensorDataset(inputs[38:], targets[38:]), 5)


def model() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def optimizer_and_schedulers(parameters):
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.5)
    by_step = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98)
    by_loss = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    return optimizer, by_step, by_loss


class Module(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model, self.error = model(), MeanAbsoluteError()

    def training_step(self, batch, batch_idx):
        loss = mse_loss(self.model(batch[0]), batch[1])
        self.log("loss", loss, on_epoch=True, prog_bar=True)
        return loss

    def on_before_optimizer_step(self, optimizer):
        self.log_dict(grad_norm(self.model, 2))

    def validation_step(self, batch, batch_idx):
        prediction = self.model(batch[0])
        self.error(prediction, batch[1])
        self.log("val_loss", mse_loss(prediction, batch[1]))
        self.log("val_error", self.error)

    def configure_optimizers(self):
        optimizer, by_step, by_loss = optimizer_and_schedulers(self.parameters())
        schedulers = [{"scheduler": by_step, "interval": "step"}, {"scheduler": by_loss, "monitor": "val_loss"}]
        return [optimizer], schedulers


class Collector(Logger):
    name, version = "collector", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: Rows = defaultdict(list)

    def log_hyperparams(self, params, *args):
        pass

    def log_metrics(self, metrics, step):
        for name, value in metrics.items():
            if name != "epoch" and not self._is_repeated(name, step):
                self.rows[name].append((step, float(value)))

    def _is_repeated(self, name, step):
        # LearningRateMonitor writes at each batch of a step that several batches make, and names an optimizer again
        # for its second scheduler.
        points = self.rows.get(name, [])
        return name.startswith("lr-SGD-1") or (name.startswith("lr-") and step in dict(points))


def train_with_lightning() -> Rows:
    logger = Collector()
    trainer = Trainer(
        logger=logger,
        callbacks=[LearningRateMonitor("step", log_momentum=True)],
        max_epochs=EPOCHS,
        accumulate_grad_batches=ACCUMULATE,
        log_every_n_steps=LOG_EVERY,
        num_sanity_val_steps=0,
        **QUIET,
    )
    trainer.fit(Module(), *data())
    return logger.rows


def train_by_hand(directory: Path) -> Rows:
    network, error = model(), MeanAbsoluteError()
    optimizer, by_step, by_loss = optimizer_and_schedulers(network.parameters())
    train_loader, val_loader = data()
    with rankzero.start(dir=directory, delivery="off") as run:
        rec = run.recorder(log_every_n_steps=LOG_EVERY, accumulate_grad_batches=ACCUMULATE)
        rec.monitor_learning_rate(optimizer, log_momentum=True)
        for _ in rec.epochs(EPOCHS):
            for inputs, targets in rec.train(train_loader):
                loss = mse_loss(network(inputs), targets)
                rec.log("loss", loss, on_epoch=True, prog_bar=True)
                (loss / ACCUMULATE).backward()
                if rec.should_step:
                    rec.log_grad_norm(network, per_parameter=True)
                    optimizer.step()
                    optimizer.zero_grad()
                    by_step.step()
            with torch.no_grad():
                for inputs, targets in rec.validate(val_loader):
                    prediction = network(inputs)
                    error(prediction, targets)
                    rec.log("val_loss", mse_loss(prediction, targets))
                    rec.log("val_error", error)
            by_loss.step(rec["val_loss"])
    rows: Rows = defaultdict(list)
    for event in events_in(run.dir):
        if isinstance(event, Metrics):
            for name, value in event.numbers().items():
                rows[name].append((event.step, value))
    return rows
