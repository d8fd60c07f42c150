"""A training that resumes from a checkpoint continues its run."""

import importlib
import os
import runpy
import sys
import tomllib
from pathlib import Path

import pytest
from recorded import events_in
from servers.lightning_model import Model, data, trainer

import rankzero
from rankzero.events.structs import Checkpoint, Params, Rewind

pytest.importorskip("lightning")
from lightning.pytorch.callbacks import ModelCheckpoint

from rankzero.integrations.lightning import RewindRuns

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")


def begin(tmp_path, run_id=None, **options):
    return rankzero.start(dir=tmp_path / "runs", run_id=run_id, delivery="off", **options)


def keepers():
    return [ModelCheckpoint(monitor="val/score", mode="max", save_top_k=2, save_last=True)]


def fit(run, epochs, ckpt_path=None):
    fitted = trainer(run, epochs=epochs, callbacks=keepers())
    fitted.fit(Model(), data(), data(), ckpt_path=ckpt_path)
    return fitted.checkpoint_callback


def test_one_run_whose_steps_go_on(tmp_path):
    with begin(tmp_path) as run:
        first = fit(run, 2)
    before = events_in(run.dir, Checkpoint)
    with begin(tmp_path, run.id, resume="must") as resumed:
        assert resumed.resumed
        second = fit(resumed, 4, first.last_model_path)
    assert (resumed.id, resumed.name, resumed.dir) == (run.id, run.name, run.dir)
    assert second.dirpath == first.dirpath
    recorded = rankzero.read_run(run.dir)
    assert list(recorded.metrics["train/loss"].step) == list(range(8))
    assert list(recorded.metrics["val/score"].value) == [0.5, 0.75, 0.25, 1.0]
    assert len(events_in(run.dir, Params)) == 2
    saved = events_in(run.dir, Checkpoint)
    assert saved[: len(before)] == before
    # Those that the first process logged and the second one remembers are not logged again.
    assert [os.path.basename(event.source) for event in saved[len(before) :]] == ["epoch=3-step=8.ckpt", "last.ckpt"]


def test_the_id_of_the_run_stands_in_the_path_of_the_checkpoint(tmp_path):
    with begin(tmp_path) as run:
        saved = fit(run, 1).last_model_path
    assert f"/{run.id}/checkpoints/" in saved


@pytest.mark.filterwarnings("ignore:.*ckpt_path=.last.*no last checkpoint")
def test_a_script_that_resumes_when_it_is_restarted(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKZERO_RUN_ID", "job-7")
    for epochs in (1, 2):
        with begin(tmp_path) as run:
            fit(run, epochs, "last")
    assert (run.id, run.resumed) == ("job-7", True)
    assert list(rankzero.read_run(run.dir).metrics["train/loss"].step) == [0, 1, 2, 3]


@pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("saved_at", [{"every_n_train_steps": 3}, {"every_n_epochs": 1}], ids=["batch", "epoch"])
def test_a_run_is_rewound_to_an_older_checkpoint(tmp_path, saved_at):
    keeper = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, **saved_at)
    with begin(tmp_path, "r1") as run:
        trainer(run, 4, callbacks=[keeper]).fit(Model(), data(3), data())
    older = min(tmp_path.glob("step=*.ckpt"), key=lambda path: int(path.stem[5:]))
    with begin(tmp_path, "r1") as run:
        # Where the package is installed from this source, the Trainer has the callback already.
        trainer(run, 4, callbacks=[RewindRuns()]).fit(Model(), data(3), data(), ckpt_path=older)
    kept, whole = rankzero.read_run(run.dir), rankzero.read_run(run.dir, keep_rewound=True)
    assert kept.metrics["train/loss"].step.tolist() == list(range(12))
    assert kept.metrics["val/score"].step.tolist() == [2, 5, 8, 11]
    assert len(whole.metrics["train/loss"]) == 12 + 9
    assert [event.step for event in events_in(run.dir, Rewind)] == [2]


def test_other_fits_do_not_rewind_a_run(tmp_path):
    with begin(tmp_path) as run:
        fitted = trainer(run, 2, callbacks=[RewindRuns(), *keepers()])
        fitted.fit(Model(), data(), data())
        fitted.fit(Model(), data(), data())
        trainer(run, 1, callbacks=[RewindRuns()]).fit(Model(), data(), data())
    assert events_in(run.dir, Rewind) == []


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_lightning_adds_the_callback_to_each_trainer(package, monkeypatch):
    if package != "lightning.pytorch":  # the script imports only the other one
        monkeypatch.delitem(sys.modules, "lightning.pytorch")
    project = tomllib.loads((Path(__file__).parents[2] / "core" / "pyproject.toml").read_text())["project"]
    module, name = project["entry-points"][f"{package}.callbacks_factory"]["rankzero"].split(":")
    monkeypatch.delitem(sys.modules, module)  # it has looked for the package when it was imported
    callback = runpy.run_module(module)[name]()
    lightning = importlib.import_module(package)
    assert isinstance(callback, lightning.Callback)
    lightning.Trainer(callbacks=[callback], logger=False, enable_checkpointing=False)
