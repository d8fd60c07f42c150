"""`MLFlowLogger` keeps the contract: with a real server, and with the database that is its default."""

import shutil
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from unittest import mock

import pytest
import requests
from mlflow import MlflowClient
from plugins.mlflow.tracked import read_run, runs_tagged

from rankzero.testing import ALL, LoggerContract
from rankzero_mlflow import MLFlowLogger


class TestServer(LoggerContract):
    # Infinity is NaN there; numbers are float64, without the sign of zero; params are text.
    capabilities = ALL - {"nan", "signed_zero", "big_ints", "typed_params"}
    sdk_module = "mlflow"

    @pytest.fixture(autouse=True)
    def _server(self, mlflow_server):
        self.server = mlflow_server

    def make_logger(self, tmp_path):
        return MLFlowLogger("contract", tracking_uri=self.server.uri)

    def break_tracker(self, logger):
        return mock.patch("requests.Session.request", side_effect=requests.ConnectionError("the server is down"))

    def read_back(self, logger):
        uri = logger.tracking_uri
        (run,) = runs_tagged(MlflowClient(uri), logger.run_info.id)
        return read_run(uri, run.info.run_id, Path(logger.run_info.dir) / "downloaded")


class TestDatabase(TestServer):
    @pytest.fixture(autouse=True)
    def _database(self, empty_database, tmp_path):
        (tmp_path / "store").mkdir()
        shutil.copy(empty_database, tmp_path / "store")

    def make_logger(self, tmp_path):
        return MLFlowLogger(save_dir=tmp_path / "store")

    def break_tracker(self, logger):
        return locked(Path(logger.save_dir, "mlflow.db"))


@contextmanager
def locked(database):
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
