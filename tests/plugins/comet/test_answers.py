"""Answers that a healthy server does not give: none is fatal, and afterwards Comet has all of it, each once."""

import time

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
from servers.comet_mock.faults import dropped, refused, stalled
from servers.faulty_proxy import lost, status, truncated
from waiting import A_WHILE

from rankzero.courier import GaveUpError
from rankzero.position import load_position

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
    "500": status(500, "sorry"),
    "503": status(503, "<html>Service Unavailable</html>", retry_after="3600"),
    "429": status(429, "slowly"),
    "429 in an hour": status(429, "", retry_after="3600"),
    "401": status(401, "who?"),
    "403": status(403, "<html>no</html>"),
    "404": status(404),
    "page": status(400, "<html>The plain HTTP request was sent to HTTPS port</html>"),
    "another page": status(200, PAGE, content_type="text/html; charset=utf-8"),
    "redirect": status(302, "", location="/api/rest/v2/experiment/tags"),
    "revoked key": refused(90212, "API key is not registered"),
    "dropped": dropped,
}
ODDLY = {
    "truncated": truncated,
    "lost": lost,
    "no JSON": status(200, PAGE),
    "other JSON": status(200, "[]"),
    "empty": status(200, "{}"),
}


@pytest.fixture(autouse=True)
def _here(here, monkeypatch):
    monkeypatch.setenv("COMET_TIMEOUT_HTTP", "1")
    monkeypatch.setenv("COMET_TIMEOUT_API", "1")


def one_row(directory):
    return journal_of_rows(directory, {"loss": 0.5})


def points(server, run_dir):
    return points_in(server.experiment(run_dir.name))


@pytest.mark.parametrize("what", LOGGED)
def test_each_request_may_fail(server, tmp_path, what):
    server.fail(LOGGED[what], ONCE["500"], times=2)
    deliver(run_dir := journal_of_everything(tmp_path))
    check_everything(server, run_dir)


@pytest.mark.parametrize("fault", ONCE)
def test_each_failure_may_befall_any_request(server, tmp_path, fault):
    for what, path in LOGGED.items():
        if (what, fault) != ("alert", "404"):  # a server that is too old for them, as Comet's client has it
            server.fail(path, ONCE[fault], times=1)
    began = time.monotonic()
    deliver(run_dir := journal_of_everything(tmp_path))
    assert time.monotonic() - began < A_WHILE
    # A logger that fails three times in a row is made anew, and knows no more which pictures of the call have arrived.
    check_everything(server, run_dir, files_once=False)


@pytest.mark.parametrize("fault", ODDLY)
@pytest.mark.parametrize("what", ["creation", "what is there", "sign of life"])
def test_an_odd_answer_to_who_opens_costs_no_event(server, tmp_path, what, fault):
    server.fail(LOGGED[what], ODDLY[fault], times=2)
    deliver(run_dir := journal_of_everything(tmp_path))
    check_everything(server, run_dir)


@pytest.mark.parametrize("fault", ODDLY)
@pytest.mark.parametrize("what", ["artifact", "end"])
def test_an_odd_answer_later_costs_no_event(server, tmp_path, what, fault):
    server.fail(LOGGED[what], ODDLY[fault], times=2)
    deliver(run_dir := journal_of_everything(tmp_path))
    check_everything(server, run_dir)


def test_an_odd_answer_to_a_sign_of_life_at_the_end_costs_nothing(server, tmp_path):
    """Comet's client raises a ValueError then, as for data that is wrong."""
    for fault in (status(500), status(200, "{}"), status(200, PAGE)):
        server.fail("status-report/update", fault, times=2, body='"is_alive": false')
    deliver(run_dir := journal_of_everything(tmp_path))
    check_everything(server, run_dir)


def test_a_server_that_hangs_holds_nobody_longer_than_the_timeout(server, tmp_path):
    for what in ("creation", "what is there", "metrics", "end"):
        server.fail(LOGGED[what], stalled(A_WHILE), times=1)
    began = time.monotonic()
    deliver(run_dir := one_row(tmp_path))
    assert time.monotonic() - began < A_WHILE / 2
    assert points(server, run_dir) == points_logged(run_dir)


def test_only_a_batch_whose_answer_was_lost_comes_twice(server, tmp_path):
    rows = [{"loss": step / 3, "other": step} for step in range(2000)]
    server.fail(METRICS, lost, times=1)
    deliver(run_dir := journal_of_rows(tmp_path, *rows))
    logged, arrived = points_logged(run_dir), points(server, run_dir)
    batch = len(arrived) - len(logged)
    assert 0 < batch <= 4000
    assert arrived == [*logged[:batch], *logged]


