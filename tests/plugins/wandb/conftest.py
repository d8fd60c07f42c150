"""A mock server, an environment for it, and loggers."""

import pytest
import wandb
from plugins.wandb.scripts import Shell
from plugins.wandb.user import User
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
    """Environment variables for a process that logs to the server, and at its end waits for one that was down."""
    return {**server.environment(tmp_path), "RANKZERO_DOWN_TIMEOUT": str(A_WHILE)}


@pytest.fixture
def shell(tmp_path, environment):
    """Runs scripts as processes."""
    return Shell(tmp_path / "work", {**environment, "WANDB_DIR": None, "WANDB_SILENT": None})


@pytest.fixture
def user(tmp_path, environment):
    return User(tmp_path / "work", {**environment, "WANDB_DIR": None})


@pytest.fixture
def colleague(tmp_path, environment):
    """A user on another machine, with a key and no other variable."""
    return User(tmp_path / "elsewhere", {**environment, "WANDB_DIR": None, "WANDB_BASE_URL": None})


@pytest.fixture
def here(environment, use_environment, monkeypatch):
    """Let this process log to the server, and keep its files in the test's directory."""
    use_environment("WANDB_", environment)
    monkeypatch.delenv("WANDB_DIR")
    wandb.finish()  # a run left open by a test of direct use
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def make_logger(here, closing, tmp_path):
    """Make loggers whose runs end with the test."""
    return lambda *args, **options: closing(WandbLogger(*args, **{"save_dir": tmp_path, "project": "p", **options}))
