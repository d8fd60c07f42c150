"""The data that a Run records from a Trainer, compared with that of Lightning's own logger."""

import csv

import pytest
from recorded import events_in
from servers.lightning_model import SCORES, Model, data, trainer

from rankzero.events.structs import Graph, Image, Metrics, Params, Table

pytest.importorskip("lightning")
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import DeviceStatsMonitor, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")


class Talkative(Model):
    """Logs in every way."""

    def training_step(self, batch, index):
        loss = super().training_step(batch, index)
        self.log("both", loss, on_step=True, on_epoch=True)
        self.log_dict({"a": index, "b/c": torch.tensor(index, dtype=torch.float64)}, on_epoch=True, reduce_fx="sum")
        self.log("quiet", 1.0, logger=False)
        return loss

    def validation_step(self, batch, index, dataloader_idx=0):
        super().validation_step(batch, index)
        self.log("val/each", float(index), on_step=True, batch_size=2)

    def on_train_epoch_end(self):
        self.log("late", float("nan"))

    def test_step(self, batch, index):
        self.log("step", 77.0, batch_size=2)
        self.log("test/x", torch.tensor(0.1, dtype=torch.float16), batch_size=2)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), 0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


def recorded(run):
    """Return (step, values) of each row, the values as a CSV file has them: by name, as floats."""
    return [(event.step, by_name(event.values)) for event in events_in(run.dir, Metrics)]


def by_name(values):
    return {key: float(value) for key, value in sorted(values.items())}


def kept_by_lightning(logger):
    with open(f"{logger.log_dir}/metrics.csv") as file:
        rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
    return [(int(row.pop("step")), by_name(row)) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"log_every_n_steps": 3},
        {"val_check_interval": 2, "accumulate_grad_batches": 2, "num_sanity_val_steps": 1},
        {"check_val_every_n_epoch": 2, "log_every_n_steps": 50},
    ],
    ids=["every step", "every third", "accumulated", "no step"],
)
def test_rows_are_those_that_lightnings_csv_logger_gets(run, tmp_path, options):
    theirs = CSVLogger(tmp_path)
    callbacks = [LearningRateMonitor(), DeviceStatsMonitor(cpu_stats=True)]
    fitted = trainer([run, theirs], epochs=2, callbacks=callbacks, enable_checkpointing=False, **options)
    fitted.fit(Talkative(), data(4), data())
    fitted.validate(fitted.lightning_module, data(), verbose=False)
    fitted.test(fitted.lightning_module, data(), verbose=False)
    ours = recorded(run)
    assert repr(ours) == repr(kept_by_lightning(theirs))  # NaN is not equal to itself
    names = {name for _, values in ours for name in values}
    assert names >= {"both_epoch", "a_epoch", "b/c_epoch", "val/each_epoch", "test/x", "late", "epoch"}
    assert (77, {"test/x": pytest.approx(0.1, rel=1e-3)}) in ours
    if "log_every_n_steps" not in options:
        assert names >= {"both_step", "lr-Adam"}
        assert [name for name in names if name.startswith("DeviceStatsMonitor.on_train_batch_start/")]


class Data(LightningDataModule):
    def __init__(self, batches=2, path="digits"):
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self):
        return data(self.hparams.batches)

    val_dataloader = train_dataloader


def test_hyperparameters_of_model_and_data_and_the_graph(run):
    fitted = trainer(run, epochs=1, enable_checkpointing=False)
    fitted.fit(Model(lr=0.5), datamodule=Data())
    assert [event.values for event in events_in(run.dir, Params)] == [
        {"lr": 0.5, "sizes": [2, 1], "batches": 2, "path": "digits"}
    ]
    assert len(events_in(run.dir, Graph)) == 1
    assert [row for row in recorded(run) if "val/score" in row[1]] == [(1, {"epoch": 0.0, "val/score": SCORES[0]})]


class Painter(Model):
    def training_step(self, batch, index):
        self.logger.log_image("batch", [torch.zeros(3, 4, 4)], step=self.global_step)
        self.logger.log_table("numbers", columns=["n"], data=[[self.global_step]], step=self.global_step)
        self.logger.experiment.anything.at_all(1)  # nobody delivers, so there is no experiment
        return super().training_step(batch, index)


def test_the_module_uses_the_verbs(run):
    trainer(run, epochs=1, enable_checkpointing=False).fit(Painter(), data())
    assert [(event.key, event.step) for event in events_in(run.dir, Image)] == [("batch", 0), ("batch", 1)]
    assert [(event.key, event.step) for event in events_in(run.dir, Table)] == [("numbers", 0), ("numbers", 1)]


@pytest.mark.parametrize("options", [{"fast_dev_run": True}, {"barebones": True}], ids=str)
def test_a_trainer_that_logs_nothing(run, options):
    logger = None if "barebones" in options else run
    quiet = {"enable_progress_bar": None, "enable_model_summary": None, "num_sanity_val_steps": None}
    given = {"enable_checkpointing": None, "log_every_n_steps": None, **quiet} if "barebones" in options else {}
    trainer(logger, epochs=1, **given, **options).fit(Model(), data(), data())
    assert recorded(run) == []
