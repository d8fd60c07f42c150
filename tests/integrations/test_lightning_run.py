"""A Run as the logger of Lightning's Trainer."""

import pytest
from recorded import events_in
from servers.file_logger import FileLogger, calls
from servers.lightning_model import SCORES, Model, data, trainer

import rankzero
from rankzero.events.structs import Checkpoint, Finish, Graph, Metrics, Params, Status

pytest.importorskip("lightning")
from lightning.pytorch.callbacks import ModelCheckpoint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")


class Asking(Model):
    """Asks in each batch for what delivers."""

    def training_step(self, batch, index):
        self.experiment = self.logger.experiment
        return super().training_step(batch, index)


def test_fit_and_test(tmp_path):
    run = rankzero.start([FileLogger(tmp_path / "tracker")], dir=tmp_path / "runs", delivery="thread")
    best = ModelCheckpoint(monitor="val/score", save_top_k=1, save_last=True)
    fitted = trainer(run, epochs=3, callbacks=[best])
    assert (fitted.logger, fitted.loggers, fitted.log_dir) == (run, [run], run.log_dir)
    model = Asking()
    fitted.fit(model, data(), data())
    fitted.test(model, data(), verbose=False)
    run.finish()

    logged = events_in(run.dir, Metrics)
    assert [event.step for event in logged if "train/loss" in event.values] == list(range(6))
    assert [(event.step, event.values["val/score"]) for event in logged if "val/score" in event.values] == [
        *zip((1, 3, 5), SCORES, strict=False)
    ]
    assert [event.step for event in logged if "test/loss" in event.values] == [6]
    assert events_in(run.dir, Params)[0].values == {"lr": 0.1, "sizes": [2, 1]}
    assert len(events_in(run.dir, Graph)) >= 1
    assert [event.status for event in events_in(run.dir, Status)] == ["success", "success"]
    assert [event.status for event in events_in(run.dir, Finish)] == ["success"]
    assert type(model.experiment).__name__ == "PosixPath"

    arrived = [call for call in calls(tmp_path / "tracker", "log_metrics") if "train/loss" in call["metrics"]]
    assert [(call["step"], call["metrics"]) for call in arrived] == [
        (event.step, event.values) for event in logged if "train/loss" in event.values
    ]


def test_a_checkpoint_stands_at_the_step_of_its_score(run):
    class Counting(Model):
        def training_step(self, batch, index):
            self.log("total", float(self.global_step), on_step=False, on_epoch=True, reduce_fx="sum")
            return super().training_step(batch, index)

    best = ModelCheckpoint(monitor="total", mode="max", save_top_k=1)
    trainer(run, epochs=3, callbacks=[best]).fit(Counting(), data())
    scores = {event.step: event.values["total"] for event in events_in(run.dir, Metrics) if "total" in event.values}
    assert scores == {event.step: event.score for event in events_in(run.dir, Checkpoint)}
    assert len(scores) == 3


def test_several_loggers_beside_a_run(run, tmp_path):
    class Other(FileLogger):
        save_dir = str(tmp_path / "other")

    fitted = trainer([run, Other(tmp_path / "other")], epochs=3, enable_checkpointing=False)
    fitted.fit(Model(), data())
    assert fitted.logger is run
    assert len(calls(tmp_path / "other", "log_metrics")) == len(events_in(run.dir, Metrics))
