"""`MLFlowLogger.experiment`: MLflow's own client, which knows the run."""

import pytest
from mlflow import MlflowClient
from plugins.mlflow.tracked import Held

from rankzero import DummyExperiment


def test_it_is_the_client(logger):
    assert isinstance(logger.experiment, MlflowClient)
    assert logger.experiment is logger.experiment
    assert logger.experiment.get_run().info.run_id == logger.run_id


def test_with_and_without_the_id_of_the_run(logger, make_logger):
    other = make_logger()
    client = logger.experiment
    client.log_metric("a", 1.5)
    client.log_metric("a", 2.5, 1000, 7)
    client.log_metric("a", 3.5, step=8, timestamp=2000)
    client.log_metric(logger.run_id, "b", 4.5, step=9)
    client.log_metric(run_id=other.run_id, key="b", value=5.5)
    client.log_metric(other.run_id, "c", 6.5)
    held = Held(logger)
    assert sorted(point[:2] for point in held.points("a")) == [(0, 1.5), (7, 2.5), (8, 3.5)]
    assert {(7, 2.5, 1000), (8, 3.5, 2000)} < set(held.points("a"))
    assert [point[:2] for point in held.points("b")] == [(9, 4.5)]
    assert Held(other).metrics == {"b": 5.5, "c": 6.5}


def test_other_methods(logger, tmp_path):
    client = logger.experiment
    (tmp_path / "a.txt").write_bytes(b"1")
    client.log_param("lr", 0.1)
    client.set_tag("team", "vision")
    client.log_text("hello", "texts/hello.txt")
    client.log_artifact(str(tmp_path / "a.txt"), "folder")
    client.log_dict({"a": 1}, "a.json")
    held = Held(logger)
    assert (held.params, held.tags["team"]) == ({"lr": "0.1"}, "vision")
    assert held.files() == ["a.json", "folder/a.txt", "texts/hello.txt"]
    assert [each.path for each in client.list_artifacts("folder")] == ["folder/a.txt"]
    client.log_metric("a", 1)
    assert [point.value for point in client.get_metric_history("a")] == [1.0]
    assert [run.info.run_id for run in client.search_runs([logger.experiment_id])] == [logger.run_id]
    client.set_terminated("KILLED")
    assert held.info.status == "KILLED"


def test_errors_of_mlflow_are_raised(logger):
    with pytest.raises(TypeError, match="log_metric"):
        logger.experiment.log_metric()


def test_on_other_ranks(make_logger, store, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    logger = make_logger()
    logger.experiment.log_metric("a", 1)
    assert isinstance(logger.experiment, DummyExperiment)
    assert (logger.name, logger.version) == (None, None)
    assert not (store / "mlartifacts").exists()
    monkeypatch.delenv("RANK")
    assert MlflowClient(logger.tracking_uri).search_experiments(filter_string="name = 'lightning_logs'") == []
