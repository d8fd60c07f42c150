"""A Run whose logger is MLflow: everything that it logged arrives, whoever delivers it."""

import logging
from functools import partial

import numpy as np
import pytest
from mlflow import MlflowClient
from plugins.mlflow.tracked import Held, runs_tagged

import rankzero
from rankzero.cli.app import main
from rankzero.testing.samples import png


@pytest.fixture
def start(tmp_path, mlflow_server, monkeypatch):
    """Start runs that log to the server."""
    monkeypatch.chdir(tmp_path)
    return partial(rankzero.start, "mlflow", project="digits", tracking_uri=mlflow_server.uri, experiment_name="runs")


def log_everything(run, directory):
    """Log something of every kind."""
    run.log_hyperparams({"model": {"layers": [64, 10]}})
    for step in range(30):
        run.log_metrics({"train/loss": 1 / (step + 1), "lr": 0.1}, step, epoch=step // 10)
    (directory / "model.ckpt").write_bytes(b"weights")
    (directory / "data.csv").write_bytes(b"1,2")
    run.define_metric("train/loss", summary="min")
    run.log_image("val/image", [png()], caption=["a digit"])
    run.log_table("rows", ["n"], [[1], [2]])
    run.log_text("note", "hello")
    run.log_histogram("weights", np.arange(4.0))
    run.log_artifact(directory / "data.csv")
    run.log_checkpoint(directory / "model.ckpt", score=0.5, aliases=["best"])
    run.log_tags(["late"])


def check_everything(uri, run):
    """Check that MLflow holds just that, once."""
    (found,) = runs_tagged(MlflowClient(uri), run.id)
    held = Held(uri, found.info.run_id)
    assert held.info.status == "FINISHED"
    assert held.info.run_name == run.name
    assert held.params == {"model/layers": "[64, 10]", "lr": "0.1"}
    assert [point[:2] for point in held.points("train/loss")] == [(step, 1 / (step + 1)) for step in range(30)]
    assert [point[:2] for point in held.points("epoch")] == [(step, float(step // 10)) for step in range(30)]
    assert {tag for tag, value in held.tags.items() if value == "true"} == {"early", "late"}
    kinds = {path.partition("/")[0]: held.read(path) for path in held.files()}
    assert set(kinds) == {"captions", "checkpoints", "data.csv", "histograms", "images", "tables", "texts"}
    assert (kinds["data.csv"], kinds["texts"]) == (b"1,2", b"hello")
    assert kinds["tables"] == b'{"columns":["n"],"data":[[1],[2]]}'
    assert held.read("checkpoints/model-step-29/model.ckpt") == b"weights"
    (picture,) = [path for path in held.files("images") if path.endswith(".png")]
    assert held.read(picture) == png()


@pytest.mark.parametrize("delivery", ["process", "thread", "off"])
def test_everything_arrives(start, mlflow_server, tmp_path, delivery):
    with start(delivery=delivery, tags=["early"], config={"lr": 0.1}) as run:
        log_everything(run, tmp_path)
    if delivery == "off":
        assert main(["sync", str(run.dir)]) == 0
    check_everything(mlflow_server.uri, run)


def test_the_experiment_joins_the_run(start, mlflow_server):
    with start() as run:
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
        ({"tracking_uri": "file:./mlruns"}, "directories of files"),
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


def test_check_says_what_is_wrong(capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main(["check", "mlflow", "--option", "tracking_uri=http://127.0.0.1:1"]) == 1
    assert "mlflow: " in capsys.readouterr().err
