"""Loggers, and one server for all tests, because it takes ten seconds to start."""

import shutil
import sys

import pytest
from servers import mlflow_server as servers

from rankzero_mlflow import MLFlowLogger


@pytest.fixture(scope="session")
def shared_directory(tmp_path_factory):
    return servers.shared_directory(tmp_path_factory)


@pytest.fixture(scope="session")
def empty_database(shared_directory):
    return servers.empty_database(shared_directory)


@pytest.fixture(scope="session")
def mlflow_server(shared_directory, empty_database):
    directory = shared_directory / "server"
    directory.mkdir(exist_ok=True)
    with servers.shared_server(directory, empty_database) as server:
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
