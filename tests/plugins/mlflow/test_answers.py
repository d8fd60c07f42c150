"""Faulty responses: none is fatal, and afterwards MLflow has everything exactly once."""

import json
import uuid
from contextlib import suppress

import pytest
from mlflow import MlflowClient
from plugins.mlflow.arrived import check_everything, journal_of_everything, only_run, points_in, points_logged
from waiting import A_WHILE, until

import rankzero
from rankzero.delivery.courier import GaveUpError
from rankzero.errors import AccessError
from rankzero.rundir.positions import load_position
from rankzero.testing.faults import FAULTS, lost, stalled, status
from rankzero.testing.proxy import FaultyProxy
from rankzero.testing.runs import EagerCourier, rejected
from rankzero_mlflow import MLFlowLogger

pytestmark = pytest.mark.filterwarnings("ignore:MLflow refuses the name", "ignore:the param 'long' is whole in")

SECRET = "hunter2-hunter2"
SORRY = status(500, '{"error_code": "INTERNAL_ERROR", "message": "sorry"}')
NO_CONNECTION = "QueuePool limit of size 1 overflow 10 reached, connection timed out, timeout 30.00"
ONCE = {
    "500": SORRY,
    "no connection": status(400, json.dumps({"error_code": "BAD_REQUEST", "message": NO_CONNECTION})),
    "page": status(400, "<html>The plain HTTP request was sent to HTTPS port</html>"),
    "lost": lost,
}
"""Faults that `DeliveryContract` does not have, or not for each request."""

LOGGED = {
    "params": '"params": [{',
    "long param": "PUT /api/2.0/mlflow-artifacts/artifacts/",
    "definition": '"rankzero.metric.',
    "name": '"rankzero.name.',
    "metrics": '"metrics": [{',
    "table": '"tables/table/step-1-',  # in the tag that lists tables; the next table would repair that of the first one
    "image": ".png",
    "thumbnail": ".webp",
    "checkpoint": ".ckpt",
    "alias": '"rankzero.checkpoint.best"',
    "read back": "GET /api/2.0/mlflow/runs/get",
    "search": "runs/search",
    "creation": "runs/create",
    "end": "runs/update",
}


@pytest.fixture
def proxy(mlflow_server):
    with FaultyProxy(mlflow_server.uri) as proxy:
        yield proxy


@pytest.fixture
def one_metric(tmp_path):
    return journal_of_metrics(tmp_path, {"loss": 0.5})


def journal_of_metrics(directory, *rows):
    """Write a run without delivering it; return its directory."""
    with rankzero.start(dir=directory / "runs", run_id=uuid.uuid4().hex, delivery="off") as run:
        for step, row in enumerate(rows):
            run.log_metrics(row, step)
    return run.dir


def deliver(run_dir, uri, grace_period=30.0, **options):
    def make_logger():
        return MLFlowLogger(tracking_uri=uri, **options)

    EagerCourier(run_dir, "mlflow", make_logger, follow=False, grace_period=grace_period).run()


def check_metrics(server, run_dir):
    client = MlflowClient(server.uri)
    assert points_in(client, only_run(client, run_dir)) == sorted(points_logged(run_dir))


@pytest.mark.parametrize("fault", ONCE)
def test_any_request_may_fail_once(mlflow_server, proxy, tmp_path, monkeypatch, fault):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    for text in LOGGED.values():
        proxy.fail(text, ONCE[fault], times=2)  # because MLflow's client itself retries once
    deliver(run_dir := journal_of_everything(tmp_path), proxy.url)
    check_everything(mlflow_server.uri, run_dir)
    assert load_position(run_dir, "mlflow").rejected == 0


def test_a_file_accepted_by_a_proxy_with_an_empty_response_is_sent_again(mlflow_server, proxy, tmp_path):
    for what in ("long param", "image", "checkpoint"):
        proxy.fail(LOGGED[what], status(200), times=1)
    deliver(run_dir := journal_of_everything(tmp_path), proxy.url)
    check_everything(mlflow_server.uri, run_dir)


