"""Messages about delivery: an outage of a tracker during training, and a long wait at the end."""

import logging
import time
from types import SimpleNamespace

import pytest
from servers.file_logger import FileLogger, fail, heal, rows
from waiting import A_WHILE

import rankzero
from rankzero.delivery import waiting_progress
from rankzero.rundir.positions import load_position, wake


@pytest.fixture
def run(tmp_path):
    with rankzero.start([FileLogger(tmp_path / "tracker")], dir=tmp_path / "runs") as run:
        yield run


def log_until(run, condition):
    """Log like training, and check the couriers at each step."""
    deadline = time.monotonic() + A_WHILE
    while not condition():
        assert time.monotonic() < deadline, "this did not come about"
        run._next_tick = 0.0
        run.log_metrics({"loss": 0.5})
        time.sleep(0.01)


def test_an_outage_is_warned_of_once_and_its_end_reported(run, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("rankzero.delivery.supervisor._WARN_AFTER", 0.2)

    def said(text):
        return [record for record in caplog.records if text in record.getMessage()]

    (key,) = run.loggers
    with caplog.at_level(logging.INFO, "rankzero"):
        fail(tmp_path / "tracker", "log_metrics", "unavailable", text="for repairs")
        log_until(run, lambda: said("takes no events now"))
        (record,) = said("takes no events now")
        assert record.levelno == logging.WARNING
        assert record.getMessage().endswith("continues: the tracker is down for repairs")
        count = run.step
        log_until(run, lambda: run.step > count + 50)
        heal(tmp_path / "tracker")
        wake(run.dir, key)
        log_until(run, lambda: said("takes events again"))
        assert len(said("takes no events now")) == 1


def test_a_short_outage_causes_no_warning(run, tmp_path, caplog):
    (key,) = run.loggers
    fail(tmp_path / "tracker", "log_metrics", "unavailable", times=1)
    with caplog.at_level(logging.INFO, "rankzero"):
        log_until(run, lambda: rows(tmp_path / "tracker") and load_position(run.dir, key).problem is None)
    assert "takes no events" not in caplog.text


def test_without_a_terminal_a_wait_at_the_end_is_reported_only_if_it_is_long(caplog, monkeypatch):
    clock = iter([100.0, 104.9, 105.1])
    monkeypatch.setattr(waiting_progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with (
        caplog.at_level(logging.INFO, "rankzero"),
        waiting_progress.WaitingProgress(["file"], 10, is_end=True) as end,
    ):
        end.show("file", 0, None)
        assert caplog.messages == []
        end.show("file", 0, None)
    assert caplog.messages == ["waiting for the couriers to deliver the rest of the run"]
