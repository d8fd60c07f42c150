"""A server on loopback, an environment that leads to it, and loggers to test."""

import os
import uuid

import pytest
import wandb
from servers.wandb_server import WandbServer
from waiting import A_WHILE

from rankzero.events.run_info import RunInfo
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
def here(environment, monkeypatch, tmp_path):
    """Have this process log to the server, and keep what it writes to itself."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_DIR")
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def make_logger(here, tmp_path):
    """Make loggers whose runs end with the test."""
    made = []

    def make(*args, **options):
        made.append(WandbLogger(*args, **{"save_dir": tmp_path, "project": "p", **options}))
        return made[-1]

    yield make
    for logger in made:
        logger.close()


@pytest.fixture
def run_info(tmp_path):
    """A run of rankzero, to attach loggers to."""
    run_id = uuid.uuid4().hex
    directory = tmp_path / "runs" / "p" / run_id
    directory.mkdir(parents=True)
    return RunInfo(run_id, "brave-owl", "p", str(directory), started=1_700_000_000.0)