def test_a_run_whose_creation_was_not_answered_is_not_created_again(proxy, one_metric, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")
    proxy.fail("runs/create", lost, times=1)
    deliver(one_metric, proxy.url)
    assert len([each for each in proxy.requests if each.name.endswith("runs/create")]) == 1


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_respected(mlflow_server, proxy, one_metric, code):
    proxy.fail("log-batch", status(code, retry_after="1"), times=1)
    deliver(one_metric, proxy.url)
    refused, *others = [each.time for each in proxy.requests if "log-batch" in each.name]
    assert 1 <= others[0] - refused < 5
    check_metrics(mlflow_server, one_metric)


@pytest.mark.parametrize(("code", "error"), [(401, "You are not authenticated"), (403, "Permission denied")])
def test_events_wait_until_writing_is_permitted(mlflow_server, proxy, one_metric, code, error):
    proxy.fail("log-batch", status(code, error))
    with pytest.raises(GaveUpError, match=error) as raised:
        deliver(one_metric, proxy.url, grace_period=0)
    assert isinstance(raised.value.__cause__, AccessError)  # it ends rankzero sync at once
    position = load_position(one_metric, "mlflow")
    assert str(code) in position.problem
    assert error in position.problem
    assert position.rejected == 0
    proxy.heal()
    deliver(one_metric, proxy.url)
    check_metrics(mlflow_server, one_metric)


REFUSALS = {
    "400": "<html>Bad Request</html>",
    "422": '{"detail": "Unprocessable Entity"}',
}


@pytest.mark.parametrize("code", REFUSALS)
def test_an_artifact_that_is_refused_is_rejected_and_the_rest_arrives(mlflow_server, proxy, tmp_path, code):
    proxy.fail("large.bin", status(int(code), REFUSALS[code]))
    with rankzero.start(dir=tmp_path / "runs", run_id=uuid.uuid4().hex, delivery="off") as run:
        run.log_metrics({"loss": 0.5}, 0)
        (tmp_path / "large.bin").write_bytes(b"x" * 1000)
        run.log_artifact(tmp_path / "large.bin")
        run.log_metrics({"loss": 0.25}, 1)
    deliver(run.dir, proxy.url)
    check_metrics(mlflow_server, run.dir)
    (entry,) = rejected(run.dir, "mlflow")
    assert code in entry["reason"]
    assert entry["event"]["type"] == "artifact"


BLAMES = {
    "database": status(
        400, json.dumps({"error_code": "BAD_REQUEST", "message": "(pymysql.err.DataError) (1366, 'ö')"})
    ),
    "size": status(413, "<html>413 Request Entity Too Large</html>"),
    "nobody": status(422, '{"detail": "Unprocessable Entity"}'),
}


@pytest.mark.parametrize("reason", BLAMES)
def test_only_the_invalid_row_of_many_is_rejected(mlflow_server, proxy, tmp_path, reason):
    proxy.fail('"culprit"', BLAMES[reason])
    rows = [{"loss": step / 3, "culprit": 1.0} if step == 13 else {"loss": step / 3} for step in range(40)]
    deliver(run_dir := journal_of_metrics(tmp_path, *rows), proxy.url)
    client = MlflowClient(mlflow_server.uri)
    arrived = [step for _, step, _, _ in points_in(client, only_run(client, run_dir))]
    assert arrived == [step for step in range(40) if step != 13]
    assert [each["event"]["step"] for each in rejected(run_dir, "mlflow")] == [13]


def test_an_experiment_that_mlflow_rejects_loses_no_event(mlflow_server, one_metric):
    """The user must and can fix it."""
    with pytest.raises(GaveUpError, match="exceeds the maximum length"):
        deliver(one_metric, mlflow_server.uri, grace_period=0, experiment_name="x" * 600)
    assert load_position(one_metric, "mlflow").rejected == 0
    deliver(one_metric, mlflow_server.uri)
    check_metrics(mlflow_server, one_metric)


ANSWERED = ("429", "503", "401", "403", "page with 200", "empty 200", "truncated answer")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["option", "environment", "token"])
def test_a_password_is_never_shown(proxy, tmp_path, monkeypatch, caplog, where):
    """Neither after success nor after any failure."""
    options = give_password(proxy.url, where, monkeypatch)
    for fault in [*ONCE.values(), *(FAULTS[name] for name in ANSWERED), status(413), stalled(1.5)]:
        with rankzero.start("mlflow", dir=tmp_path / "runs", delivery="off", **options) as run:
            log_and_fail(run, proxy, tmp_path, fault)
        with suppress(GaveUpError):
            deliver(run.dir, options.get("tracking_uri"), grace_period=0)
    proxy.heal()
    deliver(run.dir, options.get("tracking_uri"))
    assert load_position(run.dir, "mlflow").closed
    check_password(tmp_path / "runs")
    assert SECRET not in caplog.text


@pytest.mark.slow
def test_a_password_is_never_shown_with_a_courier(proxy, tmp_path, monkeypatch):
    options = give_password(proxy.url, "option", monkeypatch)
    run = rankzero.start("mlflow", dir=tmp_path / "runs", run_id=uuid.uuid4().hex, **options)
    for fault in (SORRY, FAULTS["401"]):
        log_and_fail(run, proxy, tmp_path, fault)
        seen = len(proxy.requests)
        until(lambda seen=seen: len(proxy.requests) > seen + 2)
    proxy.heal()
    run.finish(timeout=A_WHILE)
    assert load_position(run.dir, "mlflow").closed
    check_password(tmp_path / "runs")


def give_password(url, where, monkeypatch):
    """Return the options of a logger that has a password from somewhere."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    uri = url if where == "token" else url.replace("//", f"//user:{SECRET}@")
    if where == "token":
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    if where == "option":
        return {"tracking_uri": uri}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return {}


def log_and_fail(run, proxy, directory, fault):
    """Log a metric and a file, which do not arrive."""
    proxy.heal()
    for what in ("log-batch", "PUT"):
        proxy.fail(what, fault)
    (directory / "file.txt").write_text("text")
    run.log_metrics({"loss": 0.5})
    run.log_artifact(directory / "file.txt")


def check_password(runs):
    shown = [path for path in runs.rglob("*") if path.is_file() and SECRET in path.read_text(errors="replace")]
    assert shown == []
