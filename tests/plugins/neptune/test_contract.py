"""`NeptuneLogger` keeps the contract, with Neptune's real client and a server on loopback."""

from contextlib import contextmanager

import pytest
from plugins.neptune.arrived import arrived

from rankzero.testing import ALL, LoggerContract, Tracked
from rankzero.testing.loopback import status
from rankzero_neptune import NeptuneLogger

pytestmark = pytest.mark.filterwarnings("ignore:Neptune takes only increasing steps")


class TestNeptuneLogger(LoggerContract):
    # What has a late step stands beside its series; numbers are float64; define_metric is unknown there.
    capabilities = ALL - {"order", "big_ints", "define_metric"}
    sdk_module = "neptune"

    @pytest.fixture(autouse=True)
    def _server(self, server, here):
        self.server = server

    def make_logger(self, tmp_path):
        return NeptuneLogger()

    def break_tracker(self, logger):
        return broken(self.server)

    def read_back(self, logger):
        try:
            return arrived(self.server.run(logger.run_info.id))
        except KeyError:  # nothing was sent
            return Tracked()


@contextmanager
def broken(server):
    server.fail("attributes/operations", status(500))
    try:
        yield
    finally:
        server.heal()
