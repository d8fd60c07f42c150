"""Numbers that a courier delivers: none is lost, changed or sampled, and each has its own time, step and epoch."""

import math
import os
import threading

import pytest
from plugins.comet.journals import deliver, journal_of_rows, points_in, points_logged
from waiting import A_WHILE

import rankzero

pytestmark = pytest.mark.usefixtures("here")


def test_twenty_thousand_points_of_a_metric(server, tmp_path):
    """More than the 15,000 to which Comet's client samples what it uploads later."""
    deliver(run_dir := journal_of_rows(tmp_path, *({"loss": 1 / (step + 1)} for step in range(20_000))))
    arrived = points_in(server.experiment(run_dir.name))
    assert arrived == points_logged(run_dir)
    assert [(value, step, epoch) for _, value, step, epoch, _ in arrived] == [
        (1 / (step + 1), step, step // 10) for step in range(20_000)
    ]


def test_numbers_to_the_last_bit(server, tmp_path):
    row = {
        "nan": math.nan,
        "inf": math.inf,
        "-inf": -math.inf,
        "third": 1 / 3,
        "tiny": 5e-324,
        "huge": 1.7976931348623157e308,
        "minus zero": -0.0,
        "int": 2**53 + 1,
        "negative": -7,
    }
    deliver(run_dir := journal_of_rows(tmp_path, row))
    stored = {metric.name: metric for metric in server.experiment(run_dir.name).metrics}
    assert math.isnan(stored["nan"].value)
    assert [stored[name].sent for name in ("nan", "inf", "-inf")] == ["NaN", "Infinity", "-Infinity"]
    for name, value in row.items():
        if name != "nan":
            assert (stored[name].value, type(stored[name].value)) == (value, type(value))
    assert math.copysign(1, stored["minus zero"].value) == -1


def test_steps_and_epochs_are_those_that_were_logged(server, tmp_path):
    with rankzero.start(dir=tmp_path / "runs", delivery="off") as run:
        for step, epoch in ((5, 2), (0, 0), (5, None), (2**40, 7), (-1, 1)):
            run.log_metrics({"loss": 0.5}, step, epoch=epoch)
    deliver(run.dir)
    stored = server.experiment(run.id)
    assert [(each.step, each.epoch) for each in stored.metrics] == [(5, 2), (0, 0), (5, None), (2**40, 7), (-1, 1)]
    assert points_in(stored) == points_logged(run.dir)


def test_a_row_of_thousands_of_metrics(server, tmp_path):
    deliver(run_dir := journal_of_rows(tmp_path, {f"m{index}": index / 7 for index in range(3000)}))
    assert points_in(server.experiment(run_dir.name)) == points_logged(run_dir)


@pytest.mark.parametrize("delivery", ["thread", "process"])
def test_several_experiments_of_one_process(server, tmp_path, delivery):
    runs = [rankzero.start("comet", project="p", dir=tmp_path, delivery=delivery) for _ in range(3)]

    def log(number):
        for step in range(200):
            runs[number].log_metrics({"loss": step / 3 + number}, step)

    threads = [threading.Thread(target=log, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in runs:
        run.finish(timeout=A_WHILE)
        stored = server.experiment(run.id)
        assert points_in(stored) == points_logged(run.dir)
        assert stored.state == "finished"
    assert len(server.store.experiments) == 3


def test_several_that_open_at_once_leave_the_environment_alone(server, tmp_path, monkeypatch):
    """How often Comet's client tries is said by variables; what the user set stays set."""
    monkeypatch.setenv("COMET_GET_OR_ADD_EXPERIMENT_RETRY_TOTAL", "4")
    directories = [journal_of_rows(tmp_path, {"loss": 0.5}) for _ in range(6)]
    threads = [threading.Thread(target=deliver, args=(directory,)) for directory in directories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.environ["COMET_GET_OR_ADD_EXPERIMENT_RETRY_TOTAL"] == "4"
    assert len(server.store.experiments) == 6
