"""Loggers to test; one server for all tests of a worker, for it takes ten seconds to start."""

import shutil

import pytest
from mlflow import MlflowClient
from servers.mlflow_server import MlflowServer

from rankzero_mlflow import MLFlowLogger


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory, empty_database):
    directory = tmp_path_factory.mktemp("mlflow-server")
    server = MlflowServer(directory, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")  # seven processes less
    shutil.copy(empty_database, server.database)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A database with MLflow's tables, which take it three seconds to make."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(autouse=True)
def _environment(use_environment):
    use_environment("MLFLOW_", {"MLFLOW_DISABLE_TELEMETRY": "true"})


@pytest.fixture
def store(empty_database, tmp_path):
    """A directory with a database that holds no run."""
    directory = tmp_path / "store"
    directory.mkdir()
    shutil.copy(empty_database, directory)
    return directory


@pytest.fixture
def make_logger(store, closing):
    """Make loggers that write to `store`; they are closed at the end."""

    def make(*args, **options):
        return closing(MLFlowLogger(*args, **({} if "tracking_uri" in options else {"save_dir": store}), **options))

    return make


@pytest.fixture
def logger(make_logger):
    """A logger in direct use."""
    return make_logger()


@pytest.fixture
def on_server(make_logger, mlflow_server):
    """A logger in direct use that writes to the server."""
    return make_logger(tracking_uri=mlflow_server.uri)
