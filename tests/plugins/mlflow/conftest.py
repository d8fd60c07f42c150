"""Loggers, and one server for all tests, because it takes ten seconds to start."""

import os
import shutil
import sys

import pytest
from filelock import FileLock
from mlflow import MlflowClient
from servers.mlflow_server import shared_server

from rankzero_mlflow import MLFlowLogger


@pytest.fixture(scope="session")
def shared_directory(tmp_path_factory):
    """A directory that all workers of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "mlflow"
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture(scope="session")
def empty_database(shared_directory):
    """A database with MLflow's tables, whose creation takes three seconds."""
    made, path = shared_directory / "made.db", shared_directory / "mlflow.db"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            MlflowClient(f"sqlite:///{made}").search_experiments()
            shutil.copy(made, path)
    return path


@pytest.fixture(scope="session")
def mlflow_server(shared_directory, empty_database):
    directory = shared_directory / "server"
    directory.mkdir(exist_ok=True)
    with shared_server(directory, empty_database) as server:
        yield server


@pytest.fixture(autouse=True)
def _environment(use_environment, monkeypatch):
    use_environment("MLFLOW_", {"MLFLOW_DISABLE_TELEMETRY": "true"})
    # MLflow's client looks for these with each request, which is a third of what a request costs.
    for name in ("dbruntime", "pyspark"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def store(empty_database, tmp_path):
    """A directory with a database without runs."""
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
def attach(make_logger, run_info):
    """Make loggers that are attached to one run."""

    def attach(**options):
        logger = make_logger(**options)
        logger.attach(run_info)
        return logger

    return attach


@pytest.fixture
def on_server(make_logger, mlflow_server):
    """A logger in direct use that writes to the server."""
    return make_logger(tracking_uri=mlflow_server.uri)
