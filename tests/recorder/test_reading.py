"""Reading a recorder's metrics, and continuing from its state."""

import json
import os
import subprocess
import sys
import warnings

import pytest
import torch
from recorder.recorder_rows import Row, rows, series
from torchmetrics import MeanMetric
from waiting import A_WHILE

import rankzero
from rankzero.errors import RecorderError

BATCH = torch.ones(4, 2)


# Reading


def test_forked_names(rec):
    for value, _ in zip([1.0, 3.0], rec.train([BATCH] * 3), strict=False):
        rec.log("x", torch.tensor(value), on_epoch=True)
    list(rec.validate([]))
    assert rec.metrics == {"x": 2.0, "x_step": 3.0, "x_epoch": 2.0}
    assert {type(value) for value in rec.metrics.values()} == {float}
    assert type(rec["x"]) is float
    assert list(rec) == list(rec.metrics)


def test_reading_in_the_middle_of_a_loop(rec):
    for epoch in range(2):
        for value, _ in zip([1.0, 3.0], rec.train([BATCH] * 2), strict=True):
            rec.log("step", value)
            rec.log("both", value, on_epoch=True)
            if epoch == 0:
                assert "epoch" not in rec
            else:
                assert rec["epoch"] == 2.0, "that of the epoch before"
            rec.log("epoch", value, on_step=False, on_epoch=True)
            assert rec["step"] == rec["both"] == rec["both_step"] == value
        assert rec["epoch"] == rec["both"] == rec["both_epoch"] == 2.0
        assert rec["step"] == rec["both_step"] == 3.0


def test_reading_writes_no_row_and_changes_none(run):
    rec = run.recorder(log_every_n_steps=2)
    for index in rec.train(range(4)):
        rec.log("x", index, on_epoch=True, batch_size=1)
        assert rec.metrics["x"] == index
    assert [row.values for row in rows(run)] == [{"x_step": 1}, {"x_step": 3}, {"x_epoch": 1.5}]


def test_a_validation_within_training_can_be_read_at_once(rec):
    for index in rec.train(range(2)):
        for _ in rec.validate([BATCH]):
            rec.log("val", float(index))
        assert rec["val"] == index


def test_a_scheduler_and_the_last_validation(rec):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.1)
    for epoch in rec.epochs(3):
        for _ in rec.validate([BATCH, BATCH]):
            rec.log("val", torch.tensor(1.0 + (epoch == 2)))
        scheduler.step(rec["val"])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_tensor_gives_the_tensor(rec):
    for _ in rec.train([BATCH]):
        rec.log("x", torch.tensor(2.0, dtype=torch.bfloat16), on_epoch=True)
        rec.log("number", 3.0)
    assert rec.tensor("x").shape == rec.tensor("number").shape == ()
    assert (rec.tensor("x").item(), rec.tensor("number").item()) == (2.0, 3.0)


def test_an_unknown_name(rec):
    with pytest.raises(KeyError, match="'val_loss'"):
        rec["val_loss"]
    for _ in rec.validate([BATCH]):
        rec.log("val_loss", 1.0)
    with pytest.raises(KeyError, match="val_loss"):
        rec["val_los"]
    with pytest.raises(KeyError, match="val_los"):
        rec.tensor("val_los")
    assert "val_los" not in rec
    assert "val_loss" in rec


