"""A server on loopback, an environment that leads to it, and loggers to test."""

import pytest
import wandb
from servers.wandb_server import WandbServer
from waiting import A_WHILE

from rankzero_wandb import WandbLogger


@pytest.fixture
def server():
    with WandbServer() as server:
        yield server
        assert server.problems == []


@pytest.fixture
def environment(server, tmp_path):
    """What a process needs to log to the server, and to wait at its end for one that was down a moment ago."""
    return {**server.environment(tmp_path), "RANKZERO_DOWN_TIMEOUT": str(A_WHILE)}


@pytest.fixture
def here(environment, use_environment, monkeypatch):
    """Have this process log to the server, and keep what it writes to itself."""
    use_environment("WANDB_", environment)
    monkeypatch.delenv("WANDB_DIR")
    wandb.finish()  # a run that a test of direct use has left open
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def make_logger(here, closing, tmp_path):
    """Make loggers whose runs end with the test."""
    return lambda *args, **options: closing(WandbLogger(*args, **{"save_dir": tmp_path, "project": "p", **options}))
