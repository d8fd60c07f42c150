"""What a run has lost holds nothing else up: MLflow is told of the rest, and the reject list names each file."""

from mlflow import MlflowClient
from plugins.missing_files import check_without_files
from plugins.mlflow.tracked import runs_tagged

from rankzero_mlflow import MLFlowLogger


def test_files_that_are_gone_hold_nothing_up(mlflow_server, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    run = check_without_files("mlflow", MLFlowLogger, tmp_path)
    (held,) = runs_tagged(MlflowClient(mlflow_server.uri), run.name)
    assert held.data.metrics["loss"] == 0.5
