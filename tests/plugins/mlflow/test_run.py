"""A Run with the logger MLflow: everything arrives, in each mode of delivery."""

import logging
from functools import partial

import pytest
from mlflow import MlflowClient
from plugins.mlflow.arrived import check_everything, log_everything
from plugins.mlflow.tracked import runs_tagged

import rankzero
from rankzero.cli.app import main


@pytest.fixture
def start(tmp_path, mlflow_server, monkeypatch):
    """Start runs that log to the server."""
    monkeypatch.chdir(tmp_path)
    return partial(rankzero.start, "mlflow", project="digits", tracking_uri=mlflow_server.uri, experiment_name="runs")


@pytest.mark.filterwarnings("ignore:MLflow refuses the name", "ignore:the param 'long' is whole in")
@pytest.mark.parametrize("delivery", ["process", "thread", "off"])
def test_everything_arrives(start, mlflow_server, tmp_path, delivery):
    with start(delivery=delivery, tags=["early"], config={"lr": 0.1}) as run:
        log_everything(run, tmp_path)
    if delivery == "off":
        assert main(["sync", str(run.dir)]) == 0
    assert check_everything(mlflow_server.uri, run.dir).info.run_name == run.name


def test_the_experiment_joins_the_run(start, mlflow_server):
    with start(delivery="thread") as run:
        run.experiment.log_metric("direct", 0.5)
        run.log_metrics({"a": 1.0}, 0)
    (found,) = runs_tagged(MlflowClient(mlflow_server.uri), run.id)
    assert found.data.metrics == {"direct": 0.5, "a": 1.0}
    assert found.info.status == "FINISHED"


def test_how_to_view_the_run(start, mlflow_server, caplog):
    with caplog.at_level(logging.INFO, "rankzero"), start(delivery="thread") as run:
        run.log_metrics({"a": 1.0}, 0)
    (found,) = runs_tagged(MlflowClient(mlflow_server.uri), run.id)
    page = f"{mlflow_server.uri}/#/experiments/{found.info.experiment_id}/runs/{found.info.run_id}"
    assert f"view it in mlflow: {page}" in caplog.text


def test_no_options_at_all(tmp_path, monkeypatch, empty_database):
    runs = tmp_path / "runs"
    with rankzero.start("mlflow", project="digits", dir=runs, delivery="thread") as run:
        run.log_metrics({"a": 1.0}, 0)
        run.log_text("note", "hello")
    client = MlflowClient(f"sqlite:///{runs}/mlflow.db")
    (found,) = runs_tagged(client, run.id)
    assert client.get_experiment(found.info.experiment_id).name == "digits"
    assert found.data.metrics == {"a": 1.0}
    (note,) = (runs / "mlartifacts").rglob("*.txt")
    assert note.read_text() == "hello"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"tracking_uri": "file:./mlruns"}, "no longer writes to directories"),
        ({"log_model": "x"}, "log_model"),
        ({"tracking_url": "http://a"}, "Did you mean 'tracking_uri'"),
    ],
)
def test_invalid_options_raise_at_start(options, problem, tmp_path):
    with pytest.raises(rankzero.errors.ConfigError, match=problem):
        rankzero.start("mlflow", dir=tmp_path, **options)


def test_check(mlflow_server, capsys):
    assert main(["check", "mlflow", "--option", f"tracking_uri={mlflow_server.uri}"]) == 0
    assert "mlflow: ok" in capsys.readouterr().out
    client = MlflowClient(mlflow_server.uri)
    experiment = client.get_experiment_by_name("rankzero-check")
    assert [run.data.metrics for run in client.search_runs([experiment.experiment_id])] == [{"check": 1.0}]


def test_check_reports_errors(capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main(["check", "mlflow", "--option", "tracking_uri=http://127.0.0.1:1"]) == 1
    said = capsys.readouterr().err
    assert "mlflow: " in said
    assert "127.0.0.1:1" in said
