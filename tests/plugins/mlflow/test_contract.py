"""`MLFlowLogger` keeps the contracts: with a real server, and with the database that is its default."""

import shutil
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from unittest import mock

import pytest
import requests
from mlflow import MlflowClient
from plugins.mlflow.tracked import read_run, runs_tagged

from rankzero.testing import ALL, DeliveryContract, LoggerContract
from rankzero.testing.faults import status
from rankzero_mlflow import MLFlowLogger


class Server:
    # Infinity is NaN there; numbers are float64, without the sign of zero; params are text; values are ordered by time.
    capabilities = ALL - {"nan", "signed_zero", "big_ints", "typed_params", "earlier_times"}
    sdk_module = "mlflow"

    @pytest.fixture(autouse=True)
    def _server(self, mlflow_server):
        self.server = mlflow_server

    def make_logger(self, tmp_path):
        return MLFlowLogger("contract", tracking_uri=self.server.uri)

    def read_back(self, logger):
        uri = logger.tracking_uri
        (run,) = runs_tagged(MlflowClient(uri), logger.run_info.id)
        return read_run(uri, run.info.run_id, Path(logger.run_info.dir) / "downloaded")


class TestServer(Server, LoggerContract):
    def break_tracker(self, logger):
        return mock.patch("requests.Session.request", side_effect=requests.ConnectionError("the server is down"))


@pytest.mark.filterwarnings("ignore:MLflow refuses the name")
class TestDelivery(Server, DeliveryContract):
    refusal = status(400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "no such value"}')
    rows = "log-batch"
    uploads = "PUT"

    def server_url(self):
        return self.server.uri

    def connect(self, url, monkeypatch):
        self.url = url
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")

    def make_logger(self, tmp_path):
        return MLFlowLogger("contract", tracking_uri=self.url)

    test_training_and_couriers_that_are_killed_at_random_moments = pytest.mark.slow(
        DeliveryContract.test_training_and_couriers_that_are_killed_at_random_moments
    )


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