def test_a_batch_comes_once_however_often_the_server_fails(server, tmp_path):
    """Comet takes all of a batch or nothing: no part of it is sent again."""
    rows = [{f"metric_{index}": step + index / 3 for index in range(10)} for step in range(2000)]
    failing = iter([False, *[True] * 7, False, True, *[False] * 100])
    server.fail(METRICS, lambda handler: status(503)(handler) if next(failing) else handler.ask())
    deliver(run_dir := journal_of_rows(tmp_path, *rows))
    assert points(server, run_dir) == points_logged(run_dir)


# Refused


@pytest.mark.parametrize("fault", [refused(7000005, "no such value"), status(413, "<html>too large</html>")])
def test_of_two_thousand_rows_only_the_one_to_blame_is_rejected(server, tmp_path, fault):
    server.fail(METRICS, fault, body='"culprit"')
    rows = [{"loss": step / 3, **({"culprit": 1} if step == 1234 else {})} for step in range(2000)]
    deliver(run_dir := journal_of_rows(tmp_path, *rows))
    assert points(server, run_dir) == [point for point in points_logged(run_dir) if point[2] != 1234]
    (entry,) = rejected(run_dir)
    assert entry["event"]["step"] == 1234
    assert "no such value" in entry["reason"] or "413" in entry["reason"]
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
def test_what_is_refused_for_good_holds_nothing_up(server, tmp_path, what, kind):
    server.fail(LOGGED[what], refused(1, "not that"))
    deliver(run_dir := journal_of_everything(tmp_path))
    assert points(server, run_dir) == points_logged(run_dir)
    kinds = [entry["event"]["type"] for entry in rejected(run_dir)]
    assert set(kinds) >= {kind} >= set(kinds) - {"checkpoint"}
    assert all("not that" in entry["reason"] for entry in rejected(run_dir))
    assert server.experiment(run_dir.name).state == "finished"


@pytest.mark.parametrize("what", ["name", "first tags", "times"])
def test_what_surrounds_a_run_may_be_refused_and_costs_no_value(server, tmp_path, what):
    server.fail(LOGGED[what], refused(1, "not that"), times=4)
    run_dir = one_row(tmp_path)
    with pytest.warns(match="Comet will not show all .*not that"):
        deliver(run_dir, tags=["a"])
    assert points(server, run_dir) == points_logged(run_dir)
    assert rejected(run_dir) == []


@pytest.mark.parametrize("fault", ["401", "403", "revoked key"])
def test_who_may_not_write_waits_until_he_may(server, tmp_path, fault):
    server.fail(METRICS, ONCE[fault])
    run_dir = one_row(tmp_path)
    with pytest.raises(GaveUpError, match="comet login"):
        deliver(run_dir, linger=0)
    position = load_position(run_dir, "comet")
    assert (position.rejected, position.closed) == (0, False)
    assert "comet login" in position.problem
    server.heal()
    deliver(run_dir)
    assert points(server, run_dir) == points_logged(run_dir)


@pytest.mark.parametrize("code", [90210, 90219, 98219, 7000011, 7000020])
def test_an_experiment_that_comet_refuses_costs_no_event(server, tmp_path, code):
    server.fail("logger/add/run", refused(code, "not there"))
    run_dir = one_row(tmp_path)
    with pytest.raises(GaveUpError, match="cannot be opened"):
        deliver(run_dir, linger=0)
    position = load_position(run_dir, "comet")
    assert (position.rejected, position.line) == (0, 1)
    server.heal()
    deliver(run_dir)
    assert points(server, run_dir) == points_logged(run_dir)


@pytest.mark.parametrize("fault", ["500", "another page", "redirect", "dropped"])
def test_nothing_counts_as_delivered_that_was_not(server, tmp_path, fault):
    server.fail("upload", ONCE[fault])
    server.fail(METRICS, ONCE[fault])
    run_dir = journal_of_everything(tmp_path)
    with pytest.raises(GaveUpError):
        deliver(run_dir, linger=0)
    position = load_position(run_dir, "comet")
    assert 0 < position.line < 4
    assert server.experiment(run_dir.name).metrics == []
    server.heal()
    deliver(run_dir)
    check_everything(server, run_dir)
