"""`run.experiment` beside a courier process: joined on first use, closed when the run ends."""

import os
import threading

import pytest
from servers.file_logger import FileLogger, calls

import rankzero
from rankzero.delivery.experiment import ExperimentOfProcess
from rankzero.events.run_info import RunInfo
from rankzero.testing import MemoryLogger

RUN = RunInfo("r1", "brave-owl", "p", "/nowhere")


class Tracker:
    colour = "blue"

    def get(self):
        return "the tracker's own"


class JoinableLogger(MemoryLogger):
    supports_join = True
    closed = 0
    closing = None

    @property
    def experiment(self):
        return Tracker()

    def close(self):
        JoinableLogger.closed += 1
        if self.closing:
            self.closing.wait(60)


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(JoinableLogger, "closed", 0)
    return []


@pytest.fixture
def live(made):
    def make():
        made.append(JoinableLogger())
        return made[-1]

    return ExperimentOfProcess(JoinableLogger, make, RUN)


def test_reading_the_handle_joins_nothing(live, made):
    assert "JoinableLogger" in repr(live.get())
    live.release(1)
    assert made == []


def test_the_first_use_joins_the_run(live, made):
    experiment = live.get()
    assert (experiment.colour, experiment.get()) == ("blue", "the tracker's own")
    assert [logger.run_info for logger in made] == [RUN]


def test_a_joined_logger_is_closed_once_when_the_run_ends(live):
    assert live.get().colour == "blue"
    live.release(10)
    live.release(10)
    assert JoinableLogger.closed == 1


def test_a_tracker_that_does_not_close_is_not_waited_for(live, monkeypatch):
    assert live.get().colour == "blue"
    released = threading.Event()
    monkeypatch.setattr(JoinableLogger, "closing", released)
    try:
        live.release(0.01)
    finally:
        released.set()


def test_an_error_of_joining_reaches_the_user():
    def fail():
        raise AttributeError("the SDK is broken")

    with pytest.raises(AttributeError, match="the SDK is broken"):
        _ = ExperimentOfProcess(JoinableLogger, fail, RUN).get().colour


def test_a_run_leaves_when_it_finishes(tmp_path, monkeypatch):
    monkeypatch.setattr(FileLogger, "supports_join", True)
    tracker = tmp_path / "tracker"
    with rankzero.start([FileLogger(tracker)], dir=tmp_path / "runs") as run:
        assert run.experiment.name == "tracker"
        assert mine(tracker, "close") == []
    assert len(mine(tracker, "attach")) == len(mine(tracker, "close")) == 1


def mine(tracker, verb):
    """Return the calls of this process, not of the courier."""
    return [call for call in calls(tracker, verb) if call["pid"] == os.getpid()]
