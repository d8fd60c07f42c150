"""`WandbLogger` keeps the contract, with W&B's real client and a server on loopback."""

from contextlib import contextmanager

import pytest
from plugins.wandb.arrived import arrived

from rankzero.testing import ALL, LoggerContract
from rankzero.testing.loopback import status
from rankzero_wandb import WandbLogger


class TestWandbLogger(LoggerContract):
    capabilities = ALL - {"signed_zero"}  # JSON of the client has -0, which is an int
    sdk_module = "wandb"

    @pytest.fixture(autouse=True)
    def _server(self, server, here):
        self.server = server

    def make_logger(self, tmp_path):
        return WandbLogger(save_dir=tmp_path, log_model="all")

    def break_tracker(self, logger):
        return broken(self.server)

    def read_back(self, logger):
        return arrived(self.server.run(logger.run_info.id), self.server, texts={"val/text"}, figures={"val/figure"})


@contextmanager
def broken(server):
    server.fail("file_stream", status(404))
    try:
        yield
    finally:
        server.heal()
