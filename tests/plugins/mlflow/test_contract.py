"""The contracts for `MLFlowLogger`, with a real server and with its default database."""

import shutil
from pathlib import Path
from unittest import mock

import pytest
import requests
from mlflow import MlflowClient
from plugins.mlflow.tracked import read_run, runs_tagged

from rankzero.testing import ALL, DeliveryContract, LoggerContract
from rankzero.testing.faults import status
from rankzero.testing.full_disk import full_disk
from rankzero_mlflow import MLFlowLogger


class Server:
    # Infinity becomes NaN; numbers are float64, without signed zero; params are texts; values are ordered by time.
    capabilities = ALL - {"nan", "signed_zero", "big_ints", "typed_params", "earlier_times", "rewind"}
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
        monkeypatch.setenv("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", "false")  # test_answers.py has it

    def make_logger(self, tmp_path):
        return MLFlowLogger("contract", tracking_uri=self.url)


@pytest.fixture(scope="module")
def shared_store(empty_database, tmp_path_factory):
    """A directory with one database for all tests: most of a test's time would go into opening another one."""
    directory = tmp_path_factory.mktemp("store")
    shutil.copy(empty_database, directory)
    return directory


class TestDatabase(TestServer):
    capabilities = Server.capabilities | {"rewind"}

    @pytest.fixture(autouse=True)
    def _database(self, shared_store):
        self.directory = shared_store

    def make_logger(self, tmp_path):
        return MLFlowLogger(save_dir=self.directory, rewind=True)

    def break_tracker(self, logger):
        return full_disk()  # it is reported at once, a lock only after twenty seconds: see test_faults.py
