"""Features of MLflow's logger: a default database, and artifact locations."""

from pathlib import Path

import pytest
from integrations.drop_in.outcomes import outcome
from integrations.drop_in.page import compare
from mlflow import MlflowClient

pytestmark = pytest.mark.parametrize("tracker", ["mlflow"])


def use(logger):
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finalize("success")


def test_where_it_writes_by_default(bench, tmp_path):
    found = []
    for kind in bench.each():
        try:
            logger = kind()
            raised = outcome(use, logger)
            seen = (raised, logger.save_dir and str(Path(logger.save_dir).absolute().relative_to(tmp_path)))
        except Exception as error:
            seen = (type(error).__name__, None)
        found.append({"no tracking_uri": (seen, sorted(path.name for path in tmp_path.iterdir()))})
    compare(bench.tracker, *found)


def test_a_server_that_the_environment_names_after_the_import(bench, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", bench.uri)
    found = []
    for kind in bench.each():
        before = bench.begun()
        outcome(lambda kind=kind: use(kind(experiment_name="p")))
        found.append({"MLFLOW_TRACKING_URI after the import": bench.begun() - before})
    compare(bench.tracker, *found)


def test_where_artifacts_of_a_database_go(bench):
    found = []
    for kind in bench.each():
        logger = kind(tracking_uri=bench.uri, experiment_name=kind.__module__)
        use(logger)
        place = MlflowClient(bench.uri).get_run(logger.run_id).info.artifact_uri
        found.append({"where artifacts of a database go": Path(place).relative_to(bench.directory).parts[0]})
    compare(bench.tracker, *found)


def test_tags_and_the_state_of_the_process(bench):
    import mlflow

    found = []
    for kind in bench.each():
        mlflow.set_tracking_uri("sqlite:///another.db")
        logger = bench.make(kind, "a", tags={"team": "vision"})
        use(logger)
        tags = MlflowClient(bench.uri).get_run(logger.run_id).data.tags
        found.append(
            {
                "tags": (tags["team"], logger.tags["team"]),
                "mlflow.get_tracking_uri() afterwards": mlflow.get_tracking_uri().rpartition("/")[2],
            }
        )
    mlflow.set_tracking_uri(None)
    compare(bench.tracker, *found)
