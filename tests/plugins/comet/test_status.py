"""The status of a run in Comet, and its start and end."""

import threading
import time

import pytest
from plugins.comet.journals import deliver, journal_of_rows
from waiting import A_WHILE

import rankzero
from rankzero.events.run_info import LogContext
from rankzero.events.structs import Finish, Start
from rankzero.journal.tail import read_events
from rankzero.rundir.layout import JOURNAL
from rankzero.testing.faults import status as answer
from rankzero_comet import CometLogger, courier


@pytest.fixture
def beats_often(monkeypatch):
    monkeypatch.setattr(courier, "BEAT_INTERVAL", 0.02)


def times_of(run_dir):
    """Return the start and end of a run in milliseconds."""
    events = [event for _, event in read_events(run_dir / JOURNAL)]
    started = next(event.run.started for event in events if isinstance(event, Start))
    ended = next(event.time for event in events if isinstance(event, Finish))
    return round(started * 1000), round(ended * 1000)


@pytest.mark.parametrize(
    ("status", "state"),
    [("success", "finished"), ("failed", "crashed"), ("aborted", "crashed"), ("crashed", "crashed")],
)
def test_how_a_run_ended(server, here, tmp_path, status, state):
    run = rankzero.start(dir=tmp_path / "runs", delivery="off")
    run.log_metrics({"loss": 0.5}, 0)
    run.finish(status)
    deliver(run.dir)
    stored = server.experiment(run.id)
    assert (stored.state, stored.others["rankzero.status"]) == (state, status)
    assert stored.errors == ([] if state == "finished" else [status])
    assert (stored.started, stored.ended) == times_of(run.dir)


def test_a_stalled_run_stays_running(server, attached, stored, beats_often):
    attached.log_metrics({"loss": 0.5}, 0)
    server.until(lambda _: len(stored().beats) > 3)
    assert stored().state == "running"
    assert all(beat.alive for beat in stored().beats)


def test_no_heartbeat_is_sent_after_the_end(server, attached, stored, beats_often):
    attached.log_metrics({"loss": 0.5}, 0)
    server.until(lambda _: stored().beats)
    on_its_way = threading.Event()

    def slow(handler):
        on_its_way.set()
        time.sleep(0.5)
        return handler.ask()

    server.fail("status-report/update", slow, times=1)
    assert on_its_way.wait(A_WHILE)
    attached.finalize("success")
    attached.flush()
    attached.close()
    time.sleep(1)  # for a late one
    assert [beat.alive for beat in stored().beats].count(False) == 1
    assert not stored().beats[-1].alive
    assert stored().state == "finished"


def test_refused_heartbeats_do_not_block_delivery(server, attached, stored, beats_often):
    server.fail("status-report/update", answer(500))
    for step in range(3):
        attached.log_metrics({"loss": step}, step)
        attached.flush()
    server.until(lambda server: server.count("status-report") > 3)
    assert len(stored().metrics) == 3
    server.heal()
    server.until(lambda _: stored().beats)


def test_reading_a_checkpoint_does_not_resume_an_ended_run(server, here, tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"weights")
    run = rankzero.start(dir=tmp_path / "runs", delivery="off")
    run.log_checkpoint(tmp_path / "weights.bin", score=0.5, aliases=["best"])
    run.finish()
    deliver(run.dir)
    stored = server.experiment(run.id)
    beats, tries = len(stored.beats), len(stored.other_history)
    logger = CometLogger()
    logger.attach(next(event.run for _, event in read_events(run.dir / JOURNAL) if isinstance(event, Start)))
    with open(logger.download_checkpoint("best", tmp_path / "there"), "rb") as file:
        assert file.read() == b"weights"
    logger.close()
    assert (stored.state, len(stored.beats), len(stored.other_history)) == ("finished", beats, tries)


def test_a_resumed_run_is_running_and_ends_later(server, here, tmp_path):
    run_dir = journal_of_rows(tmp_path, {"loss": 0.5}, run_id="r" * 32)
    deliver(run_dir)
    stored = server.experiment("r" * 32)
    before = stored.ended
    with rankzero.start("comet", dir=tmp_path / "runs", project="p", run_id="r" * 32, delivery="thread") as run:
        run.log_metrics({"loss": 0.25}, 1)
        assert run.flush(A_WHILE)
        server.until(lambda _: stored.is_alive)
    assert stored.state == "finished"
    assert stored.ended > before
    assert [metric.value for metric in stored.metrics] == [0.5, 0.25]


def test_the_end_has_its_own_time(server, attached, stored):
    attached.log_metrics({"loss": 0.5}, 0)
    with attached.at(LogContext(1_700_000_100.5, 1)):
        attached.finalize("success")
    assert (stored().started, stored().ended) == (1_700_000_000_000, 1_700_000_100_500)
    (other,) = [each for each in stored().other_history if each.name == "rankzero.status"]
    assert other.time == 1_700_000_100_500
