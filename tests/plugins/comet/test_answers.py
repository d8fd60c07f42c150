"""Faulty responses: none is fatal, and afterwards Comet has everything once."""

import json
import time
from contextlib import suppress

import pytest
from plugins.comet.journals import (
    check_everything,
    deliver,
    journal_of_everything,
    journal_of_rows,
    points_in,
    points_logged,
    rejected,
)
from servers.comet_mock.faults import refused
from waiting import A_WHILE

from rankzero.delivery.courier import GaveUpError
from rankzero.loggers.base import Logger
from rankzero.rundir.positions import load_position
from rankzero.testing.faults import late, lost, stalled, status, truncated
from rankzero_comet import CometLogger

METRICS = "batch/logger/experiment/metric"
PARAMS = "batch/logger/experiment/parameter"
PAGE = "<html>Sign in</html>"
LOGGED = {
    "creation": "logger/add/run",
    "what is there": "GET /api/rest/v2/experiment/log-other",
    "name": "write/experiment/log-other",
    "first tags": "write/experiment/tags",
    "times": "set-start-end-time",
    "sign of life": "status-report/update",
    "params": PARAMS,
    "metrics": METRICS,
    "picture": "visualizations/upload",
    "second picture": "figName=picture_1",
    "table": "fileName=table.csv",
    "text": "fileName=text.txt",
    "html": "write/experiment/html",
    "artifact": "write/artifacts/upsert",
    "file of an artifact": "artifactVersionId",
    "end of an artifact": "write/artifacts/state",
    "alert": "notification/experiment",
    "end": "update-status",
}
ONCE = {
    "429 in an hour": status(429, "", retry_after="3600"),
    "page": status(400, "<html>The plain HTTP request was sent to HTTPS port</html>"),
    "revoked key": refused(90212, "API key is not registered"),
}
"""Faults that `DeliveryContract` does not have, or not for each request."""


@pytest.fixture(autouse=True)
def _here(here, monkeypatch):
    monkeypatch.setenv("COMET_TIMEOUT_HTTP", "1")
    monkeypatch.setenv("COMET_TIMEOUT_API", "1")


def one_row(directory):
    return journal_of_rows(directory, {"loss": 0.5})


def points(server, run_dir):
    return points_in(server.experiment(run_dir.name))


@pytest.mark.parametrize("fault", ONCE)
def test_any_request_may_fail_once(server, tmp_path, fault):
    for path in LOGGED.values():
        server.fail(path, ONCE[fault], times=1)
    began = time.monotonic()
    deliver(run_dir := journal_of_everything(tmp_path))
    assert time.monotonic() - began < A_WHILE
    check_everything(server, run_dir)


def test_an_unknown_response_to_the_last_heartbeat_loses_nothing(server, tmp_path):
    """Comet's client raises a ValueError, as for invalid data."""
    for fault in (status(500), status(200, "{}"), status(200, PAGE)):
        server.fail("status-report/update", fault, times=2, body='"is_alive": false')
    deliver(run_dir := journal_of_everything(tmp_path))
    check_everything(server, run_dir)


@pytest.mark.slow
def test_a_hanging_server_delays_delivery_only_for_the_timeout(server, tmp_path, monkeypatch):
    monkeypatch.setenv("COMET_TIMEOUT_FILE_UPLOAD", "1")
    for what in ("creation", "what is there", "metrics", "text", "artifact", "end"):
        server.fail(LOGGED[what], stalled(A_WHILE), times=1)
    began = time.monotonic()
    deliver(run_dir := journal_of_everything(tmp_path))
    assert time.monotonic() - began < A_WHILE / 2
    check_everything(server, run_dir)


ROWS_OF_TEN = [{f"metric_{index}": step + index / 3 for index in range(10)} for step in range(100)]


@pytest.fixture
def small_batches(monkeypatch):
    """Send a journal in about eight requests."""
    for logger_class in (Logger, CometLogger):
        monkeypatch.setattr(logger_class, "batch_bytes", 4096)


def in_turn(*faults):
    """Apply one fault after the other to the requests, None for no fault."""
    waiting = iter(faults)

    def answer(handler):
        fault = next(waiting, None)
        return fault(handler) if fault else handler.ask()

    return answer


@pytest.mark.parametrize("again", ["at once", "by another courier"])
@pytest.mark.parametrize("fault", [lost, truncated, late(1.5), status(200)], ids=["lost", "truncated", "late", "empty"])
def test_data_that_arrived_without_a_response_is_not_sent_again(server, tmp_path, small_batches, fault, again):
    """On a busy machine, 980 values of a batch with a late response were sent twice."""
    run_dir = journal_of_rows(tmp_path, *ROWS_OF_TEN)
    failing = status(503)
    server.fail(METRICS, in_turn(None, fault, failing, fault, *[failing] * 5, fault))
    if again == "by another courier":
        for _ in range(9):
            with suppress(GaveUpError):
                deliver(run_dir, grace_period=0)
    deliver(run_dir)
    assert points(server, run_dir) == points_logged(run_dir)


