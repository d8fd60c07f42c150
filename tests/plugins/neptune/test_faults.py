"""Faults that `DeliveryContract` does not have: limits of an account, hanging logins, deleted runs, late steps."""

import time
from contextlib import nullcontext

import pytest
from plugins.neptune.delivered import points_logged, points_stored, problem_of, rejected
from servers.neptune_mock.attributes import Value
from waiting import A_WHILE, SOON, until

import rankzero
from rankzero.errors import RejectedError, TrackerUnavailableError
from rankzero.events.run_info import LogContext, RunInfo
from rankzero.testing.faults import late, lost, stalled, status
from rankzero.testing.runs import log_rows

OPERATIONS = "attributes/operations"
FAULTS = {
    "402": status(402, '{"title": "hours"}'),
    "422": status(422, '{"title": "Storage limit reached"}'),
    "limit": status(422, '{"title": "storage", "errorType": "PROJECT_LIMITS_EXCEEDED"}'),
    "late": late(3.0),
}


@pytest.fixture
def begin(here, tmp_path, monkeypatch):
    monkeypatch.setenv("NEPTUNE_REQUEST_TIMEOUT", "1")
    runs = []

    def begin(**options):
        runs.append(rankzero.start("neptune", dir=tmp_path / "runs", **{"delivery": "thread", **options}))
        return runs[-1]

    yield begin
    for run in runs:
        run.finish(timeout=0)


def log_and_flush(logger):
    logger.log_metrics({"loss": 2.0}, step=1)
    logger.flush()


def check(server, run, count):
    """Compare the stored data with the logged data."""
    logged = points_logged(run.dir)
    assert len(logged) == count
    assert points_stored(server, run.id) == logged
    assert server.run(run.id).value("training/status") == "success"
    assert rejected(run.dir) == []
    assert len(server.store.runs) == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_temporary_fault_loses_nothing(server, begin, fault):
    run = begin()
    log_rows(run, *range(50))
    assert run.flush(A_WHILE)
    server.fail(OPERATIONS, FAULTS[fault])
    log_rows(run, *range(50, 100))
    until(lambda: problem_of(run.dir))
    log_rows(run, *range(100, 150))
    server.heal()
    run.finish(timeout=A_WHILE)
    check(server, run, 150)


def test_a_hanging_server_does_not_block_the_courier(server, attached, tmp_path, monkeypatch):
    """Any request may hang, also those for which Neptune's client would wait forever."""
    monkeypatch.setenv("NEPTUNE_REQUEST_TIMEOUT", "0.5")
    (tmp_path / "weights.bin").write_bytes(b"weights")
    hanging = ("swagger.json", "clients/config", "oauth-token", "openid-connect/token", "projects/get", "file/upload")
    for name in hanging:
        server.fail(name, stalled(), times=1)
    failures = 0
    while failures <= 2 * len(hanging):
        began = time.monotonic()
        try:
            attached.log_metrics({"loss": 1.0}, step=0)
            attached.log_artifact(tmp_path / "weights.bin", name="weights")
            attached.flush()
            break
        except TrackerUnavailableError:
            failures += 1
        assert time.monotonic() - began < SOON
    assert failures == len(hanging)
    run = server.run(attached.run_info.id)
    assert [(p.value, p.step) for p in run.series("training/loss")] == [(1.0, 0.0)]
    assert run.file("training/artifacts/weights/file") == b"weights"


def test_a_revoked_token_loses_nothing(server, begin):
    run = begin()
    log_rows(run, *range(50))
    assert run.flush(A_WHILE)
    sessions = server.store.sessions
    sessions.revoke(server.api_key)
    log_rows(run, *range(50, 100))
    assert "NEPTUNE_API_TOKEN" in until(lambda: problem_of(run.dir))
    assert server.api_token not in problem_of(run.dir)
    sessions.keys.add(server.api_key)
    run.finish(timeout=A_WHILE)
    check(server, run, 100)


