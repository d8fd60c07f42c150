"""The contracts for `NeptuneLogger`, with Neptune's client and a mock server."""

import uuid
from contextlib import contextmanager

import pytest
from plugins.neptune.arrived import arrived
from servers.neptune_mock.sessions import api_token
from servers.neptune_server import NeptuneServer

from rankzero.testing import ALL, DeliveryContract, LoggerContract, Tracked
from rankzero.testing.faults import status
from rankzero_neptune import NeptuneLogger

pytestmark = pytest.mark.filterwarnings("ignore:Neptune accepts only increasing steps")


class Neptune:
    # Late steps are in another series, and times do not decrease; numbers are float64; define_metric is unsupported.
    capabilities = ALL - {"order", "big_ints", "define_metric", "earlier_times", "pointcloud", "rewind"}
    sdk_module = "neptune"

    @pytest.fixture(autouse=True)
    def _server(self, server, here):
        self.server = server

    def make_logger(self, tmp_path):
        return NeptuneLogger()

    def read_back(self, logger):
        try:
            return arrived(self.server.run(logger.run_info.id))
        except KeyError:  # nothing was sent
            return Tracked()


class TestLogger(Neptune, LoggerContract):
    def break_tracker(self, logger):
        return broken(self.server)


class TestDelivery(Neptune, DeliveryContract):
    @pytest.fixture
    def server(self):
        """A server that stores everything, so that data sent twice is stored twice."""
        with NeptuneServer(api_key=uuid.uuid4().hex) as server:
            yield server
            assert server.problems == []

    rows = "attributes/operations"
    uploads = "file/upload"

    def server_url(self):
        return self.server.url

    def connect(self, url, monkeypatch):
        monkeypatch.setenv("NEPTUNE_API_TOKEN", api_token(url, self.server.api_key))
        monkeypatch.setenv("NEPTUNE_REQUEST_TIMEOUT", "1")


@contextmanager
def broken(server):
    server.fail("attributes/operations", status(500))
    try:
        yield
    finally:
        server.heal()
