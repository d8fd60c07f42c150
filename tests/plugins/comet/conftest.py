"""A server on loopback, an environment that leads to it, and loggers to test."""

import os
import uuid

import pytest
from plugins.comet.direct import QUIET
from servers.comet_server import CometServer
from waiting import A_WHILE

from rankzero.events.run_info import RunInfo
from rankzero_comet import CometLogger


@pytest.fixture
def server():
    with CometServer() as server:
        yield server
        assert server.problems == []


@pytest.fixture
def environment(server, tmp_path):
    """What a process needs to log to the server."""
    return server.environment(tmp_path)


@pytest.fixture
def here(environment, monkeypatch, tmp_path):
    """Have this process log to the server, and keep what it writes to itself."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("COMET_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RANKZERO_DOWN_TIMEOUT", str(A_WHILE))  # a tracker that is back is waited for


@pytest.fixture
def make_logger(here):
    """Make loggers whose experiments end with the test."""
    made = []

    def make(**options):
        made.append(CometLogger(**{"project": "p", "display_summary_level": 0, **options}))
        return made[-1]

    yield make
    for logger in made:
        logger.close()


@pytest.fixture
def make(make_logger):
    """Make loggers for direct use, of which Comet's client says nothing of this process."""
    import comet_ml

    comet_ml.api.get_instance.cache_clear()  # which knows the servers of other tests
    return lambda **options: make_logger(**{**QUIET, **options})


@pytest.fixture
def run_info(tmp_path):
    """A run of rankzero, to attach loggers to."""
    run_id = uuid.uuid4().hex
    directory = tmp_path / "runs" / "p" / run_id
    directory.mkdir(parents=True)
    return RunInfo(run_id, "brave-owl", "p", str(directory), started=1_700_000_000.0)


@pytest.fixture
def attached(make_logger, run_info):
    """A logger as a courier has it."""
    logger = make_logger()
    logger.attach(run_info)
    return logger


@pytest.fixture
def stored(server, run_info):
    """Return what the server has of the run."""
    return lambda: server.experiment(run_info.id)