def test_a_refused_operation_is_reported_and_others_are_not_repeated(server, attached):
    attached.log_metrics({"loss": 1.0, "acc": 0.5}, step=0)
    attached.flush()
    somebody_puts_a_text_at(server.run(attached.run_info.id), "training/loss")
    attached.log_metrics({"loss": 2.0, "acc": 0.75}, step=1)
    with pytest.raises(RejectedError, match="Cannot perform logFloats operation on training/loss"):
        attached.flush()
    attached.log_metrics({"loss": 2.0, "acc": 0.75}, step=1)
    with pytest.warns(UserWarning, match="the new one is at 'training/loss_floatSeries'"):
        attached.flush()
    run = server.run(attached.run_info.id)
    assert [(p.value, p.step) for p in run.series("training/acc")] == [(0.5, 0.0), (0.75, 1.0)]
    assert [(p.value, p.step) for p in run.series("training/loss_floatSeries")] == [(2.0, 1.0)]


def somebody_puts_a_text_at(run, path):
    with run.lock:
        run.attributes[path] = Value("string", "mine")


def test_an_expired_token_loses_nothing(server, begin):
    run = begin()
    log_rows(run, *range(50))
    assert run.flush(A_WHILE)
    server.store.sessions.expire()
    log_rows(run, *range(50, 100))
    run.finish(timeout=A_WHILE)
    check(server, run, 100)


def test_an_upload_that_always_fails_is_given_up(server, attached, tmp_path):
    server.fail("attributes/file/upload", status(400, "Length of stream does not match given range"))
    (tmp_path / "weights.bin").write_bytes(b"weights")
    attached.log_artifact(tmp_path / "weights.bin")
    with pytest.raises(RejectedError, match="400"):
        attached.flush()
    assert server.count("file/upload") < 10
    server.heal()


def test_a_deleted_run_is_not_created_again(server, attached, run_info):
    attached.log_metrics({"loss": 1.0}, step=0)
    attached.flush()
    with server.store.lock:
        server.store.runs.clear()
    for _ in range(3):
        with pytest.raises(TrackerUnavailableError) as raised:
            log_and_flush(attached)
    assert f"rankzero sync {run_info.id} --to neptune --again" in str(raised.value)
    assert not [path for run in server.store.runs.values() for path in run.logged]


def test_a_second_run_with_the_same_id_adds_its_tags(server, make_logger, attached, run_info):
    attached.log_metrics({"loss": 1.0}, step=0)
    attached.close()
    second = make_logger(with_id=server.run(run_info.id).sys_id, tags=["second"])
    second.attach(RunInfo("other", "n", "p", run_info.dir, started=run_info.started))
    second.log_metrics({"loss": 2.0}, step=1)
    second.close()
    (run,) = server.store.runs.values()
    assert "second" in run.tags
    assert run.value("rankzero/run_id") == "other"


def test_texts_beside_a_series_are_stored_once_after_a_lost_response(server, attached):
    def log_all():
        with pytest.warns(UserWarning, match="NaN|increasing") if first else nullcontext():
            for step, value in ((5, 1.0), (6, float("nan")), (3, 2.0)):
                with attached.at(LogContext(1_700_000_000 + times[step])):
                    attached.log_metrics({"loss": value}, step)
            attached.flush()

    times, first = {5: 0, 6: 1, 3: 2}, True
    server.fail(OPERATIONS, lost, times=1, body="training/loss")
    with pytest.raises(TrackerUnavailableError):
        log_all()
    first = False
    log_all()
    beside = server.run(attached.run_info.id).series("training/loss_as_text")
    assert [(p.value, p.time) for p in beside] == [
        ("step 6: NaN", 1_700_000_001_000), ("step 3: 2.0", 1_700_000_002_000)
    ]  # fmt: skip


def test_a_live_run_of_a_logger_that_delivers_nothing_ends_with_it(server, attached):
    live = attached.experiment
    attached.close()
    assert live.get_state() == "stopped"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (stalled(), r"no answer in 0\.5 s"),
        (status(403), r"forbids this \(403\): the token may not"),
        (status(409, "odd\nreason"), r"^http://\S+: it answered 409: odd reason$"),
    ],
    ids=["stalled", "403", "409"],
)
def test_the_error_is_one_line(server, attached, monkeypatch, fault, message):
    monkeypatch.setenv("NEPTUNE_REQUEST_TIMEOUT", "0.5")
    server.fail(OPERATIONS, fault)
    with pytest.raises(TrackerUnavailableError, match=message):
        log_and_flush(attached)
    server.heal()
