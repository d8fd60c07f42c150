"""The constructor's arguments, pickling, and the URL or command that shows a run."""

import pickle
import sys
from unittest.mock import MagicMock

import pytest
from plugins.mlflow.tracked import Held

from rankzero.errors import ConfigError
from rankzero_mlflow import MLFlowLogger
from rankzero_mlflow.options import how_to_view


@pytest.mark.parametrize("uri", ["file:./mlruns", "file:///tmp/mlruns", "./mlruns", "/tmp/mlruns"])
def test_directories_of_files_are_refused(uri, monkeypatch):
    with pytest.raises(ConfigError, match=r"sqlite:///mlflow\.db; or allow it with .* MLFLOW_ALLOW_FILE_STORE=true"):
        MLFlowLogger(tracking_uri=uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError, match="no longer writes to directories"):
        MLFlowLogger()
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert MLFlowLogger().tracking_uri == uri


@pytest.mark.parametrize("uri", ["127.0.0.1:5000", "localhost:5000", "htp://h:5000", "mlflow.example.com:443/x"])
def test_a_server_without_its_scheme_is_refused(uri):
    with pytest.raises(ConfigError, match=r"is neither a server \(http://HOST:PORT\) nor a database"):
        MLFlowLogger(tracking_uri=uri)


@pytest.mark.parametrize(
    "uri",
    ["http://h:5000", "https://h", "postgresql+psycopg://u:p@h/db", "mysql://h/db", "databricks", "databricks://me"],
)
def test_other_uris_are_left_to_mlflow(uri):
    assert MLFlowLogger(tracking_uri=uri).tracking_uri == uri


def test_options_of_wrong_types():
    with pytest.raises(ConfigError, match="tracking_uri must be a text, not 5000"):
        MLFlowLogger(tracking_uri=5000)
    with pytest.raises(ConfigError, match="tags must be a dictionary"):
        MLFlowLogger(tags=["vision"])


def test_a_run_named_by_mlflows_own_tag(store):
    logger = MLFlowLogger(tracking_uri=f"sqlite:///{store}/mlflow.db", tags={"mlflow.runName": "mine"})
    logger.log_metrics({"a": 1}, 0)
    logger.close()
    assert Held(logger).info.run_name == "mine"


def test_mlflow_may_be_a_mock(monkeypatch):
    """As in the test suites of users."""
    monkeypatch.setitem(sys.modules, "mlflow", MagicMock())
    assert MLFlowLogger(tracking_uri="http://127.0.0.1:1").tracking_uri == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("uri", "directory"), [("file:./x", "./x"), ("file:/tmp/x", "/tmp/x"), ("sqlite:///x.db", None)]
)
def test_the_directory_of_files_is_that_of_lightnings_logger(uri, directory, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert MLFlowLogger(tracking_uri=uri).save_dir == directory


def test_arguments_as_of_lightnings_logger(store, tmp_path):
    logger = MLFlowLogger(
        "e", "r", f"sqlite:///{store}/mlflow.db", {"a": 1}, str(tmp_path), "all", "p", None, None, None
    )
    logger.log_metrics({"loss": 1}, 0)
    logger.finalize("success")
    held = Held(logger)
    assert (held.info.run_name, held.tags["a"], held.metrics) == ("r", "1", {"p-loss": 1.0})
    assert (logger.log_model, logger.save_dir, logger.tags) == ("all", None, {"a": 1})
    assert logger.LOGGER_JOIN_CHAR == "-"


def test_a_copy_continues_the_run(logger):
    before = pickle.loads(pickle.dumps(logger))
    logger.log_metrics({"a": 1}, 0)
    copy = pickle.loads(pickle.dumps(logger))
    copy.log_metrics({"a": 2}, 1)
    assert copy.run_id == logger.run_id
    assert [point[:2] for point in Held(logger).points("a")] == [(0, 1.0), (1, 2.0)]
    assert before.run_id != logger.run_id
    for each in (before, copy):
        each.close()


# Looking at a run


def test_a_run_in_a_database(logger, monkeypatch, tmp_path, store):
    logger.log_metrics({"a": 1}, 0)
    assert logger.how_to_view() == f"mlflow ui --backend-store-uri sqlite:///{store}/mlflow.db"
    monkeypatch.chdir(tmp_path)  # the command works in any directory
    assert logger.how_to_view() == f"mlflow ui --backend-store-uri sqlite:///{store}/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:s3cret@mlflow.org/base/", "https://mlflow.org/base/#/experiments/1/runs/2"),
        ("https://token@mlflow.org", "https://mlflow.org/#/experiments/1/runs/2"),
        (
            "postgresql+psycopg2://me:s3cret@db/mlflow?x=1",
            "mlflow ui --backend-store-uri 'postgresql+psycopg2://me:***@db/mlflow?x=1'",
        ),
        ("sqlite:////a b/c@d:e.db", "mlflow ui --backend-store-uri 'sqlite:////a b/c@d:e.db'"),
        ("databricks", None),
    ],
)
def test_no_password_is_shown(uri, shown):
    assert how_to_view(uri, "1", "2") == shown
