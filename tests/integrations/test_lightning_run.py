"""A Run as the logger of Lightning's Trainer."""

import os

import pytest
from servers.file_logger import FileLogger, calls

import rankzero
from rankzero.events.structs import Checkpoint, Finish, Graph, Metrics, Params, Status
from rankzero.journal.tail import read_events
from rankzero.rundir.layout import JOURNAL

pytest.importorskip("lightning")
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")


class Model(LightningModule):
    def __init__(self, lr=0.1, fails_at=None):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(2, 1)
        self.experiments = []

    def training_step(self, batch, index):
        if (self.hparams.fails_at, self.current_epoch) == (index, 0):
            raise ArithmeticError
        self.experiments.append(self.logger.experiment)
        loss = self.layer(batch).square().mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, index):
        self.log("val/loss", self.layer(batch).square().mean())

    def test_step(self, batch, index):
        self.log("test/loss", self.layer(batch).square().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.hparams.lr)


@pytest.fixture
def data():
    return torch.utils.data.DataLoader(torch.randn(8, 2), batch_size=2)


@pytest.fixture
def run(tmp_path):
    run = rankzero.start([FileLogger(tmp_path / "tracker")], dir=tmp_path / "runs", delivery="thread", run_id="r1")
    yield run
    run.finish(timeout=5)


def trainer(run, **options):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    return Trainer(logger=run, max_epochs=3, accelerator="cpu", devices=1, log_every_n_steps=1, **quiet, **options)


def events(run, kind):
    return [event for _, event in read_events(run.dir / JOURNAL) if isinstance(event, kind)]


def test_fit_and_test(run, data, tmp_path):
    best = ModelCheckpoint(monitor="val/loss", save_top_k=1, save_last=True)
    fitted = trainer(run, callbacks=[best])
    assert (fitted.logger, fitted.loggers, fitted.log_dir) == (run, [run], run.log_dir)
    model = Model()
    fitted.fit(model, data, data)
    fitted.test(model, data, verbose=False)
    run.finish()

    logged = events(run, Metrics)
    assert [event.step for event in logged if "train/loss" in event.values] == list(range(12))
    assert [event.step for event in logged if "val/loss" in event.values] == [3, 7, 11]
    assert [event.step for event in logged if "test/loss" in event.values] == [12]
    assert events(run, Params)[0].values == {"lr": 0.1, "fails_at": None}
    assert len(events(run, Graph)) >= 1
    assert [event.status for event in events(run, Status)] == ["success", "success"]
    assert [event.status for event in events(run, Finish)] == ["success"]
    assert {type(each).__name__ for each in model.experiments} == {"PosixPath"}

    arrived = [call for call in calls(tmp_path / "tracker", "log_metrics") if "train/loss" in call["metrics"]]
    assert [(call["step"], call["metrics"]) for call in arrived] == [
        (event.step, event.values) for event in logged if "train/loss" in event.values
    ]


def test_checkpoints_are_kept_until_they_are_delivered(tmp_path, data):
    run = rankzero.start([FileLogger(tmp_path / "tracker")], dir=tmp_path / "runs", delivery="off")
    callback = ModelCheckpoint(monitor="val/loss", mode="max", save_top_k=1, save_last=True, every_n_epochs=1)
    trainer(run, callbacks=[callback]).fit(Model(), data, data)
    run.finish()
    saved = events(run, Checkpoint)
    assert saved
    assert str(run.dir) in callback.dirpath
    for event in saved:
        kept = torch.load(run.dir / event.path, weights_only=False)  # whole, though rotation deleted some
        assert kept["global_step"] in (4, 8, 12)
    assert "latest" in saved[-1].aliases
    assert {alias for event in saved for alias in event.aliases} == {"best", "latest"}
    gone = [event for event in saved if not os.path.exists(event.source)]
    assert len({event.path for event in saved}) == len(saved) >= len(gone)


def test_a_checkpoint_stands_at_the_step_of_its_score(run, data):
    class Counting(Model):
        def training_step(self, batch, index):
            self.log("total", float(self.global_step), on_step=False, on_epoch=True, reduce_fx="sum")
            return super().training_step(batch, index)

    best = ModelCheckpoint(monitor="total", mode="max", save_top_k=1)
    trainer(run, callbacks=[best]).fit(Counting(), data)
    run.finish()
    scores = {event.step: event.values["total"] for event in events(run, Metrics) if "total" in event.values}
    assert scores == {event.step: event.score for event in events(run, Checkpoint)}
    assert len(scores) == 3


def test_a_fit_that_fails_marks_the_run(run, data):
    with pytest.raises(ArithmeticError):
        trainer(run).fit(Model(fails_at=2), data)
    assert events(run, Status)[-1].status == "failed"
    run.finish()
    assert events(run, Finish)[-1].status == "failed"


def test_several_loggers_beside_a_run(run, data, tmp_path):
    class Other(FileLogger):
        save_dir = str(tmp_path / "other")

    fitted = trainer([run, Other(tmp_path / "other")], enable_checkpointing=False)
    fitted.fit(Model(), data)
    assert fitted.logger is run
    assert len(calls(tmp_path / "other", "log_metrics")) == len(events(run, Metrics))
