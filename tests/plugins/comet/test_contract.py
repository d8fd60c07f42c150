"""`CometLogger` keeps the contract, as a courier has it: with Comet's own client, and a server on loopback."""

from contextlib import contextmanager

import pytest
from plugins.comet.arrived import tracked

from rankzero.testing import ALL, LoggerContract, Tracked
from rankzero_comet import CometLogger


class TestContract(LoggerContract):
    # Params are text there; Comet does not say what it holds, so a batch may come twice; several texts are a table.
    capabilities = ALL - {"typed_params", "exactly_once", "define_metric", "text"}
    sdk_module = "comet_ml"

    @pytest.fixture(autouse=True)
    def _server(self, server, here):
        self.server = server

    def make_logger(self, tmp_path):
        return CometLogger(project="contract")

    def break_tracker(self, logger):
        return self.down()

    @contextmanager
    def down(self):
        self.server.stop()
        yield
        self.server.start()

    def read_back(self, logger):
        return tracked(self.server, logger.version) if logger.version in self.server.store.experiments else Tracked()
