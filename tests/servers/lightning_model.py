"""The model for Lightning's Trainer in all tests."""

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

SCORES = [0.5, 0.75, 0.25, 1.0]
"""``val/score`` of each epoch."""


class Model(LightningModule):
    """Records what it logs."""

    def __init__(self, lr=0.1, sizes=(2, 1)):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(*sizes)
        self.losses = []

    def training_step(self, batch, index):
        loss = self.layer(batch).square().mean()
        self.losses.append(float(loss.detach()))
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, index):
        self.log("val/score", SCORES[self.current_epoch], batch_size=len(batch))

    def test_step(self, batch, index):
        self.log("test/loss", 0.125, batch_size=len(batch))

    def predict_step(self, batch, index):
        return self.layer(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.hparams.lr)


def data(batches=2):
    """Return a loader of batches of two samples."""
    return torch.utils.data.DataLoader(torch.ones(2 * batches, 2), batch_size=2)


class Data(LightningDataModule):
    """Two batches to learn from, and to validate on."""

    def train_dataloader(self):
        return data()

    val_dataloader = train_dataloader


def trainer(logger, epochs=4, **options):
    """Return a Trainer without output."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    defaults = {"max_epochs": epochs, "accelerator": "cpu", "devices": 1, "log_every_n_steps": 1, **quiet}
    return Trainer(logger=logger, **{**defaults, **options})
