"""The contracts for `CometLogger`, with Comet's client and a mock server."""

from contextlib import contextmanager

import pytest
from plugins.comet.arrived import tracked

from rankzero.testing import ALL, DeliveryContract, LoggerContract, Tracked
from rankzero.testing.faults import status
from rankzero_comet import CometLogger


class Comet:
    # Params are texts; after a lost response a batch may be stored twice; several texts are a table.
    capabilities = ALL - {"typed_params", "exactly_once", "define_metric", "text", "pointcloud", "rewind"}
    sdk_module = "comet_ml"

    @pytest.fixture(autouse=True)
    def _server(self, server, here):
        self.server = server

    def make_logger(self, tmp_path):
        return CometLogger(project="contract")

    def read_back(self, logger):
        return tracked(self.server, logger.version) if logger.version in self.server.store.experiments else Tracked()


class TestLogger(Comet, LoggerContract):
    def break_tracker(self, logger):
        return self.down()

    @contextmanager
    def down(self):
        self.server.stop()
        yield
        self.server.start()


@pytest.mark.filterwarnings("ignore:Comet will not show all")
class TestDelivery(Comet, DeliveryContract):
    refusal = status(400, '{"msg": "no such value", "sdk_error_code": 7000005}', content_type="application/json")
    rows = "batch/logger/experiment/metric"
    uploads = "upload"

    def server_url(self):
        return self.server.url

    def connect(self, url, monkeypatch):
        monkeypatch.setenv("COMET_URL_OVERRIDE", f"{url}/clientlib/")
        monkeypatch.setenv("COMET_TIMEOUT_HTTP", "1")
        monkeypatch.setenv("COMET_TIMEOUT_API", "1")
        monkeypatch.setenv("COMET_TIMEOUT_FILE_UPLOAD", "1")
