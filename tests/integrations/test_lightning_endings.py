"""The status of a run after each way in which Lightning's Trainer may end."""

import copy
import os
import pickle
import signal

import pytest
from recorded import events_in
from servers.lightning_model import Model, data, trainer
from servers.lightning_scripts import run_script

import rankzero
from rankzero.events.structs import Finish, Metrics, Status

pytest.importorskip("lightning")
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.tuner import Tuner

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")


def statuses(run):
    return [event.status for event in events_in(run.dir, Status)]


def steps(run, name):
    return [event.step for event in events_in(run.dir, Metrics) if name in event.values]


def plain(run, **options):
    return trainer(run, **{"epochs": 2, "enable_checkpointing": False, **options})


class Fails(Callback):
    def __init__(self, hook):
        setattr(self, hook, self.fail)

    def fail(self, *args, **kwargs):
        raise ArithmeticError


@pytest.mark.parametrize(
    "hook", ["setup", "on_sanity_check_start", "on_train_batch_end", "on_validation_epoch_end", "teardown"]
)
def test_an_exception(run, hook):
    with pytest.raises(ArithmeticError):
        plain(run, callbacks=[Fails(hook)], num_sanity_val_steps=1).fit(Model(), data(), data())
    assert statuses(run) == ["failed"]
    run.finish()
    assert [event.status for event in events_in(run.dir, Finish)] == ["failed"]


def test_validate_before_fit_and_test_and_predict_after_it(run):
    fitted, model = plain(run), Model()
    fitted.validate(model, data(), verbose=False)
    fitted.fit(model, data(), data())
    fitted.test(model, data(), verbose=False)
    fitted.predict(model, data())
    assert statuses(run) == ["success"] * 4
    assert (steps(run, "val/score"), steps(run, "test/loss")) == ([0, 1, 3], [4])


def test_a_failure_is_forgotten_once_another_fit_succeeds(run):
    with pytest.raises(ArithmeticError):
        plain(run, callbacks=[Fails("on_train_start")]).fit(Model(), data())
    plain(run).fit(Model(), data())
    run.finish()
    assert statuses(run) == ["failed", "success"]
    assert events_in(run.dir, Finish)[-1].status == "success"


def test_a_run_for_each_fold(tmp_path):
    runs = []
    for fold in range(3):
        with rankzero.start(dir=tmp_path / "runs", name=f"fold-{fold}", delivery="off") as run:
            plain(run).fit(Model(lr=0.1 + fold), data())
        runs.append(run)
    assert len({run.id for run in runs}) == 3
    for run in runs:
        assert steps(run, "train/loss") == [0, 1, 2, 3]
        assert [event.status for event in events_in(run.dir, Finish)] == ["success"]


def test_the_tuner_logs_nothing(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    fitted, model = plain(run, epochs=3), Model()
    found = Tuner(fitted).lr_find(model, data(10), num_training=10, min_lr=1e-4, max_lr=1e-1)
    assert len(found.results["lr"]) > 3
    assert events_in(run.dir, Metrics) == []
    fitted.fit(model, data(2))
    assert steps(run, "train/loss") == list(range(6))


def test_copies_of_a_trainer(run):
    fitted = plain(run, epochs=1)
    for clone in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        assert clone.logger.id == run.id
        clone.fit(Model(), data())
    fitted.fit(Model(), data())
    assert steps(run, "train/loss") == [0, 1] * 3
    assert len(list(run.dir.parent.iterdir())) == 1


def test_a_requeued_job(run, monkeypatch, tmp_path):
    class Signals(Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == 3:
                os.kill(os.getpid(), signal.SIGUSR1)

    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $@ > {tmp_path}/requeued\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    cluster = SLURMEnvironment(requeue_signal=signal.SIGUSR1)
    fitted = plain(run, callbacks=[Signals()], plugins=[cluster], default_root_dir=tmp_path)
    fitted.fit(Model(), data())
    assert (tmp_path / "requeued").read_text().split() == ["requeue", "7"]
    assert statuses(run) == ["finished", "success"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "exit_status", "status"),
    [
        ("SIGINT", 1, "failed"),
        ("SIGTERM", 0, "failed"),
        ("SIGKILL", -signal.SIGKILL, "crashed"),
    ],
)
def test_a_script_that_is_ended(tmp_path, deed, exit_status, status):
    done = run_script("fit.py", tmp_path, tmp_path, "--deed", deed)
    assert (done.returncode, "the script goes on" in done.stdout) == (exit_status, False), done.stderr
    (run_dir,) = (tmp_path / "runs" / "p").iterdir()
    recorded = rankzero.read_run(run_dir)
    assert recorded.status == status
    assert list(recorded.metrics["train/loss"].step) == [0, 1, 2][: 3 if deed == "SIGTERM" else 2]  # it ends its step
