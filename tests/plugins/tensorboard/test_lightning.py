"""`TensorBoardLogger` in place of Lightning's, in its Trainer."""

from pathlib import Path

import pytest
import yaml
from servers.event_files import hparams, scalars

from rankzero_tensorboard import TensorBoardLogger

pytest.importorskip("lightning")
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")


class Model(LightningModule):
    def __init__(self, lr=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(2, 1)
        self.example_input_array = torch.zeros(1, 2)

    def forward(self, batch):
        return self.layer(batch)

    def training_step(self, batch, index):
        loss = self(batch).square().mean()
        self.log("train/loss", loss)
        self.logger.experiment.add_scalar("native", 1.0, self.global_step)
        return loss

    def validation_step(self, batch, index):
        self.log("val/loss", self(batch).square().mean())
        self.log("hp_metric", 0.75)

    def test_step(self, batch, index):
        self.log("test/loss", self(batch).square().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.hparams.lr)


def test_fit_and_test(tmp_path):
    data = torch.utils.data.DataLoader(torch.randn(8, 2), batch_size=2)
    logger = TensorBoardLogger(tmp_path, name="digits", log_graph=True)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = Trainer(
        logger=logger, max_epochs=2, accelerator="cpu", devices=1, log_every_n_steps=1,
        callbacks=[ModelCheckpoint(monitor="val/loss"), LearningRateMonitor("step")], **quiet,
    )  # fmt: skip
    model = Model()
    trainer.fit(model, data, data)
    trainer.test(model, data, verbose=False)

    directory = tmp_path / "digits" / "version_0"
    found = scalars(directory)
    assert [step for step, _ in found["train/loss"]] == list(range(8))
    assert [step for step, _ in found["native"]] == list(range(8))
    assert [step for step, _ in found["val/loss"]] == [3, 7]
    assert [step for step, _ in found["test/loss"]] == [8]
    assert found["hp_metric"] == [(0, -1.0), (3, 0.75), (7, 0.75)]
    assert found["lr-SGD"][0] == (0, pytest.approx(0.1))
    assert hparams(directory) == yaml.safe_load((directory / "hparams.yaml").read_text()) == {"lr": 0.1}
    assert len(list((directory / "checkpoints").iterdir())) == 1, "checkpoints are beside it"
    assert len([path for path in directory.iterdir() if "tfevents" in path.name]) == 2
    logger.close()


def test_two_fits_with_a_logger_each(tmp_path):
    """As cross-validation does."""
    for fold in range(2):
        logger = TensorBoardLogger(str(tmp_path))
        data = torch.utils.data.DataLoader(torch.randn(4, 2), batch_size=2)
        options = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        trainer = Trainer(logger=logger, max_epochs=1, accelerator="cpu", devices=1, log_every_n_steps=1, **options)
        trainer.fit(Model(), data)
        assert Path(logger.log_dir).name == f"version_{fold}"