def test_reading_does_not_warn(rec):
    weight = torch.tensor(1.0, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in rec.train([BATCH]):
            rec.log("x", weight * 2, on_epoch=True, enable_graph=True)
            assert rec["x"] == 2.0
        assert rec.metrics == {"x": 2.0, "x_step": 2.0, "x_epoch": 2.0}


def test_a_metric_is_read_after_it_was_reset(rec):
    mean = MeanMetric()
    for batch in rec.validate([1.0, 3.0]):
        mean.update(batch)
        rec.log("mean", mean)
    assert mean.update_count == 0
    assert rec["mean"] == 2.0


# Beside the run


def test_two_recorders_of_one_run(run):
    generator, critic = run.recorder(log_every_n_steps=1), run.recorder(log_every_n_steps=2)
    for index in generator.train(range(2)):
        generator.log("g", index)
        for inner in critic.train(range(3)):
            critic.log("c", inner, on_epoch=True, batch_size=1)
    assert series(run, "g") == [(0, 0), (1, 1)]
    assert series(run, "c_step") == [(1, 1), (3, 0), (5, 2)]
    assert (generator.global_step, critic.global_step) == (2, 6)
    assert "c" not in generator


def test_other_values_of_the_run_change_no_step(run):
    rec = run.recorder(log_every_n_steps=1)
    for index in rec.train(range(3)):
        rec.log("x", index)
        run.log_metrics({"y": index}, step=100 * index)
    assert series(run, "x") == [(0, 0), (1, 1), (2, 2)]
    assert series(run, "y") == [(0, 0), (100, 1), (200, 2)]


@pytest.mark.parametrize(
    "environment",
    [{"RANKZERO_DISABLED": "1"}, {"RANK": "1", "WORLD_SIZE": "2", "RANKZERO_RUN_ID": "r1"}],
    ids=["disabled", "another rank"],
)
def test_a_run_that_records_nothing(tmp_path, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run = rankzero.start(dir=tmp_path)
    train_two_epochs(run.recorder(log_every_n_steps=1))
    run.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run(run, rec):
    """Training goes on; nothing is recorded, and nothing is complained of in each step."""
    for _ in rec.train([BATCH]):
        rec.log("x", 1.0)
    run.finish()
    written = rows(run)
    for epoch in rec.epochs(3):
        assert list(rec.train([1, 2])) == [1, 2]
        for _ in rec.validate([BATCH]):
            rec.log("x", 2.0)
        rec.log("gap", float(epoch))
    rec.log("outside", 1.0)
    assert rec["x"] == 1.0
    assert rows(run) == written


def train_two_epochs(rec):
    """Train; whatever becomes of the rows, the values are there."""
    for epoch in rec.epochs(2):
        for value, _ in zip([1.0, 3.0], rec.train([BATCH] * 2), strict=True):
            rec.log("x", torch.tensor(value + epoch), on_epoch=True)
        for _ in rec.validate([BATCH]):
            rec.log("val", 1.0)
        assert rec["x"] == 2.0 + epoch
    assert rec.metrics == {"x": 3.0, "x_step": 4.0, "x_epoch": 3.0, "val": 1.0}
    assert rec.global_step == 4


# Learning rates and gradient norms


def test_learning_rates_and_gradient_norms_at_due_steps_only(run, monkeypatch):
    computed = []
    norms_of = sys.modules["rankzero.recorder.recorder"].gradient_norms
    monkeypatch.setattr(
        "rankzero.recorder.recorder.gradient_norms", lambda *args: computed.append(1) or norms_of(*args)
    )
    rec = run.recorder(log_every_n_steps=3)
    model = torch.nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    rec.monitor_learning_rate(scheduler)
    for _ in rec.train([BATCH] * 7):
        optimizer.zero_grad()
        model(BATCH).sum().backward()
        rec.log_grad_norm(model, on_step=True)
        optimizer.step()
        scheduler.step()
    assert series(run, "lr-SGD") == [(2, 0.25), (5, 2**-5)], "the rates that these steps were made with"
    assert series(run, "grad_2.0_norm_total") == [(2, pytest.approx(32**0.5)), (5, pytest.approx(32**0.5))]
    assert len(computed) == 2
    assert rec["lr-SGD"] == 2**-5


def test_learning_rates_of_each_epoch(run):
    rec = run.recorder(log_every_n_steps=0)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    rec.monitor_learning_rate(optimizer, logging_interval="epoch", log_momentum=True, log_key_prefix="opt/")
    for epoch in rec.epochs(2):
        optimizer.param_groups[0]["lr"] = 0.1 * epoch
        list(rec.train(range(3)))
    assert rows(run) == [
        Row("train", epoch, 3 * epoch, {"opt/lr-Adam": 0.1 * epoch, "opt/lr-Adam-momentum": 0.9}) for epoch in range(2)
    ]


# Going on later


def test_the_state_is_plain_data(rec):
    for _ in rec.epochs(2):
        list(rec.train(range(3)))
        list(rec.validate(range(2), range(1)))
    state = rec.state_dict()
    assert json.loads(json.dumps(state)) == state
    assert (state["epoch"], state["global_step"]) == (2, 6)


def test_continuing_from_a_state(run):
    first, second = run.recorder(log_every_n_steps=2), run.recorder(log_every_n_steps=2)
    state = None
    for epoch in first.epochs(2):
        train_epoch(first, epoch)
        if epoch == 0:
            state = first.state_dict()
    as_one = rows(run)
    second.load_state_dict(state)
    assert (second.epoch, second.global_step) == (1, 3)
    for epoch in second.epochs(2):
        train_epoch(second, epoch)
    again = rows(run)[len(as_one) :]
    assert again == [row for row in as_one if row.epoch == 1]
    with pytest.warns(UserWarning, match="nothing to do"):
        assert list(second.epochs(2)) == []


def train_epoch(rec, epoch):
    for index in rec.train(range(3)):
        rec.log("x", 10 * epoch + index, on_epoch=True, batch_size=1)
    for index in rec.validate(range(2)):
        rec.log("val", index, on_step=True, batch_size=1)


def test_a_state_from_the_middle_of_an_epoch(run):
    rec = run.recorder()
    for index in rec.train(range(5)):
        if index == 2:
            break
    rec = run.recorder()
    for _ in rec.epochs(2):
        for index in rec.train(range(5)):
            if index == 2:
                state = rec.state_dict()
    assert state["epoch"] == 1, "the epoch that is to be done again"
    assert state["global_step"] == 7


@pytest.mark.parametrize("state", [{}, None, {"epoch": 1}, {"epoch": "x", "global_step": 1, "evaluated": {}}, 3])
def test_an_invalid_state(rec, state):
    with pytest.raises(RecorderError, match="state_dict"):
        rec.load_state_dict(state)
    assert (rec.epoch, rec.global_step) == (0, 0)


SCRIPT = """
import sys
from pathlib import Path
import torch
import rankzero

checkpoint = Path(sys.argv[1]) / "last.pt"
with rankzero.start(dir=sys.argv[1], run_id="r1", delivery="off") as run:
    rec = run.recorder(log_every_n_steps=2)
    if checkpoint.exists():
        rec.load_state_dict(torch.load(checkpoint)["recorder"])
    for epoch in rec.epochs(int(sys.argv[2])):
        for index in rec.train(range(3)):
            rec.log("x", 10 * epoch + index, on_epoch=True, batch_size=1)
        torch.save({"recorder": rec.state_dict()}, checkpoint)
"""


@pytest.mark.slow
def test_continuing_in_another_process(tmp_path):
    for epochs in ("1", "3"):
        environment = {**os.environ, "PYTHONWARNINGS": "error"}
        command = [sys.executable, "-c", SCRIPT, str(tmp_path), epochs]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=A_WHILE, check=False)
        assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*/r1")
    data = rankzero.read_run(path)
    assert data.metrics["x_step"].step.tolist() == [1, 3, 5, 7]
    assert data.metrics["x_step"].value.tolist() == [1, 10, 12, 21]
    assert data.metrics["x_epoch"].step.tolist() == [2, 5, 8]
    assert data.metrics["x_epoch"].value.tolist() == [1, 11, 21]
