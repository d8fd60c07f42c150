"""The contracts for `WandbLogger`, with W&B's client and a mock server."""

from contextlib import contextmanager

import pytest
from plugins.wandb.arrived import arrived

from rankzero.files.writing import read_own_json
from rankzero.testing import ALL, DeliveryContract, LoggerContract
from rankzero.testing.faults import status
from rankzero_wandb import WandbLogger, confirmation
from rankzero_wandb.courier import state_file
from rankzero_wandb.rows import State


class Wandb:
    capabilities = ALL - {"signed_zero"}  # the client writes -0, which is an int in JSON
    sdk_module = "wandb"

    @pytest.fixture(autouse=True)
    def _server(self, server, here):
        self.server = server

    def make_logger(self, tmp_path):
        return WandbLogger(save_dir=tmp_path, log_model="all", rewind=True)

    def read_back(self, logger):
        return arrived(self.server.run(logger.run_info.id), self.server, texts={"val/text"}, figures={"val/figure"})


class TestLogger(Wandb, LoggerContract):
    def break_tracker(self, logger):
        return broken(self.server)


class TestDelivery(Wandb, DeliveryContract):
    # W&B's client accepts any response with 200 to some requests, and hangs after others.
    faults_of_each_request = DeliveryContract.faults_of_each_request - {
        "redirect",
        "page with 200",
        "empty 200",
        "other JSON with 200",
    }
    refusal = status(413)
    rows = "file_stream"
    uploads = "PUT /artifact-file"

    def read_back(self, logger):
        tracked = super().read_back(logger)
        state = read_own_json(state_file(logger.options, logger.run_info), State)
        if state.shifts:  # the client lost rows between others: they come after them, with their own steps and times
            for points in tracked.metrics.values():
                points.sort(key=lambda point: point.time)
        return tracked

    def server_url(self):
        return self.server.url

    def connect(self, url, monkeypatch):
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", "4")
        monkeypatch.setattr(confirmation, "_TIMEOUT", 3.0)


@contextmanager
def broken(server):
    server.fail("file_stream", status(404))
    try:
        yield
    finally:
        server.heal()