def test_only_the_rest_of_a_partly_stored_batch_is_sent(server, tmp_path, small_batches):
    def in_part(handler):
        handler.ask()
        del server.experiment(run_dir.name).metrics[-50:]

    server.fail(METRICS, in_turn(None, in_part))
    run_dir = journal_of_rows(tmp_path, *ROWS_OF_TEN)
    deliver(run_dir)
    assert points(server, run_dir) == points_logged(run_dir)


def test_a_series_listed_as_a_sample_is_not_sent_again(server, tmp_path, small_batches, monkeypatch):
    monkeypatch.setattr("rankzero_comet.server._MAX_LISTED", 150)
    rows = [{"loss": step / 3} for step in range(160)]
    server.fail("metrics/get-metric", lambda handler: sampled(handler.ask()))
    fault = in_turn(lost, status(500))
    server.fail(METRICS, lambda handler: fault(handler) if b'"step": 159' in handler.body else handler.ask())
    deliver(run_dir := journal_of_rows(tmp_path, *rows))
    assert points(server, run_dir) == points_logged(run_dir)


def sampled(answer):
    listed = json.loads(answer.body)["metrics"]
    if len(listed) > 150:
        listed = [each for index, each in enumerate(listed) if index % 20]
    return answer._replace(body=json.dumps({"metrics": listed}).encode())


# Unknown responses


@pytest.mark.parametrize("answer", ["", '"default response"'])
def test_stored_data_counts_as_delivered_after_any_response(server, tmp_path, answer):
    """Comet's answers to its own client are not documented."""

    def applied(handler):
        return handler.ask()._replace(headers={}, body=answer.encode())

    for path in ("batch/logger/experiment", "/upload"):
        server.fail(path, applied)
    deliver(run_dir := journal_of_everything(tmp_path))
    check_everything(server, run_dir)


def test_a_lasting_unknown_response_does_not_block_delivery_forever(server, tmp_path, monkeypatch):
    monkeypatch.setattr("rankzero_comet.errors._UNCONFIRMED_TIMEOUT", 0.5)
    server.fail("write/experiment/log-other", lambda handler: handler.ask()._replace(body=b""))
    deliver(run_dir := one_row(tmp_path))
    assert points(server, run_dir) == points_logged(run_dir)


# Refused


def test_only_the_row_that_is_too_large_is_rejected(server, tmp_path):
    server.fail(METRICS, status(413, "<html>too large</html>"), body='"culprit"')
    rows = [{"loss": step / 3, **({"culprit": 1} if step == 1234 else {})} for step in range(2000)]
    deliver(run_dir := journal_of_rows(tmp_path, *rows))
    assert points(server, run_dir) == [point for point in points_logged(run_dir) if point[2] != 1234]
    (entry,) = rejected(run_dir)
    assert entry["event"]["step"] == 1234
    assert "413" in entry["reason"]
    assert load_position(run_dir, "comet").closed


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("params", "params"),
        ("second picture", "image"),
        ("table", "table"),
        ("text", "text"),
        ("file of an artifact", "artifact"),
        ("alert", "alert"),
    ],
)
def test_a_permanent_rejection_does_not_block_delivery(server, tmp_path, what, kind):
    server.fail(LOGGED[what], refused(1, "not that"))
    deliver(run_dir := journal_of_everything(tmp_path))
    assert points(server, run_dir) == points_logged(run_dir)
    kinds = [entry["event"]["type"] for entry in rejected(run_dir)]
    assert set(kinds) >= {kind} >= set(kinds) - {"checkpoint"}
    assert all("not that" in entry["reason"] for entry in rejected(run_dir))
    assert server.experiment(run_dir.name).state == "finished"


@pytest.mark.parametrize("what", ["name", "first tags", "times"])
def test_refused_details_of_a_run_lose_no_value(server, tmp_path, what):
    server.fail(LOGGED[what], refused(1, "not that"), times=4)
    run_dir = one_row(tmp_path)
    with pytest.warns(match="Comet will not show all .*not that"):
        deliver(run_dir, tags=["a"])
    assert points(server, run_dir) == points_logged(run_dir)
    assert rejected(run_dir) == []


@pytest.mark.parametrize(
    "fault", [status(401, "who?"), status(403, "<html>no</html>"), refused(90212, "API key is not registered")]
)
def test_events_wait_until_writing_is_permitted(server, tmp_path, fault):
    server.fail(METRICS, fault)
    run_dir = one_row(tmp_path)
    with pytest.raises(GaveUpError, match="comet login"):
        deliver(run_dir, grace_period=0)
    position = load_position(run_dir, "comet")
    assert (position.rejected, position.closed) == (0, False)
    assert "comet login" in position.problem
    server.heal()
    deliver(run_dir)
    assert points(server, run_dir) == points_logged(run_dir)


@pytest.mark.parametrize("code", [90210, 90219, 98219, 7000011, 7000020])
def test_a_refused_experiment_loses_no_event(server, tmp_path, code):
    server.fail("logger/add/run", refused(code, "not there"))
    run_dir = one_row(tmp_path)
    with pytest.raises(GaveUpError, match="cannot be opened"):
        deliver(run_dir, grace_period=0)
    position = load_position(run_dir, "comet")
    assert (position.rejected, position.line) == (0, 1)
    server.heal()
    deliver(run_dir)
    assert points(server, run_dir) == points_logged(run_dir)
